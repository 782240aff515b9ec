//go:build linux && (amd64 || arm64)

package iommu_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"gommu/internal/probe"
	"gommu/iommu"
	"gommu/iommu/model"
	"gommu/iommu/trace"
	"gommu/pagetable"
)

// A told is what a tracer sees of a call.
type told struct {
	op        trace.Operation
	source    trace.Source
	iova      uint64
	size      uint64
	direction iommu.Direction
	result    uint16
}

// A watcher traces this process, and keeps what it should be told of.
type watcher struct {
	t      *testing.T
	tr     *trace.Tracer
	source trace.Source
	domain uint64 // as far as it is known
	want   []told
}

// watch traces from now on. Each call is an event.
func watch(t *testing.T, source trace.Source) *watcher {
	t.Helper()
	tr, err := trace.Open(trace.Options{PID: os.Getpid(), SlowerThan: 1, Buffer: 16 << 20})
	if (errors.Is(err, trace.ErrPermission) || errors.Is(err, trace.ErrKernel)) && os.Getenv("CI") == "" {
		t.Skipf("this machine does not let programs be traced: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return &watcher{t: t, tr: tr, source: source}
}

// mapped wants to be told of a map.
func (w *watcher) mapped(m iommu.Mapping, size uint64, dir iommu.Direction, result uint16) {
	w.want = append(w.want, told{trace.Map, w.source, m.IOVA(), size, dir, result})
}

// unmapped wants to be told of an unmap; dir is 0 where nothing was mapped.
func (w *watcher) unmapped(m iommu.Mapping, dir iommu.Direction, result uint16) {
	w.want = append(w.want, told{trace.Unmap, w.source, m.IOVA(), m.Size(), dir, result})
}

// check compares what was told, in any order, and returns the flushes.
func (w *watcher) check() (flushes []trace.Event) {
	w.t.Helper()
	s, err := w.tr.Snapshot()
	if err != nil || s.Lost != (trace.Lost{}) {
		w.t.Fatalf("%v, lost %+v", err, s.Lost)
	}
	var got []told
	domains := map[uint64]bool{}
	done, cancel := context.WithCancel(w.t.Context())
	cancel()
	for {
		e, err := w.tr.Read(done)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		switch e.Operation {
		case trace.Map, trace.Unmap:
			got = append(got, told{e.Operation, e.Source, e.IOVA, e.Size, e.Direction, e.Result})
			domains[e.Domain] = true
		case trace.Flush:
			flushes = append(flushes, e)
			domains[e.Domain] = true
		}
	}
	order := func(a, b told) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
	want := slices.SortedFunc(slices.Values(w.want), order)
	slices.SortFunc(got, order)
	if !slices.Equal(got, want) {
		w.t.Errorf("told of %d calls, %d were made", len(got), len(want))
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				w.t.Errorf("told %+v\nwant %+v", got[i], want[i])
				break
			}
		}
	}
	if n := s.Of(trace.Map).Count + s.Of(trace.Unmap).Count; n != uint64(len(want)) {
		w.t.Errorf("%d calls counted, %d were made", n, len(want))
	}
	if len(domains) > 1 || domains[0] {
		w.t.Errorf("domains %v", domains)
	}
	return flushes
}

// covered is what flushes that were done were for.
func covered(flushes []trace.Event) (items, size uint64) {
	for _, f := range flushes {
		if f.Result == probe.Done {
			items, size = items+f.Items, size+f.Size
		}
	}
	return items, size
}

// span is the whole pages of mappings.
func span(m iommu.Mapping) uint64 {
	return (m.IOVA()%page + m.Size() + page - 1) / page * page
}

var directions = []iommu.Direction{iommu.ToDevice, iommu.FromDevice, iommu.Bidirectional}

// TestProbesMap: each way to map and unmap tells of each call all that there is to tell, of those that are refused too, and each flush
// is for what it was for.
func TestProbesMap(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: p.f})
			w := watch(t, rigSource)
			var all []iommu.Mapping
			var dirs []iommu.Direction
			made, size := uint64(0), uint64(0)
			for i := range 300 {
				n, dir := 1+i*37%9000, directions[i%3]
				m, err := mapSomehow(t, r, i, n, dir)
				for ; errors.Is(err, iommu.ErrEmpty); m, err = mapSomehow(t, r, i, n, dir) {
					w.mapped(iommu.Mapping{}, uint64(n), dir, probe.Dry)
					time.Sleep(time.Millisecond)
				}
				want(t, err, nil)
				w.mapped(m, uint64(n), dir, probe.Done)
				all, dirs = append(all, m), append(dirs, dir)
				made, size = made+1, size+span(m)
			}
			for i, m := range all[:200] {
				want(t, r.d.Unmap(m), nil)
				w.unmapped(m, dirs[i], probe.Done)
			}
			want(t, r.d.UnmapBatch(all[200:]), nil)
			for i, m := range all[200:] {
				w.unmapped(m, dirs[200+i], probe.Done)
			}
			wrongCalls(t, r, w, all[0])
			want(t, r.d.Flush(t.Context()), nil)
			// Windows may be larger than what lies in them.
			if items, n := covered(w.check()); items != made || n%page != 0 || n < size || n > 2*size {
				t.Errorf("flushes of %d mappings, %d bytes; want %d, at least %d", items, n, made, size)
			}
		})
	}
}

// mapSomehow maps n bytes in one of all ways.
func mapSomehow(t *testing.T, r *rig, i, n int, dir iommu.Direction) (m iommu.Mapping, err error) {
	mem := r.data(i*777, n)
	switch i % 5 {
	case 0:
		return r.d.Map(mem, dir)
	case 1:
		return r.d.MapWait(t.Context(), mem, dir, iommu.Place{})
	case 2:
		return r.region.Map(uint64(i*777), uint64(n), dir)
	case 3:
		out := make([]iommu.Mapping, 1)
		err = r.d.MapBatch([][]byte{mem}, dir, out)
		return out[0], err
	}
	m, _, err = r.d.MapSG([][]byte{mem}, dir, iommu.ListLimits{}, make([]iommu.Piece, 4))
	return m, err
}

// wrongCalls makes calls that are wrong. gone was unmapped.
func wrongCalls(t *testing.T, r *rig, w *watcher, gone iommu.Mapping) {
	t.Helper()
	var nothing iommu.Mapping
	_, err := r.d.Map(r.data(0, 0), iommu.ToDevice)
	want(t, err, iommu.ErrZeroSize)
	w.mapped(nothing, 0, iommu.ToDevice, probe.Refused)
	_, err = r.d.Map(pages(1), iommu.ToDevice)
	want(t, err, iommu.ErrNotRegistered)
	w.mapped(nothing, page, iommu.ToDevice, probe.Refused)
	_, err = r.d.MapWait(t.Context(), nil, iommu.ToDevice, iommu.Place{})
	want(t, err, iommu.ErrZeroSize)
	w.mapped(nothing, 0, iommu.ToDevice, probe.Refused)
	want(t, r.d.Unmap(gone), iommu.ErrNotMapped)
	w.unmapped(gone, 0, probe.Refused)
	want(t, r.d.UnmapBatch([]iommu.Mapping{gone}), iommu.ErrNotMapped)
	w.unmapped(gone, 0, probe.Refused)
}

// TestProbesRing: a ring tells as the domain does, and each of its bursts is a flush.
func TestProbesRing(t *testing.T) {
	const burst, bursts = 16, 20
	r := newRig(t, settings[0], iommu.Options{})
	ring, err := r.d.NewRing(t.Context(), iommu.RingOptions{Burst: burst})
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, rigSource)
	size := uint64(0)
	for i := range burst * bursts {
		dir := directions[i%3]
		m, err := ring.Map(r.data(i*555, 100+i), dir)
		want(t, err, nil)
		w.mapped(m, uint64(100+i), dir, probe.Done)
		size += span(m)
		want(t, ring.Unmap(m), nil)
		w.unmapped(m, dir, probe.Done)
		if i == 0 {
			want(t, ring.Unmap(m), iommu.ErrNotMapped)
			w.unmapped(m, 0, probe.Refused)
		}
	}
	want(t, ring.Flush(), nil)
	flushes := w.check()
	if items, n := covered(flushes); items != burst*bursts || n != size || len(flushes) != bursts {
		t.Errorf("%d flushes of %d mappings, %d bytes; want %d of %d, %d", len(flushes), items, n, bursts, burst*bursts, size)
	}
	want(t, ring.Close(), nil)
}

// TestProbesBuffers: coherent buffers are mapped and unmapped too.
func TestProbesBuffers(t *testing.T) {
	p := newPre(t, iommu.Options{})
	w := watch(t, trace.Several)
	b, err := p.d.Alloc(t.Context(), 3*page, iommu.Bidirectional, iommu.Place{})
	if err != nil {
		t.Fatal(err)
	}
	w.mapped(b.Mapping, 3*page, iommu.Bidirectional, probe.Done)
	want(t, p.d.Free(b), nil)
	w.unmapped(b.Mapping, iommu.Bidirectional, probe.Done)
	if f := w.check(); len(f) > 0 {
		t.Errorf("flushes of a premapped domain: %+v", f)
	}
}

// TestProbesPremapped: a domain over the tables of a kernel tells of its calls as those of the device that the mapper knows.
func TestProbesPremapped(t *testing.T) {
	k, mem := newFakeMapper(), &iommu.Pages{}
	k.limits.Sources = []uint16{0x1234}
	d, err := iommu.NewPremapped(t.Context(), mem, k, iommu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	buf, err := mem.Alloc(t.Context(), 64*page)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register(t.Context(), buf, iommu.Bidirectional); err != nil {
		t.Fatal(err)
	}
	w := watch(t, 0x1234)
	for i := range 1000 {
		dir := directions[i%3]
		m, err := d.Map(buf[i*100:][:1+i], dir)
		want(t, err, nil)
		w.mapped(m, uint64(1+i), dir, probe.Done)
		want(t, d.Unmap(m), nil)
		w.unmapped(m, dir, probe.Done)
	}
	if f := w.check(); len(f) > 0 {
		t.Errorf("flushes of a premapped domain: %+v", f)
	}
	if err := errors.Join(d.Close(context.Background()), mem.Close()); err != nil {
		t.Error(err)
	}
}

// TestProbesDevices: what a domain does is its device's as long as there is one, and nobody's in particular with two, or none.
func TestProbesDevices(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	w := watch(t, rigSource)
	once := func(source trace.Source) {
		t.Helper()
		w.source = source
		m := r.mapped(r.data(0, page), iommu.ToDevice)
		w.mapped(m, page, iommu.ToDevice, probe.Done)
		want(t, r.d.Unmap(m), nil)
		w.unmapped(m, iommu.ToDevice, probe.Done)
	}
	second := iommu.Device{Source: 0x42, Unit: r.gate}
	once(rigSource)
	want(t, r.d.Attach(second), nil)
	once(trace.Several)
	want(t, r.d.Detach(iommu.Device{Source: rigSource, Unit: r.gate}), nil)
	once(0x42)
	want(t, r.d.Detach(second), nil)
	once(trace.Several)
	w.check()
}

// TestProbesFailures: a unit that fails is told apart from callers that do, and from pools that are dry.
func TestProbesFailures(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{Flush: iommu.Flush{Policy: iommu.Strict}})
	w := watch(t, rigSource)
	m := r.mapped(r.data(0, page), iommu.ToDevice)
	w.mapped(m, page, iommu.ToDevice, probe.Done)
	r.gate.set(func(g *gate) { g.failAt = g.begins + 1; g.stuck = true })
	want(t, r.d.Unmap(m), iommu.ErrFlush)
	w.unmapped(m, iommu.ToDevice, probe.Failed)
	failed := 0
	for _, f := range w.check() {
		if f.Result == probe.Failed {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no flush that failed")
	}
	r.gate.set(func(g *gate) { g.failAt, g.stuck = 0, false })
}

// TestProbesDry: a pool that has nothing ready is told of as that.
func TestProbesDry(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	var held []pagetable.Frame
	w := watch(t, rigSource)
	dry := false
	for end := time.Now().Add(rigTimeout); !dry && time.Now().Before(end); {
		for {
			f, err := r.frames.Get()
			if err != nil {
				break
			}
			held = append(held, f)
		}
		large := r.data(page, 2<<20)
		m, err := r.d.Map(large, iommu.Bidirectional)
		if dry = errors.Is(err, iommu.ErrEmpty); dry {
			w.mapped(iommu.Mapping{}, 2<<20, iommu.Bidirectional, probe.Dry)
			break
		}
		want(t, err, nil)
		w.mapped(m, 2<<20, iommu.Bidirectional, probe.Done)
		want(t, r.d.Unmap(m), nil)
		w.unmapped(m, iommu.Bidirectional, probe.Done)
	}
	if !dry {
		t.Error("the pool was never dry")
	}
	for _, f := range held {
		want(t, r.frames.Put(f), nil)
	}
	w.check()
	if s, err := w.tr.Snapshot(); err != nil || s.Of(trace.PoolEmpty).Count == 0 {
		t.Errorf("no pool told of being empty, %v", err)
	}
}

// TestProbesTogether: many goroutines map and unmap while a flush is always under way; all that is unmapped is in one flush.
func TestProbesTogether(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: p.f})
			tr := watch(t, rigSource).tr
			const routines, each = 8, 500
			errs := make(chan error, routines)
			for g := range routines {
				go func() {
					errs <- func() error {
						for i := range each {
							m, err := r.d.Map(r.data((g*each+i)%rigPages*page, page), directions[i%3])
							if errors.Is(err, iommu.ErrEmpty) {
								continue // which is told of as that
							}
							if err == nil {
								err = r.d.Unmap(m)
							}
							if err != nil {
								return err
							}
						}
						return nil
					}()
				}()
			}
			for range routines {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			want(t, r.d.Flush(t.Context()), nil)
			s, err := tr.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			done := func(o trace.Operation) trace.Tally {
				return s.Total(func(l trace.Tally) bool { return l.Operation == o && l.Result == probe.Done })
			}
			n := done(trace.Unmap).Count
			if f := done(trace.Flush); n == 0 || n != done(trace.Map).Count || f.Items != n || f.Size != n*page {
				t.Errorf("%d maps, %d unmaps, flushes of %d mappings and %d bytes", done(trace.Map).Count, n, f.Items, f.Size)
			}
		})
	}
}

// TestProbesFaults: the faults that are taken from a unit are told of with all that it recorded, and the domain that they are of.
func TestProbesFaults(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			r := newUnit(t, s)
			r.bare = true
			r.domain(s, iommu.Options{})
			w := watch(t, rigSource)
			m := r.mapped(r.data(0, page), iommu.ToDevice)
			stranger := r.hw.Device(0x99)
			for _, dma := range []func() error{
				func() error { return r.dev.Write(m.IOVA(), []byte{1}) },
				func() error { return r.dev.Read(0x1234_5000, []byte{1}) },
				func() error { return stranger.Read(m.IOVA(), []byte{1}) },
			} {
				if err := dma(); !errors.Is(err, model.ErrBlocked) {
					t.Errorf("%v, want it to be blocked", err)
				}
				wantFault(t, r, w, false)
			}
			for range 2 { // the unit has one record
				_ = r.dev.Write(m.IOVA(), []byte{1})
				_ = stranger.Read(m.IOVA(), []byte{1})
				wantFault(t, r, w, true)
			}
		})
	}
}

// wantFault takes the fault that there is, and wants to be told of the same, and whether there was no room for another.
func wantFault(t *testing.T, r *rig, w *watcher, overflow bool) {
	t.Helper()
	faults, lost, err := r.u.Faults()
	if err != nil || len(faults) != 1 || lost != overflow {
		t.Fatalf("%d faults, overflow %v, %v; want one, %v", len(faults), lost, err, overflow)
	}
	f := faults[0]
	e, err := w.tr.Read(t.Context())
	for ; err == nil && e.Operation != trace.Fault; e, err = w.tr.Read(t.Context()) {
		if e.Operation == trace.Map {
			w.domain = e.Domain
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if e.Fault == nil || *e.Fault != f || e.Result != uint16(f.Reason) || e.Source != trace.Source(f.Source) || e.IOVA != f.IOVA || e.Skipped != overflow {
		t.Errorf("told %+v, %v; want %v", e, e.Fault, f)
	}
	domain := uint64(0)
	if f.Source == rigSource {
		domain = w.domain
	}
	if e.Domain != domain || w.domain == 0 {
		t.Errorf("fault of device %#x: domain %d, want %d", f.Source, e.Domain, domain)
	}
}

// BenchmarkTraced is what Map and Unmap cost while nobody traces, while somebody sees one in 16 calls, and while he sees all.
func BenchmarkTraced(b *testing.B) {
	p := newPre(b, iommu.Options{})
	mem := p.alloc(slab)
	p.register(mem, both)
	for _, sample := range []int{0, 16, 1} {
		name := fmt.Sprintf("sample=%d", sample)
		if sample == 0 {
			name = "detached"
		}
		b.Run(name, func(b *testing.B) {
			if sample != 0 {
				tr, err := trace.Open(trace.Options{PID: os.Getpid(), Sample: sample})
				if err != nil {
					b.Skip(err)
				}
				defer tr.Close()
			}
			for b.Loop() {
				m, err := p.d.Map(mem[page:2*page], both)
				if err == nil {
					err = p.d.Unmap(m)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

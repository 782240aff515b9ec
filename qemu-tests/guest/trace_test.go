//go:build linux

package guest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gommu/internal/held"
	"gommu/internal/probe"
	"gommu/iommu"
	"gommu/iommu/trace"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/vm/guest"
	"gommu/vfio"
	"gommu/vfio/edu"
)

func traced(t *testing.T, o trace.Options) *trace.Tracer {
	t.Helper()
	tr, err := trace.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		unmapTypes(t)
	})
	return tr
}

var opensOnce = sync.OnceValue(func() error {
	tr, err := trace.Open(trace.Options{Kernel: true, PID: os.Getpid()})
	if err == nil {
		err = tr.Close()
	}
	return err
})

// warm sees to it that what is opened with the first tracer, and kept, is not taken for a leak.
func warm(t *testing.T) {
	t.Helper()
	guest.SkipUnlessInside(t)
	if err := opensOnce(); err != nil {
		t.Fatal(err)
	}
	unmapTypes(t)
}

// unmapTypes waits until the kernel's types are not mapped: the library that reads them leaves that to the garbage collector.
func unmapTypes(t *testing.T) {
	t.Helper()
	for range 1000 {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte("/sys/kernel/btf/")) {
			return
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	t.Error("the kernel's types are still mapped")
}

func counted(t *testing.T, tr *trace.Tracer) trace.Snapshot {
	t.Helper()
	s, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if s.Lost != (trace.Lost{}) {
		t.Errorf("lost: %+v", s.Lost)
	}
	for _, l := range s.Tallies {
		sum := uint64(0)
		for _, n := range l.Slots {
			sum += n
		}
		if l.Operation.Timed() && sum != l.Count {
			t.Errorf("%v: %d calls, %d in the histogram", l.Operation, l.Count, sum)
		}
	}
	return s
}

// with is the calls of an operation with a result.
func with(s trace.Snapshot, o trace.Operation, result unix.Errno) trace.Tally {
	return s.Total(func(l trace.Tally) bool { return l.Operation == o && l.Result == uint16(result) })
}

// split is the calls of an operation by device.
func split(s trace.Snapshot, o trace.Operation) map[trace.Source]uint64 {
	n := map[trace.Source]uint64{}
	for _, l := range s.Tallies {
		if l.Operation == o {
			n[l.Source] += l.Count
		}
	}
	return n
}

func sourceOf(d *vfio.Device) trace.Source { return trace.Source(d.Address().RequesterID()) }

// twoFunctions are functions of groups of their own, bound to vfio-pci.
func twoFunctions(t *testing.T) [2]pci.Info {
	t.Helper()
	card := findFunction(t, "network card rtl8139", func(i pci.Info) bool { return i.Vendor == 0x10ec && i.Device == 0x8139 })
	first := bound(t)
	bind(t, card)
	return [2]pci.Info{first, card}
}

// twoDevices are functions of groups of their own, each in a container of its own.
func twoDevices(t *testing.T) [2]*vfio.Device {
	t.Helper()
	infos := twoFunctions(t)
	return [2]*vfio.Device{open(t, infos[0]), open(t, infos[1])}
}

// TestTraceVFIO counts ioctls of VFIO and what the kernel does for them, for two devices.
func TestTraceVFIO(t *testing.T) {
	warm(t)
	devices := twoDevices(t)
	c, other := devices[0].Container(), devices[1].Container()
	mem := pages(t, 4)
	tr := traced(t, trace.Options{Kernel: true, PID: os.Getpid()})
	const calls, overlaps, small, others = 1500, 20, 500, 700
	size := uint64(0)
	for i := range uint64(calls) {
		n := 4096 << (i / small)
		if err := c.MapDMA(i<<16, mem[:n], vfio.DMARead|vfio.DMAWrite); err != nil {
			t.Fatal(err)
		}
		size += uint64(n)
	}
	for i := range uint64(overlaps) {
		if err := c.MapDMA(i<<16, mem[:4096], vfio.DMARead); !errors.Is(err, vfio.ErrOverlap) {
			t.Fatal(err)
		}
	}
	for i := range uint64(calls) {
		if err := c.UnmapDMA(i<<16, 4096<<(i/small)); err != nil {
			t.Fatal(err)
		}
	}
	for range others {
		if err := errors.Join(other.MapDMA(0x1000, mem[:4096], vfio.DMARead), other.UnmapDMA(0x1000, 4096)); err != nil {
			t.Fatal(err)
		}
		size += 4096
	}
	s := counted(t, tr)
	checkMissing(t, s)
	for _, o := range []trace.Operation{trace.VFIOMap, trace.VFIOUnmap} {
		l := with(s, o, 0)
		if l.Count != calls+others || l.Size != size || l.Time == 0 {
			t.Errorf("%v: %d calls of %d bytes; want %d of %d", o, l.Count, l.Size, calls+others, size)
		}
		for class := uint8(12); class < 15; class++ {
			n := s.Total(func(l trace.Tally) bool {
				return l.Operation == o && l.Result == 0 && l.Class == class && l.Source == sourceOf(devices[0])
			}).Count
			if n != small {
				t.Errorf("%v of 2^%d bytes: %d, want %d", o, class, n, small)
			}
		}
	}
	if n := with(s, trace.VFIOMap, unix.EEXIST).Count; n != overlaps {
		t.Errorf("%d overlaps, want %d", n, overlaps)
	}
	want := map[trace.Source]uint64{sourceOf(devices[0]): calls + overlaps, sourceOf(devices[1]): others}
	if got := split(s, trace.VFIOMap); !maps.Equal(got, want) {
		t.Errorf("vfio-map by device %v, want %v", got, want)
	}
	want[sourceOf(devices[0])] = calls
	if got := split(s, trace.VFIOUnmap); !maps.Equal(got, want) {
		t.Errorf("vfio-unmap by device %v, want %v", got, want)
	}
	checkKernelCalls(t, s, devices, calls+others, size)
}

// TestTraceShared: the calls for a container with two devices are no single one's.
func TestTraceShared(t *testing.T) {
	warm(t)
	infos := twoFunctions(t)
	c, err := vfio.OpenContainer(vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, i := range infos {
		g, err := vfio.OpenGroup(i.Group, vfio.Options{})
		if err == nil {
			err = c.Attach(g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mem := pages(t, 1)
	tr := traced(t, trace.Options{Kernel: true, PID: os.Getpid()})
	const calls = 100
	for range calls {
		if err := errors.Join(c.MapDMA(0x1000, mem, vfio.DMARead), c.UnmapDMA(0x1000, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	s := counted(t, tr)
	for _, o := range []trace.Operation{trace.VFIOMap, trace.VFIOUnmap, trace.KernelMap} {
		if got := split(s, o); !maps.Equal(got, map[trace.Source]uint64{trace.Several: calls}) {
			t.Errorf("%v by device: %v, want %d of several", o, got, calls)
		}
	}
}

// checkMissing: only events that this kernel's driver does not have any more may be.
func checkMissing(t *testing.T, s trace.Snapshot) {
	t.Helper()
	for _, m := range s.Missing {
		t.Logf("missing: %+v", m)
		if m.Name != trace.EventFlushAll.String() {
			t.Errorf("missing: %+v", m)
		}
	}
}

// checkKernelCalls: the kernel maps and unmaps at least a piece a call, and in all what was asked for.
func checkKernelCalls(t *testing.T, s trace.Snapshot, devices [2]*vfio.Device, calls, size uint64) {
	t.Helper()
	if l := with(s, trace.KernelMap, 0); l.Size != size || l.Count < calls {
		t.Errorf("iommu_map: %d calls of %d bytes; want %d bytes", l.Count, l.Size, size)
	}
	if l := s.Of(trace.EventMap); l.Size != size || l.Count != s.Of(trace.KernelMap).Count {
		t.Errorf("iommu:map: %d of %d bytes; want %d bytes", l.Count, l.Size, size)
	}
	if n := s.Of(trace.KernelUnmap).Count + s.Of(trace.KernelUnmapFast).Count; n < calls || n != s.Of(trace.EventUnmap).Count {
		t.Errorf("%d unmaps, %d events iommu:unmap; at least %d", n, s.Of(trace.EventUnmap).Count, calls)
	}
	for _, o := range []trace.Operation{trace.KernelMap, trace.KernelUnmapFast} {
		by := split(s, o)
		if len(by) != 2 || by[sourceOf(devices[0])] == 0 || by[sourceOf(devices[1])] == 0 {
			t.Errorf("%v by device: %v", o, by)
		}
	}
	if n := s.Of(trace.EventSubmit).Count; n < calls {
		t.Errorf("%d invalidations submitted for %d unmaps", n, calls)
	}
	if l := s.Of(trace.EventFlushRange); l.Count < calls || l.Size < size {
		t.Errorf("%d flushes of ranges of %d bytes for %d unmaps of %d", l.Count, l.Size, calls, size)
	}
	for _, o := range []trace.Operation{trace.KernelMap, trace.KernelUnmap, trace.KernelUnmapFast, trace.EventMap, trace.EventUnmap, trace.EventSubmit, trace.EventFlushRange, trace.EventFlushAbsent, trace.EventFlushAll, trace.VFIOMap, trace.VFIOUnmap} {
		l := s.Of(o)
		t.Logf("%-40v %6d calls %10d bytes %v", o, l.Count, l.Size, l.Time)
	}
}

// A countingMapper counts calls of the mapper that it is before.
type countingMapper struct {
	iommu.Mapper
	maps, unmaps atomic.Uint64
}

func (c *countingMapper) MapDMA(iova uint64, mem []byte, prot pagetable.Prot) error {
	c.maps.Add(1)
	return c.Mapper.MapDMA(iova, mem, prot)
}

func (c *countingMapper) UnmapDMA(iova, size uint64) error {
	c.unmaps.Add(1)
	return c.Mapper.UnmapDMA(iova, size)
}

// TestTraceDomains counts at once what this library does in domains of two devices, and the ioctls of VFIO that it makes for that.
func TestTraceDomains(t *testing.T) {
	warm(t)
	devices := twoDevices(t)
	tr := traced(t, trace.Options{Kernel: true, PID: os.Getpid()})
	var mapped, unmapped, ioctls, undone uint64
	want := [3]map[trace.Source]uint64{{}, {}, {}} // maps, unmaps, ioctls that map
	for i, dev := range devices {
		c := &countingMapper{Mapper: dev.Container().Mapper()}
		m, u := exercise(t, c, 3000*(i+1))
		source := sourceOf(dev)
		want[0][source], want[1][source], want[2][source] = m, u, c.maps.Load()
		mapped, unmapped, ioctls, undone = mapped+m, unmapped+u, ioctls+c.maps.Load(), undone+c.unmaps.Load()
	}
	s := counted(t, tr)
	checkMissing(t, s)
	for o, n := range map[trace.Operation]uint64{trace.Map: mapped, trace.Unmap: unmapped, trace.VFIOMap: ioctls, trace.VFIOUnmap: undone} {
		if got := s.Of(o).Count; got != n {
			t.Errorf("%v: %d, want exactly %d", o, got, n)
		}
	}
	for i, o := range []trace.Operation{trace.Map, trace.Unmap, trace.VFIOMap} {
		if got := split(s, o); !maps.Equal(got, want[i]) {
			t.Errorf("%v by device: %v, want %v", o, got, want[i])
		}
	}
	if n := with(s, trace.Unmap, probe.Refused).Count; n != unmapped-mapped {
		t.Errorf("%d refused unmaps, want %d", n, unmapped-mapped)
	}
	t.Logf("%d maps, %d unmaps, %d and %d ioctls", mapped, unmapped, ioctls, undone)
}

// exercise maps and unmaps n pieces in a domain over a mapper, some of them twice, which is refused, and says how many calls that were.
func exercise(t *testing.T, m iommu.Mapper, n int) (mapped, unmapped uint64) {
	t.Helper()
	ctx := t.Context()
	mem := &iommu.Pages{}
	d, err := iommu.NewPremapped(ctx, mem, m, iommu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	buf, err := mem.Alloc(ctx, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register(ctx, buf, iommu.Bidirectional); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p, err := d.Map(buf[i%256<<12:][:1+i%4096], iommu.Bidirectional)
		if err != nil {
			t.Fatal(err)
		}
		mapped++
		for range 1 + i%3/2 {
			if err = d.Unmap(p); err != nil && !errors.Is(err, iommu.ErrNotMapped) {
				t.Fatal(err)
			}
			unmapped++
		}
	}
	if err := errors.Join(d.Close(context.WithoutCancel(ctx)), mem.Close()); err != nil {
		t.Error(err)
	}
	return mapped, unmapped
}

// TestTraceOverload makes more events, and more kinds of calls, than there is room for: what is counted and what is lost are what
// happened.
func TestTraceOverload(t *testing.T) {
	warm(t)
	c := opened(t).Container()
	mem := pages(t, 1)
	tr := traced(t, trace.Options{Kernel: true, PID: os.Getpid(), SlowerThan: 1, Buffer: 4096, Cells: 2})
	const calls = 2000
	for i := range uint64(calls) {
		if err := errors.Join(c.MapDMA(i<<12, mem, vfio.DMARead), c.UnmapDMA(i<<12, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	quiet, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	events := drain(t, tr, func(e trace.Event) {
		if e.Operation.Kernel() && (len(e.Stack) == 0 || e.Thread == 0) {
			t.Errorf("event %+v", e)
		}
	})
	// Another tracer has room for all, and sees the same calls again.
	all := traced(t, trace.Options{Kernel: true, PID: os.Getpid(), SlowerThan: 1, Buffer: 16 << 20})
	for i := range uint64(calls) {
		if err := errors.Join(c.MapDMA(i<<12, mem, vfio.DMARead), c.UnmapDMA(i<<12, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	want := counted(t, all)
	timed := want.Total(func(l trace.Tally) bool { return l.Operation.Timed() }).Count
	if got := quiet.Total(nil).Count + quiet.Lost.Tallied; got != want.Total(nil).Count || quiet.Lost.Tallied == 0 {
		t.Errorf("%d calls counted, %d lost; want %d in all", quiet.Total(nil).Count, quiet.Lost.Tallied, want.Total(nil).Count)
	}
	if got := events + quiet.Lost.Events; got != timed || events == 0 || quiet.Lost.Events == 0 {
		t.Errorf("%d events read, %d lost; want %d in all", events, quiet.Lost.Events, timed)
	}
	if n := drain(t, all, func(trace.Event) {}); n != timed {
		t.Errorf("%d events with room for all, want %d", n, timed)
	}
}

// drain reads the events that there are.
func drain(t *testing.T, tr *trace.Tracer, each func(trace.Event)) (n uint64) {
	t.Helper()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for ; ; n++ {
		e, err := tr.Read(done)
		if errors.Is(err, context.Canceled) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		each(e)
	}
}

// TestTraceKernelFault has a device reach for what is not mapped: the kernel's driver takes that from the unit.
func TestTraceKernelFault(t *testing.T) {
	warm(t)
	dev := opened(t)
	engine, err := edu.Open(dev, edu.Options{DMAMask: 1<<64 - 1})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	c := dev.Container()
	mem := pages(t, 1)
	if err := c.MapDMA(0x10000, mem, vfio.DMARead); err != nil {
		t.Fatal(err)
	}
	defer c.UnmapDMA(0x10000, 4096)
	tr := traced(t, trace.Options{Kernel: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a hang is a failure
	defer cancel()
	for _, f := range []struct {
		name string
		dma  func() error
		want vtd.Fault
	}{
		{"read of nothing", func() error { return engine.ReadMemory(ctx, 0x7654000, 0, 64) }, vtd.Fault{Reason: vtd.ReasonNoRead, IOVA: 0x7654000}},
		{"write of nothing", func() error { return engine.WriteMemory(ctx, 0x8765000, 0, 64) }, vtd.Fault{Reason: vtd.ReasonNoWrite, IOVA: 0x8765000, Write: true}},
		{"write of what is for reading", func() error { return engine.WriteMemory(ctx, 0x10000, 0, 64) }, vtd.Fault{Reason: vtd.ReasonNoWrite, IOVA: 0x10000, Write: true}},
	} {
		t.Run(f.name, func(t *testing.T) {
			_ = f.dma() // the device does not learn that it was refused
			e, err := tr.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			f.want.Source = uint16(sourceOf(dev))
			if e.Operation != trace.KernelFault || e.Fault == nil || *e.Fault != f.want || e.Source != sourceOf(dev) || e.Result != uint16(f.want.Reason) || e.IOVA != f.want.IOVA || e.Process != 0 {
				t.Errorf("%+v, fault %v; want %v", e, e.Fault, f.want)
			}
		})
	}
	s := counted(t, tr)
	if n := split(s, trace.KernelFault); !maps.Equal(n, map[trace.Source]uint64{sourceOf(dev): 3}) {
		t.Errorf("faults by device: %v, want 3 of %v", n, sourceOf(dev))
	}
}

// TestTraceOwn counts the calls of this very program's probes, for two devices.
func TestTraceOwn(t *testing.T) {
	warm(t)
	before := held.Now(t)
	tr := traced(t, trace.Options{PID: os.Getpid()})
	const calls = 3000
	for i := range uint64(calls) {
		if !probe.On(probe.Map) || !probe.On(probe.Unmap) {
			t.Fatal("a probe is off")
		}
		probe.CallMap(1, 0x18+i%3/2*0x10, i<<12, 4096, 3, probe.Done, i)
		if i%2 == 0 {
			probe.CallUnmap(1, 0x18, i<<12, 4096, 3, probe.Done, i)
		}
	}
	s := counted(t, tr)
	if got, want := split(s, trace.Map), map[trace.Source]uint64{0x18: calls / 3 * 2, 0x28: calls / 3}; !maps.Equal(got, want) {
		t.Errorf("maps by device: %v, want %v", got, want)
	}
	if n := s.Of(trace.Unmap).Count; n != calls/2 {
		t.Errorf("%d unmaps, want %d", n, calls/2)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if probe.On(probe.Map) {
		t.Error("the probe stays on")
	}
	held.Check(t, before)
}

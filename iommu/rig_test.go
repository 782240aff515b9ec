package iommu_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gommu/internal/cacheline"
	"gommu/iommu"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

const (
	page       = 4096
	rigBus     = 0x10_0000
	rigFrames  = 384  // for tables
	rigPages   = 2048 // of data
	rigSource  = 0x18
	rigTimeout = time.Minute // only turns a hang into a failure
)

// A rig is a domain on the strict model of a unit, with a device in it.
type rig struct {
	t        testing.TB
	hw       *model.Unit
	u        *vtd.Unit
	frames   *respool.Pool[pagetable.Frame]
	mem      *ram
	d        *iommu.Domain
	dev      *model.Device
	gate     *gate         // before u
	close    func()        // at the end of the test at the latest
	patience time.Duration // of close
	bare     bool          // no gate
	region   *iommu.Region // all of the data
	tables   func(pagetable.Stage) iommu.Tables
}

// A setting is how a rig's unit works.
type setting struct {
	name  string
	c     model.Config
	mode  vtd.Mode
	stage pagetable.Stage
}

var settings = []setting{
	{name: "legacy"},
	{name: "registers", c: model.Config{NoQueue: true}},
	{name: "caching", c: model.Config{CachingMode: true, Coherent: true}},
	{name: "scalable first", mode: vtd.Scalable, stage: pagetable.FirstStage, c: model.Config{Scalable: true, Coherent: true}},
	{name: "scalable caching", mode: vtd.Scalable, c: model.Config{Scalable: true, CachingMode: true}},
}

// ram is data memory of the model: what is pinned, and where.
type ram struct {
	mem     []byte
	bus     uint64
	scatter bool // say every page by itself

	mu     sync.Mutex
	pinned map[*byte]int
}

func (m *ram) Alloc(ctx context.Context, size int) ([]byte, error) { return nil, iommu.ErrMemory }
func (m *ram) Free([]byte) error                                   { return nil }

func (m *ram) Pin(mem []byte) ([]pagetable.Extent, error) {
	off := -1
	for i := 0; i < len(m.mem); i += page {
		if &m.mem[i] == &mem[0] {
			off = i
		}
	}
	if off < 0 {
		return nil, iommu.ErrMemory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned[&mem[0]]++
	x := []pagetable.Extent{{Bus: m.bus + uint64(off), Size: uint64(len(mem))}}
	if m.scatter {
		x = nil
		for i := 0; i < len(mem); i += page {
			x = append(x, pagetable.Extent{Bus: m.bus + uint64(off+i), Size: page})
		}
	}
	return x, nil
}

func (m *ram) Unpin(mem []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pinned[&mem[0]] == 0 {
		return iommu.ErrMemory
	}
	m.pinned[&mem[0]]--
	return nil
}

// newRig makes the unit, and the domain with opts. What it made is closed at the end of the test, when everything has
// to be back.
func newRig(t testing.TB, s setting, opts iommu.Options) *rig {
	t.Helper()
	r := newUnit(t, s)
	r.domain(s, opts)
	return r
}

// newUnit makes a rig without a domain.
func newUnit(t testing.TB, s setting) *rig {
	t.Helper()
	return newUnitOf(t, s, rigPages)
}

// newUnitOf is newUnit with so many pages of data.
func newUnitOf(t testing.TB, s setting, n int) *rig {
	t.Helper()
	all := pages(rigFrames + n)
	s.c.RAM, s.c.RAMBase = all, rigBus
	hw, err := model.New(s.c)
	if err != nil {
		t.Fatal(err)
	}
	stopLines, stopFences := cacheline.Watch(hw.Flushed), cacheline.WatchFence(hw.Fenced)
	tables, data := all[:rigFrames*page], all[rigFrames*page:]
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: rigBus, Mem: tables})
	if err != nil {
		t.Fatal(err)
	}
	source := mem.Frames()
	frames, err := respool.New(t.Context(), source, respool.Options{Name: "frames", Low: 96, High: 128, Max: rigFrames, MaxShare: 1})
	if err != nil {
		t.Fatal(err)
	}
	u, err := vtd.Open(hw, mem, frames, vtd.Options{Mode: s.mode, Timeout: rigTimeout})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, hw: hw, u: u, frames: frames, patience: rigTimeout, dev: hw.Device(rigSource)}
	r.mem = &ram{mem: data, bus: rigBus + uint64(len(tables)), pinned: map[*byte]int{}}
	r.close = sync.OnceFunc(func() {
		defer stopLines()
		defer stopFences()
		ctx, cancel := context.WithTimeout(context.Background(), r.patience)
		defer cancel()
		if err := errors.Join(u.Close(), frames.Close(ctx)); err != nil {
			r.t.Error(err)
		}
		if n := source.Outstanding(); n != 0 {
			r.t.Errorf("%d frames did not come back", n)
		}
		if v := hw.Violations(); len(v) != 0 {
			r.t.Errorf("violations: %q", v)
		}
	})
	t.Cleanup(r.close)
	if err := u.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.tables = func(st pagetable.Stage) iommu.Tables {
		o, err := u.TableOptions(st)
		if err != nil {
			t.Fatal(err)
		}
		return iommu.Tables{Frames: frames, Memory: mem, Table: o}
	}
	return r
}

// domain makes the rig's domain, registers all data and attaches the device.
func (r *rig) domain(s setting, opts iommu.Options) {
	r.t.Helper()
	t := r.t
	if opts.MaxMappings == 0 {
		opts.MaxMappings = 4096
	}
	d, err := iommu.New(t.Context(), r.mem, r.tables(s.stage), opts)
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(func() {
		if err := d.CloseForced(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if r.region, err = d.Register(t.Context(), r.mem.mem, iommu.Bidirectional); err != nil {
		t.Fatal(err)
	}
	r.gate = &gate{Unit: r.u}
	dev := iommu.Device{Source: rigSource, Unit: r.gate}
	if r.bare {
		dev.Unit = r.u
	}
	if err := d.Attach(dev); err != nil {
		t.Fatal(err)
	}
}

// data is n bytes of the registered memory from off on.
func (r *rig) data(off, n int) []byte { return r.mem.mem[off:][:n] }

// mapped maps memory, or fails the test.
func (r *rig) mapped(mem []byte, dir iommu.Direction) iommu.Mapping {
	r.t.Helper()
	m, err := r.d.Map(mem, dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// want fails the test if err is not what was wanted, an OpError unless it is nil.
func want(t testing.TB, err, wanted error) {
	t.Helper()
	var op *iommu.OpError
	if !errors.Is(err, wanted) || err != nil && !errors.As(err, &op) && !errors.Is(err, iommu.ErrEmpty) {
		t.Errorf("error %v, want %v", err, wanted)
	}
}

// reached fails the test unless the device reaches iova.
func (r *rig) reached(iova uint64) {
	r.t.Helper()
	if err := r.dev.Read(iova, make([]byte, 1)); err != nil {
		r.t.Errorf("read of %#x: %v", iova, err)
	}
}

// blocked fails the test if the device reaches iova.
func (r *rig) blocked(iova uint64) {
	r.t.Helper()
	if err := r.dev.Read(iova, make([]byte, 1)); !errors.Is(err, model.ErrBlocked) {
		r.t.Errorf("read of %#x: %v, want it to be blocked", iova, err)
	}
}

// copies fails the test unless the device moves data through m in the direction dir.
func (r *rig) copies(m iommu.Mapping, mem []byte, dir iommu.Direction, tag string) {
	r.t.Helper()
	text := []byte(fmt.Sprintf("%s %#x", tag, m.IOVA()))
	n := min(len(text), len(mem))
	buf := make([]byte, n)
	if dir&iommu.FromDevice != 0 {
		if err := r.dev.Write(m.IOVA(), text[:n]); err != nil {
			r.t.Error(err)
		}
		if string(mem[:n]) != string(text[:n]) {
			r.t.Errorf("device wrote %q, memory has %q", text[:n], mem[:n])
		}
	} else {
		copy(mem, text[:n])
		if err := r.dev.Write(m.IOVA(), buf); !errors.Is(err, model.ErrBlocked) {
			r.t.Errorf("device writes what it may only read: %v", err)
		}
	}
	if dir&iommu.ToDevice == 0 {
		return
	}
	if err := r.dev.Read(m.IOVA(), buf); err != nil || string(buf) != string(text[:n]) {
		r.t.Errorf("device read %q, %v, want %q", buf, err, text[:n])
	}
}

package vtd_test

import (
	"errors"
	"fmt"
	"testing"

	"gommu/internal/procpin"
	"gommu/iommu"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// bound is a driver on the model with a table bound and a page mapped, device
// 0x18 attached.
type bound struct {
	*judged
	b     iommu.Binding
	table *pagetable.Table
}

func bindOn(t testing.TB, c model.Config, mode vtd.Mode, stage pagetable.Stage) *bound {
	t.Helper()
	c.Scalable = c.Scalable || mode == vtd.Scalable
	s := &bound{judged: judge(t, c, mode)}
	t.Cleanup(func() { s.close(t) })
	s.table = s.tables[0]
	if stage == pagetable.FirstStage {
		s.table = s.tables[2]
	}
	var err error
	if s.b, err = s.u.Bind(s.table); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.u.Enable(t.Context()), s.b.Attach(0x18)); err != nil {
		t.Fatal(err)
	}
	return s
}

// A bindMode is a way in which a unit can walk tables and be told to forget.
type bindMode struct {
	name  string
	c     model.Config
	mode  vtd.Mode
	stage pagetable.Stage
}

var bindModes = []bindMode{
	{"legacy", model.Config{}, vtd.Legacy, pagetable.SecondStage},
	{"legacy wide", model.Config{Scalable: true}, vtd.Legacy, pagetable.SecondStage},
	{"domains only", model.Config{NoPageSelective: true}, vtd.Legacy, pagetable.SecondStage},
	{"registers", model.Config{NoQueue: true}, vtd.Legacy, pagetable.SecondStage},
	{"caching", model.Config{CachingMode: true}, vtd.Legacy, pagetable.SecondStage},
	{"caching registers", model.Config{CachingMode: true, NoQueue: true}, vtd.Legacy, pagetable.SecondStage},
	{"buffered", model.Config{WriteBufferFlush: true, Coherent: true}, vtd.Legacy, pagetable.SecondStage},
	{"scalable second", model.Config{}, vtd.Scalable, pagetable.SecondStage},
	{"scalable first", model.Config{Coherent: true}, vtd.Scalable, pagetable.FirstStage},
	{"scalable caching", model.Config{CachingMode: true}, vtd.Scalable, pagetable.SecondStage},
	{"scalable first buffered", model.Config{CachingMode: true, WriteBufferFlush: true}, vtd.Scalable, pagetable.FirstStage},
}

func eachMode(t *testing.T, f func(t *testing.T, s *bound)) {
	for _, m := range bindModes {
		t.Run(m.name, func(t *testing.T) { f(t, bindOn(t, m.c, m.mode, m.stage)) })
	}
}

// flush runs Begin and Done until the flush is done.
func flush(b iommu.Binding, iova, size uint64, leavesOnly bool) error {
	ticket, err := b.Begin(iova, size, leavesOnly)
	for err == iommu.ErrBusy {
		ticket, err = b.Begin(iova, size, leavesOnly)
	}
	for done := false; err == nil && !done; {
		done, err = b.Done(ticket)
	}
	return err
}

// remap has the device use a page, unmaps it, and maps another in its place. The
// tables that led to the first lead elsewhere by then.
func (s *bound) remap(iova uint64, page byte) error {
	d, buf := s.hw.Device(0x18), make([]byte, 1)
	for _, p := range []byte{page, page + 1} {
		if p != page {
			elsewhere := iova + 1<<39
			if err := errors.Join(s.table.Map(elsewhere, modelData, pagetable.FrameSize, pagetable.Read), s.b.Publish(elsewhere, pagetable.FrameSize)); err != nil {
				return err
			}
		}
		bus := modelData + uint64(p)<<12
		s.ram[bus-firstBus] = p
		err := errors.Join(s.table.Map(iova, bus, pagetable.FrameSize, pagetable.Read), s.b.Publish(iova, pagetable.FrameSize), d.Read(iova, buf))
		if err != nil || buf[0] != p {
			return fmt.Errorf("reads page %d, want %d: %v", buf[0], p, err)
		}
		var batch pagetable.Batch
		if _, err := s.table.Unmap(iova, pagetable.FrameSize, &batch); err != nil {
			return err
		}
		if err := errors.Join(flush(s.b, iova, pagetable.FrameSize, batch.Tables() == 0), batch.Release()); err != nil {
			return err
		}
	}
	return nil
}

// TestBinding maps and unmaps with flushes of each kind: the device reaches what
// is mapped at each moment.
func TestBinding(t *testing.T) {
	eachMode(t, func(t *testing.T, s *bound) {
		d, buf := s.hw.Device(0x18), make([]byte, 1)
		for i := range byte(16) {
			s.ram[modelData-firstBus+uint64(i)*pagetable.FrameSize] = i
		}
		rounds := uint64(40)
		if !procpin.Works { // the race detector takes its time
			rounds = 4
		}
		for round := range rounds {
			iova, page := uint64(0x7f_ffff_e000), round%16
			size := uint64(pagetable.FrameSize)
			if err := errors.Join(s.table.Map(iova, modelData+page<<12, size, pagetable.Read|pagetable.Write), s.b.Publish(iova, size)); err != nil {
				t.Fatal(err)
			}
			if err := d.Read(iova, buf); err != nil || buf[0] != byte(page) {
				t.Fatalf("round %d: %v, page %d, want %d", round, err, buf[0], page)
			}
			var batch pagetable.Batch
			if _, err := s.table.Unmap(iova, size, &batch); err != nil {
				t.Fatal(err)
			}
			switch round % 4 {
			case 0:
				iova, size = 0, 0
			case 1:
				size = 1 << 40
			case 2:
				size = 3 * pagetable.FrameSize
			}
			if err := errors.Join(flush(s.b, iova, size, batch.Tables() == 0), batch.Release()); err != nil {
				t.Fatal(err)
			}
			if err := d.Read(0x7f_ffff_e000, buf); !errors.Is(err, model.ErrBlocked) {
				t.Fatalf("round %d: after the flush: %v", round, err)
			}
		}
		if v := s.hw.Violations(); len(v) != 0 {
			t.Errorf("%q", v)
		}
	})
}

// TestBeginTables: the unit forgets the way to tables that were unlinked.
func TestBeginTables(t *testing.T) {
	eachMode(t, func(t *testing.T, s *bound) {
		if err := s.remap(0x1000, 1); err != nil {
			t.Error(err)
		}
	})
}

// TestBindingAllocates: none of what must not sleep allocates.
func TestBindingAllocates(t *testing.T) {
	if !procpin.Works {
		t.Skip("the race detector allocates: run without")
	}
	eachMode(t, func(t *testing.T, s *bound) {
		for name, f := range map[string]func() error{
			"range":   func() error { return flush(s.b, 0x1000, 0x1000, true) },
			"domain":  func() error { return flush(s.b, 0, 0, false) },
			"publish": func() error { return s.b.Publish(0x1000, 0x1000) },
		} {
			var err error
			if n := testing.AllocsPerRun(200, func() { err = errors.Join(err, f()) }); n != 0 || err != nil {
				t.Errorf("%s: %v allocations, %v", name, n, err)
			}
		}
	})
}

func TestBindingLife(t *testing.T) {
	s := bindOn(t, model.Config{}, vtd.Legacy, pagetable.SecondStage)
	other, err := s.u.Bind(s.tables[1])
	if err != nil || other.DomainID() == s.b.DomainID() {
		t.Fatal(other, err)
	}
	for name, c := range map[string]struct{ got, want error }{
		"close while attached": {s.b.Close(), vtd.ErrDomainBusy},
		"attached elsewhere":   {other.Attach(0x18), vtd.ErrAttached},
		"detach of another's":  {other.Detach(0x18), vtd.ErrNotAttached},
		"free a bound id":      {s.u.FreeDomain(other.DomainID()), vtd.ErrDomainBusy},
		"wraps around":         {flush(other, ^uint64(0), 2, false), vtd.ErrRange},
		"wraps, publish":       {other.Publish(^uint64(0), 2), vtd.ErrRange},
		"publish of nothing":   {other.Publish(0x1000, 0), vtd.ErrRange},
		"the last page":        {flush(other, ^uint64(0xfff), 0x1000, false), nil},
		"recover":              {other.Recover(), nil},
		"nothing attached":     {flush(other, 0x1000, 0x1000, false), nil},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if _, err := s.u.Bind(nil); !errors.Is(err, vtd.ErrTable) {
		t.Errorf("bind nil: %v", err)
	}
	if err := errors.Join(s.b.Detach(0x18), s.b.Close(), s.b.Close(), other.Attach(0x18), other.Detach(0x18), other.Close()); err != nil {
		t.Error(err)
	}
	for name, got := range map[string]error{
		"attach": s.b.Attach(0x18), "begin": flush(s.b, 0, 0, false), "publish": s.b.Publish(0x1000, 1),
	} {
		if !errors.Is(got, vtd.ErrClosed) {
			t.Errorf("%s after close: %v", name, got)
		}
	}
	if again, err := s.u.Bind(s.tables[0]); err != nil || again.Close() != nil {
		t.Error(err)
	}
}

// TestBindingOff: while nothing is translated nothing is cached, and all flushes
// are done; those that were on their way too.
func TestBindingOff(t *testing.T) {
	eachMode(t, func(t *testing.T, s *bound) {
		last, err := s.b.Begin(0, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.u.Disable(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if done, err := s.b.Done(last); err != nil || !done {
					t.Fatalf("while it is off: %v, %v", done, err)
				}
				if last, err = s.b.Begin(0, 0, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(s.b.Publish(0x1000, 1), s.u.Enable(t.Context()), flush(s.b, 0x1000, 1, true)); err != nil {
				t.Fatal(err)
			}
		}
		if v := s.hw.Violations(); len(v) != 0 {
			t.Errorf("%q", v)
		}
	})
}

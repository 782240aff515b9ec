package measure

import (
	"context"
	"errors"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/iommu"
	"gommu/pagetable"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
)

// tiny measures each figure once.
var tiny = Extent{Short: true, Budget: time.Nanosecond, Samples: 1}

// TestUnit measures what there is on a unit, and leaves nothing behind.
func TestUnit(t *testing.T) {
	for _, name := range []string{"model", "qtest"} {
		t.Run(name, func(t *testing.T) {
			o := rung.Options{Variant: rung.Variant{Coherent: true}}
			if name == "qtest" {
				o = rung.Options{QEMU: provision.Require(t, "qtest", provision.Options{NoKernel: true}).QEMUs[0]}
			}
			before := held.Now(t)
			r, err := Unit(t.Context(), name, o, true, tiny)
			if err != nil {
				t.Fatal(err)
			}
			all, err := Join(name, "here", MutexList, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, way := range []struct{ name, policy string }{
				{OwnTables, "strict"}, {OwnTables, "batched"}, {OwnTables, "ring"}, {MutexList, "strict"}, {MutexList, "batched"}, {TableAlone, ""},
			} {
				for _, s := range Shapes() {
					row, ok := all.find(way.name, way.policy, "map+unmap "+s.Name, 1, Idle)
					if !ok || row.P50 <= 0 || row.Peer == "" {
						t.Errorf("%s, %s: %s: %+v", way.name, way.policy, s.Name, row)
					}
				}
			}
			if len(all.Targets) != 4 || len(all.Held) == 0 || all.Held[0].Bytes <= 0 {
				t.Errorf("targets %+v, held %+v", all.Targets, all.Held)
			}
			held.Check(t, before)
		})
	}
}

// failingMemory fails at one of its calls.
type failingMemory struct {
	iommu.Memory
	at, calls *int
}

func (m failingMemory) count() error {
	*m.calls++
	if *m.calls-1 == *m.at {
		return errInjected
	}
	return nil
}

func (m failingMemory) Alloc(ctx context.Context, size int) ([]byte, error) {
	if err := m.count(); err != nil {
		return nil, err
	}
	return m.Memory.Alloc(ctx, size)
}

func (m failingMemory) Pin(mem []byte) ([]pagetable.Extent, error) {
	if err := m.count(); err != nil {
		return nil, err
	}
	return m.Memory.Pin(mem)
}

// TestUnitFails has each call for memory fail in turn: that is the error, and nothing is left.
func TestUnitFails(t *testing.T) {
	before := held.Now(t)
	for at := 0; ; at++ {
		calls := 0
		o := rung.Options{Variant: rung.Variant{Coherent: true}, WrapMemory: func(m iommu.Memory) iommu.Memory {
			return failingMemory{m, &at, &calls}
		}}
		_, err := Unit(t.Context(), "model", o, true, tiny)
		if calls <= at {
			if err != nil || at < 3 {
				t.Errorf("after %d failures: %v", at, err)
			}
			break
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("call %d fails: %v", at, err)
		}
	}
	if _, err := Unit(t.Context(), "nowhere", rung.Options{}, true, tiny); !errors.Is(err, rung.ErrRung) {
		t.Errorf("a rung that there is not: %v", err)
	}
	held.Check(t, before)
}

// TestPlainWays: the ways without a domain map what they should and nothing else, and give all back.
func TestPlainWays(t *testing.T) {
	m, err := rung.Open(t.Context(), "model", rung.Options{NoDomain: true, Variant: rung.Variant{Coherent: true}})
	if err != nil {
		t.Fatal(err)
	}
	table, err := pagetable.New(m.Tables.Memory, m.Tables.Frames, m.Tables.Table)
	if err != nil {
		t.Fatal(err)
	}
	id, err := m.Unit.AllocDomain()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := m.Memory.Alloc(t.Context(), memorySize)
	if err != nil {
		t.Fatal(err)
	}
	at, err := m.Memory.Pin(mem)
	if err != nil {
		t.Fatal(err)
	}
	c := ListConfig{Unit: m.Unit, Table: table, Domain: id, Mem: mem, At: at}
	frames := m.Tables.Frames.Stats().InUse
	for _, every := range []int{0, 1, 7} {
		c.Every = every
		way := NewMutexList(c)
		if every == 0 {
			way = NewTable(c)
		}
		for _, s := range Shapes() {
			checkWay(t, way, s, table, mem, at)
			if n := m.Tables.Frames.Stats().InUse; n != frames {
				t.Errorf("%s: %d frames in use, %d before", s.Name, n, frames)
			}
		}
	}
	for _, err := range []error{table.Close(), m.Memory.Unpin(mem), m.Memory.Free(mem), m.Unit.FreeDomain(id), m.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}

// checkWay has two workers map all their slots, and looks at the table.
func checkWay(t *testing.T, way Way, s Shape, table *pagetable.Table, mem []byte, at []pagetable.Extent) {
	t.Helper()
	const n = 5
	var workers []Worker
	want := map[uint64]int{} // how often each page is mapped, by its bus address
	for number := range 2 {
		w, err := way.Worker(t.Context(), s, number, n)
		if err != nil {
			t.Fatal(err)
		}
		workers = append(workers, w)
		for slot := range n {
			if err := w.Map(slot); err != nil {
				t.Fatal(err)
			}
			list, err := s.Slice(mem, number*apart+slot)
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range list {
				for _, e := range part(at, offset(mem, piece), uint64(len(piece))) {
					for page := uint64(0); page < e.Size; page += 4096 {
						want[e.Bus+page]++
					}
				}
			}
		}
	}
	for leaf := range table.All() {
		for page := uint64(0); page < leaf.Size; page += 4096 {
			want[leaf.Bus+page]--
		}
	}
	for bus, times := range want {
		if times != 0 {
			t.Fatalf("%s: bus address %#x is mapped %d times less than it should be", s.Name, bus, times)
		}
	}
	for _, w := range workers {
		for slot := range n {
			if err := w.Unmap(slot); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Flush(), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for leaf := range table.All() {
		t.Fatalf("%s: IOVA %#x is still mapped", s.Name, leaf.IOVA)
	}
}

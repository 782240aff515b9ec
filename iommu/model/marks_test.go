package model_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gommu/internal/cacheline"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// TestMarks lets the unit walk tables with the marks that unmaps leave (pagetable.Options.Marks): it
// takes them for entries that are not present, in pages, superpages and links alike.
func TestMarks(t *testing.T) {
	for _, w := range []way{
		{"legacy", vtd.Legacy, pagetable.SecondStage},
		{"second stage", vtd.Scalable, pagetable.SecondStage},
		{"first stage", vtd.Scalable, pagetable.FirstStage},
	} {
		for _, coherent := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/coherent=%v", w.name, coherent), func(t *testing.T) {
				driveMarks(t, w, model.Config{Scalable: w.mode == vtd.Scalable, Coherent: coherent, CachingMode: true})
			})
		}
	}
}

func driveMarks(t *testing.T, w way, c model.Config) {
	c.RAM, c.RAMBase = frames(ramPages), ramBase
	r := &rig{t: t, ram: c.RAM, words: words(c.RAM)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.Unit, err = model.New(c)
	must(err)
	defer cacheline.Watch(r.Flushed)()
	defer cacheline.WatchFence(r.Fenced)()
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: ramBase, Mem: c.RAM[:dataBase-ramBase]})
	must(err)
	pool, err := respool.New(t.Context(), mem.Frames(), respool.Options{Min: 64, Low: 64, High: 128, Max: 512})
	must(err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		must(pool.Close(ctx))
	}()
	unit, err := vtd.Open(r.Unit, mem, pool, vtd.Options{Mode: w.mode})
	must(err)
	opts, err := unit.TableOptions(w.stage)
	must(err)
	opts.Marks = true
	table, err := pagetable.New(mem, pool, opts)
	must(err)
	defer table.Close()
	must(unit.Enable(t.Context()))
	must(unit.Attach(source, domain, table))
	must(table.Hold(1<<37, 2<<20, 0))
	must(unit.Publish(domain, 1<<37, 2<<20))
	for _, m := range []struct{ iova, size uint64 }{
		{1 << 37, 1 << 12}, {1<<37 + 1<<20, 3 << 12}, // in a held table
		{1<<37 + 2<<20, 1 << 12}, {1<<37 + 6<<20, 2 << 20}, // whose tables go
		{1 << 38, 5 << 12},
	} {
		for range 2 {
			r.mark(unit, table, m.iova, m.size)
		}
	}
	must(unit.Detach(source))
	must(unit.Close())
	r.lawful()
}

// mark maps, uses and unmaps a range, and uses it again while the marks are there.
func (r *rig) mark(unit *vtd.Unit, table *pagetable.Table, iova, size uint64) {
	t, d, b := r.t, r.Device(source), make([]byte, 8)
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(table.Map(iova, dataBase, size, pagetable.Read|pagetable.Write))
	must(unit.Publish(domain, iova, size))
	r.fill(dataBase)
	r.reads(d, iova, dataBase)
	var batch pagetable.Batch
	if n, err := table.Unmap(iova, size, &batch); err != nil || n != size {
		t.Fatalf("%#x bytes unmapped, %v", n, err)
	}
	if err := table.Map(iova, dataBase, size, pagetable.Read); !errors.Is(err, pagetable.ErrMarked) {
		t.Errorf("map before the invalidation: %v", err)
	}
	first, last, _ := batch.Range()
	must(unit.Invalidate(domain, first, last-first+1))
	for _, at := range []uint64{iova, iova + size - 1<<12} {
		if err := d.Read(at, b); !errors.Is(err, model.ErrBlocked) {
			t.Errorf("read of what is marked: %v", err)
		}
	}
	faults, _, err := unit.Faults()
	must(err)
	for _, f := range faults { // not for reserved bits
		if !slices.Contains([]vtd.Reason{0x06, 0x71, 0x79}, f.Reason) {
			t.Errorf("%v", f)
		}
	}
	if len(faults) == 0 {
		t.Error("no fault")
	}
	must(table.Unmark(first, last-first+1))
	must(batch.Release())
}

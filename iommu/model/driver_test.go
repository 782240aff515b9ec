package model_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

var _ vtd.Registers = (*model.Unit)(nil)

// TestDriver drives the unit with this module's driver and tables: map, DMA,
// unmap, stale until the invalidation, blocked after it. The unit finds nothing to
// object to.
func TestDriver(t *testing.T) {
	for _, c := range []struct {
		name string
		c    model.Config
		opts vtd.Options
	}{
		{"queue", model.Config{}, vtd.Options{}},
		{"registers", model.Config{NoQueue: true}, vtd.Options{}},
		{"caching mode", model.Config{CachingMode: true}, vtd.Options{}},
		{"write buffer", model.Config{WriteBufferFlush: true}, vtd.Options{}},
		{"no page-selective", model.Config{NoPageSelective: true}, vtd.Options{}},
		{"small masks", model.Config{MaxAddressMask: 1}, vtd.Options{}},
		{"39 bits", model.Config{Widths: []int{39}, No1G: true}, vtd.Options{}},
		{"protected memory", model.Config{ProtectedMemory: true}, vtd.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.Coherent = true
			drive(t, c.c, c.opts, (*rig).exercise)
		})
	}
}

func drive(t *testing.T, c model.Config, opts vtd.Options, exercise func(*rig, *vtd.Unit, *pagetable.Table)) {
	c.RAM, c.RAMBase = frames(ramPages), ramBase
	r := &rig{t: t, ram: c.RAM, words: words(c.RAM)}
	u, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Unit = u
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: ramBase, Mem: c.RAM[:dataBase-ramBase]})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := respool.New(t.Context(), mem.Frames(), respool.Options{Min: 64, Low: 64, High: 128, Max: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	unit, err := vtd.Open(u, mem, pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer unit.Close()
	table, err := pagetable.New(mem, pool, unit.Capabilities().TableOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if err := unit.Attach(source, domain, table); err != nil {
		t.Fatal(err)
	}
	if err := unit.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	exercise(r, unit, table)
	if err := unit.Detach(source); err != nil {
		t.Error(err)
	}
	if err := u.Device(source).Read(0, make([]byte, 1)); !errors.Is(err, model.ErrBlocked) {
		t.Errorf("after detaching: %v", err)
	}
	if err := unit.Close(); err != nil {
		t.Error(err)
	}
	r.lawful()
}

// exercise maps, uses and unmaps ranges of several sizes.
func (r *rig) exercise(unit *vtd.Unit, table *pagetable.Table) {
	t, d := r.t, r.Device(source)
	for i, pages := range []uint64{1, 2, 3, 64, 300} {
		iova, size := uint64(0x40_0000_0000)>>1+uint64(i)<<24, pages<<12
		b := make([]byte, 8)
		if err := d.Read(iova, b); !errors.Is(err, model.ErrBlocked) {
			t.Errorf("before mapping: %v", err)
		}
		if err := table.Map(iova, dataBase, size, pagetable.Read|pagetable.Write); err != nil {
			t.Fatal(err)
		}
		if err := unit.Publish(domain, iova, size); err != nil {
			t.Fatal(err)
		}
		for p := range pages {
			r.fill(dataBase + p<<12)
			r.reads(d, iova+p<<12, dataBase+p<<12)
		}
		var batch pagetable.Batch
		if n, err := table.Unmap(iova, size, &batch); err != nil || n != size {
			t.Fatalf("%#x bytes unmapped, %v", n, err)
		}
		for p := range pages {
			r.reads(d, iova+p<<12, dataBase+p<<12) // stale
		}
		first, last, ok := batch.Range()
		if !ok {
			t.Fatal("nothing to invalidate")
		}
		if err := unit.Invalidate(domain, first, last-first+1); err != nil {
			t.Fatal(err)
		}
		for p := range pages {
			if err := d.Read(iova+p<<12, b); !errors.Is(err, model.ErrBlocked) {
				t.Fatalf("page %d after the invalidation: %v", p, err)
			}
		}
		if err := batch.Release(); err != nil {
			t.Error(err)
		}
		if faults, _, err := unit.Faults(); err != nil || len(faults) == 0 || faults[0].Source != source {
			t.Errorf("faults %v, %v", faults, err)
		}
	}
}

// TestMapBeforeInvalidation: a table leaves the tree, and before the
// invalidation another mapping needs one in its place. The unit still walks the old
// one, so the mapping works only after the invalidation (pagetable.Table.Map).
func TestMapBeforeInvalidation(t *testing.T) {
	drive(t, model.Config{Coherent: true}, vtd.Options{}, func(r *rig, unit *vtd.Unit, table *pagetable.Table) {
		const iova, page = 0x40_0000, 0x1000
		d, both := r.Device(source), pagetable.Read|pagetable.Write
		if err := table.Map(iova, dataBase, page, both); err != nil {
			t.Fatal(err)
		}
		r.fill(dataBase)
		r.reads(d, iova, dataBase)
		var batch pagetable.Batch
		if _, err := table.Unmap(iova, page, &batch); err != nil || batch.Tables() == 0 {
			t.Fatalf("%v, %d tables", err, batch.Tables())
		}
		if err := table.Map(iova+page, dataBase, page, both); err != nil {
			t.Fatal(err)
		}
		if err := d.Read(iova+page, make([]byte, 8)); !errors.Is(err, model.ErrBlocked) {
			t.Errorf("through the old table: %v", err)
		}
		if _, _, err := unit.Faults(); err != nil {
			t.Error(err)
		}
		if err := unit.Flush(domain, &batch); err != nil {
			t.Fatal(err)
		}
		r.reads(d, iova+page, dataBase)
		if n := batch.Tables(); n != 0 {
			t.Errorf("%d tables left in the batch", n)
		}
		if _, err := table.Unmap(iova+page, page, &batch); err != nil {
			t.Fatal(err)
		}
		if err := unit.Flush(domain, &batch); err != nil {
			t.Fatal(err)
		}
	})
}

package model_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gommu/internal/cacheline"
	"gommu/internal/procpin"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// A way is how the driver drives the unit.
type way struct {
	name  string
	mode  vtd.Mode
	stage pagetable.Stage
}

// TestModes drives the unit in every mode, through every stage, with everything
// that the unit may make difficult: walks that do not snoop and see flushes in any
// order, caching mode, write buffers, devices with their own TLBs.
func TestModes(t *testing.T) {
	for _, w := range []way{
		{"legacy", vtd.Legacy, pagetable.SecondStage},
		{"second stage", vtd.Scalable, pagetable.SecondStage},
		{"first stage", vtd.Scalable, pagetable.FirstStage},
	} {
		for n := range 32 {
			c := model.Config{
				Scalable: w.mode == vtd.Scalable,
				Coherent: n&1 != 0, CachingMode: n&2 != 0, WriteBufferFlush: n&4 != 0, UnorderedFlushes: n&8 != 0, DeviceTLB: n&16 != 0,
			}
			if c.WriteBufferFlush && n != 4 && !procpin.Works {
				continue // the model copies all memory there, a word at a time under the race detector
			}
			name := fmt.Sprintf("%s/coherent=%v,cm=%v,rwbf=%v,unordered=%v,ats=%v",
				w.name, c.Coherent, c.CachingMode, c.WriteBufferFlush, c.UnorderedFlushes, c.DeviceTLB)
			t.Run(name, func(t *testing.T) { driveWay(t, w, c) })
		}
	}
}

func driveWay(t *testing.T, w way, c model.Config) {
	c.RAM, c.RAMBase = frames(ramPages), ramBase
	r := &rig{t: t, ram: c.RAM, words: words(c.RAM)}
	var err error
	if r.Unit, err = model.New(c); err != nil {
		t.Fatal(err)
	}
	defer cacheline.Watch(r.Flushed)()
	defer cacheline.WatchFence(r.Fenced)()
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
	unit, err := vtd.Open(r.Unit, mem, pool, vtd.Options{Mode: w.mode})
	if err != nil {
		t.Fatal(err)
	}
	defer unit.Close()
	opts, err := unit.TableOptions(w.stage)
	if err != nil {
		t.Fatal(err)
	}
	table, err := pagetable.New(mem, pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if c.DeviceTLB {
		if err := unit.SetDeviceTLB(source, &vtd.DeviceTLB{}); err != nil {
			t.Fatal(err)
		}
		r.Device(source).SetATS(true)
	}
	if err := unit.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unit.Attach(source, domain, table); err != nil {
			t.Fatal(err)
		}
		r.cycle(unit, table)
		if err := unit.Detach(source); err != nil {
			t.Error(err)
		}
		if err := r.Device(source).Read(0, make([]byte, 1)); !errors.Is(err, model.ErrBlocked) {
			t.Errorf("after detaching: %v", err)
		}
	}
	if err := unit.Close(); err != nil {
		t.Error(err)
	}
	r.lawful()
}

// cycle maps, uses and unmaps ranges of several sizes. It invalidates before it
// looks again.
func (r *rig) cycle(unit *vtd.Unit, table *pagetable.Table) {
	t, d, b := r.t, r.Device(source), make([]byte, 8)
	for i, pages := range []uint64{1, 2, 3, 64, 300, 512} {
		iova, size := uint64(1)<<37+uint64(i)<<24, pages<<12
		if err := d.Read(iova, b); !errors.Is(err, model.ErrBlocked) {
			t.Fatalf("before mapping: %v", err)
		}
		if err := table.Map(iova, dataBase, size, pagetable.Read|pagetable.Write); err != nil {
			t.Fatal(err)
		}
		if err := unit.Publish(domain, iova, size); err != nil {
			t.Fatal(err)
		}
		for p := uint64(0); p < pages; p += 1 + pages/16 {
			r.fill(dataBase + p<<12)
			r.reads(d, iova+p<<12, dataBase+p<<12)
			if err := d.Write(iova+p<<12+8, b); err != nil {
				t.Fatal(err)
			}
		}
		var batch pagetable.Batch
		if n, err := table.Unmap(iova, size, &batch); err != nil || n != size {
			t.Fatalf("%#x bytes unmapped, %v", n, err)
		}
		first, last, _ := batch.Range()
		if err := unit.Invalidate(domain, first, last-first+1); err != nil {
			t.Fatal(err)
		}
		for p := uint64(0); p < pages; p += 1 + pages/16 {
			if err := d.Read(iova+p<<12, b); !errors.Is(err, model.ErrBlocked) {
				t.Fatalf("page %d after the invalidation: %v", p, err)
			}
		}
		if err := batch.Release(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := unit.Faults(); err != nil {
			t.Fatal(err)
		}
	}
}

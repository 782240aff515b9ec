package vtd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gommu/internal/cacheline"
	"gommu/internal/procpin"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

const (
	modelPages = 512 // for tables
	modelData  = firstBus + modelPages*pagetable.FrameSize
	modelSlots = 4 // pages of IOVAs that tables may map
)

// A judged driver works on the strict model with real tables, next to what
// should be true.
type judged struct {
	hw     *model.Unit
	u      *vtd.Unit
	ram    []byte
	tables []*pagetable.Table
	mapped []map[uint64]int // by table: data page behind a slot
	at     map[actor]int    // table of what is attached; -1 passes through
	undo   []func() error
}

func iovaOf(slot int) uint64 { return 0x7f_ffff_e000 + uint64(slot)<<12 } // over a border of 1 GiB

// judge starts the driver and its tables on a unit of the model.
func judge(t testing.TB, c model.Config, mode vtd.Mode) *judged {
	c.RAM, c.RAMBase = pages(modelPages+16), firstBus
	hw, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	j := &judged{hw: hw, ram: c.RAM, at: map[actor]int{}}
	stopLines, stopFences := cacheline.Watch(hw.Flushed), cacheline.WatchFence(hw.Fenced)
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: firstBus, Mem: c.RAM[:modelPages*pagetable.FrameSize]})
	if err != nil {
		t.Fatal(err)
	}
	source := mem.Frames()
	pool, err := respool.New(t.Context(), source, respool.Options{Low: 64, High: 128, Max: modelPages})
	if err != nil {
		t.Fatal(err)
	}
	if j.u, err = vtd.Open(hw, mem, pool, vtd.Options{Mode: mode, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		stage := pagetable.SecondStage
		if mode == vtd.Scalable && i >= 2 {
			stage = pagetable.FirstStage
		}
		opts, err := j.u.TableOptions(stage)
		if err != nil {
			t.Fatal(err)
		}
		tbl, err := pagetable.New(mem, pool, opts)
		if err != nil {
			t.Fatal(err)
		}
		j.tables = append(j.tables, tbl)
		j.mapped = append(j.mapped, map[uint64]int{})
	}
	j.undo = append(j.undo, func() error {
		defer stopLines()
		defer stopFences()
		err := j.u.Close()
		for _, tbl := range j.tables {
			err = errors.Join(err, tbl.Close())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(err, pool.Close(ctx)); err != nil {
			return err
		}
		if n := source.Outstanding(); n != 0 {
			return fmt.Errorf("%d frames did not come back", n)
		}
		return nil
	})
	return j
}

// close undoes judge.
func (j *judged) close(t interface{ Error(...any) }) {
	for _, f := range j.undo {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
}

// check compares what every device reaches with what it should.
func (j *judged) check(t *rapid.T, actors []actor) {
	buf := make([]byte, 1)
	for _, a := range actors {
		table, attached := j.at[a]
		for slot := range modelSlots {
			iova := iovaOf(slot)
			want, ok := 0, false
			if attached && table >= 0 {
				want, ok = j.mapped[table][iova], j.mapped[table][iova] != 0
			}
			if table == -1 {
				iova, want, ok = modelData+uint64(slot)<<12, slot, true
			}
			d := j.hw.Device(a.source)
			err := error(nil)
			if a.pasid != 0 {
				err = d.ReadPASID(a.pasid, iova, buf)
			} else {
				err = d.Read(iova, buf)
			}
			switch {
			case ok && (err != nil || buf[0] != byte(want)):
				t.Fatalf("%+v at iova %#x: page %d, %v; want page %d", a, iova, buf[0], err, want)
			case !ok && !errors.Is(err, model.ErrBlocked):
				t.Fatalf("%+v at iova %#x: page %d, %v; want to be blocked", a, iova, buf[0], err)
			}
		}
	}
	if v := j.hw.Violations(); len(v) != 0 {
		t.Fatalf("violations: %q", v)
	}
}

// domainOf is the domain id of a table.
func domainOf(table int) uint16 { return uint16(table + 2) }

// TestModel does random things on the strict model, in every mode and on every
// kind of unit: each device reaches what it should, at once.
func TestModel(t *testing.T) {
	kinds := []model.Config{
		{}, {Coherent: true}, {CachingMode: true}, {WriteBufferFlush: true},
		{CachingMode: true, WriteBufferFlush: true, UnorderedFlushes: true, NoPageSelective: true},
	}
	if !procpin.Works {
		kinds = kinds[:3] // with write buffers the model copies memory, for which the race detector takes minutes
	}
	for _, mode := range []vtd.Mode{vtd.Legacy, vtd.Scalable} {
		t.Run(mode.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				c := rapid.SampledFrom(kinds).Draw(rt, "unit")
				c.Scalable = mode == vtd.Scalable
				wander(t, rt, c, mode)
			})
		})
	}
}

// wander is one random history.
func wander(t *testing.T, rt *rapid.T, c model.Config, mode vtd.Mode) {
	j := judge(t, c, mode)
	defer j.close(rt)
	for i := range 16 {
		j.ram[modelData-firstBus+i*pagetable.FrameSize] = byte(i)
	}
	actors := []actor{{0x18, 0}, {0x20, 0}, {0x98, 0}}
	if mode == vtd.Scalable {
		actors = append(actors, actor{0x18, 1}, actor{0x18, 70}, actor{0x20, 1}, actor{0x118, 5})
	}
	must := func(err error) {
		if err != nil {
			rt.Fatal(err)
		}
	}
	must(j.u.Enable(t.Context()))
	for range rapid.IntRange(1, 30).Draw(rt, "steps") {
		switch rapid.IntRange(0, 3).Draw(rt, "step") {
		case 0:
			a, table := rapid.SampledFrom(actors).Draw(rt, "actor"), rapid.IntRange(-1, 3).Draw(rt, "table")
			if _, ok := j.at[a]; ok {
				must(j.detach(a))
			} else {
				must(j.attach(a, table))
			}
		case 1, 2:
			must(j.toggle(rapid.IntRange(0, 3).Draw(rt, "table"), rapid.IntRange(0, modelSlots-1).Draw(rt, "slot"), rapid.IntRange(1, 15).Draw(rt, "page")))
		case 3:
			must(errors.Join(j.u.Disable(t.Context()), j.u.Enable(t.Context())))
		}
		j.check(rt, actors)
		_, _, err := j.u.Faults()
		must(err)
	}
}

func (j *judged) attach(a actor, table int) error {
	id, tbl := uint16(1), vtd.PassThrough
	if table >= 0 {
		id, tbl = domainOf(table), j.tables[table]
	}
	j.at[a] = table
	if a.pasid != 0 {
		return j.u.AttachPASID(a.source, a.pasid, id, tbl)
	}
	return j.u.Attach(a.source, id, tbl)
}

func (j *judged) detach(a actor) error {
	delete(j.at, a)
	if a.pasid != 0 {
		return j.u.DetachPASID(a.source, a.pasid)
	}
	return j.u.Detach(a.source)
}

// toggle maps a slot of a table, or unmaps it.
func (j *judged) toggle(table, slot, data int) error {
	iova, tbl := iovaOf(slot), j.tables[table]
	if j.mapped[table][iova] == 0 {
		j.mapped[table][iova] = data
		err := tbl.Map(iova, modelData+uint64(data)<<12, pagetable.FrameSize, pagetable.Read|pagetable.Write)
		return errors.Join(err, j.u.Publish(domainOf(table), iova, pagetable.FrameSize))
	}
	delete(j.mapped[table], iova)
	var b pagetable.Batch
	_, err := tbl.Unmap(iova, pagetable.FrameSize, &b)
	return errors.Join(err, j.u.Flush(domainOf(table), &b))
}

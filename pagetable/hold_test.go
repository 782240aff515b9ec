package pagetable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gommu/respool"
)

// Pages come and go in a held table, with a dry pool too: no frame is taken, and no table left.
func TestHold(t *testing.T) {
	for _, opts := range allOptions {
		t.Run(opts.name(), func(t *testing.T) {
			r := newRig(t, 16)
			tbl := r.table(t, opts)
			if err := tbl.Hold(gib1, 2*mib2, 0); err != nil {
				t.Fatal(err)
			}
			tables := tbl.Stats().Tables
			refill := r.drain(t, 0)
			var b Batch
			for _, size := range []uint64{kib4, 8 * kib4, mib2 - kib4, mib2, mib2 + kib4, 2 * mib2} {
				for _, bus := range []uint64{kib4, gib1} {
					for _, iova := range []uint64{gib1, gib1 + 2*mib2 - size} {
						mustMap(t, tbl, iova, bus, size, Read)
						if err := tbl.Map(iova, 0, size, Read); !isErr(err, ErrOverlap) {
							t.Errorf("mapped twice: %v", err)
						}
						if s := tbl.Stats(); s != (Stats{Leaves4K: int(size / kib4), Tables: tables}) {
							t.Errorf("%#x at %#x: %+v", size, iova, s)
						}
						if n, err := tbl.Unmap(iova, size, &b); n != size || err != nil || b.Tables() != 0 {
							t.Errorf("unmapped %#x of %#x, %v, %d tables", n, size, err, b.Tables())
						}
						if first, last, ok := b.Range(); !ok || first > iova || last < iova+size-1 {
							t.Errorf("invalidate %#x to %#x, %v", first, last, ok)
						}
						if err := b.Release(); err != nil {
							t.Error(err)
						}
					}
				}
			}
			refill()
			if err := tbl.Unhold(gib1, 2*mib2, 0, &b); err != nil {
				t.Error(err)
			}
			if first, last, _ := b.Range(); b.Tables() != tables-1 || first != gib1 || last != gib1+2*mib2-1 {
				t.Errorf("%d tables in the batch, want %d; invalidate %#x to %#x", b.Tables(), tables-1, first, last)
			}
			if err := b.Release(); err != nil || r.pool.Stats().InUse != 1 {
				t.Errorf("%v, %d frames in use", err, r.pool.Stats().InUse)
			}
		})
	}
}

// Whoever holds what is mapped keeps it, and after the last Unhold its pages keep the table.
func TestHoldOfWhatIsMapped(t *testing.T) {
	r := newRig(t, 16)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, gib1, 0, 3*kib4, Read)
	want := tbl.Stats()
	refill := r.drain(t, 0)
	defer refill()
	var b Batch
	for range 2 {
		if err := tbl.Hold(gib1, mib2, 0); err != nil {
			t.Fatal(err)
		}
	}
	mustUnmap(t, tbl, gib1+kib4, kib4)
	mustMap(t, tbl, gib1+100*kib4, 0, 8*kib4, Read)
	for range 2 {
		if s := tbl.Stats(); s.Leaves4K != 10 || s.Tables != want.Tables {
			t.Errorf("%+v", s)
		}
		if err := tbl.Unhold(gib1, mib2, 0, &b); err != nil || b.Tables() != 0 {
			t.Errorf("%v, %d tables in the batch", err, b.Tables())
		}
	}
	if err := tbl.Unhold(gib1, mib2, 0, &b); !isErr(err, ErrNotHeld) {
		t.Errorf("not held: %v", err)
	}
	if mustUnmap(t, tbl, gib1, 4*kib4) != 2*kib4 || tbl.Stats().Tables != want.Tables {
		t.Error("a table in use left the tree")
	}
	if mustUnmap(t, tbl, gib1, mib2) != 8*kib4 || tbl.Stats().Tables != 1 {
		t.Error("a table not in use stays")
	}
}

// A table is held no more often than can be counted.
func TestHoldsAreCounted(t *testing.T) {
	r := newRig(t, 16)
	tbl := r.table(t, Options{})
	for _, level := range []int{0, 1} {
		size := span(level + 1)
		for n := range maxHolds {
			if err := tbl.Hold(2*gib1, size, level); err != nil {
				t.Fatalf("hold %d: %v", n, err)
			}
		}
		before := slices.Clone(r.raw)
		if err := tbl.Hold(2*gib1-size, 2*size, level); !isErr(err, ErrHolds) || !slices.Equal(before, r.raw) {
			t.Errorf("held too often: %v", err)
		}
		var b Batch
		for n := range maxHolds {
			if err := tbl.Unhold(2*gib1, size, level, &b); err != nil || (b.Tables() > 0) != (n == maxHolds-1) {
				t.Fatalf("unhold %d: %v, %d tables", n, err, b.Tables())
			}
		}
		if err := b.Release(); err != nil {
			t.Error(err)
		}
	}
}

// For every N: the pool has N frames, less than the hold needs but for the last.
func TestHoldFailNth(t *testing.T) {
	for _, opts := range allOptions {
		for _, c := range []struct {
			iova, size uint64
			level      int
		}{
			{gib1, mib2, 0}, {2*gib1 - mib2, 2 * mib2, 0}, {gib1 + mib2, 6 * mib2, 0}, {0, gib1, 1}, {gib1 / 2 * 1022, gib1, 1},
		} {
			t.Run(opts.name(), func(t *testing.T) {
				r := newRig(t, 16)
				m := newModel(t, r, opts)
				m.doMap(gib1, 0, kib4, Read) // some of the tables are there
				list, err := m.tablesIn(c.iova, c.size, c.level)
				if err != nil {
					t.Fatal(err)
				}
				had := m.tables(m.leaves)
				for _, h := range list {
					m.holds[h]++
				}
				need := m.tables(m.leaves) - had
				m.unhold(list)
				for n := range need + 1 {
					refill := r.drain(t, n)
					m.doHold(c.iova, c.size, c.level)
					if done := len(m.holds) > 0; done != (n == need) {
						t.Fatalf("with %d of %d frames: done %v", n, need, done)
					}
					refill()
					m.check()
				}
				m.doUnhold(c.iova, c.size, c.level)
				m.check()
				m.finish()
			})
		}
	}
}

// A hold at once with holds, maps and unholds of other ranges in the same tables.
func TestHoldsAtOnce(t *testing.T) {
	letOthersRun(t)
	for _, opts := range []Options{{}, {Stage: FirstStage, Coherent: true}} {
		r := newRig(t, 64)
		tbl := r.table(t, opts)
		const goroutines = 4
		rounds := 3000
		if raceEnabled {
			rounds = 300
		}
		var wg sync.WaitGroup
		for g := range uint64(goroutines) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(g, 1))
				h := holder{t: t, tbl: tbl, iova: gib1 - goroutines*mib2 + g*2*mib2} // across two directories
				for range rounds {
					if err := h.step(rng); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if s := tbl.Stats(); s != (Stats{Tables: 1}) || r.pool.Stats().InUse != 1 {
			t.Errorf("left: %+v, %d frames in use", s, r.pool.Stats().InUse)
		}
	}
}

// holder uses two chunks of 2 MiB.
type holder struct {
	t     *testing.T
	tbl   *Table
	iova  uint64
	batch Batch
}

// step holds, maps, unmaps and unholds.
func (h *holder) step(rng *rand.Rand) error {
	n := 1 + rng.Uint64N(2)
	if err := h.tbl.Hold(h.iova, n*mib2, 0); err != nil {
		return err
	}
	at, size := h.iova+rng.Uint64N(512)*kib4, (1+rng.Uint64N(16))*kib4
	size = min(size, h.iova+n*mib2-at)
	for range 2 {
		if err := h.tbl.Map(at, at+kib4, size, Read); err != nil {
			return err
		}
		if l, ok := h.tbl.Lookup(at + size - kib4); !ok || l.Bus != at+size {
			return fmt.Errorf("Lookup(%#x) = %+v, %v", at+size-kib4, l, ok)
		}
		if got, err := h.tbl.Unmap(at, size, &h.batch); err != nil || got != size {
			return fmt.Errorf("unmapped %#x of %#x, %w", got, size, err)
		}
	}
	if err := h.tbl.Unhold(h.iova, n*mib2, 0, &h.batch); err != nil {
		return err
	}
	return h.batch.Release()
}

// Hold and Unhold allocate nothing, nor does a dry pool's error.
func TestHoldNoAllocs(t *testing.T) {
	for _, opts := range formats {
		r := newRig(t, 16)
		tbl := r.table(t, opts)
		var b Batch
		n := testing.AllocsPerRun(100, func() {
			err := tbl.Hold(gib1-mib2, 2*mib2, 0)
			if err == nil {
				err = tbl.Map(gib1-kib4, 0, 2*kib4, Read)
			}
			if err == nil {
				_, err = tbl.Unmap(gib1-kib4, kib4, &b)
			}
			if err == nil {
				_, err = tbl.Unmap(gib1, kib4, &b)
			}
			if err == nil {
				err = tbl.Unhold(gib1-mib2, 2*mib2, 0, &b)
			}
			if err != nil || b.Release() != nil {
				t.Error(err)
			}
		})
		refill := r.drain(t, 0)
		n += testing.AllocsPerRun(100, func() {
			if err := tbl.Hold(0, mib2, 0); err != errDryHold {
				t.Error(err)
			}
		})
		refill()
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Held tables that are found without a walk, and those that are not: two share a slot, one
// lies in another segment than most frames. Both kinds work alike, and an Unhold takes only its own out.
func TestHeldTablesAreFound(t *testing.T) {
	r := makeRig(t, 16)
	defer r.close(t)
	tbl := r.table(t, Options{Coherent: true})
	var b Batch
	use := func(iova uint64, found bool) {
		t.Helper()
		if got := tbl.pages(iova+8*kib4) != nil; got != found {
			t.Errorf("%#x is found: %v, want %v", iova, got, found)
		}
		for _, n := range []uint64{1, 8, 512} {
			size := n * kib4
			mustMap(t, tbl, iova, gib1, size, Read)
			if err := tbl.Map(iova+size-kib4, 0, kib4, Read); !isErr(err, ErrOverlap) {
				t.Errorf("mapped twice: %v", err)
			}
			if l, ok := tbl.Lookup(iova + size - kib4); !ok || l.Bus != gib1+size-kib4 || l.Size != kib4 {
				t.Errorf("Lookup finds %+v, %v", l, ok)
			}
			for _, want := range []uint64{size, 0} {
				if n, err := tbl.Unmap(iova, size, &b); n != want || err != nil || b.Tables() != 0 {
					t.Errorf("unmapped %#x of %#x, %v, %d tables", n, want, err, b.Tables())
				}
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const one, other = 0, 7 * gib1 // in one slot
	must(tbl.Hold(one, mib2, 0))
	use(one, true)
	must(tbl.Hold(other, mib2, 0))
	must(tbl.Hold(other, mib2, 0))
	use(one, false)
	use(other, true)
	must(tbl.Unhold(one, mib2, 0, &b))
	must(tbl.Unhold(other, mib2, 0, &b))
	must(b.Release())
	use(other, true)
	must(tbl.Hold(one, mib2, 0))
	must(tbl.Unhold(other, mib2, 0, &b))
	must(b.Release())
	use(one, true)
	must(tbl.Close())
	if err := tbl.Map(one, 0, kib4, Read); !isErr(err, ErrClosed) {
		t.Errorf("map in a closed table: %v", err)
	}
	if _, err := tbl.Unmap(one, kib4, &b); !isErr(err, ErrClosed) {
		t.Errorf("unmap in a closed table: %v", err)
	}
}

// Frames of a smaller segment are walked to.
func TestHeldTablesOfSegments(t *testing.T) {
	mem, err := NewMemory(Segment{Bus: 0x1000, Mem: slab(4)}, Segment{Bus: 1 << 40, Mem: slab(5)})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := respool.New(t.Context(), mem.Frames(), respool.Options{Min: 9, Max: 9, Low: 9, High: 9, IdleAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pool.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	tbl, err := New(mem, pool, Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i := range uint64(6) {
		iova := gib1 + i*mib2
		if err := tbl.Hold(iova, mib2, 0); err != nil {
			t.Fatal(err)
		}
		if tbl.pages(iova) != nil {
			found++
		}
		mustMap(t, tbl, iova, 0, kib4, Read)
		mustMap(t, tbl, iova+kib4, 0, 8*kib4, Read)
	}
	if found == 0 || found == 6 {
		t.Errorf("%d of 6 tables in the larger segment: this proves nothing", found)
	}
	if s := tbl.Stats(); s.Leaves4K != 54 || s.Tables != 9 {
		t.Errorf("%+v", s)
	}
	if err := tbl.Close(); err != nil || pool.Stats().InUse != 0 {
		t.Errorf("%v, %d frames in use", err, pool.Stats().InUse)
	}
}

// An Unhold of tables of which only some are held changes nothing.
func TestUnholdIsAllOrNothing(t *testing.T) {
	r := newRig(t, 16)
	tbl := r.table(t, Options{})
	if err := tbl.Hold(gib1, 2*mib2, 0); err != nil {
		t.Fatal(err)
	}
	mustMap(t, tbl, gib1-mib2, 0, kib4, Read)
	before := slices.Clone(r.raw)
	var b Batch
	for _, c := range []struct{ iova, size, at uint64 }{
		{gib1, 3 * mib2, gib1 + 2*mib2}, {gib1 - mib2, 2 * mib2, gib1 - mib2}, {gib1 + 2*mib2, mib2, gib1 + 2*mib2},
	} {
		err := tbl.Unhold(c.iova, c.size, 0, &b)
		if oe, _ := err.(*OpError); oe == nil || oe.Err != ErrNotHeld || oe.At != c.at || !b.Empty() || !slices.Equal(before, r.raw) {
			t.Errorf("%#x size %#x: %v", c.iova, c.size, err)
		}
	}
	if err := tbl.Unhold(gib1, 2*mib2, 0, &b); err != nil {
		t.Error(err)
	}
	mustUnmap(t, tbl, gib1-mib2, mib2)
	if err := b.Release(); err != nil || r.pool.Stats().InUse != 1 {
		t.Errorf("%v, %d frames in use", err, r.pool.Stats().InUse)
	}
}

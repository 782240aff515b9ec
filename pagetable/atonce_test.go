package pagetable

import (
	"testing"

	"gommu/respool"
)

// A use count's life: nobody adds uses to a word of an earlier life, even if
// the number of uses is the same again.
func TestUseCountLives(t *testing.T) {
	var u useCount
	u.start(1, true)
	w := u.word.Load()
	if u.add(w, 2); u.uses() != 3 {
		t.Fatalf("%d uses", u.uses())
	}
	if u.drop(2) || !u.drop(1) || alive(u.word.Load()) {
		t.Fatal("not dead when the last use is dropped")
	}
	if !u.claim() || u.letGo() || !u.letGo() || u.claim() {
		t.Fatal("a dead table's life ends with the last claim")
	}
	u.start(1, true)
	if u.add(w, 1) {
		t.Error("a use was added to an earlier life")
	}
	u.end()
	u.start(1, true)
	if u.add(w, 1) {
		t.Error("a use was added to an earlier life")
	}
}

// paused leaves tbl as it is when an Unmap of the page at iova, the last of
// its table, is stopped between its last use of the table and the unlinking. The
// returned function is the rest of that Unmap.
func paused(t *testing.T, tbl *Table, iova uint64) (rest func(b *Batch)) {
	t.Helper()
	c := core[secondFormat]{tbl}
	var p path
	level, err := c.enter(&p, iova, iova+kib4-1, 1)
	if err != nil || level != 0 {
		t.Fatalf("level %d, %v", level, err)
	}
	wipe(p[0].tbl[index(iova, 0):][:1])
	if !c.mem.uses(p[0].bus).drop(2) {
		t.Fatal("others use the table")
	}
	return func(b *Batch) {
		if n := c.unlink(p[1].tbl, 1, iova, p[0].bus, b); n > 0 {
			c.leave(&p, 1, iova, n, b)
		}
	}
}

// An Unmap that is stopped in its middle delays nobody: others map in the
// same place, with a new table, and the stopped one then finds that it has nothing to
// unlink.
func TestMapOverDeadTable(t *testing.T) {
	for _, size := range []uint64{kib4, 8 * kib4, mib2 - kib4} {
		for _, again := range []bool{false, true} {
			r := newRig(t, 16)
			tbl := r.table(t, Options{})
			mustMap(t, tbl, gib1, 0, kib4, Read)
			rest := paused(t, tbl, gib1)
			if again { // the range above is free for other table
				if n := mustUnmap(t, tbl, gib1+kib4, size); n != 0 {
					t.Errorf("unmapped %#x", n)
				}
			}
			mustMap(t, tbl, gib1+kib4, kib4, size, Write)
			if again {
				mustUnmap(t, tbl, gib1+kib4, size)
				mustMap(t, tbl, gib1+kib4, kib4, size, Write)
			}
			var b Batch
			rest(&b)
			if b.Tables() != 1 {
				t.Errorf("%d tables in the batch", b.Tables())
			}
			if err := b.Release(); err != nil {
				t.Error(err)
			}
			leaves, tables, err := r.walker(tbl).scan()
			if err != nil || len(leaves) != int(size/kib4) || len(tables) != 4 {
				t.Errorf("the unit finds %d leaves in %d tables, %v", len(leaves), len(tables), err)
			}
			mustUnmap(t, tbl, gib1+kib4, size)
			if n := r.pool.Stats().InUse; n != 1 {
				t.Errorf("%d frames in use", n)
			}
		}
	}
}

// Others empty the tables that a map holds, then it fails for want of frames:
// the tables leave the tree at once, and the next batch has them.
func TestFailedMapLeavesOrphans(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	const first, last = gib1 - 2*kib4, gib1 + mib2 + kib4 - 1 // at both ends tables that are there
	mustMap(t, tbl, gib1-3*kib4, 0, kib4, Read)
	mustMap(t, tbl, gib1+mib2+kib4, 0, kib4, Read)

	c := core[secondFormat]{tbl}
	req := request[secondFormat]{core: c, prot: Read, cursor: cursor{delta: kib4, end: last}}
	level, err := c.enter(&req.path, first, last, 0)
	if err != nil {
		t.Fatal(err)
	}
	req.holds = 1
	req.held[0] = hold{place: req.path[level], level: level, iova: first, extra: 2}
	if err := req.plan(req.held[0].tbl, 0, level, first, last); err != nil || req.need != 1 || req.holds != 5 {
		t.Fatalf("%v, need %d, holds %d", err, req.need, req.holds)
	}
	mustUnmap(t, tbl, gib1-3*kib4, kib4)
	mustUnmap(t, tbl, gib1+mib2+kib4, kib4)
	if n := tbl.Stats().Tables; n != 6 {
		t.Fatalf("%d tables while they are held, want 6", n)
	}
	req.abandon()
	if s := tbl.Stats(); s != (Stats{Tables: 1}) {
		t.Errorf("left in the tree: %+v", s)
	}
	var b Batch
	if n, err := tbl.Unmap(0, kib4, &b); n != 0 || err != nil || b.Tables() != 5 {
		t.Errorf("%d, %v, %d tables in the batch, want 5", n, err, b.Tables())
	}
	if lo, hi, ok := b.Range(); !ok || lo > first || hi < gib1+mib2 {
		t.Errorf("invalidate %#x to %#x", lo, hi)
	}
	if err := b.Release(); err != nil || r.pool.Stats().InUse != 1 {
		t.Errorf("%v, %d frames in use", err, r.pool.Stats().InUse)
	}
}

// Close finds orphans, too.
func TestCloseTakesOrphans(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, gib1, 0, kib4, Read)
	paused(t, tbl, gib1)(nil)
	if n := r.pool.Stats().InUse; n != 4 {
		t.Errorf("%d frames in use", n)
	}
	if err := tbl.Close(); err != nil || r.pool.Stats().InUse != 0 {
		t.Errorf("%v, %d frames in use", err, r.pool.Stats().InUse)
	}
}

// For every N: the pool has N frames less than a cut needs; Unmap and Protect
// fail and everything is as before.
func TestCutFailNth(t *testing.T) {
	for _, opts := range allOptions {
		if opts.No2M {
			continue
		}
		for _, c := range []struct {
			iova, size uint64
		}{
			{gib1 + kib4, kib4}, {gib1, kib4}, {2*gib1 - kib4, kib4}, {gib1 + mib2 - kib4, 2 * kib4},
			{gib1 + kib4, gib1}, {gib1 + 5*mib2, gib1}, {gib1 + kib4, 2*gib1 - 2*kib4}, {3*gib1 - mib2 - kib4, mib2 + 2*kib4},
		} {
			for _, protect := range []bool{false, true} {
				t.Run(opts.name(), func(t *testing.T) {
					r := newRig(t, 16)
					m := newModel(t, r, opts)
					m.doMap(gib1, gib1, 2*gib1+mib2, Read)
					cut := map[uint64]want{}
					for iova, l := range m.leaves {
						cut[iova] = l
					}
					m.cutAt(cut, c.iova)
					m.cutAt(cut, c.iova+c.size)
					need := m.tables(cut) - m.tables(m.leaves)
					for n := range need + 1 {
						refill := r.drain(t, n)
						if protect {
							m.doProtect(c.iova, c.size, Read|Write)
						} else {
							m.doUnmap(c.iova, c.size)
						}
						if done := !m.batch.Empty(); done != (n == need) {
							t.Fatalf("with %d of %d frames: done %v", n, need, done)
						}
						refill()
						m.check()
					}
					m.finish()
				})
			}
		}
	}
}

// A dry pool's errors are the pool's, name the call, and cost nothing.
func TestDryPoolErrors(t *testing.T) {
	r := newRig(t, 3)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, 0, 0, 2*gib1, Read)
	refill := r.drain(t, 0)
	defer refill()
	var b Batch
	list := []Extent{{0, kib4}}
	for op, f := range map[string]func() error{
		"map":     func() error { return tbl.Map(1<<40, 0, kib4, Read) },
		"list":    func() error { return tbl.MapExtents(1<<40, list, Read) },
		"unmap":   func() error { _, err := tbl.Unmap(0, kib4, &b); return err },
		"protect": func() error { _, err := tbl.Protect(0, kib4, Write, &b); return err },
	} {
		if err := f(); !isErr(err, respool.ErrEmpty) || !b.Empty() {
			t.Errorf("%s: %v", op, err)
		}
		if n := testing.AllocsPerRun(100, func() { f() }); n != 0 {
			t.Errorf("%s: %v allocations", op, n)
		}
	}
}

// What needs no frames allocates nothing either.
func TestNoAllocs(t *testing.T) {
	for _, opts := range formats {
		r := newRig(t, 32)
		tbl := r.table(t, opts)
		var b Batch
		list := []Extent{{gib1 + kib4, mib2}, {0, mib2}, {mib2, kib4}}
		var found uint64
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		n := testing.AllocsPerRun(20, func() {
			must(tbl.MapExtents(gib1-mib2, list, Read))
			_, err := tbl.Protect(gib1+kib4, kib4, Read|Write, &b)
			must(err)
			must(tbl.Harvest(0, 2*gib1, true, &b, func(a Access) { found += a.Size }))
			_, err = tbl.Merge(gib1, gib1, &b)
			must(err)
			_, err = tbl.UnmapEach(0, 2*gib1, &b, func(_, _, size uint64) { found += size })
			must(err)
			must(b.Release())
		})
		if n != 0 || found == 0 {
			t.Errorf("%+v: %v allocations", opts, n)
		}
	}
}

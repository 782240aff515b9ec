package pagetable

import (
	"strings"
	"testing"

	"gommu/internal/cacheline"
)

// Whoever made a table may be stopped before the flush of the link to it. Each
// call that relies on the link flushes it too, and only then.
func TestUnflushedLinks(t *testing.T) {
	const base = gib1 // of a table that is there, with entries of others in it
	var b Batch
	levels := map[string]int{"unmap of two tables": 2, "hold": 2} // of the link, else 1
	for name, call := range map[string]func(tbl *Table) error{
		"map":         func(tbl *Table) error { return tbl.Map(base+kib4, 0, kib4, Read) },
		"map extents": func(tbl *Table) error { return tbl.MapExtents(base+kib4, []Extent{{0, kib4}, {0, kib4}}, Read) },
		"map across":  func(tbl *Table) error { return tbl.Map(base-kib4, 0, 2*kib4, Read) },
		"hold":        func(tbl *Table) error { return tbl.Hold(base+64*mib2, mib2, 0) },
		"unmap":       func(tbl *Table) error { _, err := tbl.Unmap(base+8*kib4, kib4, &b); return err },
		"unmap each": func(tbl *Table) error {
			_, err := tbl.UnmapEach(base+8*kib4, kib4, &b, func(_, _, _ uint64) {})
			return err
		},
		"unmap of two tables": func(tbl *Table) error { _, err := tbl.Unmap(base+mib2-8*kib4, 16*kib4, &b); return err },
		"unmap across":        func(tbl *Table) error { _, err := tbl.Unmap(base-kib4, 10*kib4, &b); return err },
		"protect":             func(tbl *Table) error { _, err := tbl.Protect(base+8*kib4, kib4, Read, &b); return err },
	} {
		for _, stopped := range []bool{false, true} {
			r := newRig(t, 16)
			tbl := r.table(t, Options{})
			mustMap(t, tbl, base+8*kib4, 0, 2*kib4, Read|Write)
			mustMap(t, tbl, base+gib1, 0, kib4, Read)
			mustMap(t, tbl, base+mib2-8*kib4, 0, 16*kib4, Read)
			level := max(1, levels[name])
			var link *uint64
			for e := range tbl.Entries() {
				if !e.Leaf && e.Level == level && e.IOVA == base {
					link = &r.mem.Entries(e.Table)[e.Index]
					if stopped {
						r.mem.uses(e.Bus).word.And(^uint64(linkSeen))
					}
				}
			}
			at, flushed := offset(r.raw, link), false
			stop := cacheline.Watch(func(words []uint64) {
				first := offset(r.raw, &words[0]) &^ (cacheline.Size - 1)
				flushed = flushed || first <= at && at < offset(r.raw, &words[len(words)-1])+8
			})
			err := call(tbl)
			stop()
			if err != nil || flushed != stopped {
				t.Errorf("%s: the link was flushed: %v, want %v (%v)", name, flushed, stopped, err)
			}
			if name == "hold" {
				err = tbl.Unhold(base+64*mib2, mib2, 0, &b)
			}
			mustUnmap(t, tbl, 0, 1<<40)
			if err != nil {
				t.Error(err)
			}
			if err := b.Release(); err != nil {
				t.Error(err)
			}
		}
	}
}

// visible is memory as a unit that does not snoop sees it for certain: the lines that were
// flushed and fenced.
type visible struct {
	t       *testing.T
	r       *rig
	tbl     *Table // whose marks are checked at each flush, if any
	seen    []byte
	pending [][2]int
}

func watchVisible(t *testing.T, r *rig) *visible {
	v := &visible{t: t, r: r, seen: append([]byte(nil), r.raw...)}
	stopFlush := cacheline.Watch(func(words []uint64) {
		v.checkMarks()
		first := offset(r.raw, &words[0]) &^ (cacheline.Size - 1)
		if first >= 0 && first < len(r.raw) { // else another test's
			v.pending = append(v.pending, [2]int{first, offset(r.raw, &words[len(words)-1]) + 8})
		}
	})
	stopFence := cacheline.WatchFence(func() {
		for _, p := range v.pending {
			for off := p[0]; off < p[1]; off += cacheline.Size {
				copy(v.seen[off:off+cacheline.Size], r.raw[off:])
			}
		}
		v.pending = v.pending[:0]
	})
	t.Cleanup(func() { stopFlush(); stopFence() })
	return v
}

// checkMarks compares the links that are marked as seen, on which others rely, with what the unit
// sees of them.
func (v *visible) checkMarks() {
	v.t.Helper()
	if v.tbl == nil {
		return
	}
	for e := range v.tbl.Entries() {
		if e.Leaf || v.r.mem.uses(e.Bus).word.Load()&linkSeen == 0 {
			continue
		}
		i := offset(v.r.raw, &v.r.mem.Entries(e.Table)[e.Index])
		if string(v.seen[i:i+8]) != string(v.r.raw[i:i+8]) {
			v.t.Errorf("the link at %#x, level %d, is marked and not in memory", e.IOVA, e.Level)
		}
	}
}

// check compares every word of every table of tbl with what the unit sees of it.
func (v *visible) check(t *testing.T, after string, tbl *Table) {
	t.Helper()
	w := v.r.walker(tbl)
	w.held = true
	if tbl.marks {
		w.marks = map[entryID]uint64{}
	}
	_, tables, err := w.scan()
	if err != nil {
		t.Fatal(err)
	}
	for bus := range tables {
		off := int(bus - v.r.bus)
		for i := off; i < off+FrameSize; i += 8 {
			if gone := tbl.marks && le64(v.r.raw[i:]) == 0 && le64(v.seen[i:])&0xfff == markBits; gone {
				continue // unmarked: neither is present
			}
			if string(v.seen[i:i+8]) != string(v.r.raw[i:i+8]) {
				t.Errorf("after %s word %d of table %#x is not in memory", after, (i-off)/8, bus)
			}
		}
	}
}

// When a call returns, all that it wrote is in memory, whichever way through the tables it took.
func TestVisibleAtReturn(t *testing.T) {
	for _, opts := range allOptions {
		opts.Coherent = false
		t.Run(opts.name(), func(t *testing.T) { visibleAtReturn(t, opts) })
		opts.Marks = true
		t.Run(opts.name(), func(t *testing.T) { visibleAtReturn(t, opts) })
	}
}

func visibleAtReturn(t *testing.T, opts Options) {
	r := newRig(t, 700)
	v := watchVisible(t, r)
	tbl := r.table(t, opts)
	var b Batch
	unmap := func(iova, size uint64) func() error {
		return func() error { _, err := tbl.Unmap(iova, size, &b); return err }
	}
	each := func(iova, size uint64) func() error {
		return func() error { _, err := tbl.UnmapEach(iova, size, &b, func(_, _, _ uint64) {}); return err }
	}
	protect := func(iova, size uint64) func() error {
		return func() error { _, err := tbl.Protect(iova, size, Read, &b); return err }
	}
	mapping := func(iova, bus, size uint64) func() error {
		return func() error { return tbl.Map(iova, bus, size, Read|Write) }
	}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"a map of a page", mapping(kib4, 0, kib4)},
		{"a map of pages", mapping(16*kib4, 0, 64*kib4)},
		{"a map of two tables", mapping(mib2-kib4, 0, 2*kib4)},
		{"a map of superpages", mapping(gib1, gib1, gib1+4*mib2)},
		{"an unmap of a page, others stay", unmap(20*kib4, kib4)},
		{"an unmap of pages, told", each(24*kib4, 9*kib4)},
		{"an unmap of pages of two tables", unmap(mib2-kib4, 2*kib4)},
		{"a map again", mapping(mib2-kib4, 0, 2*kib4)},
		{"an unmap across", each(mib2-8*kib4, 16*kib4)},
		{"a protection", protect(16*kib4, kib4)},
		{"a protection that cuts", protect(gib1+16*kib4, kib4)},
		{"an unmap that cuts", unmap(gib1+mib2+16*kib4, kib4)},
		{"an unmap that cuts at both ends", unmap(gib1+3*mib2+kib4, 2*mib2)},
		{"a page alone in a table", mapping(6*mib2, 0, kib4)},
		{"an unmap that empties a table", unmap(6*mib2, kib4)},
		{"an unmap of all pages", unmap(0, 8*mib2)},
		{"a page alone in tables", mapping(8*gib1, 0, kib4)},
		{"an unmap that empties them", unmap(8*gib1, kib4)},
		{"an unmap of everything", each(0, 16*gib1)},
		{"a hold of tables", func() error { return tbl.Hold(gib1-mib2, 2*mib2, 0) }},
		{"a map in a held table", mapping(gib1, 0, kib4)},
		{"an unmap in a held table", unmap(gib1, kib4)},
		{"a map of pages in a held table", mapping(gib1, 0, 8*kib4)},
		{"a map in held tables", mapping(gib1-2*kib4, 0, 2*kib4)},
		{"an unmap of pages in a held table", unmap(gib1+2*kib4, 2*kib4)},
		{"an unmap in held tables", unmap(gib1-kib4, 2*kib4)},
		{"a hold of a table that is there", func() error { return tbl.Hold(gib1-mib2, mib2, 0) }},
		{"an unhold, a hold stays", func() error { return tbl.Unhold(gib1-mib2, mib2, 0, &b) }},
		{"an unhold, a page stays", func() error { return tbl.Unhold(gib1-mib2, 2*mib2, 0, &b) }},
		{"an unmap of that page", unmap(gib1-2*kib4, kib4)},
		{"a hold of a table", func() error { return tbl.Hold(gib1, gib1, 1) }},
		{"a hold below it", func() error { return tbl.Hold(gib1+mib2, mib2, 0) }},
		{"an unhold below it", func() error { return tbl.Unhold(gib1+mib2, mib2, 0, &b) }},
		{"an unhold of the table", func() error { return tbl.Unhold(gib1, gib1, 1, &b) }},
	} {
		if v.tbl = nil; strings.Contains(c.name, "cuts") { // a map's own tables are nobody else's till it returns
			v.tbl = tbl
		}
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		v.check(t, c.name, tbl)
		if first, last, ok := b.Range(); ok {
			if err := tbl.Unmark(first, last-first+1); err != nil {
				t.Error(err)
			}
		}
		if err := b.Release(); err != nil {
			t.Error(err)
		}
	}
}

// A map that fails takes the tables that others have emptied meanwhile out of tables that stay: the unit
// sees that when the call returns.
func TestFailedMapIsVisible(t *testing.T) {
	r := newRig(t, 16)
	v := watchVisible(t, r)
	tbl := r.table(t, Options{})
	const first, last = gib1 - 2*kib4, gib1 + mib2 + kib4 - 1 // at both ends tables that are there
	mustMap(t, tbl, 0, 0, kib4, Read)                         // keeps the tables above those
	mustMap(t, tbl, gib1+100*mib2, 0, kib4, Read)
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
	if err := req.plan(req.held[0].tbl, 0, level, first, last); err != nil {
		t.Fatal(err)
	}
	mustUnmap(t, tbl, gib1-3*kib4, kib4)
	mustUnmap(t, tbl, gib1+mib2+kib4, kib4)
	before := tbl.Stats().Tables
	req.abandon()
	if after := tbl.Stats().Tables; after != before-2 {
		t.Errorf("%d tables before, %d after", before, after)
	}
	v.check(t, "a map that failed", tbl)
	mustUnmap(t, tbl, 0, 2*gib1)
}

package pagetable

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Stats is what a table holds.
type Stats struct {
	Leaves4K, Leaves2M, Leaves1G int
	Tables                       int // frames in use, the root included
}

// Bytes is the IOVA space that is mapped.
func (s Stats) Bytes() uint64 {
	return uint64(s.Leaves4K)*span(0) + uint64(s.Leaves2M)*span(1) + uint64(s.Leaves1G)*span(2)
}

// Stats counts leaves and tables. It reads every table but those of 4 KiB
// leaves, whose number is in their use counts. The table may be changed
// meanwhile; what a Map is about to add may be counted already. A closed table has
// none of either.
func (t *Table) Stats() Stats {
	var s Stats
	if t.rootPtr.Load() == nil {
		return s
	}
	s.Tables = 1
	t.visitAll(1, func(e Entry) bool {
		switch {
		case e.Leaf && e.Level == 1:
			s.Leaves2M++
		case e.Leaf:
			s.Leaves1G++
		case e.Level == 1:
			s.Tables++
			s.Leaves4K += e.Used
		default:
			s.Tables++
		}
		return true
	})
	return s
}

// Dump writes the table as text, one line for each table and one for each run
// of leaves in one table that map adjacent memory alike. The table is not
// changed meanwhile.
func (t *Table) Dump(w io.Writer) error {
	out := bufio.NewWriter(w)
	s := t.Stats()
	fmt.Fprintf(out, "%s, %d bits, %d levels, root %#x: %d tables, leaves %d x 4K, %d x 2M, %d x 1G\n",
		t.stage, t.width, t.Levels(), t.root.Bus, s.Tables, s.Leaves4K, s.Leaves2M, s.Leaves1G)
	var run leafRunText
	for e := range t.Entries() {
		if e.Leaf && run.extend(e) {
			continue
		}
		run.write(out, t.top)
		run = leafRunText{}
		if e.Leaf {
			run = leafRunText{first: e, n: 1}
			continue
		}
		fmt.Fprintf(out, "%s[%03x] %#x+%s table %#x, %d used", indent(t.top, e.Level), e.Index, e.IOVA, sizeText(e.Size), e.Bus, e.Used)
		if e.Holds > 0 {
			fmt.Fprintf(out, ", held x %d", e.Holds)
		}
		fmt.Fprintln(out)
	}
	run.write(out, t.top)
	if err := out.Flush(); err != nil {
		return &OpError{Op: opDump, Err: err}
	}
	return nil
}

// leafRunText is n leaves that become one line.
type leafRunText struct {
	first Entry
	n     int
}

// extend adds e if it continues the run.
func (r *leafRunText) extend(e Entry) bool {
	f, size := r.first, uint64(r.n)*r.first.Size
	if r.n == 0 || e.Table != f.Table || e.Prot != f.Prot || e.IOVA != f.IOVA+size || e.Bus != f.Bus+size {
		return false
	}
	r.n++
	return true
}

func (r *leafRunText) write(w io.Writer, top int) {
	if r.n == 0 {
		return
	}
	f := r.first
	fmt.Fprintf(w, "%s[%03x] %#x+%s -> %#x %s", indent(top, f.Level), f.Index, f.IOVA, sizeText(f.Size), f.Bus, f.Prot)
	if r.n > 1 {
		fmt.Fprintf(w, " x %d", r.n)
	}
	fmt.Fprintln(w)
}

func indent(top, level int) string { return strings.Repeat("  ", top-level+1) }

// sizeText writes a size that is a power of two: 4K, 2M, 1G, 512G.
func sizeText(n uint64) string {
	units := "KMG"
	n >>= 10
	for len(units) > 1 && n >= 1024 {
		n >>= 10
		units = units[1:]
	}
	return fmt.Sprintf("%d%c", n, units[0])
}

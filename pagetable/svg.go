package pagetable

import (
	"bufio"
	"fmt"
	"io"
)

// The measures of the picture, in pixels.
const (
	svgCell   = 2 // an entry
	svgWidth  = 512 * svgCell
	svgRow    = 14 // the entries of a table, one high
	svgGap    = 4
	svgMargin = 150 // left of the entries, for the IOVA
)

// svgMost bounds the number of tables in a picture; the rest is only counted.
const svgMost = 2000

// WriteSVG draws the table: a row of 512 entries for each of its pages, level
// by level from the root, in the order of IOVAs. Leaves are blue if they can be
// read and orange if only written, dark if both; links are green, and the darker the fuller
// the table that they point to. The table may be changed meanwhile, as for All.
func (t *Table) WriteSVG(w io.Writer) error {
	byLevel := make([][]svgTable, t.Levels())
	s := t.Stats()
	if s.Tables > 0 {
		byLevel[t.top] = []svgTable{{frame: t.root}}
	}
	t.visitAll(0, func(e Entry) bool {
		rows := byLevel[e.Level]
		if n := len(rows); n == 0 || rows[n-1].frame != e.Table {
			rows = append(rows, svgTable{frame: e.Table, iova: e.IOVA &^ (span(e.Level+1) - 1)})
			byLevel[e.Level] = rows
		}
		row := &rows[len(rows)-1]
		row.cells = append(row.cells, svgCellOf(e))
		return true
	})
	all := 0
	for _, rows := range byLevel {
		all += len(rows)
	}
	shown := min(all, svgMost)
	out := bufio.NewWriter(w)
	height := (shown + len(byLevel) + 3) * (svgRow + svgGap)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="monospace" font-size="11">`+"\n", svgMargin+svgWidth+svgGap, height)
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	y := svgRow
	text := func(x int, format string, args ...any) {
		fmt.Fprintf(out, `<text x="%d" y="%d">`+format+"</text>\n", append([]any{x, y}, args...)...)
	}
	text(svgGap, "%v, %d bits: %d tables, leaves %d x 4K, %d x 2M, %d x 1G", t.stage, t.width, s.Tables, s.Leaves4K, s.Leaves2M, s.Leaves1G)
	for level := t.top; level >= 0; level-- {
		y += svgRow + svgGap
		text(svgGap, "level %d: %d tables, %s an entry", level, len(byLevel[level]), sizeText(span(level)))
		for _, row := range byLevel[level] {
			if shown == 0 {
				break
			}
			shown--
			y += svgRow + svgGap
			text(svgGap, "%#x", row.iova)
			row.write(out, y-svgRow+3)
		}
	}
	if all > svgMost {
		y += svgRow + svgGap
		text(svgGap, "%d more tables", all-svgMost)
	}
	fmt.Fprintln(out, "</svg>")
	if err := out.Flush(); err != nil {
		return &OpError{Op: opDraw, Err: err}
	}
	return nil
}

// svgTable is a row of the picture.
type svgTable struct {
	frame Frame
	iova  uint64
	cells []svgEntry
}

// svgEntry is where an entry is in its table, and its color.
type svgEntry struct {
	index int
	color string
}

func svgCellOf(e Entry) svgEntry {
	if !e.Leaf { // from light to dark green
		v := 190 - 180*min(e.Used, entries)/entries
		return svgEntry{e.Index, fmt.Sprintf("#%02x%02x%02x", v, 60+v*3/4, v)}
	}
	return svgEntry{e.Index, [...]string{"#eee", "#9bd", "#fb7", "#258"}[e.Prot&(Read|Write)]}
}

// write draws the row at y; runs of one color become one rectangle.
func (r svgTable) write(w io.Writer, y int) {
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="#f4f4f4" stroke="#ccc"/>`+"\n", svgMargin, y, svgWidth, svgRow)
	for i := 0; i < len(r.cells); {
		c, n := r.cells[i], 1
		for i+n < len(r.cells) && r.cells[i+n] == (svgEntry{c.index + n, c.color}) {
			n++
		}
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", svgMargin+c.index*svgCell, y, n*svgCell, svgRow, c.color)
		i += n
	}
}

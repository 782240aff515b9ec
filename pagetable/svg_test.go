package pagetable

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

// The picture is well-formed, has a row for each table and a rectangle for each
// run of entries that look alike.
func TestWriteSVG(t *testing.T) {
	eachFormat(t, 16, func(t *testing.T, _ *rig, tbl *Table) {
		base := lastIOVA(tbl) - 2*gib1 + 1
		mustMap(t, tbl, base, 0, 4*mib2, Read)
		mustMap(t, tbl, base+4*mib2, 0x1000, 9*kib4, Read|Write)
		mustMap(t, tbl, base+gib1, 0, gib1, Read)
		var out strings.Builder
		if err := tbl.WriteSVG(&out); err != nil {
			t.Fatal(err)
		}
		rects, texts := 0, 0
		for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok {
				switch e.Name.Local {
				case "rect":
					rects++
				case "text":
					texts++
				}
			}
		}
		tables := tbl.Levels()
		// Background, a frame for each table, a link in each but the lowest, the
		// 2 MiB leaves, the 1 GiB leaf, the 4 KiB leaves.
		if want := 1 + tables + (tables - 1) + 3; rects != want || texts != 1+tables+tables {
			t.Errorf("%d rectangles, want %d; %d texts", rects, want, texts)
		}
		if err := tbl.WriteSVG(errWriter{}); !isErr(err, errWrite) {
			t.Error(err)
		}
		mustUnmap(t, tbl, base, 2*gib1)
	})
}

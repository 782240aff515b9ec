package pagetable

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Lookups run while another goroutine maps, unmaps and gives frames to other
// uses: each sees the mapping as it is or nothing, never a frame's next life.
func TestLookupWhileChanging(t *testing.T) {
	r := newRig(t, 8)
	tbl, other := r.table(t, Options{Coherent: true}), r.table(t, Options{Coherent: true})
	const iova, bus, wrong = gib1 + mib2, 0x1_0000_0000, 0x2_0000_0000
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	for range 4 * runtime.GOMAXPROCS(0) { // so that some are stopped in the middle
		wg.Go(func() {
			for !stop.Load() {
				for range 1000 {
					l, ok := tbl.Lookup(iova + kib4)
					if want := (Leaf{iova + kib4, bus + 2*kib4, kib4, Read}); ok && l != want {
						t.Errorf("%+v, want %+v or nothing", l, want)
						return
					}
				}
			}
		})
	}
	for i := range 40000 {
		n := uint64(2 * kib4) // unmapped page by page
		if i%2 != 0 {
			n = mib2 // unmapped as a whole table
		}
		mustMap(t, tbl, iova, bus+kib4, n, Read)
		mustUnmap(t, tbl, iova, n)
		// The frames' next life has leaves at the same places.
		mustMap(t, other, iova, wrong, 8*kib4, Write)
		mustUnmap(t, other, iova, 8*kib4)
	}
}

// Each way a table can leave the tree makes Lookups under way start again.
func TestUnlinksAreCounted(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, 0, kib4, mib2, Read)
	mustMap(t, tbl, mib2, kib4, kib4, Read)
	mustMap(t, tbl, 2*mib2, kib4, kib4, Read) // keeps the tables above
	for what, f := range map[string]func(){
		"a table that becomes empty": func() { mustUnmap(t, tbl, mib2, kib4) },
		"a whole table":              func() { mustUnmap(t, tbl, 0, mib2) },
	} {
		before := tbl.unlinks.Load()
		if f(); tbl.unlinks.Load() == before {
			t.Errorf("%s is not counted", what)
		}
	}
	before := tbl.unlinks.Load()
	if err := tbl.Close(); err != nil || tbl.unlinks.Load() == before {
		t.Errorf("Close is not counted (%v)", err)
	}
}

// An entry that something else overwrote leads out of the table memory: every
// call copes.
func TestCorruptEntries(t *testing.T) {
	for depth := range 3 {
		t.Run(fmt.Sprint(depth), func(t *testing.T) {
			r := newRig(t, 8)
			tbl := r.table(t, Options{})
			mustMap(t, tbl, 0, 0, kib4, Read)
			words := r.mem.Entries(tbl.Root())
			for range depth {
				words = r.mem.Entries(Frame{words[0] & addrMask})
			}
			saved := words[0]
			words[0] = 1<<51 | 3
			if _, ok := tbl.Lookup(0); ok {
				t.Error("Lookup finds something")
			}
			if err := tbl.Map(kib4, 0, kib4, Read); !isErr(err, ErrCorrupt) {
				t.Errorf("Map: %v", err)
			}
			if err := tbl.Map(0, kib4, 512*gib1+kib4, Read); err == nil {
				t.Error("Map succeeds")
			}
			var b Batch
			if n, err := tbl.Unmap(0, kib4, &b); n != 0 || !isErr(err, ErrCorrupt) {
				t.Errorf("Unmap: %d, %v", n, err)
			}
			for range tbl.Entries() {
			}
			tbl.Stats()
			words[0] = saved
			mustUnmap(t, tbl, 0, kib4)
		})
	}
}

func TestIteratorsStop(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, gib1-2*mib2, 0, 4*mib2, Read)
	n := 0
	for range tbl.All() {
		if n++; n == 2 {
			break
		}
	}
	for range tbl.Entries() {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Error(n)
	}
	mustUnmap(t, tbl, 0, 2*gib1)
}

func TestDump(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, mib2, 0x208b95d000, 3*kib4, Read|Write)
	mustMap(t, tbl, mib2+3*kib4, 0x208b95d000+3*kib4, kib4, Write)
	mustMap(t, tbl, mib2+8*kib4, 0, kib4, Read)
	mustMap(t, tbl, 4*mib2, 0, 4*mib2, Read)
	mustMap(t, tbl, 1<<40, gib1, 2*gib1, Read)
	var out strings.Builder
	if err := tbl.Dump(&out); err != nil {
		t.Fatal(err)
	}
	want := `second stage, 48 bits, 4 levels, root 0x712345000: 5 tables, leaves 5 x 4K, 4 x 2M, 2 x 1G
  [000] 0x0+512G table 0x712346000, 1 used
    [000] 0x0+1G table 0x712347000, 5 used
      [001] 0x200000+2M table 0x712348000, 5 used
        [000] 0x200000+4K -> 0x208b95d000 rw x 3
        [003] 0x203000+4K -> 0x208b960000 w
        [008] 0x208000+4K -> 0x0 r
      [004] 0x800000+2M -> 0x0 r x 4
  [002] 0x10000000000+512G table 0x712349000, 2 used
    [000] 0x10000000000+1G -> 0x40000000 r x 2
`
	// Which frames the pool gave is the pool's business.
	if d := cmp.Diff(maskFrames(want), maskFrames(out.String())); d != "" {
		t.Error(d)
	}
	if s := tbl.Stats(); s.Bytes() != 5*kib4+4*mib2+2*gib1 {
		t.Errorf("%#x bytes", s.Bytes())
	}
	if err := tbl.Dump(errWriter{}); !isErr(err, errWrite) {
		t.Errorf("%v", err)
	}
	mustUnmap(t, tbl, 0, 1<<48)
}

// maskFrames hides the addresses of tables.
func maskFrames(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		for _, word := range []string{"root 0x", "table 0x"} {
			if i := strings.Index(line, word); i >= 0 {
				rest := strings.TrimLeft(line[i+len(word):], "0123456789abcdef")
				line = line[:i] + word + "FRAME" + rest
			}
		}
		out.WriteString(line)
	}
	return out.String()
}

var errWrite = errors.New("disk full")

type errWriter struct{}

func (errWriter) Write([]byte) (int, error) { return 0, errWrite }

func TestProtString(t *testing.T) {
	for p, want := range []string{"-", "r", "w", "rw"} {
		if got := Prot(p).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

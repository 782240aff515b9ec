package pagetable

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The loops and their twins in Go do the same, at every length and place, and
// touch nothing else.
func TestRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 80 {
		for start := range 3 {
			a := make([]uint64, 90)
			for i := range a {
				if rng.IntN(3) != 0 {
					a[i] = rng.Uint64() << rng.IntN(64)
				}
			}
			b := slices.Clone(a)
			if x, y := inUse(a[start:start+n]), inUseGo(b[start:start+n]); x != y {
				t.Fatalf("inUse of %v: %v, want %v", a[start:start+n], x, y)
			}
			if x, y := wipe(a[start:start+n]), wipeGo(b[start:start+n]); x != y || !slices.Equal(a, b) {
				t.Fatalf("wipe of %d: %d, want %d; %v, want %v", n, x, y, a, b)
			}
			if inUse(a[start : start+n]) {
				t.Fatalf("%d words in use after wipe", n)
			}
			for i := range n { // each word alone
				a[start+i] = 1 << rng.IntN(64)
				if !inUse(a[start : start+n]) {
					t.Fatalf("word %d of %d is not seen", i, n)
				}
				a[start+i] = 0
			}
			for i := range n { // mostly leaves and holes
				a[start+i] = []uint64{0, bitLeaf, rng.Uint64() | bitLeaf, rng.Uint64() | bitLeaf}[rng.IntN(4)]
				if rng.IntN(30) == 0 {
					a[start+i] = rng.Uint64()
				}
			}
			copy(b, a)
			passed, gone := wipeLeaves(a[start : start+n])
			passedGo, goneGo := wipeLeavesGo(b[start : start+n])
			if passed != passedGo || gone != goneGo || !slices.Equal(a, b) {
				t.Fatalf("wipeLeaves of %d: %d, %d, want %d, %d; %x, want %x", n, passed, gone, passedGo, goneGo, a, b)
			}
			e, step := rng.Uint64(), rng.Uint64()
			fill(a[start:start+n], e, step)
			fillGo(b[start:start+n], e, step)
			if !slices.Equal(a, b) {
				t.Fatalf("fill of %d: %v, want %v", n, a, b)
			}
		}
	}
}

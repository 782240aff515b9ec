package respool

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// The stack against a slice.
func TestStackModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots = 5
		var s, other stack // other only lends its links
		s.init(slots)
		other.init(slots)
		var model, loose []uint32
		for i := range slots {
			loose = append(loose, uint32(i+1))
		}
		pops := uint64(0)
		flags := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				if len(loose) == 0 {
					t.Skip("nothing to push")
				}
				k := rapid.IntRange(0, len(loose)-1).Draw(t, "k")
				ok := s.push(loose[k], sealed)
				if ok != (flags&sealed == 0) {
					t.Fatalf("push says %v, flags %#x", ok, flags)
				}
				if ok {
					model = append(model, loose[k])
					loose = append(loose[:k], loose[k+1:]...)
				}
			},
			"pop": func(t *rapid.T) {
				i, left, head := s.pop(closing)
				if head&(closing|sealed) != flags {
					t.Fatalf("flags are %#x, not %#x", head&(closing|sealed), flags)
				}
				n := len(model)
				if n == 0 || flags&closing != 0 {
					if i != 0 {
						t.Fatalf("popped %d", i)
					}
					return
				}
				if i != model[n-1] || left != n-1 {
					t.Fatalf("popped %d leaving %d, want %d leaving %d", i, left, model[n-1], n-1)
				}
				model, loose = model[:n-1], append(loose, i)
				pops++
			},
			"push chain": func(t *rapid.T) {
				if len(loose) == 0 {
					t.Skip("nothing to push")
				}
				n := rapid.IntRange(1, len(loose)).Draw(t, "n")
				for _, i := range loose[:n] { // the last one is on top of other
					other.push(i, 0)
				}
				var noted notes
				first, took, _, _ := other.popChain(n, n, 0, &noted)
				if first != loose[n-1] || took != n {
					t.Fatalf("popped %d from %d on", took, first)
				}
				ok := s.pushChain(&other, first, n, sealed, &noted)
				if ok != (flags&sealed == 0) {
					t.Fatalf("pushChain says %v, flags %#x", ok, flags)
				}
				if ok {
					model = append(model, loose[:n]...)
					loose = slices.Delete(loose, 0, n)
				}
			},
			"pop chain": func(t *rapid.T) {
				least := rapid.IntRange(0, slots).Draw(t, "least")
				most := rapid.IntRange(max(1, least), slots+1).Draw(t, "most")
				first, n, left, head := s.popChain(least, most, closing, new(notes))
				if head&(closing|sealed) != flags {
					t.Fatalf("flags are %#x, not %#x", head&(closing|sealed), flags)
				}
				want := min(most, len(model))
				if want < least || flags&closing != 0 {
					want = 0
				}
				if n != want || n > 0 && left != len(model)-n {
					t.Fatalf("popped %d leaving %d of %d, want %d to %d", n, left, len(model), least, most)
				}
				at := uint64(first)
				for range n {
					last := len(model) - 1
					if uint32(at) != model[last] {
						t.Fatalf("popped %d, want %d", at, model[last])
					}
					model, loose = model[:last], append(loose, uint32(at))
					at = s.links[at].Load() & indexMask
				}
				pops += uint64(n)
			},
			"flags": func(t *rapid.T) {
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0:
					s.head.Or(closing)
					flags |= closing
				case 1:
					if s.seal() {
						if len(model) > 0 {
							t.Fatal("sealed with something on it")
						}
						flags |= sealed
					}
				default:
					s.head.And(^uint64(sealed | closing))
					flags = 0
				}
			},
			"": func(t *rapid.T) {
				if p, d := s.level(); p != pops || d != len(model) {
					t.Fatalf("level says %d pops and depth %d, want %d and %d", p, d, pops, len(model))
				}
			},
		})
	})
}

// The count of pops goes on where the tag wraps, and the flags do not notice.
func TestStackTagWraps(t *testing.T) {
	var s stack
	s.init(2)
	start := uint64(tagMask) - 2
	s.head.Store(start<<tagShift | closing)
	s.seen.Store(start)
	for n := range uint64(10) {
		s.push(1, sealed)
		s.push(2, sealed)
		if n%2 == 0 {
			s.pop(0)
			s.pop(0)
		} else {
			s.popChain(2, 2, 0, new(notes))
		}
		pops, depth := s.level()
		if want := start + 2*(n+1); pops != want || depth != 0 || s.head.Load()&(closing|sealed) != closing {
			t.Errorf("%d pops, want %d; depth %d, head %#x", pops, want, depth, s.head.Load())
		}
	}
}

// Counted on beyond what the tag can hold, if somebody looks before it is back where it
// was.
func TestStackCountsBeyondTag(t *testing.T) {
	var s stack
	s.init(1)
	for n := range uint64(5) {
		s.head.Add((tagMask - 1) << tagShift)
		if pops, _ := s.level(); pops != (n+1)*(tagMask-1) {
			t.Errorf("%d pops, want %d", pops, (n+1)*(tagMask-1))
		}
	}
}

// The ABA case itself: between the load of the head and the swap others take the top
// and the one below, and put the top back. Then the swap must fail.
func TestStackABA(t *testing.T) {
	var s stack
	s.init(3)
	for i := uint32(1); i <= 3; i++ {
		s.push(i, 0)
	}
	h := s.head.Load()
	next := s.links[h&indexMask].Load()
	a, _, _ := s.pop(0)
	s.pop(0)
	s.push(a, 0)
	if s.head.Load()&indexMask != h&indexMask {
		t.Fatal("the top is not the same")
	}
	if s.head.CompareAndSwap(h, h&^indexMask+tagOne|next&indexMask) {
		t.Error("a stale pop succeeded")
	}
}

// The same for a chain: the top comes back, what was below it does not.
func TestStackABAOfChain(t *testing.T) {
	var s, other stack
	s.init(3)
	other.init(3)
	for i := uint32(1); i <= 3; i++ {
		s.push(i, 0)
	}
	h := s.head.Load() // a popChain of two read 3, 2 and that 1 is below, and is suspended
	var noted notes
	first, _, _, _ := s.popChain(2, 2, 0, &noted)
	other.pushChain(&s, first, 2, 0, &noted)
	other.pop(0)
	s.push(first, 0)
	if s.head.Load()&indexMask != h&indexMask {
		t.Fatal("the top is not the same")
	}
	if s.head.CompareAndSwap(h, h&^indexMask+2*tagOne|1) {
		t.Error("a stale popChain succeeded")
	}
}

// Many goroutines on a few slots, popping several and pushing them in another order, and
// one that looks at the level.
func TestStackStress(t *testing.T) {
	const slots, workers = 3, 8
	rounds := 100_000
	if testing.Short() {
		rounds /= 10
	}
	var s stack
	s.init(slots)
	var owner [slots + 1]atomic.Int32
	for i := uint32(1); i <= slots; i++ {
		s.push(i, 0)
	}
	stop := make(chan struct{})
	var looker sync.WaitGroup
	looker.Go(func() { lookOn(t, &s, stop) })
	var pops atomic.Uint64
	var wg sync.WaitGroup
	for w := int32(1); w <= workers; w++ {
		wg.Go(func() {
			take := func() uint32 {
				i, left, _ := s.pop(0)
				if i == 0 {
					return 0
				}
				pops.Add(1)
				if left < 0 || left >= slots {
					t.Errorf("%d left", left)
				}
				if !owner[i].CompareAndSwap(0, w) {
					t.Errorf("slot %d popped twice", i)
				}
				return i
			}
			give := func(i uint32) {
				if i == 0 {
					return
				}
				if !owner[i].CompareAndSwap(w, 0) {
					t.Errorf("slot %d taken away", i)
				}
				s.push(i, 0)
			}
			for n := range rounds {
				a, b := take(), take()
				if n%7 == 0 {
					runtime.Gosched()
				}
				give(a)
				give(b)
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	looker.Wait()
	if n, depth := s.level(); depth != slots || n != pops.Load() {
		t.Errorf("depth %d, %d pops; want %d and %d", depth, n, slots, pops.Load())
	}
}

// lookOn looks at the level until stop: pops and pushes must never become fewer.
func lookOn(t *testing.T, s *stack, stop <-chan struct{}) {
	popped, pushed := uint64(0), 0
	for n := 0; ; n++ {
		pops, depth := s.level()
		if pops < popped || int(pops)+depth < pushed {
			t.Errorf("%d pops and %d pushes, before that %d and %d", pops, int(pops)+depth, popped, pushed)
			return
		}
		popped, pushed = pops, int(pops)+depth
		if n%256 != 0 {
			continue
		}
		select {
		case <-stop:
			return
		default:
			runtime.Gosched()
		}
	}
}

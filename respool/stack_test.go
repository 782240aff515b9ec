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
		var s, other stack // a slot is on one of them
		links := make([]atomic.Uint64, slots+1)
		s.init(links)
		other.init(links)
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
				b, want := draw(t, len(model), 1, flags)
				if got := s.push(loose[k], sealed, b); got != want {
					t.Fatalf("push says %v, want %v", got, want)
				}
				if want == done {
					model = append(model, loose[k])
					loose = append(loose[:k], loose[k+1:]...)
				}
			},
			"pop": func(t *rapid.T) {
				keep := rapid.IntRange(0, 2).Draw(t, "keep")
				i, left, head := s.pop(keep, closing)
				if head&(closing|sealed) != flags {
					t.Fatalf("flags are %#x, not %#x", head&(closing|sealed), flags)
				}
				n := len(model)
				if n <= keep || flags&closing != 0 {
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
					other.push(i, 0, nil)
				}
				first, left, _ := other.popChain(n, 0, 0)
				if first != loose[n-1] || left != 0 {
					t.Fatalf("popped %d leaving %d", first, left)
				}
				var noted notes
				other.note(uint64(first), &noted)
				b, want := draw(t, len(model), n, flags)
				if got := s.pushChain(first, n, sealed, b, &noted); got != want {
					t.Fatalf("pushChain says %v, want %v", got, want)
				}
				if want == done {
					model = append(model, loose[:n]...)
					loose = slices.Delete(loose, 0, n)
				}
			},
			"pop chain": func(t *rapid.T) {
				n := rapid.IntRange(1, slots+1).Draw(t, "n")
				keep := rapid.IntRange(0, 2).Draw(t, "keep")
				first, left, head := s.popChain(n, keep, closing)
				if head&(closing|sealed) != flags {
					t.Fatalf("flags are %#x, not %#x", head&(closing|sealed), flags)
				}
				if n > len(model)-keep || flags&closing != 0 {
					n = 0
				}
				if (first == 0) != (n == 0) || n > 0 && left != len(model)-n {
					t.Fatalf("popped from %d on leaving %d of %d, want %d", first, left, len(model), n)
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
			"push slots": func(t *rapid.T) {
				if len(loose) == 0 {
					t.Skip("nothing to push")
				}
				n := rapid.IntRange(1, len(loose)).Draw(t, "n")
				b, want := draw(t, len(model), n, flags)
				if got := s.pushSlots(loose[:n], sealed, b); got != want {
					t.Fatalf("pushSlots says %v, want %v", got, want)
				}
				if want == done {
					slices.Reverse(loose[:n]) // the first one is uppermost
					model = append(model, loose[:n]...)
					loose = slices.Delete(loose, 0, n)
				}
			},
			"pop slots": func(t *rapid.T) {
				least := rapid.IntRange(0, slots).Draw(t, "least")
				most := rapid.IntRange(max(1, least), slots+1).Draw(t, "most")
				keep := rapid.IntRange(0, 2).Draw(t, "keep")
				got := make([]uint32, most)
				n, left, head := s.popSlots(got, least, keep, closing)
				if head&(closing|sealed) != flags {
					t.Fatalf("flags are %#x, not %#x", head&(closing|sealed), flags)
				}
				want := max(0, min(most, len(model)-keep))
				if want < least || flags&closing != 0 {
					want = 0
				}
				if n != want || n > 0 && left != len(model)-n {
					t.Fatalf("popped %d leaving %d of %d, want %d to %d", n, left, len(model), least, most)
				}
				for _, i := range got[:n] {
					last := len(model) - 1
					if i != model[last] {
						t.Fatalf("popped %d, want %d", i, model[last])
					}
					model, loose = model[:last], append(loose, i)
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

// draw makes a bound, or none, and says how a push of n more then has to end.
func draw(t *rapid.T, depth, n int, flags uint64) (*bound, pushed) {
	switch {
	case flags&sealed != 0:
		return nil, flagged
	case rapid.Bool().Draw(t, "no bound"):
		return nil, done
	}
	b := new(bound)
	spare := rapid.IntRange(-2, 2).Draw(t, "spare")
	apart := rapid.IntRange(0, 2).Draw(t, "apart")
	b.total.Store(int64(depth + n + apart + spare))
	b.reserved.Store(int64(apart))
	if spare < 0 {
		return b, over
	}
	return b, done
}

// Stores in assembly and by sync/atomic leave the same links.
func TestLinkSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.SliceOfNDistinct(rapid.Uint32Range(1, 99), 0, 40, rapid.ID[uint32]).Draw(t, "slots")
		below := rapid.Uint64Range(0, indexMask).Draw(t, "below")
		depth := rapid.Uint64Range(0, maxElements).Draw(t, "depth")
		var got, want [100]atomic.Uint64
		linkSlots(got[:], slots, below, depth)
		linkSlotsGo(want[:], slots, below, depth)
		for i := range got {
			if got[i].Load() != want[i].Load() {
				t.Fatalf("link %d is %#x, want %#x", i, got[i].Load(), want[i].Load())
			}
		}
	})
}

// The count of pops goes on where the tag wraps, and the flags do not notice.
func TestStackTagWraps(t *testing.T) {
	var s stack
	s.init(make([]atomic.Uint64, 2+1))
	start := uint64(tagMask) - 2
	s.head.Store(start<<tagShift | closing)
	s.seen.Store(start)
	for n := range uint64(10) {
		s.push(1, sealed, nil)
		s.push(2, sealed, nil)
		if n%2 == 0 {
			s.pop(0, 0)
			s.pop(0, 0)
		} else {
			s.popChain(2, 0, 0)
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
	s.init(make([]atomic.Uint64, 1+1))
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
	s.init(make([]atomic.Uint64, 3+1))
	for i := uint32(1); i <= 3; i++ {
		s.push(i, 0, nil)
	}
	h := s.head.Load()
	next := s.links[h&indexMask].Load()
	a, _, _ := s.pop(0, 0)
	s.pop(0, 0)
	s.push(a, 0, nil)
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
	links := make([]atomic.Uint64, 4)
	s.init(links)
	other.init(links)
	for i := uint32(1); i <= 3; i++ {
		s.push(i, 0, nil)
	}
	h := s.head.Load() // a popChain of two read 3, 2 and that 1 is below, and is suspended
	first, _, _ := s.popChain(2, 0, 0)
	var noted notes
	s.note(uint64(first), &noted)
	other.pushChain(first, 2, 0, nil, &noted)
	other.pop(0, 0)
	s.push(first, 0, nil)
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
	if testing.Short() || debugging {
		rounds /= 10
	}
	var s stack
	s.init(make([]atomic.Uint64, slots+1))
	var owner [slots + 1]atomic.Int32
	for i := uint32(1); i <= slots; i++ {
		s.push(i, 0, nil)
	}
	stop := make(chan struct{})
	var looker sync.WaitGroup
	looker.Go(func() { lookOn(t, &s, stop) })
	var pops atomic.Uint64
	var wg sync.WaitGroup
	for w := int32(1); w <= workers; w++ {
		wg.Go(func() {
			take := func() uint32 {
				i, left, _ := s.pop(0, 0)
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
				s.push(i, 0, nil)
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

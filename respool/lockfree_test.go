//go:build debug

package respool

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// A stop holds a goroutine where it calls testPause for the nth time.
type stop struct {
	reached chan string // where it is
	resume  chan struct{}
	ended   chan error
}

// stopAt runs do in a goroutine and stops it at its nth pause. It returns nil if do came to its end before,
// and its error. Nothing else may run meanwhile that has pauses.
func stopAt(t *testing.T, n int, do func() error) (*stop, error) {
	t.Helper()
	s := &stop{reached: make(chan string), resume: make(chan struct{}), ended: make(chan error, 1)}
	hold := func(at string) {
		if n--; n == 0 {
			s.reached <- at // from here on others may call it too: stopAt has put another one in place
			<-s.resume
		}
	}
	testPause.Store(&hold)
	defer testPause.Store(nil)
	go func() { s.ended <- do() }()
	select {
	case <-s.reached:
		return s, nil
	case err := <-s.ended:
		return nil, err
	case <-time.After(time.Minute):
		t.Fatal("it neither ended nor came to a pause")
		return nil, nil
	}
}

// wait returns the error of what was stopped, after it was let go.
func (s *stop) wait(t *testing.T) error {
	t.Helper()
	close(s.resume)
	select {
	case err := <-s.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it did not end after it was let go")
		return nil
	}
}

// A victim is a call that is stopped in the middle. It is made with what it needs at hand, and
// taken is what it has got when it is over.
type victim struct {
	do    func() error
	taken func() []int
}

var none = func() []int { return nil }

// victims make the calls of the hot path but Reservation.Put, which has no step that others could
// be kept by. Each has elements of its own and takes no more than 50.
var victims = map[string]func(*testing.T, *Pool[int]) victim{
	"get": func(_ *testing.T, p *Pool[int]) victim {
		var e int
		return victim{func() (err error) { e, err = p.Get(); return }, func() []int { return []int{e} }}
	},
	"put": func(t *testing.T, p *Pool[int]) victim {
		es := get(t, p, 1)
		return victim{func() error { return p.Put(es[0]) }, none}
	},
	"critical get": func(_ *testing.T, p *Pool[int]) victim {
		var e int
		return victim{func() (err error) { e, err = p.As(Critical).Get(); return }, func() []int { return []int{e} }}
	},
	"batch of 5": func(_ *testing.T, p *Pool[int]) victim {
		es := make([]int, 5)
		return victim{func() error { return p.GetBatch(es) }, func() []int { return es }}
	},
	"batch of 50": func(_ *testing.T, p *Pool[int]) victim {
		es := make([]int, 50)
		return victim{func() error { return p.GetBatch(es) }, func() []int { return es }}
	},
	"put of 5": func(t *testing.T, p *Pool[int]) victim {
		es := get(t, p, 5)
		return victim{func() error { return p.PutBatch(es) }, none}
	},
	"put of 50": func(t *testing.T, p *Pool[int]) victim {
		es := get(t, p, 50)
		return victim{func() error { return p.PutBatch(es) }, none}
	},
	"cache": func(_ *testing.T, p *Pool[int]) victim {
		c := p.NewCache(8)
		var e int
		return victim{func() (err error) { e, err = c.Get(); return }, func() []int { _ = c.Close(); return []int{e} }}
	},
	"full cache": func(t *testing.T, p *Pool[int]) victim {
		c, es := p.NewCache(4), get(t, p, 5)
		for _, e := range es[:4] {
			_ = c.Put(e)
		}
		return victim{func() error { return c.Put(es[4]) }, func() []int { _ = c.Close(); return nil }}
	},
	"reserve": func(_ *testing.T, p *Pool[int]) victim {
		var r *Reservation[int]
		return victim{func() (err error) { r, err = p.Reserve(5); return }, func() []int { return drawn(r) }}
	},
	"draw": func(t *testing.T, p *Pool[int]) victim {
		r, e := reserved(t, p, 3), 0
		return victim{func() (err error) { e, err = r.Get(); return }, func() []int { return append(drawn(r), e) }}
	},
	"add": func(t *testing.T, p *Pool[int]) victim {
		r := reserved(t, p, 3)
		return victim{func() error { return r.Add(4) }, func() []int { return drawn(r) }}
	},
	"return": func(t *testing.T, p *Pool[int]) victim {
		r := reserved(t, p, 6)
		return victim{r.Return, func() []int { return drawn(r) }}
	},
	"reserve all": func(t *testing.T, p *Pool[int]) victim {
		r, q := reserved(t, p, 0), reserved(t, p, 0)
		return victim{func() error { return ReserveAll(r.Need(2), q.Need(3)) }, func() []int { return append(drawn(r), drawn(q)...) }}
	},
}

func reserved(t *testing.T, p *Pool[int], n int) *Reservation[int] {
	t.Helper()
	r, err := p.Reserve(n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func drawn(r *Reservation[int]) (es []int) {
	for r.Len() > 0 {
		e, err := r.Get()
		if err != nil {
			return nil // its elements are missed in the end
		}
		es = append(es, e)
	}
	return es
}

// lockfreeSize is enough for all victims and all others at once, so nobody may be refused.
const lockfreeSize = 512

func openLockfree(t *testing.T) (*Pool[int], *vault) {
	v := newVault(t)
	return open(t, v, Options{Min: lockfreeSize, Low: lockfreeSize, High: lockfreeSize, Max: lockfreeSize, OrdinaryMark: 2, MinInterval: 1 << 40}), v
}

// others make calls of all kinds, every one of which has to succeed. They come back with some
// elements that they keep, and have changed the order of those that they do not.
func others(t *testing.T, p *Pool[int]) (kept []int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			es, err := callAll(p, 50)
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, es...)
			if err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("others do not come to an end while one is stopped")
	}
	return kept
}

// callAll keeps three elements.
func callAll(p *Pool[int], rounds int) (kept []int, err error) {
	c := p.NewCache(8)
	fail := func(what string, err error) ([]int, error) { return kept, fmt.Errorf("%s: %w", what, err) }
	for range rounds {
		buf := make([]int, 1+rand.IntN(40))
		if err := p.GetBatch(buf); err != nil {
			return fail("GetBatch", err)
		}
		rand.Shuffle(len(buf), func(i, k int) { buf[i], buf[k] = buf[k], buf[i] })
		if err := p.PutBatch(buf); err != nil {
			return fail("PutBatch", err)
		}
		for range 3 {
			e, err := p.Get()
			if err != nil {
				return fail("Get", err)
			}
			kept = append(kept, e)
		}
		for len(kept) > 3 {
			k := rand.IntN(len(kept))
			if err := p.Put(kept[k]); err != nil {
				return fail("Put", err)
			}
			kept = append(kept[:k], kept[k+1:]...)
		}
		e, err := c.Get()
		if err != nil {
			return fail("Cache.Get", err)
		}
		r, err := p.Reserve(4)
		if err != nil {
			return fail("Reserve", err)
		}
		if kept = append(kept, drawn(r)...); r.Put(e) != nil || r.Return() != nil {
			return fail("Return", r.Return())
		}
	}
	return kept, c.Close()
}

// whole checks that what is kept and what is free are all elements, each once, and ends the pool.
func whole(t *testing.T, p *Pool[int], v *vault, kept []int) {
	t.Helper()
	all := append([]int(nil), kept...)
	for len(all) <= lockfreeSize { // it may be a circle
		e, err := p.As(Critical).Get()
		if err != nil {
			break
		}
		all = append(all, e)
	}
	seen := map[int]bool{}
	for _, e := range all {
		if seen[e] || !v.live[e] {
			t.Fatalf("element %d is there twice, or never was", e)
		}
		seen[e] = true
	}
	if len(all) != lockfreeSize {
		t.Fatalf("%d of %d elements are there: %+v", len(all), lockfreeSize, p.Stats())
	}
	put(t, p, all...)
	end(t, p, v)
}

// sameTop puts the slot that was on top there again, with another one below it than before: whoever read it
// before may not take it for unchanged.
func sameTop(t *testing.T, p *Pool[int]) (kept []int) {
	t.Helper()
	e := get(t, p, 1)
	r := reserved(t, p, 1)
	put(t, p, e...)
	return drawn(r)
}

// Whoever is stopped wherever in a call of the hot path, the others' calls succeed, and when
// it goes on its call does, too. No element is lost or had by two.
func TestLockFree(t *testing.T) {
	for name, prepare := range victims {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				some := lockfree(t, n, prepare, others)
				if !some && n == 1 {
					t.Error("it has no pause")
				}
				if !some {
					return
				}
				lockfree(t, n, prepare, sameTop)
			}
		})
	}
}

// lockfree stops a call at its nth pause, while the others do something. It says whether
// there is such a pause.
func lockfree(t *testing.T, n int, prepare func(*testing.T, *Pool[int]) victim, meanwhile func(*testing.T, *Pool[int]) []int) bool {
	t.Helper()
	p, v := openLockfree(t)
	c := prepare(t, p)
	s, err := stopAt(t, n, c.do)
	if err != nil {
		t.Fatalf("pause %d: %v", n, err)
	}
	if s == nil {
		whole(t, p, v, c.taken())
		return false
	}
	kept := meanwhile(t, p)
	if err := s.wait(t); err != nil {
		t.Fatalf("pause %d: %v", n, err)
	}
	kept = append(kept, others(t, p)...)
	whole(t, p, v, append(kept, c.taken()...))
	return true
}

// The same with one stopped in each kind of call at once, let go in any order.
func TestLockFreeAllStopped(t *testing.T) {
	for n := 1; n <= 3; n++ {
		p, v := openLockfree(t)
		var kept []int
		type held struct {
			*stop
			victim
		}
		var stopped []held
		for _, prepare := range victims {
			c := prepare(t, p)
			s, err := stopAt(t, n, c.do)
			if err != nil {
				t.Fatal(err)
			}
			if s == nil {
				kept = append(kept, c.taken()...)
				continue
			}
			stopped = append(stopped, held{s, c})
		}
		if len(stopped) == 0 && n == 1 {
			t.Error("nobody was stopped")
		}
		rand.Shuffle(len(stopped), func(i, k int) { stopped[i], stopped[k] = stopped[k], stopped[i] })
		kept = append(kept, others(t, p)...)
		for _, s := range stopped {
			if err := s.wait(t); err != nil {
				t.Fatal(err)
			}
			kept = append(kept, s.taken()...)
			kept = append(kept, others(t, p)...)
			if err := p.PutBatch(kept); err != nil {
				t.Fatal(err)
			}
			kept = nil
		}
		whole(t, p, v, kept)
	}
}

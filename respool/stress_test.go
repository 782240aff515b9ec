package respool

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An atom knows whether it is held and whether it was freed.
type atom struct {
	holder atomic.Int32
	freed  atomic.Bool
}

// atoms is a source of atoms that fails one call in eight.
type atoms struct {
	t     *testing.T
	made  atomic.Int64
	freed atomic.Int64
}

func (s *atoms) Alloc(context.Context) (*atom, error) {
	if rand.IntN(8) == 0 {
		return nil, errVault
	}
	s.made.Add(1)
	return new(atom), nil
}

func (s *atoms) Free(a *atom) error {
	if a.holder.Load() != 0 || !a.freed.CompareAndSwap(false, true) {
		s.t.Error("freed an atom that is held or was freed")
	}
	s.freed.Add(1)
	return nil
}

// use gets and puts at random, holding at most most, and leaves with nothing held.
func use(t *testing.T, p *Pool[*atom], id int32, rounds, most int, gets, empty *atomic.Uint64) {
	var held []*atom
	give := func() {
		a := held[len(held)-1]
		held = held[:len(held)-1]
		if !a.holder.CompareAndSwap(id, 0) {
			t.Error("a held atom was handed to somebody else")
		}
		if err := p.Put(a); err != nil {
			t.Error(err)
		}
	}
	for n := range rounds {
		if n%2000 == 1999 { // a pause, for the worker to shrink in
			for len(held) > 0 {
				give()
			}
			time.Sleep(time.Millisecond)
		}
		if len(held) > 0 && (len(held) >= most || rand.IntN(2) == 0) {
			give()
			continue
		}
		a, err := p.Get()
		switch {
		case errors.Is(err, ErrEmpty):
			empty.Add(1)
			runtime.Gosched()
		case errors.Is(err, ErrClosed):
			for len(held) > 0 {
				give()
			}
			return
		case err != nil:
			t.Error(err)
		case !a.holder.CompareAndSwap(0, id) || a.freed.Load():
			t.Error("got an atom that is held or was freed")
		default:
			gets.Add(1)
			held = append(held, a)
		}
		if n%64 == 0 {
			runtime.Gosched()
		}
	}
	for len(held) > 0 {
		give()
	}
}

// Users, a worker that grows and shrinks all the time, readers of Stats, and at the
// end, for one of the two, Close in the middle of it.
func TestStress(t *testing.T) {
	for name, o := range map[string]Options{
		"tiny":  {Low: 1, High: 2, Max: 3},
		"small": {Low: 4, High: 8, Max: 24},
		"wide":  {Low: 8, High: 32, Max: 1024},
	} {
		for _, early := range []bool{false, true} {
			if early {
				name += ", closed early"
			}
			t.Run(name, func(t *testing.T) {
				o.MinInterval, o.MaxInterval = 10*time.Microsecond, 50*time.Microsecond
				o.IdleAfter, o.MaxBackoff = 100*time.Microsecond, 100*time.Microsecond
				stress(t, o, early)
			})
		}
	}
}

func stress(t *testing.T, o Options, early bool) {
	const users = 8
	rounds := 50_000
	if testing.Short() || debugging {
		rounds /= 10
	}
	src := &atoms{t: t}
	var p *Pool[*atom]
	for tries := 0; p == nil; tries++ { // Low 8 succeeds one time in three
		var err error
		if p, err = New(t.Context(), src, o); err != nil && (!errors.Is(err, ErrNoMemory) || tries > 1000) {
			t.Fatal(err)
		}
		if err != nil && src.made.Load() != src.freed.Load() {
			t.Fatal("New failed and left atoms behind")
		}
	}
	var gets, empty atomic.Uint64
	var wg sync.WaitGroup
	for id := int32(1); id <= users; id++ {
		wg.Go(func() { use(t, p, id, rounds, max(1, o.Max/4), &gets, &empty) })
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			s := p.Stats()
			if s.Gets-s.Puts != uint64(s.InUse) || s.Free < 0 || s.Free > o.Max || s.InUse > o.Max {
				t.Errorf("%+v", s)
			}
			select {
			case <-stop:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	if early {
		for gets.Load() < uint64(rounds/50) && empty.Load() < uint64(rounds) { // one comes before all are done
			runtime.Gosched()
		}
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	close(stop)
	reader.Wait()
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
	s := p.Stats()
	if s.Gets != gets.Load() || s.Puts != gets.Load() || s.Empty != empty.Load() {
		t.Errorf("%d gets and %d refused were seen, the pool says %+v", gets.Load(), empty.Load(), s)
	}
	if m, f := src.made.Load(), src.freed.Load(); m != f || s.Shrunk+s.Drained != s.Filled+s.Grown {
		t.Errorf("%d atoms made, %d freed: %+v", m, f, s)
	}
	checkSum(t, p)
	t.Logf("%+v", s)
}

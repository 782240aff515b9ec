package respool

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client gets and puts at random: one element or a batch, through its cache or past it.
type client struct {
	t    *testing.T
	p    *Pool[*atom]
	c    *Cache[*atom]
	id   int32
	held []*atom
}

// get returns false once the pool is closed.
func (u *client) get(n int) bool {
	got := make([]*atom, n)
	var err error
	switch rand.IntN(4) {
	case 0:
		got = got[:1]
		got[0], err = u.p.Get()
	case 1:
		got = got[:1]
		got[0], err = u.c.Get()
	case 2:
		err = u.p.GetBatch(got)
	default:
		err = u.c.GetBatch(got)
	}
	switch {
	case errors.Is(err, ErrEmpty):
		runtime.Gosched()
	case errors.Is(err, ErrClosed):
		return false
	case err != nil:
		u.t.Error(err)
	default:
		for _, a := range got {
			if !a.holder.CompareAndSwap(0, u.id) || a.freed.Load() {
				u.t.Error("got an atom that is held or was freed")
			}
		}
		u.held = append(u.held, got...)
	}
	return true
}

func (u *client) put(n int) {
	n = min(n, len(u.held))
	if n == 0 {
		return
	}
	way := rand.IntN(4)
	if way < 2 {
		n = 1
	}
	back := u.held[len(u.held)-n:]
	u.held = u.held[:len(u.held)-n]
	for _, a := range back {
		if !a.holder.CompareAndSwap(u.id, 0) {
			u.t.Error("a held atom was handed to somebody else")
		}
	}
	var err error
	switch way {
	case 0:
		err = u.p.Put(back[0])
	case 1:
		err = u.c.Put(back[0])
	case 2:
		err = u.p.PutBatch(back)
	default:
		err = u.c.PutBatch(back)
	}
	if err != nil {
		u.t.Error(err)
	}
}

func (u *client) work(rounds, most int) {
	for n := range rounds {
		if n%2000 == 1999 { // a pause, for the worker to shrink in
			for len(u.held) > 0 {
				u.put(most)
			}
			if err := u.c.Flush(); err != nil {
				u.t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
		k := 1 + rand.IntN(most)
		if len(u.held) >= most || rand.IntN(2) == 0 {
			u.put(k)
		} else if !u.get(k) {
			break
		}
		if n%64 == 0 {
			runtime.Gosched()
		}
	}
	for len(u.held) > 0 {
		u.put(most)
	}
	if err := u.c.Close(); err != nil {
		u.t.Error(err)
	}
}

// Clients with caches, a worker that grows and shrinks all the time, readers of Stats, and,
// for one of the two, Close in the middle of it.
func TestStressCaches(t *testing.T) {
	for name, o := range map[string]Options{
		"small": {Low: 4, High: 8, Max: 24},
		"wide":  {Low: 8, High: 64, Max: 1024},
	} {
		for _, early := range []bool{false, true} {
			if early {
				name += ", closed early"
			}
			t.Run(name, func(t *testing.T) {
				o.MinInterval, o.MaxInterval = 10*time.Microsecond, 50*time.Microsecond
				o.IdleAfter, o.MaxBackoff = 100*time.Microsecond, 100*time.Microsecond
				stressCaches(t, o, early)
			})
		}
	}
}

func stressCaches(t *testing.T, o Options, early bool) {
	const clients = 8
	rounds := 30_000
	if testing.Short() || debugging {
		rounds /= 10
	}
	src := &atoms{t: t}
	var p *Pool[*atom]
	for p == nil { // Low 8 succeeds one time in three
		var err error
		if p, err = New(t.Context(), src, o); err != nil && !errors.Is(err, ErrNoMemory) {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for id := int32(1); id <= clients; id++ {
		u := &client{t: t, p: p, c: p.NewCache(int(id) * 2), id: id}
		wg.Go(func() { u.work(rounds, max(2, o.Max/8)) })
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			s := p.Stats()
			if s.Gets-s.Puts != uint64(s.InUse+s.Cached+s.Reserved) || min(s.Free, s.InUse, s.Cached) < 0 || max(s.Free, s.InUse+s.Cached) > o.Max {
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
		for s := p.Stats(); s.Gets < uint64(rounds/6); s = p.Stats() {
			runtime.Gosched()
		}
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	close(stop)
	reader.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Cached != 0 || s.Gets != s.Puts {
		t.Errorf("all is back: %+v", s)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
	s := p.Stats()
	if m, f := src.made.Load(), src.freed.Load(); m != f || s.Shrunk+s.Drained != s.Filled+s.Grown {
		t.Errorf("%d atoms made, %d freed: %+v", m, f, s)
	}
	checkSum(t, p)
	t.Logf("%+v", s)
}

// Batches among single gets, from a pool that always has enough: no batch is starved or
// refused, because its elements are taken for fewer than they are while others pop and push.
func TestBatchesAmongSingles(t *testing.T) {
	const singles, each, batch = 4, 3, 16
	v := newVault(t)
	p := open(t, v, Options{Low: batch + singles*each, Max: batch + singles*each, MinInterval: 1 << 40})
	var done atomic.Bool
	var wg sync.WaitGroup
	for range singles {
		wg.Go(func() {
			for !done.Load() && !t.Failed() {
				for _, e := range got(t, p, each) {
					if err := p.Put(e); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	rounds := 100_000
	if testing.Short() || raceDetector || debugging {
		rounds /= 10
	}
	buf := make([]int, batch)
	for range rounds {
		if err := p.GetBatch(buf); err != nil {
			t.Error(err)
			break
		}
		if err := errors.Join(p.PutBatch(buf[:batch/3]), p.PutBatch(buf[batch/3:])); err != nil {
			t.Error(err)
			break
		}
	}
	done.Store(true)
	wg.Wait()
	end(t, p, v)
}

// got is get for another goroutine than the test's.
func got(t *testing.T, p *Pool[int], n int) (es []int) {
	for range n {
		e, err := p.Get()
		if err != nil {
			t.Error(err)
			break
		}
		es = append(es, e)
	}
	return es
}

// Two owners at once are what the race detector reports, even if they take turns; an
// owner that hands the cache on is not. The test runs itself in another process, where
// it is allowed to fail.
func TestRaceDetectorSeesSecondOwner(t *testing.T) {
	const env = "RESPOOL_OWNERS"
	if owners := os.Getenv(env); owners != "" {
		ownInTurn(t, owners == "two")
		return
	}
	if !raceDetector {
		t.Skip("the race detector is off: go test -race")
	}
	for owners, want := range map[string]bool{"one": false, "two": true} {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), env+"="+owners)
		out, err := cmd.CombinedOutput()
		if got := strings.Contains(string(out), "DATA RACE"); got != want || (err != nil) != want {
			t.Errorf("owners: %s, reported: %v, %v\n%s", owners, got, err, out)
		}
	}
}

func ownInTurn(t *testing.T, unknown bool) {
	p := open(t, newVault(t), Options{Low: 8, Max: 8, MinInterval: 1 << 40})
	c := p.NewCache(8)
	if _, err := c.Get(); err != nil {
		t.Error(err)
	}
	turn, done := make(chan struct{}), make(chan struct{})
	go func() {
		if !unknown {
			<-turn
		}
		if _, err := c.Get(); err != nil {
			t.Error(err)
		}
		close(done)
	}()
	if unknown {
		time.Sleep(10 * time.Millisecond) // no order that the detector could see
	}
	if _, err := c.Get(); err != nil {
		t.Error(err)
	}
	close(turn)
	<-done
	_ = p.Close(ended())
}

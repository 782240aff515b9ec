package respool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// dry is a pool of n elements that cannot grow.
func dry(n int) Options { return Options{Min: n, Low: n, High: n, Max: n} }

func wantReturn(t testing.TB, rs ...*Reservation[int]) {
	t.Helper()
	for _, r := range rs {
		if err := r.Return(); err != nil {
			t.Error(err)
		}
	}
}

func TestGetWaitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(2))
		es := get(t, p, 2)
		got := make(chan int, 1)
		go func() {
			e, err := p.GetWait(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- e
		}()
		after(time.Minute)
		if s := p.Stats(); s.Waiting != 1 || s.Empty != 0 || len(got) != 0 {
			t.Errorf("%+v", s)
		}
		put(t, p, es[0])
		after(defaultMinInterval) // a look of the worker
		select {
		case e := <-got:
			put(t, p, e, es[1])
		default:
			t.Fatal("nobody woke the one who waits")
		}
		if s := p.Stats(); s.Waiting != 0 || s.Reserved != 0 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
	})
}

// The worker makes what is waited for, beyond High, and does not free it meanwhile.
func TestWorkerGrowsForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		v.delay = 100 * time.Millisecond
		p := open(t, v, Options{Low: 1, High: 2, Max: 64, Step: 1, IdleAfter: 50 * time.Millisecond})
		start := time.Now()
		r, err := p.ReserveWait(t.Context(), 40)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("39 elements at 100 ms took %v", took)
		}
		wantReturn(t, r)
		end(t, p, v)
	})
}

// A source that fails half way does not let the worker free what is gathered already.
func TestWhatIsWaitedForIsNotFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 1, High: 2, Max: 64, Step: 1, IdleAfter: 50 * time.Millisecond})
		v.setFail(func(call int) error {
			if call > 20 {
				return errVault
			}
			return nil
		})
		done := make(chan *Reservation[int], 1)
		go func() {
			r, err := p.ReserveWait(t.Context(), 40)
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		after(time.Minute)
		if s := p.Stats(); s.Free != 20 || s.Shrunk != 0 {
			t.Errorf("%+v", s)
		}
		v.setFail(nil)
		wantReturn(t, <-done)
		end(t, p, v)
	})
}

// A worker at rest is woken by who may sleep.
func TestWaitingWakesTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 1, High: 2, Max: 64})
		after(time.Second)
		start := time.Now()
		r, err := p.ReserveWait(t.Context(), 40)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v of a source that takes no time", took)
		}
		wantReturn(t, r)
		end(t, p, v)
	})
}

// A worker inside a source that does not return keeps nobody from what comes back.
func TestWaitWhileSourceIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, holdAndWait(t, Options{Low: 1, High: 1, Max: 8}))
		block := make(chan struct{})
		v.block = block
		es := get(t, p, 1)
		after(time.Second)
		go func() {
			time.Sleep(time.Second)
			put(t, p, es...)
		}()
		e, err := p.GetWait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		put(t, p, e)
		close(block)
		end(t, p, v)
	})
}

func TestReserveWaitIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(8))
		es := get(t, p, 8)
		var mu sync.Mutex
		var order []int
		for i, n := range []int{2, 8, 1, 5, 1} {
			go func() {
				r, err := p.ReserveWait(t.Context(), n)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				wantReturn(t, r)
			}()
			synctest.Wait()
		}
		for _, e := range es { // always fewer than the large one wants, more than the small ones
			put(t, p, e)
			after(time.Second)
		}
		after(time.Minute)
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			t.Errorf("served in order %v", order)
		}
		end(t, p, v)
	})
}

// Eight who never wait take and put all the time, so that half is always out. The one who wants
// all gets it, and they are not shut out for ever.
func TestLargeRequestIsNotStarvedByGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(8))
		const hold = 100 * time.Millisecond
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		gets := 0
		for i := range 8 {
			wg.Go(func() {
				time.Sleep(hold / 8 * time.Duration(i))
				for {
					select {
					case <-stop:
						return
					default:
					}
					e, err := p.Get()
					if err != nil {
						time.Sleep(time.Millisecond)
						continue
					}
					mu.Lock()
					gets++
					mu.Unlock()
					time.Sleep(hold)
					put(t, p, e)
				}
			})
		}
		after(time.Second)
		start := time.Now()
		r, err := p.ReserveWait(t.Context(), 8)
		if err != nil {
			t.Fatal(err)
		}
		// 10+10+20+20+40+40+80+80+160 and then shut for 160.
		if took := time.Since(start); took < 100*time.Millisecond || took > 800*time.Millisecond {
			t.Errorf("took %v", took)
		}
		mu.Lock()
		before := gets
		mu.Unlock()
		wantReturn(t, r)
		after(time.Second)
		mu.Lock()
		if gets == before {
			t.Error("gets are refused after the wait is over")
		}
		mu.Unlock()
		close(stop)
		wg.Wait()
		end(t, p, v)
	})
}

// Those who do not wait are let by turns while somebody waits for what never comes.
func TestBarrierOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(2))
		es := get(t, p, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := p.ReserveWait(ctx, 2); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		let, refused := 0, 0
		for range 2000 {
			after(time.Millisecond)
			if e, err := p.Get(); err == nil {
				let++
				put(t, p, e)
			} else {
				refused++
			}
		}
		if let < 500 || refused < 500 {
			t.Errorf("let %d, refused %d", let, refused)
		}
		cancel()
		synctest.Wait()
		put(t, p, get(t, p, 1)...)
		if s := p.Stats(); s.Waiting != 0 || p.line.wanted.Load() != 0 {
			t.Errorf("%+v", s)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// Whoever is in the line when its ctx ends leaves nothing behind, the next has the turn.
func TestCancelWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, holdAndWait(t, dry(2)))
		es := get(t, p, 2)
		ctxs := make([]context.CancelFunc, 3)
		done := make(chan error, 3)
		for i := range ctxs {
			var ctx context.Context
			ctx, ctxs[i] = context.WithCancel(t.Context())
			go func() {
				r, err := p.ReserveWait(ctx, 2)
				if r != nil {
					wantReturn(t, r)
				}
				done <- err
			}()
			synctest.Wait()
		}
		for _, i := range []int{1, 0} { // the one in the middle, then the first
			ctxs[i]()
			synctest.Wait()
			var op *OpError
			if err := <-done; !errors.Is(err, context.Canceled) || !errors.As(err, &op) || op.Op != "wait" {
				t.Errorf("canceled: %v", err)
			}
		}
		if _, err := p.ReserveWait(ended(), 1); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled before: %v", err)
		}
		put(t, p, es...)
		after(10 * time.Millisecond)
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctxs[2]()
		if s := p.Stats(); s.Waiting != 0 || s.Reserved != 0 || p.line.wanted.Load() != 0 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
	})
}

// All who wait learn of Close, at once.
func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p, q := open(t, v, holdAndWait(t, dry(2))), open(t, w, holdAndWait(t, dry(2)))
		es, fs := get(t, p, 2), get(t, q, 2)
		done := make(chan error, 10)
		go func() { _, err := q.ReserveWait(t.Context(), 2); done <- err }() // not of p
		synctest.Wait()
		calls := []func(){
			func() { done <- ReserveAllWait(t.Context(), reserveNone(q).Need(1), reserveNone(p).Need(1)) },
			func() { _, err := p.ReserveWait(t.Context(), 2); done <- err },
			func() { _, err := p.GetWait(t.Context()); done <- err },
			func() { done <- p.Wait(t.Context()) },
		}
		for _, f := range calls {
			go f()
			synctest.Wait()
		}
		closed := make(chan error, 1)
		start := time.Now()
		go func() { closed <- p.Close(context.Background()) }()
		for range calls {
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("%v", err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		for _, f := range calls {
			f()
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		put(t, p, es...)
		put(t, q, fs...)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		after(10 * time.Millisecond)
		if err := <-done; err != nil { // the reservation itself is lost: q is closed without it
			t.Error(err)
		}
		if s := q.Stats(); s.Reserved != 2 {
			t.Errorf("%+v", s)
		}
		var op *OpError
		if err := q.Close(ended()); !errors.As(err, &op) || op.Reserved != 2 {
			t.Errorf("%v", err)
		}
	})
}

func reserveNone(p *Pool[int]) *Reservation[int] { return &Reservation[int]{p: p} }

func TestRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(2))
		if _, err := p.ReserveWait(t.Context(), 3); !errors.Is(err, ErrReserve) {
			t.Error(err)
		}
		r := reserve(t, p, 0)
		for _, parts := range [][]Part{{r.Need(2), r.Need(1)}, {r.Need(-1)}, {{}}, {r.Need(1), {}}} {
			if err := ReserveAllWait(t.Context(), parts...); !errors.Is(err, ErrReserve) {
				t.Error(err)
			}
			if err := ReserveAll(parts...); !errors.Is(err, ErrReserve) {
				t.Error(err)
			}
		}
		if err := errors.Join(ReserveAll(), ReserveAllWait(t.Context())); err != nil || r.Len() != 0 {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// One element comes back: those who Wait are let go one after the other, not all at once.
func TestWaitIsNoHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(1))
		if err := p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		es := get(t, p, 1)
		const waiters = 10
		done := make(chan time.Time, waiters)
		for range waiters {
			go func() {
				if err := p.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				done <- time.Now()
			}()
		}
		after(time.Second)
		put(t, p, es...)
		last := time.Time{}
		for range waiters {
			at := <-done
			if !at.After(last) {
				t.Error("two at once")
			}
			last = at
		}
		end(t, p, v)
	})
}

func TestReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(2))
		token := func(want bool) {
			t.Helper()
			after(time.Second)
			select {
			case <-p.Returned():
				if !want {
					t.Error("a token")
				}
			default:
				if want {
					t.Error("no token")
				}
			}
		}
		es := get(t, p, 2)
		put(t, p, es...)
		token(false) // it never said ErrEmpty
		es = get(t, p, 2)
		for range 3 {
			if _, err := p.Get(); !errors.Is(err, ErrEmpty) {
				t.Error(err)
			}
			token(false)
		}
		put(t, p, es[0])
		token(true)
		put(t, p, es[1])
		token(false)
		if _, err := p.Reserve(2); err != nil {
			t.Error(err)
		}
		if _, err := p.Reserve(1); !errors.Is(err, ErrEmpty) {
			t.Error(err)
		}
		token(false)
		var op *OpError
		if err := p.Close(ended()); !errors.As(err, &op) || op.Reserved != 2 {
			t.Error(err)
		}
	})
}

// The source fails its Nth call: who waits is served as soon as it works again, and
// nothing is lost.
func TestWaitingFailsNth(t *testing.T) {
	for nth := 1; nth <= 12; nth++ {
		synctest.Test(t, func(t *testing.T) {
			v, w := newVault(t), newVault(t)
			p := open(t, v, Options{Low: 1, High: 1, Max: 8, Step: 3})
			q := open(t, w, Options{Low: 1, High: 1, Max: 8, Step: 3})
			var calls atomic.Int64
			fail := func(int) error {
				if n := int(calls.Add(1)); n >= nth && n < nth+3 {
					return errVault
				}
				return nil
			}
			v.setFail(fail)
			w.setFail(fail)
			var wg sync.WaitGroup
			wg.Go(func() {
				r, err := p.ReserveWait(t.Context(), 3)
				if err != nil {
					t.Error(err)
					return
				}
				wantReturn(t, r)
			})
			wg.Go(func() {
				a, b := reserve(t, p, 0), reserve(t, q, 0)
				if err := ReserveAllWait(t.Context(), b.Need(4), a.Need(4)); err != nil {
					t.Error(err)
				}
				wantReturn(t, a, b)
			})
			wg.Go(func() {
				e, err := q.GetWait(t.Context())
				if err != nil {
					t.Error(err)
				}
				put(t, q, e)
			})
			wg.Wait()
			for _, p := range []*Pool[int]{p, q} {
				if s := p.Stats(); s.Reserved != 0 || s.InUse != 0 || s.Waiting != 0 {
					t.Errorf("failing call %d: %+v", nth, s)
				}
			}
			v.setFail(nil)
			w.setFail(nil)
			end(t, p, v)
			end(t, q, w)
		})
	}
}

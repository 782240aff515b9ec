package respool

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gommu/internal/procpin"
)

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// wantLeak checks that err reports n elements still in use, and cause.
func wantLeak(t testing.TB, err error, n int, cause error) {
	t.Helper()
	var op *OpError
	if !errors.As(err, &op) || op.Op != "close" || op.Out != n || !errors.Is(err, ErrLeaked) || !errors.Is(err, cause) {
		t.Errorf("Close: %v, want %d leaked and %v", err, n, cause)
	}
}

func TestCloseWaitsForElements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		es := get(t, p, 3)
		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		after(time.Minute + 50*time.Millisecond)
		if v.existing() != 3 {
			t.Errorf("%d exist: Close did not free the one that was ready", v.existing())
		}
		if _, err := p.Get(); !errors.Is(err, ErrClosed) {
			t.Errorf("Get while Close waits: %v", err)
		}
		put(t, p, es[:2]...)
		if _, err := p.Get(); !errors.Is(err, ErrClosed) {
			t.Errorf("Get of what was put while Close waits: %v", err)
		}
		after(time.Minute + 50*time.Millisecond)
		select {
		case err := <-done:
			t.Errorf("Close did not wait for the last element: %v", err)
		default:
		}
		put(t, p, es[2])
		after(10 * time.Millisecond)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("Close did not see the last element")
		}
		if err := p.Put(1); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after Close: %v", err)
		}
		if err := p.Close(ended()); err != nil {
			t.Errorf("Close twice: %v", err)
		}
		end(t, p, v)
	})
}

func TestCloseReportsLeaksAndCanBeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Name: "p", Low: 4, Max: 4})
		es := get(t, p, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Close(ctx)
		wantLeak(t, err, 3, context.DeadlineExceeded)
		if want := `respool: close "p": elements are still in use: 3 not put back: context deadline exceeded`; firstLine(err) != want {
			t.Errorf("%q is not %q", err, want)
		}
		before := p.Stats()
		for _, e := range es {
			if err := p.Put(e); !errors.Is(err, ErrClosed) {
				t.Errorf("Put after a Close that gave up: %v", err)
			}
		}
		if p.Stats() != before || before.InUse != 3 || v.existing() != 3 {
			t.Errorf("the refused Put changed something: %+v", p.Stats())
		}
		wantLeak(t, p.Close(ended()), 3, context.Canceled)

		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		put(t, p, es...)
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

func TestCloseConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		es := get(t, p, 2)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := p.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				wantLeak(t, p.Close(ctx), 2, context.DeadlineExceeded)
			})
		}
		after(2 * time.Second)
		put(t, p, es...) // the ones without a deadline still wait, and none sealed the pool
		wg.Wait()
		end(t, p, v)
	})
}

func TestCloseCancelsAlloc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 8})
		inside := make(chan context.Context, 1)
		v.delay, v.inside = time.Hour, inside
		es := get(t, p, 4)
		<-inside
		put(t, p, es...)
		begin := time.Now()
		end(t, p, v)
		if d := time.Since(begin); d > time.Second {
			t.Errorf("Close took %v", d)
		}
		if s := p.Stats(); s.SourceErrors != 0 || s.LastError != nil {
			t.Errorf("the cancelled Alloc counts as an error: %+v", s)
		}
	})
}

// A source that does not heed its context cannot hold Close, and what it gives in the
// end is freed.
func TestCloseLeavesBusySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 8})
		inside := make(chan context.Context, 1)
		block := make(chan struct{})
		v.block, v.inside = block, inside
		es := get(t, p, 4)
		<-inside
		put(t, p, es[:3]...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Close(ctx)
		if !errors.Is(err, ErrSourceBusy) {
			t.Errorf("Close: %v", err)
		}
		wantLeak(t, err, 1, context.DeadlineExceeded)
		if v.existing() != 1 {
			t.Errorf("%d exist", v.existing())
		}
		close(block)
		synctest.Wait()
		if s := p.Stats(); s.Grown != 1 || s.Shrunk != 1 || v.existing() != 1 {
			t.Errorf("%d exist, %+v", v.existing(), s)
		}
		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		put(t, p, es[3])
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// A worker that frees more than it has to is stopped after the element in its hands.
func TestCloseStopsShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64, Step: 10, IdleAfter: time.Minute, MinAge: time.Minute})
		es := get(t, p, 4)
		rest()
		es = append(es, get(t, p, 8)...)
		rest()
		put(t, p, es...) // 20 are free
		v.freeDelay.Store(int64(time.Hour))
		after(2 * time.Minute) // the first of ten is being freed
		err := p.Close(ended())
		if !errors.Is(err, ErrSourceBusy) || errors.Is(err, ErrLeaked) {
			t.Errorf("Close: %v", err)
		}
		if want := "respool: close: source or hook has not returned: context canceled"; err != nil && err.Error() != want {
			t.Errorf("%q is not %q", err, want)
		}
		if s := p.Stats(); s.Shrunk != 1 || s.Drained != 19 {
			t.Errorf("the worker went on: %+v", s)
		}
		end(t, p, v)
	})
}

// While Close waits, the worker does not ask the source for more.
func TestCloseStopsGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 8, Step: 4})
		inside := make(chan context.Context, 8)
		block := make(chan struct{})
		v.block, v.inside = block, inside
		es := get(t, p, 4)
		<-inside
		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		close(block)
		put(t, p, es...)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := p.Stats(); s.Grown != 1 || len(inside) != 0 {
			t.Errorf("%d calls of Alloc after Close: %+v", len(inside), s)
		}
		end(t, p, v)
	})
}

// A latePutter is an ended context that puts an element whenever it is asked whether it
// has ended.
type latePutter struct {
	context.Context
	put func()
}

func (c latePutter) Done() <-chan struct{} { c.put(); return c.Context.Done() }

// What comes in after Close has looked for the last time, and before it refuses Puts,
// is freed too.
func TestPutBeforeSeal(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 8, Max: 8})
	es := get(t, p, 8)
	err := p.Close(latePutter{ended(), func() {
		put(t, p, es[0])
		es = es[1:]
	}})
	wantLeak(t, err, len(es), context.Canceled)
	if s := p.Stats(); s.Free != 0 || s.Puts == 0 || v.existing() != len(es) {
		t.Errorf("%d exist, %+v", v.existing(), s)
	}
	if err := p.Put(es[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
}

// Puts race the ends of Closes that give up: each element is freed by the pool or
// stays with its holder, never both and never neither.
func TestPutRacesSeal(t *testing.T) {
	const holders, each = 2, 100
	rounds := 100
	if debugging {
		rounds = 10
	}
	for round := range rounds {
		v := newVault(t)
		p := open(t, v, Options{Low: holders * each, Max: holders * each})
		es := get(t, p, holders*each)
		accepted := make([]bool, len(es))
		var wg sync.WaitGroup
		for h := range holders {
			wg.Go(func() {
				for i := h * each; i < (h+1)*each; i++ {
					for range 4 {
						err := p.Put(es[i])
						if accepted[i] = err == nil; accepted[i] {
							break
						}
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						runtime.Gosched()
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for putting := true; putting; {
			_ = p.Close(ended())
			select {
			case <-done:
				putting = false
			default:
			}
		}
		err := p.Close(ended())
		kept := 0
		for i, e := range es {
			if !accepted[i] {
				kept++
			}
			if accepted[i] == v.live[e] {
				t.Fatalf("round %d: element %d exists: %v, Put accepted: %v", round, e, v.live[e], accepted[i])
			}
		}
		if kept > 0 {
			wantLeak(t, err, kept, context.Canceled)
		} else if err != nil {
			t.Error(err)
		}
		checkSum(t, p)
		if s := p.Stats(); int(s.Puts) != len(es)-kept || s.InUse != kept {
			t.Fatalf("round %d: %d kept, %+v", round, kept, s)
		}
	}
}

// A foreign element that came while another one was in the worker's hands is freed too, and reported.
func TestCloseFreesForeignElements(t *testing.T) {
	if !procpin.Works {
		t.Skip("without stocks, as under the race detector, there is no slot for a foreign element")
	}
	p, err := New(t.Context(), letters{}, Options{Low: 4, Max: 4})
	if err != nil {
		t.Fatal(err)
	}
	i, _, _ := p.ready.pop(0, 0) // as in shrink
	p.removed.Add(1)
	if err := p.put("b"); err != nil {
		t.Fatal(err)
	}
	p.work.shrunk.Add(1)
	p.dispose(i, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, ErrForeign) || ctx.Err() != nil {
		t.Errorf("Close says %v; its context %v", err, ctx.Err())
	}
	if s := p.Stats(); s.Drained != 4 || s.Free != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 50 {
		v := newVault(t)
		p := open(t, v, Options{})
		end(t, p, v)
		select {
		case <-p.stopped:
		default:
			t.Fatal("Close returned before the worker had ended")
		}
	}
	for range 1000 { // what closed stopped may not be gone yet
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

package discipline_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"gommu/respool"
	"gommu/respool/discipline"
)

// hang is how long a test waits before it calls that a hang.
const hang = 30 * time.Second

// pause is a moment of some nanoseconds to microseconds.
func pause() {
	for n := rand.IntN(1 << rand.IntN(12)); n > 0; n-- {
		runtime.KeepAlive(n)
	}
}

// A put that meets a get at any moment on its way to sleep wakes it: nobody else does, for nothing
// else happens until the element has arrived.
func TestPutMeetsWait(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			v := newVault(t)
			d := k.must(t, v, 1)
			discipline.OnlyPutsWake(d)
			e, err := d.Get()
			if err != nil {
				t.Fatal(err)
			}
			v.setFail(allocs)
			if k.waitAsks { // the reserve is to be empty
				spare, err := d.Get()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { closeAfter(t, d, v, spare) }()
			} else {
				defer func() { closeAfter(t, d, v) }()
			}
			rounds := 20_000
			if k.name == "pool-first" {
				rounds = 100 // its worker wakes who waits, at its next look
			}
			meet(t, d, e, rounds)
		})
	}
}

func meet(t *testing.T, d discipline.Discipline[int], e, rounds int) {
	calls, got := make(chan bool), make(chan int)
	defer close(calls)
	go func() {
		for range calls {
			e, err := d.GetWait(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- e
		}
	}()
	limit := time.NewTimer(hang)
	defer limit.Stop()
	for range rounds {
		calls <- true
		pause()
		if err := d.Put(e); err != nil {
			t.Fatal(err)
		}
		select {
		case e = <-got:
		case <-limit.C:
			t.Fatal("an element was put, and who waits for it is not woken")
		}
	}
	if err := d.Put(e); err != nil {
		t.Fatal(err)
	}
}

// closeAfter puts what is out and closes.
func closeAfter(t *testing.T, d discipline.Discipline[int], v *vault, out ...int) {
	t.Helper()
	for _, e := range out {
		if err := d.Put(e); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
	if d.Held() != 0 || v.left() != 0 {
		t.Errorf("after Close %d are held and %d not freed", d.Held(), v.left())
	}
}

// A put that meets the end of a Close is either refused, and the element still the caller's, or the
// element is freed, by one of the two.
func TestPutMeetsClose(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for range 300 {
				v := newVault(t)
				d := k.must(t, v, 1)
				v.setFail(allocs)
				e, err := d.Get()
				if err != nil {
					t.Fatal(err)
				}
				put := make(chan error, 1)
				go func() { pause(); put <- d.Put(e) }()
				pause()
				err = d.Close(ended())
				if err != nil && !errors.Is(err, respool.ErrLeaked) && !errors.Is(err, respool.ErrSourceBusy) {
					t.Fatal(err)
				}
				err = <-put
				if err != nil && !errors.Is(err, respool.ErrClosed) {
					t.Fatal(err)
				}
				want := 0
				if err != nil {
					want = 1
				}
				if left := v.left(); left != want {
					t.Fatalf("put: %v, and %d not freed, want %d", err, left, want)
				}
				if err != nil {
					closeWith(t, d, v, e)
				}
			}
		})
	}
}

// A put whose second half comes when Close has given up leaves nothing behind.
func TestPutOutlastsClose(t *testing.T) {
	for _, k := range kinds {
		if k.name == "pool-first" {
			continue // has tests of its own
		}
		t.Run(k.name, func(t *testing.T) {
			v := newVault(t)
			d := k.must(t, v, 1)
			v.setFail(allocs)
			e, err := d.Get()
			if err != nil {
				t.Fatal(err)
			}
			settle, err := discipline.BeginPut(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(ended()); !errors.Is(err, respool.ErrSourceBusy) {
				t.Fatalf("%v, want ErrSourceBusy", err)
			}
			settle(e)
			if left := v.left(); left != 0 {
				t.Errorf("%d not freed", left)
			}
			closeAfter(t, d, v)
		})
	}
}

// A put between a look at the stock and the wait is not missed. Where the look has not come in
// ten milliseconds, this cannot fail.
func TestPutBeforeWait(t *testing.T) {
	for _, k := range kinds {
		if k.name != "allocator-first" && k.name != "per-CPU" {
			continue // have no bell
		}
		t.Run(k.name, func(t *testing.T) {
			v := newVault(t)
			d := k.must(t, v, 1)
			discipline.OnlyPutsWake(d)
			v.setFail(allocs)
			e, err := d.Get()
			if err != nil {
				t.Fatal(err)
			}
			put := discipline.HoldBell(d)
			got := make(chan error, 1)
			go func() {
				e2, err := d.GetWait(context.Background())
				if err == nil {
					err = d.Put(e2)
				}
				got <- err
			}()
			time.Sleep(10 * time.Millisecond)
			put(e)
			select {
			case err := <-got:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(hang):
				t.Fatal("an element was put, and who waits for it is not woken")
			}
			closeAfter(t, d, v)
		})
	}
}

// closeWith closes and puts what is out meanwhile.
func closeWith(t *testing.T, d discipline.Discipline[int], v *vault, out ...int) {
	t.Helper()
	done := make(chan bool)
	go func() {
		defer close(done)
		closeAfter(t, d, v)
	}()
	for _, e := range out {
		for errors.Is(d.Put(e), respool.ErrClosed) { // until that Close is at work
			runtime.Gosched()
		}
	}
	<-done
}

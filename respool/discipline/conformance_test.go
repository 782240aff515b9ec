package discipline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gommu/respool"
	"gommu/respool/discipline"
)

// each runs a test for each discipline, in a bubble: no goroutine may be left at its end.
func each(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, k) })
		})
	}
}

// An oracle is what a discipline must look like from outside.
type oracle struct {
	k    kind
	v    *vault
	d    discipline.Discipline[int]
	n    int // ready at first
	out  []int
	dead bool // no source
}

// TestModel drives each discipline by random calls and compares it with the oracle: nothing is
// handed out twice, nothing is lost, and what is held is what the source has made.
func TestModel(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		// Inside a bubble testing.T refuses to say its deadline, which rapid asks for.
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			o := &oracle{k: k, v: newVault(t), n: rapid.IntRange(1, 12).Draw(rt, "n")}
			o.d = k.must(t, o.v, o.n)
			defer o.end(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"get":      func(t *rapid.T) { e, err := o.d.Get(); o.got(t, e, err) },
				"get wait": o.getWait,
				"put":      o.put,
				"foreign":  o.foreign,
				"refuse":   func(*rapid.T) { o.dead = true; o.v.setFail(allocs) },
				"no tries": func(*rapid.T) { o.dead = false; o.v.setFail(tries) },
				"mend":     func(*rapid.T) { o.dead = false; o.v.setFail(nil) },
				"time":     func(t *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(1, 300).Draw(t, "ms")) * time.Millisecond) },
				"":         o.check,
			})
		})
	})
}

func (o *oracle) got(t *rapid.T, e int, err error) {
	if errors.Is(err, respool.ErrEmpty) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range o.out {
		if x == e {
			t.Fatalf("element %d is handed out twice", e)
		}
	}
	o.out = append(o.out, e)
}

// getWait waits for 20 s at most: by then there is an element, unless the source is dead or the
// discipline bounded.
func (o *oracle) getWait(t *rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	begin := time.Now()
	e, err := o.d.GetWait(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		if time.Since(begin) != 20*time.Second {
			t.Fatalf("given up after %v", time.Since(begin))
		}
		if full := o.k.bounded && len(o.out) == o.n || o.k.name == "pool-first" && len(o.out) == 4*o.n; !o.dead && !full {
			t.Fatal("nothing within 20 s, though the source gives")
		}
	default:
		o.got(t, e, err)
	}
}

func (o *oracle) put(t *rapid.T) {
	if len(o.out) == 0 {
		t.Skip("nothing is out")
	}
	i := rapid.IntRange(0, len(o.out)-1).Draw(t, "which")
	if err := o.d.Put(o.out[i]); err != nil {
		t.Fatal(err)
	}
	o.out = append(o.out[:i], o.out[i+1:]...)
}

func (o *oracle) foreign(t *rapid.T) {
	if len(o.out) > 0 {
		t.Skip("only when nothing is out can it be told")
	}
	if err := o.d.Put(-1); !errors.Is(err, respool.ErrForeign) {
		t.Fatalf("put of what was never got: %v", err)
	}
}

func (o *oracle) check(t *rapid.T) {
	synctest.Wait()
	held, made := o.d.Held(), o.v.left()
	if held != made {
		t.Fatalf("held %d, but the source has %d out", held, made)
	}
	if held < len(o.out) {
		t.Fatalf("held %d, but %d are out", held, len(o.out))
	}
	switch o.k.name {
	case "static":
		if held != o.n {
			t.Fatalf("held %d of %d", held, o.n)
		}
	case "allocator-first":
		if held > o.n+len(o.out) {
			t.Fatalf("held %d with %d out: the reserve is larger than %d", held, len(o.out), o.n)
		}
	case "per-CPU":
		if held > o.n+len(o.out) {
			t.Fatalf("held %d with %d out: more is ready than %d", held, len(o.out), o.n)
		}
	}
}

func (o *oracle) end(t *rapid.T) {
	for _, e := range o.out {
		if err := o.d.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if held, left := o.d.Held(), o.v.left(); held != 0 || left != 0 {
		t.Fatalf("after Close %d are held, and %d not freed", held, left)
	}
}

// TestFailNth fails the Nth call of the source, for every N, through all public calls.
func TestFailNth(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		for n := 1; ; n++ {
			v := newVault(t)
			failed := false
			v.setFail(func(i int, _ string) bool { failed = failed || i == n; return i == n })
			script(t, k, v)
			if left := v.left(); left != 0 {
				t.Fatalf("call %d fails: %d elements leak", n, left)
			}
			if !failed {
				if n < 6 {
					t.Fatalf("only %d calls", n)
				}
				return
			}
		}
	})
}

// script makes a discipline of 4, takes 8 elements in all ways, gives them back and closes. It fails
// only where a call of the source that failed is no excuse.
func script(t *testing.T, k kind, v *vault) {
	t.Helper()
	d, err := k.make(v, 4)
	if err != nil {
		if !errors.Is(err, respool.ErrNoMemory) || !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
		return
	}
	var out []int
	for i := range 8 {
		e, err := d.Get()
		if err != nil || i%2 == 1 {
			if err == nil {
				out = append(out, e)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			e, err = d.GetWait(ctx)
			cancel()
		}
		switch {
		case err == nil:
			out = append(out, e)
		case !errors.Is(err, context.DeadlineExceeded) || !k.bounded:
			t.Fatal(err)
		}
	}
	for _, e := range out {
		if err := d.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second) // for those who free in the background
	lostBefore := v.lostCount()
	if err := d.Close(context.Background()); err != nil && !errors.Is(err, respool.ErrFree) {
		t.Fatal(err)
	} else if err == nil && v.lostCount() > lostBefore {
		t.Fatal("Close lost an element and does not say so")
	}
	if d.Held() != 0 {
		t.Fatalf("%d held after Close", d.Held())
	}
}

// Waiting ends with the context, with a put, and with Close.
func TestWaitEnds(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		d := k.must(t, v, 2)
		v.setFail(allocs)
		a, _ := d.GetWait(t.Context())
		b, err := d.GetWait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.GetWait(ended()); !errors.Is(err, context.Canceled) {
			t.Fatalf("with a context that has ended: %v", err)
		}

		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := d.GetWait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
			t.Fatalf("%v after %v, want 3 s", err, time.Since(begin))
		}

		type result struct {
			e   int
			err error
		}
		results := make(chan result, 1)
		wait := func() {
			e, err := d.GetWait(context.Background())
			results <- result{e, err}
		}
		go wait()
		time.Sleep(time.Second)
		begin = time.Now()
		if err := d.Put(a); err != nil {
			t.Fatal(err)
		}
		if r := <-results; r.err != nil || r.e != a || time.Since(begin) > 10*time.Millisecond {
			t.Fatalf("%+v after %v, want %d at once", r, time.Since(begin), a)
		}

		go wait()
		synctest.Wait()
		if err := d.Close(ended()); !errors.Is(err, respool.ErrLeaked) {
			t.Fatal(err)
		}
		if r := <-results; !errors.Is(r.err, respool.ErrClosed) {
			t.Fatal(r.err)
		}
		finish(t, d, v, a, b)
	})
}

// finish puts what is out during a Close.
func finish(t *testing.T, d discipline.Discipline[int], v *vault, out ...int) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- d.Close(context.Background()) }()
	synctest.Wait()
	for _, e := range out {
		if err := d.Put(e); err != nil {
			t.Error(err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if d.Held() != 0 || v.left() != 0 {
		t.Errorf("after Close %d are held and %d not freed", d.Held(), v.left())
	}
}

func TestClose(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		d := k.must(t, v, 4)
		a, _ := d.Get()
		b, err := d.Get()
		if err != nil {
			t.Fatal(err)
		}
		err = d.Close(ended())
		if !errors.Is(err, respool.ErrLeaked) || !errors.Is(err, context.Canceled) || outOf(err) != 2 {
			t.Fatalf("two are out: %v", err)
		}
		if left := v.left(); left != 2 {
			t.Errorf("%d are not freed, want the two that are out", left)
		}
		if _, err := d.Get(); !errors.Is(err, respool.ErrClosed) {
			t.Errorf("get: %v", err)
		}
		if _, err := d.GetWait(context.Background()); !errors.Is(err, respool.ErrClosed) {
			t.Errorf("wait: %v", err)
		}
		if err := d.Put(a); !errors.Is(err, respool.ErrClosed) {
			t.Errorf("put after Close: %v", err)
		}
		finish(t, d, v, a, b)
		if err := d.Close(ended()); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// Closes take turns. One whose context ends before its turn says so, and the one at work goes on.
func TestClosesTakeTurns(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		d := k.must(t, v, 2)
		a, err := d.Get()
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- d.Close(context.Background()) }()
		}
		synctest.Wait()
		if err := d.Close(ended()); !errors.Is(err, context.Canceled) || !errors.Is(err, respool.ErrLeaked) || outOf(err) != 1 {
			t.Errorf("out of turn: %v", err)
		}
		if err := d.Put(a); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		}
		if d.Held() != 0 || v.left() != 0 {
			t.Errorf("after Close %d are held and %d not freed", d.Held(), v.left())
		}
	})
}

func outOf(err error) int {
	if e, ok := errors.AsType[*discipline.OpError](err); ok {
		return e.Out
	}
	if e, ok := errors.AsType[*respool.OpError](err); ok {
		return e.Out
	}
	return -1
}

// A source that does not return keeps nobody who closes beyond the context, and what it gives in the end
// is freed.
func TestCloseWhileSourceIsBusy(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		if k.bounded {
			return // never asks the source
		}
		v := newVault(t)
		d := k.must(t, v, 2)
		v.mu.Lock()
		v.fail, v.deaf = tries, make(chan struct{})
		v.mu.Unlock()
		a, _ := d.Get()
		b, err := d.Get()
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { _, err := d.GetWait(context.Background()); waited <- err }()
		time.Sleep(time.Second)
		if err := d.Put(a); err != nil {
			t.Fatal(err)
		}
		if !k.waitAsks { // the put went to who waits
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(ended()); !errors.Is(err, respool.ErrSourceBusy) {
			t.Fatalf("%v, want ErrSourceBusy", err)
		}
		close(v.deaf)
		if k.waitAsks {
			if err := <-waited; !errors.Is(err, respool.ErrClosed) {
				t.Fatal(err)
			}
			finish(t, d, v, b)
			return
		}
		time.Sleep(time.Second)
		if left := v.left(); left != 2 {
			t.Errorf("%d are not freed, want the two that are out", left)
		}
		finish(t, d, v, a, b)
	})
}

// What a source fails to free is reported, once.
func TestCloseLoses(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		d := k.must(t, v, 2)
		v.setFail(func(_ int, call string) bool { return call == "free" })
		if err := d.Close(context.Background()); !errors.Is(err, respool.ErrFree) || !errors.Is(err, errRefused) {
			t.Errorf("%v, want ErrFree", err)
		}
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("once more: %v", err)
		}
		if d.Held() != 0 || v.left() != 0 || v.lostCount() != 2 {
			t.Errorf("%d held, %d not freed, %d lost", d.Held(), v.left(), v.lostCount())
		}
	})
}

// An element that a waiting get receives when the discipline begins to close is not handed out, and not
// lost.
func TestGetMeetsClose(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		if k.name == "pool-first" {
			return // has tests of its own
		}
		v := newVault(t)
		d := k.must(t, v, 1)
		e, err := d.Get()
		if err != nil {
			t.Fatal(err)
		}
		v.setFail(allocs)
		if k.waitAsks { // what was got came from the allocator; the reserve is to be empty
			spare, err := d.Get()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { finish(t, d, v, spare) }()
		} else {
			defer func() { finish(t, d, v) }()
		}
		waited := make(chan error, 1)
		go func() { _, err := d.GetWait(context.Background()); waited <- err }()
		time.Sleep(time.Second)
		discipline.BeginClose(d)
		if err := d.Put(e); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; !errors.Is(err, respool.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	})
}

// No wake-up is lost: with two elements, no source and many who want one for a moment, all
// get their turn, long before mempool's 5 s.
func TestWakeups(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		const tasks, rounds = 8, 50
		v := newVault(t)
		d := k.must(t, v, 2)
		v.setFail(allocs)
		begin := time.Now()
		done := make(chan error, tasks)
		for i := range tasks {
			go func() {
				for r := range rounds {
					e, err := d.GetWait(context.Background())
					if err != nil {
						done <- err
						return
					}
					if (i+r)%3 == 0 {
						time.Sleep(time.Microsecond)
					}
					if err := d.Put(e); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range tasks {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if elapsed := time.Since(begin); elapsed > time.Second && k.name != "pool-first" {
			t.Errorf("took %v", elapsed) // the clock of the bubble: only a wait for nothing makes it move
		}
		finish(t, d, v)
	})
}

func TestBadOptions(t *testing.T) {
	for _, k := range kinds {
		if _, err := k.make(newVault(t), -3); !errors.Is(err, respool.ErrBadOptions) {
			t.Errorf("%s: %v", k.name, err)
		}
		if _, err := k.make(nil, 3); !errors.Is(err, respool.ErrBadOptions) {
			t.Errorf("%s without a source: %v", k.name, err)
		}
		if _, err := k.make(newVault(t), 1<<24); !errors.Is(err, respool.ErrBadOptions) {
			t.Errorf("%s, too large: %v", k.name, err)
		}
	}
	for _, o := range []discipline.PerCPUOptions{{Size: 2, Low: 3}, {Shards: 1 << 12, Size: 1 << 13}, {Shards: -1}, {Low: -1}} {
		if _, err := discipline.NewPerCPU(context.Background(), newVault(t), o); !errors.Is(err, respool.ErrBadOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A constructor whose context ends gives back what it has.
func TestNewEnds(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		v.gate = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		var err error
		switch k.name {
		case "static":
			_, err = discipline.NewStatic(ctx, v, discipline.StaticOptions{})
		case "per-CPU":
			_, err = discipline.NewPerCPU(ctx, v, discipline.PerCPUOptions{})
		case "allocator-first":
			_, err = discipline.NewAllocatorFirst(ctx, v, discipline.AllocatorFirstOptions{})
		default:
			_, err = discipline.NewPoolFirst(ctx, v, respool.Options{})
		}
		if !errors.Is(err, context.Canceled) || errors.Is(err, respool.ErrNoMemory) || v.left() != 0 {
			t.Errorf("%v, %d left", err, v.left())
		}
	})
}

// Close ends what waits inside a source that heeds its context.
func TestCloseEndsAlloc(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		v := newVault(t)
		d := k.must(t, v, 1)
		v.mu.Lock()
		v.fail, v.gate = tries, make(chan struct{})
		v.mu.Unlock()
		a, err := d.Get()
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { _, err := d.GetWait(context.Background()); waited <- err }()
		time.Sleep(time.Second)
		begin := time.Now()
		finish(t, d, v, a)
		if err := <-waited; !errors.Is(err, respool.ErrClosed) || time.Since(begin) > time.Second {
			t.Errorf("%v after %v, want ErrClosed at once", err, time.Since(begin))
		}
	})
}

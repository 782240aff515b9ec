package discipline_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gommu/respool"
	"gommu/respool/discipline"
)

func newAllocatorFirst(t *testing.T, v *vault, reserve int) *discipline.AllocatorFirst[int] {
	t.Helper()
	a, err := discipline.NewAllocatorFirst(t.Context(), v, discipline.AllocatorFirstOptions{Reserve: reserve})
	if err != nil {
		t.Fatal(err)
	}
	v.log()
	return a
}

// The steps of a mempool, in their order.
func TestAllocatorFirstOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		a := newAllocatorFirst(t, v, 1)
		var out []int
		step := func(what string, get func() (int, error), want error, calls ...string) {
			t.Helper()
			e, err := get()
			if !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", what, err, want)
			}
			if err == nil {
				out = append(out, e)
			}
			if got := v.log(); !slices.Equal(got, calls) {
				t.Fatalf("%s: the source saw %q, want %q", what, got, calls)
			}
		}
		wait := func() (int, error) { return a.GetWait(t.Context()) }
		put := func() (int, error) {
			e := out[len(out)-1]
			out = out[:len(out)-1]
			return 0, a.Put(e)
		}
		step("the allocator gives", a.Get, nil, "try")
		step("the allocator gives", wait, nil, "try")
		v.setFail(tries)
		step("only with reclaim, but there is the reserve", wait, nil, "try")
		step("the reserve is empty", a.Get, respool.ErrEmpty, "try")
		step("reclaim", wait, nil, "try", "alloc")
		if a.Held() != 4 {
			t.Fatalf("%d held, want 4", a.Held())
		}
		out = out[:0] // below, what put returns is not an element
		for e := 1; e <= 4; e++ {
			out = append(out, e)
		}
		held := func(what string, want int, calls ...string) {
			t.Helper()
			if _, err := put(); err != nil {
				t.Fatal(err)
			}
			if got := v.log(); a.Held() != want || !slices.Equal(got, calls) {
				t.Fatalf("%s: %d held, want %d; the source saw %q, want %q", what, a.Held(), want, got, calls)
			}
		}
		held("a put refills the reserve", 4)
		held("a put is freed where the reserve is full", 3, "free")
		step("the reserve", a.Get, nil, "try")
		v.setFail(allocs)
		finish(t, a, v, out...)
	})
}

// Who waits asks the allocator again after 5 s, and after a put before it looks at what was put.
func TestAllocatorFirstWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		a := newAllocatorFirst(t, v, 1)
		first, err := a.Get()
		if err != nil {
			t.Fatal(err)
		}
		v.setFail(allocs)
		second, err := a.Get()
		if err != nil {
			t.Fatal(err)
		}
		v.log()
		got := make(chan int)
		wait := func() {
			e, err := a.GetWait(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- e
		}

		begin := time.Now()
		go wait()
		time.Sleep(time.Second)
		v.setFail(nil) // and nobody says so
		third := <-got
		if took, calls := time.Since(begin), v.log(); took != 5*time.Second || !slices.Equal(calls, []string{"try", "alloc", "alloc"}) {
			t.Errorf("got after %v, the source saw %q", took, calls)
		}

		v.setFail(allocs)
		begin = time.Now()
		go wait()
		time.Sleep(time.Second)
		v.setFail(nil)
		if err := a.Put(first); err != nil {
			t.Fatal(err)
		}
		fourth := <-got
		if took, calls := time.Since(begin), v.log(); took != time.Second || !slices.Equal(calls, []string{"try", "alloc", "alloc"}) || fourth == first {
			t.Errorf("got %d after %v, the source saw %q", fourth, took, calls)
		}
		finish(t, a, v, second, third, fourth)
	})
}

// After NewStatic there is no call of the source until Close, and who waited longest is first.
func TestStatic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		s, err := discipline.NewStatic(t.Context(), v, discipline.StaticOptions{Elements: 3})
		if err != nil {
			t.Fatal(err)
		}
		if calls := len(v.log()); calls != 3 {
			t.Errorf("%d calls beforehand, want 3", calls)
		}
		var out []int
		for range 3 {
			e, err := s.Get()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		if _, err := s.Get(); !errors.Is(err, respool.ErrEmpty) {
			t.Fatal(err)
		}
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				e, err := s.GetWait(context.Background())
				if err != nil {
					t.Error(err)
				}
				order <- i
				out[i] = e
			}()
			synctest.Wait()
		}
		for i, e := range slices.Clone(out) {
			if err := s.Put(e); err != nil {
				t.Fatal(err)
			}
			if got := <-order; got != i {
				t.Errorf("waiter %d is served as number %d", got, i)
			}
		}
		synctest.Wait()
		if calls := v.log(); len(calls) > 0 {
			t.Errorf("the source saw %q", calls)
		}
		finish(t, s, v, out...)
	})
}

func newPerCPU(t *testing.T, v *vault, o discipline.PerCPUOptions) *discipline.PerCPU[int] {
	t.Helper()
	p, err := discipline.NewPerCPU(t.Context(), v, o)
	if err != nil {
		t.Fatal(err)
	}
	v.log()
	return p
}

func drainShard(t *testing.T, s discipline.Shard[int], n int) (out []int) {
	t.Helper()
	for range n {
		e, err := s.Get()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// A stock is filled from Low to Size, by the background goroutine only: a source that hangs
// holds up nobody.
func TestPerCPUFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := newPerCPU(t, v, discipline.PerCPUOptions{Shards: 2, Size: 8, Low: 4})
		s := p.Shard(0)
		out := drainShard(t, s, 4)
		synctest.Wait()
		if calls := v.log(); len(calls) > 0 {
			t.Fatalf("at Low the source saw %q", calls)
		}
		out = append(out, drainShard(t, s, 1)...)
		synctest.Wait()
		if calls := v.log(); len(calls) != 5 || slices.Contains(calls, "try") {
			t.Fatalf("below Low the source saw %q, want 5 alloc", calls)
		}

		v.mu.Lock()
		v.gate = make(chan struct{})
		v.mu.Unlock()
		out = append(out, drainShard(t, s, 8)...)
		if _, err := s.Get(); !errors.Is(err, respool.ErrEmpty) {
			t.Fatalf("its stock is empty: %v", err)
		}
		e, err := s.GetWait(t.Context()) // the other stock's
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
		for range 3 { // the third and fourth shard are the first and second
			if err := p.Shard(3).Put(out[0]); err != nil {
				t.Fatal(err)
			}
			out = out[1:]
		}
		if held := p.Held(); held != 8+2+11 {
			t.Errorf("%d held, want the full second stock, a surplus of two, and eleven that are out", held)
		}
		close(v.gate)
		synctest.Wait()
		if calls := v.log(); p.Held() != 16+11 || slices.Contains(calls, "free") || len(calls) != 6 {
			t.Errorf("the surplus goes to the stock that is low before the source is asked: %d held, %q", p.Held(), calls)
		}
		for _, e := range out {
			if err := s.Put(e); err != nil {
				t.Fatal(err)
			}
		}
		out = nil
		synctest.Wait()
		if calls := v.log(); p.Held() != 16 || len(calls) != 11 {
			t.Errorf("what is too much is freed: %d held, %q", p.Held(), calls)
		}
		finish(t, p, v)
	})
}

// A source that fails is asked less and less often, and recovery is noticed.
func TestPerCPUBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := newPerCPU(t, v, discipline.PerCPUOptions{Shards: 1, Size: 2})
		v.setFail(allocs)
		out := drainShard(t, p.Shard(0), 2)
		begin := time.Now()
		for range 1000 { // none of these makes it ask more often
			if _, err := p.Get(); !errors.Is(err, respool.ErrEmpty) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if calls, most := len(v.log()), 7+int(time.Since(begin)/time.Second); calls > most || calls < most-3 {
			t.Errorf("%d calls of a source that fails, for %v; want about %d", calls, time.Since(begin), most)
		}
		v.setFail(nil)
		e, err := p.GetWait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		finish(t, p, v, append(out, e)...)
	})
}

// Without a shard the stocks are taken by turns, for gets and for puts.
func TestPerCPUByTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := newPerCPU(t, v, discipline.PerCPUOptions{Shards: 4, Size: 4})
		for range 100 {
			e, err := p.Get()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Put(e); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if calls := v.log(); len(calls) > 0 {
			t.Errorf("the source saw %q", calls)
		}
		var out []int
		for range 8 {
			e, err := p.Get()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		synctest.Wait()
		if calls := v.log(); len(calls) > 0 {
			t.Errorf("eight of sixteen are out, but the source saw %q", calls)
		}
		finish(t, p, v, out...)
	})
}

// What a reservation holds is held, too.
func TestPoolFirstHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p, err := discipline.NewPoolFirst(t.Context(), v, respool.Options{Low: 4, High: 4})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Pool().Reserve(3)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := p.Held(); held != v.left() || held < 4 {
			t.Errorf("%d held of %d", held, v.left())
		}
		if err := r.Return(); err != nil {
			t.Fatal(err)
		}
		finish(t, p, v)
	})
}

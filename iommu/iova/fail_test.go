package iova

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Every call of a hook fails in turn. Whatever was asked for is then refused, or done, and nothing is lost.
func TestEveryHookFails(t *testing.T) {
	check := leaves(t)
	o := Options{MaxWindows: 4096, Guard: true, Stock: keepOnly(map[int]Stock{2: {Low: 200, High: 200, Max: 1000}, 9: {Low: 2}, 12: {Low: 1}})}
	failed := 0
	for n := 1; ; n++ {
		h := newHooks()
		h.fail = func(call int) bool { return call == n }
		s, err := New(context.Background(), h.in(o))
		if err != nil {
			h.check(t)
			if !errors.Is(err, errHook) || len(h.prepared) > 0 {
				t.Fatalf("call %d: New: %v, prepared is %v", n, err, h.prepared)
			}
			failed++
			continue
		}
		l := newLedger(t, s.opts, h)
		calls(t, s, l)
		err = s.Close(context.Background())
		if err != nil && !errors.Is(err, ErrRetire) {
			t.Fatalf("call %d: Close: %v", n, err)
		}
		shut(t, s, h)
		if h.calls < n {
			break
		}
		failed++
	}
	if failed < 30 {
		t.Errorf("only %d calls were there to fail", failed)
	}
	check()
}

// calls are some of each kind, each with what it can fail with.
func calls(t *testing.T, s *Space, l *ledger) {
	t.Helper()
	ctx := context.Background()
	var out []Window
	for _, q := range []Request{{Size: 1}, {Size: 3 << 20}, {Size: 1, Below: 1 << 32}, {Size: 3 << 30}, {Size: 4096, Fixed: true, At: 1 << 30}} {
		switch w, err := s.AllocWait(ctx, q); {
		case err == nil:
			l.add(t, w, q.Size)
			out = append(out, w)
		case !errors.Is(err, errHook):
			t.Fatal(err)
		}
	}
	switch r, err := s.NewRing(ctx, 5<<20, 10); {
	case err == nil:
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	case !errors.Is(err, errHook):
		t.Fatal(err)
	}
	for range 300 { // more than there are: a worker has to make some
		w, err := s.Alloc(10000)
		for ; err != nil; w, err = s.Alloc(10000) {
			if !errors.Is(err, ErrEmpty) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		l.add(t, w, 10000)
		out = append(out, w)
	}
	for _, w := range out {
		l.remove(w)
		if err := s.FreeWait(w); err != nil {
			t.Fatal(err)
		}
	}
}

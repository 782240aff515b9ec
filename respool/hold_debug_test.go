//go:build debug

package respool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who holds longer than the limit is reported while it holds, once, and nobody else is.
func TestHoldLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, h := newVault(t), &hearer{}
		p := open(t, v, Options{Name: "p", Low: 4, Max: 4, HoldLimit: time.Second, OnReport: h.hear})
		first := firstGet(p)
		time.Sleep(500 * time.Millisecond)
		second := getHere(p.NewCache(1).Get)
		brief := must(p.Get())
		time.Sleep(499 * time.Millisecond)
		put(t, p, brief)
		h.quiet(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r := h.one(t, HeldLong, "firstGet")
		if r.Held != time.Second || r.Pool != "p" || !strings.Contains(r.String(), "out for 1s") {
			t.Errorf("%v", r)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		h.one(t, HeldLong, "getHere[...]")
		time.Sleep(time.Hour)
		h.quiet(t)
		put(t, p, first, second)
		third := firstGet(p) // after a time in which there was nothing to watch
		time.Sleep(time.Second)
		synctest.Wait()
		h.one(t, HeldLong, "firstGet")
		put(t, p, third)
		end(t, p, v)
		time.Sleep(time.Hour)
		h.quiet(t)
	})
}

// Equal elements have a holder each; elements that nothing tells apart are not watched.
func TestHoldLimitOfEqualElements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearer{}
		p := newPool(t, &numbers{n: 1}, Options{Low: 2, Max: 2, HoldLimit: time.Second, OnReport: h.hear})
		q := newPool(t, &floats{}, Options{Low: 2, Max: 2, HoldLimit: time.Second, OnReport: h.hear})
		e, _, f := must(p.Get()), must(p.Get()), must(q.Get())
		if err := p.Put(e); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		h.one(t, HeldLong, "TestHoldLimitOfEqualElements.func1")
		if err := errors.Join(p.Put(e), q.Put(f+1), p.Close(t.Context()), q.Close(t.Context())); err != nil {
			t.Error(err)
		}
		h.quiet(t)
	})
}

type floats struct{}

func (floats) Alloc(context.Context) (float64, error) { return 1, nil }
func (floats) Free(float64) error                     { return nil }

// climb gets an element n calls further down.
//
//go:noinline
func climb(p *Pool[int], n int) int {
	if n == 0 {
		return must(p.Get())
	}
	return climb(p, n-1)
}

// A leak says who has what, equal places together, the largest first.
func TestLeakReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, h := newVault(t), &hearer{}
		p := open(t, v, Options{Name: "p", Low: 20, Max: 20, OnReport: h.hear})
		var es []int
		for range 5 {
			es = append(es, firstGet(p))
		}
		time.Sleep(time.Minute)
		es = append(es, getHere(p.Get))
		r, c := reserve(t, p, 4), p.NewCache(6)
		if e, err := r.Get(); err != nil || p.Put(e) != nil {
			t.Error(err)
		}
		es = append(es, must(c.Get()))
		err := p.Close(ended())
		wantLeak(t, err, 13, context.Canceled) // 7 out, 3 reserved, 3 cached
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("reports were heard and are in the error too: %v", err)
		}
		rs := h.take()
		if len(rs) != 5 {
			t.Fatalf("%d reports: %v", len(rs), rs)
		}
		sum := 0
		for _, r := range rs {
			sum += r.Count
		}
		wantReport(t, rs[0], Leaked, "firstGet")
		if rs[0].Count != 5 || rs[0].Held != time.Minute || sum != 13 {
			t.Errorf("%d in all, first %v", sum, rs[0])
		}
		texts := ""
		for _, r := range rs {
			texts += r.String() + "\n"
		}
		for _, want := range []string{"in a reservation", "in a cache", "getHere", "reserved by goroutine"} {
			if !strings.Contains(texts, want) {
				t.Errorf("nothing says %q: %s", want, texts)
			}
		}
		done := make(chan error)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		put(t, p, es...)
		if err := errors.Join(r.Return(), c.Close(), <-done); err != nil {
			t.Error(err)
		}
		h.quiet(t)
		end(t, p, v)
	})
}

// The report of a leak at many places is bounded and forgets none. Without OnReport it is in
// the error.
func TestLeakReportIsBounded(t *testing.T) {
	v, h := newVault(t), &hearer{}
	o := Options{Low: 40, Max: 40, OnReport: h.hear}
	p := open(t, v, o)
	for i := range maxPlaces + 4 {
		for range 2 {
			climb(p, i)
		}
	}
	wantLeak(t, p.Close(ended()), 2*maxPlaces+8, context.Canceled)
	rs := h.take()
	sum := 0
	for _, r := range rs {
		sum += r.Count
	}
	if len(rs) != maxPlaces+1 || sum != 2*maxPlaces+8 || !strings.Contains(rs[maxPlaces].Detail, "4 more places") {
		t.Errorf("%d reports of %d elements, the last one %v", len(rs), sum, rs[len(rs)-1])
	}

	o.OnReport = nil
	p = open(t, v, o)
	for i := range maxPlaces + 4 {
		climb(p, i)
	}
	err := p.Close(ended())
	wantLeak(t, err, maxPlaces+4, context.Canceled)
	if n := strings.Count(err.Error(), "not put back, out for"); !errors.Is(err, ErrReported) || n != maxKept || !strings.Contains(err.Error(), "1 more report") {
		t.Errorf("%d reports in %v", n, err)
	}
	if again := p.Close(ended()); !errors.Is(again, ErrLeaked) {
		t.Error(again)
	}
}

// What ReserveAll hands from one reservation on to another one counts as that one's.
func TestLeakReportOfParts(t *testing.T) {
	v, h := newVault(t), &hearer{}
	p := open(t, v, Options{Low: 4, Max: 4, OnReport: h.hear})
	a, b := reserve(t, p, 0), reserve(t, p, 0)
	if err := errors.Join(ReserveAll(a.Need(1), b.Need(2)), a.Return()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx); !errors.Is(err, ErrLeaked) {
		t.Error(err)
	}
	if r := h.one(t, Leaked, "TestLeakReportOfParts"); r.Count != 2 {
		t.Errorf("%v", r)
	}
}

// Of equal elements each goroutine puts back its own.
func TestEqualElementsHaveTheirHolders(t *testing.T) {
	h := &hearer{}
	p := newPool(t, &numbers{n: 1}, Options{Low: 2, Max: 2, OnReport: h.hear})
	firstGet(p)
	done := make(chan error)
	go func() { done <- p.Put(getHere(p.Get)) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantLeak(t, p.Close(ended()), 1, context.Canceled)
	h.one(t, Leaked, "firstGet")
}

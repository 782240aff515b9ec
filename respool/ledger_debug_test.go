//go:build debug

package respool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

//go:noinline
func putHere[T any](put func(T) error, e T) error { return put(e) }

//go:noinline
func putAgain[T any](put func(T) error, e T) error { return put(e) }

//go:noinline
func getHere[T any](get func() (T, error)) T { return must(get()) }

func firstGet(p *Pool[int]) int          { return must(p.Get()) }
func firstPut(p *Pool[int], e int) error { return p.Put(e) }

// A second Put is refused even though another element is out, whichever way it comes, and
// changes nothing.
func TestDoublePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, h := newVault(t), &hearer{}
		p := open(t, v, Options{Name: "p", Low: 4, Max: 4, OnReport: h.hear})
		c, r := p.NewCache(2), reserve(t, p, 1)
		other := getHere(p.Get)
		e := firstGet(p)
		if err := firstPut(p, e); err != nil {
			t.Fatal(err)
		}
		before := p.Stats()
		for how, again := range map[string]func() error{
			"Put":             func() error { return putAgain(p.Put, e) },
			"PutBatch":        func() error { return putAgain(p.PutBatch, []int{other, e}) },
			"Cache.Put":       func() error { return putAgain(c.Put, e) },
			"Cache.PutBatch":  func() error { return putAgain(c.PutBatch, []int{e, other}) },
			"Reservation.Put": func() error { return putAgain(r.Put, e) },
		} {
			err := again()
			var op *OpError
			if !errors.Is(err, ErrDoublePut) || !errors.Is(err, ErrForeign) || !errors.As(err, &op) || op.Op != "put" || op.Pool != "p" {
				t.Fatalf("%s: %v", how, err)
			}
			report := h.one(t, PutTwice, "putAgain[...]", "firstPut", "firstGet")
			if !strings.Contains(err.Error(), report.String()) || report.Pool != "p" || report.Element == "" {
				t.Errorf("%s: %v does not say %v", how, err, report)
			}
			if diff := cmp.Diff(before, p.Stats()); diff != "" {
				t.Errorf("%s: %s", how, diff)
			}
		}
		if err := p.PutBatch([]int{other, other}); !errors.Is(err, ErrDoublePut) {
			t.Errorf("twice in one batch: %v", err)
		}
		h.take()
		put(t, p, other)
		if err := errors.Join(r.Return(), c.Close()); err != nil {
			t.Error(err)
		}
		end(t, p, v)
		h.quiet(t)
	})
}

// An element that the pool did not hand out is refused even though another is out.
func TestForeignElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w, h := newVault(t), newVault(t), &hearer{}
		w.next = 100
		p, q := open(t, v, Options{Low: 4, Max: 4, OnReport: h.hear}), open(t, w, Options{Low: 4, Max: 4})
		c, r := p.NewCache(2), reserve(t, p, 1)
		own, foreign := get(t, p, 2), get(t, q, 1)
		before := p.Stats()
		for how, put := range map[string]func() error{
			"Put":             func() error { return putHere(p.Put, foreign[0]) },
			"PutBatch":        func() error { return putHere(p.PutBatch, append(own[:1:1], foreign[0], own[1])) },
			"Cache.Put":       func() error { return putHere(c.Put, foreign[0]) },
			"Cache.PutBatch":  func() error { return putHere(c.PutBatch, foreign) },
			"Reservation.Put": func() error { return putHere(r.Put, foreign[0]) },
		} {
			if err := put(); !errors.Is(err, ErrForeign) || errors.Is(err, ErrDoublePut) {
				t.Errorf("%s: %v", how, err)
			}
			h.one(t, PutForeign, "putHere[...]")
			if diff := cmp.Diff(before, p.Stats()); diff != "" {
				t.Errorf("%s: %s", how, diff)
			}
		}
		put(t, p, own...)
		put(t, q, foreign...)
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
		end(t, q, w)
		h.quiet(t)
	})
}

// What is written between Put and the next way out is reported with who put it and who had
// it before, and the element leaves as the source promises.
func TestWriteAfterPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, h := &blocks{}, &hearer{}
		p := newPool(t, src, Options{Name: "p", Low: 1, Max: 1, OnReport: h.hear})
		c := p.NewCache(1)
		r, err := p.Reserve(0)
		if err != nil {
			t.Fatal(err)
		}
		drawn := func() (*block, error) {
			if err := r.Add(1); err != nil {
				return nil, err
			}
			return r.Get()
		}
		batch := func() (*block, error) {
			var bs [1]*block
			err := c.GetBatch(bs[:])
			return bs[0], err
		}
		b := must(p.Get()) // fresh: nothing to check
		if b[5] != 0 {
			t.Errorf("poison in a fresh element")
		}
		for i, get := range []func() (*block, error){p.Get, c.Get, drawn, batch, func() (*block, error) { return p.GetWait(t.Context()) }} {
			if err := errors.Join(c.Flush(), putHere(p.Put, b)); err != nil {
				t.Fatal(err)
			}
			if b[5] == 0 {
				t.Errorf("%d: not poisoned in the pool", i)
			}
			b[5]++
			if b = getHere(get); *b != (block{}) {
				t.Errorf("%d: not restored: %v", i, b)
			}
			had := "getHere[...]"
			if i == 0 {
				had = "TestWriteAfterPut.func1"
			}
			report := h.one(t, WrittenAfterPut, "putHere[...]", had)
			if report.Detail != "byte 5" || !strings.Contains(report.Element, "block") {
				t.Errorf("%d: %v", i, report)
			}
		}
		if err := putHere(c.Put, b); err != nil { // into a cache, out of the pool by Close
			t.Fatal(err)
		}
		b[6] = 0
		if err := errors.Join(c.Close(), p.Close(context.Background())); err != nil {
			t.Error(err)
		}
		h.one(t, WrittenAfterPut, "putHere[...]", "getHere[...]")
		if src.live != 0 || len(src.poisoned) != 0 {
			t.Errorf("%+v", src)
		}
	})
}

// A Put that is refused leaves the contents as they were.
func TestRefusedPutIsNotPoisoned(t *testing.T) {
	src := &blocks{}
	p := newPool(t, src, Options{Low: 2, Max: 2})
	a, b := must(p.Get()), must(p.Get())
	a[1] = 7
	if err := p.PutBatch([]*block{a, b, new(block)}); !errors.Is(err, ErrForeign) {
		t.Errorf("foreign: %v", err)
	}
	wantLeak(t, p.Close(ended()), 2, context.Canceled)
	if err := p.PutBatch([]*block{a, b}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if *a != (block{1: 7}) || *b != (block{}) || len(src.poisoned) != 0 {
		t.Errorf("%v, %v, %d poisoned", a, b, len(src.poisoned))
	}
}

// The ledger agrees with a list of who has what, whatever is done, equal elements included.
func TestLedgerModel(t *testing.T) {
	for name, same := range map[string]bool{"apart": false, "equal": true} {
		t.Run(name, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { ledgerModel(t, same) }) })
	}
}

// numbers makes the numbers from 1 on, or only 1s.
type numbers struct{ n, step int }

func (s *numbers) Alloc(context.Context) (int, error) { s.n += s.step; return s.n, nil }
func (s *numbers) Free(int) error                     { return nil }

func ledgerModel(t *rapid.T, same bool) {
	src := &numbers{step: 1}
	if same {
		src = &numbers{n: 1}
	}
	p := must(New(context.Background(), src, Options{Min: 6, Low: 1, High: 6, Max: 6, MinInterval: 1 << 40}))
	c, r := p.NewCache(2), must(p.Reserve(0))
	out, wasPut := map[int]int{}, map[int]bool{}
	gets := []func() (int, error){p.Get, c.Get, r.Get, func() (int, error) {
		var es [1]int
		err := p.GetBatch(es[:])
		return es[0], err
	}}
	puts := []func(int) error{p.Put, c.Put, r.Put, func(e int) error { return p.PutBatch([]int{e}) }, func(e int) error { return c.PutBatch([]int{e}) }}
	t.Repeat(map[string]func(*rapid.T){
		"get": func(t *rapid.T) {
			if e, err := rapid.SampledFrom(gets).Draw(t, "how")(); err == nil {
				out[e]++
			}
		},
		"put": func(t *rapid.T) {
			e := rapid.IntRange(0, 7).Draw(t, "element")
			err := rapid.SampledFrom(puts).Draw(t, "how")(e)
			switch {
			case out[e] > 0 && err == nil:
				out[e]--
				wasPut[e] = true
			case out[e] > 0:
				t.Fatalf("put %d: %v", e, err)
			case !errors.Is(err, ErrForeign) || errors.Is(err, ErrDoublePut) != wasPut[e]:
				t.Fatalf("put %d, which is not out: %v", e, err)
			}
		},
		"reserve": func(t *rapid.T) { _ = r.Add(1) },
		"return":  func(t *rapid.T) { _, _ = r.Return(), c.Flush() },
		"split": func(t *rapid.T) {
			s, err := r.Split(1)
			if err != nil {
				t.Skip("nothing is reserved")
			}
			if n := p.debug.reserved[s].n; n != 1 {
				t.Fatalf("%d in the split one", n)
			}
			_ = s.Return()
		},
		"": func(t *rapid.T) {
			if note := p.debug.reserved[r]; r.Len() == 0 && note != nil || r.Len() != 0 && (note == nil || note.n != r.Len()) {
				t.Fatalf("the ledger has %+v, the reservation %d", note, r.Len())
			}
			for e, a := range p.debug.accounts {
				if len(a.out) != out[e.(int)] {
					t.Fatalf("%d of %v are out, not %d", len(a.out), e, out[e.(int)])
				}
			}
		},
	})
	for e, n := range out {
		for range n {
			if err := p.Put(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(r.Return(), c.Close(), p.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
	if len(p.debug.accounts)+len(p.debug.reserved)+len(p.debug.caches) != 0 {
		t.Fatalf("left in the ledger: %v", p.debug.accounts)
	}
}

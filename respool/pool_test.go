package respool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/google/go-cmp/cmp"
)

func TestGetPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still: the worker does nothing
		v := newVault(t)
		p := open(t, v, Options{Name: "p", Low: 3, Max: 3})
		es := get(t, p, 3)
		sort.Ints(es)
		if diff := cmp.Diff([]int{1, 2, 3}, es); diff != "" {
			t.Error(diff)
		}
		_, err := p.Get()
		if !errors.Is(err, ErrEmpty) || err.Error() != `respool: get "p": pool is empty` {
			t.Errorf("Get of an empty pool: %v", err)
		}
		put(t, p, es[1])
		if got := get(t, p, 1)[0]; got != es[1] {
			t.Errorf("put %d, got %d", es[1], got)
		}
		put(t, p, es...)
		want := Stats{Free: 3, Gets: 4, Puts: 4, Empty: 1, Filled: 3}
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Error(diff)
		}
		end(t, p, v)
		want.Free, want.Drained = 0, 3
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestLowestFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 8, Max: 8})
		if n := p.Stats().LowestFree; n != 8 {
			t.Errorf("LowestFree is %d before the first Get", n)
		}
		put(t, p, get(t, p, 3)...)
		for range 100 {
			put(t, p, get(t, p, 1)...)
		}
		if n := p.Stats().LowestFree; n != 5 {
			t.Errorf("LowestFree is %d, not 5", n)
		}
		end(t, p, v)
	})
}

func TestForeignPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 2, Max: 4})
		before := p.Stats()
		if err := p.Put(99); !errors.Is(err, ErrForeign) {
			t.Errorf("Put of what was never got: %v", err)
		}
		if diff := cmp.Diff(before, p.Stats()); diff != "" {
			t.Error(diff)
		}
		es := get(t, p, 1)
		put(t, p, es...)
		if err := p.Put(es[0]); !errors.Is(err, ErrForeign) {
			t.Errorf("Put twice: %v", err)
		}
		end(t, p, v)
	})
}

func TestNewFailsNth(t *testing.T) {
	const fill = 5
	for n := 1; n <= fill; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			v := newVault(t)
			v.fail = func(call int) error {
				if call == n {
					return errVault
				}
				return nil
			}
			p, err := New(context.Background(), v, Options{Min: fill, Low: 2})
			if p != nil || !errors.Is(err, ErrNoMemory) || !errors.Is(err, errVault) || errors.Is(err, ErrFree) {
				t.Errorf("New: %v, %v", p, err)
			}
			if v.existing() != 0 || v.allocCalls() != n {
				t.Errorf("%d elements left after %d calls of Alloc", v.existing(), v.allocCalls())
			}
		})
	}
}

func TestNewReportsFailedFree(t *testing.T) {
	v := newVault(t)
	v.fail = func(call int) error {
		if call > 2 {
			return errVault
		}
		return nil
	}
	_, err := New(context.Background(), v, Options{Low: 4})
	if !errors.Is(err, ErrNoMemory) || !errors.Is(err, ErrFree) || !strings.Contains(err.Error(), "2 are lost") {
		t.Errorf("New: %v", err)
	}
}

func TestNewHeedsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		v.delay = 1e9
		ctx, cancel := context.WithTimeout(t.Context(), 35e8)
		defer cancel()
		_, err := New(ctx, v, Options{Low: 10})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoMemory) {
			t.Errorf("New: %v", err)
		}
		if v.existing() != 0 || v.next != 3 {
			t.Errorf("%d of %d elements left", v.existing(), v.next)
		}
	})
}

func TestNewContextBoundsNewOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		ctx, cancel := context.WithCancel(t.Context())
		p, err := New(ctx, v, Options{Low: 2, High: 4})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		es := get(t, p, 2)
		rest()
		if n := p.Stats().Free; n != 4 {
			t.Errorf("%d free: the worker ended with New's context", n)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

func TestHotPathAllocatesNothing(t *testing.T) {
	if debugging {
		t.Skip("a debug build allocates")
	}
	v := newVault(t)
	p := open(t, v, Options{Low: 2, High: 2, Max: 2, MinInterval: 1 << 40}) // the worker sleeps
	c := p.NewCache(1)
	buf := make([]int, 3)
	for name, f := range map[string]func(){
		"get and put": func() { e, _ := p.Get(); _ = p.Put(e) },
		"empty": func() {
			a, _ := p.Get()
			b, _ := p.Get()
			_, err := p.Get()
			_, _, _ = p.Put(a), p.Put(b), err
		},
		"foreign": func() { _ = p.Put(1) },
		"stats":   func() { _ = p.Stats() },

		"batch":         func() { _ = p.GetBatch(buf[:2]); _ = p.PutBatch(buf[:2]) },
		"batch refused": func() { _ = p.GetBatch(buf); _ = p.PutBatch(buf) },
		"cache":         func() { a, _ := c.Get(); b, _ := c.Get(); _ = c.Put(a); _ = c.Put(b) },
		"cache batch":   func() { _ = c.GetBatch(buf[:2]); _ = c.PutBatch(buf[:2]) },
		"cache refused": func() { _ = c.GetBatch(buf); _ = c.PutBatch(buf) },
		"cache flush":   func() { e, _ := c.Get(); _ = c.Put(e); _ = c.Flush() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if err := c.Flush(); err != nil { // the next one finds all of the pool's elements ready, in whatever order
			t.Fatal(name, err)
		}
	}
	end(t, p, v)
	if n := testing.AllocsPerRun(1000, func() {
		_, err := p.Get()
		_, _ = err, p.Put(1)
		_, err = c.Get()
		_, _ = err, c.Put(1)
	}); n != 0 {
		t.Errorf("closed: %v allocations", n)
	}
}

type pointers struct{}

func (pointers) Alloc(context.Context) (*[64]byte, error) { return new([64]byte), nil }
func (pointers) Free(*[64]byte) error                     { return nil }

// What was got, freed or drained is the caller's affair only: the pool's slots do not
// keep it alive.
func TestPoolKeepsNothingAlive(t *testing.T) {
	p, err := New(context.Background(), pointers{}, Options{Low: 2, Max: 2, MinInterval: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := p.Get()
	w := weak.Make(e)
	runtime.KeepAlive(e)
	runtime.GC()
	if w.Value() != nil {
		t.Error("an element in use is referenced by the pool")
	}
	e, _ = p.Get()
	w = weak.Make(e)
	if err := p.Put(e); err != nil {
		t.Error(err)
	}
	e = nil
	runtime.GC()
	if w.Value() == nil {
		t.Error("a free element was collected")
	}
	ctx, want := context.Background(), error(nil)
	if err := p.Put(new([64]byte)); debugging && errors.Is(err, ErrForeign) { // in place of the first
		ctx, want = ended(), ErrLeaked
	}
	if err := p.Close(ctx); !errors.Is(err, want) {
		t.Error(err)
	}
	runtime.GC()
	if w.Value() != nil {
		t.Error("an element that was freed is referenced by the pool")
	}
	runtime.KeepAlive(p)
}

// A goroutine that is preempted inside Get or Put holds one slot and nothing else:
// the steps that it has done are done here by hand.
func TestSuspendedCallerDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4})
		inGet, _, _ := p.ready.pop(0, closing) // suspended before it reads the element
		other := get(t, p, 1)
		inPut := p.blanks.get() // suspended before it pushes on ready

		for range 1000 {
			put(t, p, get(t, p, 2)...)
		}
		es := append(get(t, p, 1), other[0], p.elems[inGet])
		ctx, cancel := context.WithTimeout(t.Context(), 1e9)
		defer cancel()
		err := p.Close(ctx)
		var op *OpError
		if !errors.As(err, &op) || op.Out != 3 {
			t.Errorf("Close: %v; two are under way and one is in use", err)
		}

		p.blanks.put(inGet)
		p.debug.got(es[2], Ordinary)
		if end := p.ready.push(inPut, sealed, &p.bound); end != flagged || !errors.Is(p.takeBack(inPut, end), ErrClosed) {
			t.Error("an element came in after Close")
		}
		checkSum(t, p)
		if s := p.Stats(); s.InUse != 3 || s.Puts != 2000 {
			t.Errorf("the refused Put left a trace: %+v", s)
		}
		done := make(chan error)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		put(t, p, es...)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := p.Stats(); s.InUse != 0 || s.Drained != 4 {
			t.Errorf("%+v", s)
		}
	})
}

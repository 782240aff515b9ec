package iova

import (
	"context"
	"errors"
	"testing"
)

func openRing(t *testing.T, o Options, size uint64, windows int) (*Space, *Ring) {
	t.Helper()
	o.Stock = keepOnly(nil)
	s := open(t, o)
	r, err := s.NewRing(soon(t), size, windows)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func TestRingOrder(t *testing.T) {
	h := newHooks()
	s, r := openRing(t, h.in(Options{}), 3<<20, 600)
	if r.Size() != 4<<20 || r.Start()%(2<<20) != 0 || len(h.prepared) != 3 {
		t.Fatalf("%#x bytes at %#x, prepared %v", r.Size(), r.Start(), h.prepared)
	}
	alloc := func(size, at uint64) Window {
		t.Helper()
		w, err := r.Alloc(size)
		if err != nil || w.Start-r.Start() != at || w.Size != (size+4095)&^4095 {
			t.Fatalf("%+v at %#x, %v; want it at %#x", w, w.Start-r.Start(), err, at)
		}
		return w
	}
	full := func(size uint64) {
		t.Helper()
		if w, err := r.Alloc(size); !errors.Is(err, ErrEmpty) {
			t.Fatalf("%+v, %v", w, err)
		}
	}
	free := func(ws ...Window) {
		t.Helper()
		for _, w := range ws {
			if err := r.Free(w); err != nil {
				t.Fatal(err)
			}
			if err := r.Free(w); !errors.Is(err, ErrNotOut) {
				t.Fatalf("freed twice: %v", err)
			}
		}
	}
	a := alloc(1<<20, 0)
	b := alloc(1, 1<<20)
	c := alloc(1<<20, 1<<20+4096)
	full(2 << 20)
	d := alloc(2<<20-8192, 2<<20+4096)
	full(4096*2 + 1)
	free(b, c)
	full(8192) // a is the oldest: what is free behind it is not usable yet
	e := alloc(4096, 4<<20-4096)
	full(1)
	free(a)
	f := alloc(4096, 0)
	g := alloc(2<<20, 4096)
	free(d)
	i := alloc(2<<20-8192, 2<<20+4096) // up to e
	full(1)
	free(e, f, g, i)
	// The end is skipped where it is too short, and with nothing out it is as if it were not there.
	j := alloc(4<<20, 0)
	free(j)
	// What was skipped comes back with the window that skipped it.
	k := alloc(2<<20, 0)
	l := alloc(1<<20+4096, 2<<20)
	free(k)
	m := alloc(1<<20, 0)
	free(l)
	n := alloc(2<<20+4096, 1<<20)
	full(1)
	free(m, n)
	o := alloc(4<<20, 0)
	free(o)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	shut(t, s, h)
}

func TestRingGuardAndNumbers(t *testing.T) {
	h := newHooks()
	s, r := openRing(t, h.in(Options{Guard: true, MaxWindows: 4}), 1, 3)
	var ws []Window
	for i := range uint64(3) {
		w, err := r.Alloc(5000)
		if err != nil || w.Start != r.Start()+i*3*PageSize || w.Size != 2*PageSize {
			t.Fatalf("%+v, %v", w, err)
		}
		ws = append(ws, w)
	}
	if _, err := r.Alloc(1); !errors.Is(err, ErrEmpty) {
		t.Errorf("a fourth of three: %v", err)
	}
	for _, size := range []uint64{0, 2 << 20, 1<<64 - 1} {
		if _, err := r.Alloc(size); !errors.Is(err, ErrSize) {
			t.Errorf("%#x bytes: %v", size, err)
		}
	}
	if err := r.Close(); !errors.Is(err, ErrInUse) {
		t.Errorf("Close with windows out: %v", err)
	}
	if _, err := s.NewRing(soon(t), 1, 2); !errors.Is(err, ErrNumbers) {
		t.Errorf("two numbers where one is left: %v", err)
	}
	for _, w := range ws {
		if err := r.Free(w); err != nil {
			t.Error(err)
		}
	}
	w, err := r.Alloc(2<<20 - 4096)
	if err != nil || w.Start != r.Start() {
		t.Errorf("the whole ring: %+v, %v", w, err)
	}
	if err := r.Free(w); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Alloc(1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	shut(t, s, h)
}

func TestRingRefused(t *testing.T) {
	s := open(t, Options{Stock: keepOnly(nil), MaxWindows: 10})
	for _, size := range []uint64{0, 1<<44 + 1, 1<<64 - 1} {
		if _, err := s.NewRing(soon(t), size, 1); !errors.Is(err, ErrSize) {
			t.Errorf("%#x bytes: %v", size, err)
		}
	}
	if _, err := s.NewRing(soon(t), 1<<40, 1); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	shut(t, s, nil)
}

// A ring of which Prepare fails, at whatever block, leaves nothing behind.
func TestRingPrepareFails(t *testing.T) {
	h := newHooks()
	s := open(t, h.in(Options{Stock: keepOnly(nil)}))
	for n := 1; ; n++ {
		h.calls = 0
		h.fail = func(call int) bool { return call == n }
		r, err := s.NewRing(context.Background(), 5<<20, 0)
		if err == nil {
			if n != 5 {
				t.Errorf("it took %d calls", n)
			}
			h.fail = nil
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			break
		}
		if st := s.Stats(); !errors.Is(err, errHook) || st.Windows != 0 || st.Waits != 0 || st.Chunks != 0 || st.Areas != 0 {
			t.Fatalf("call %d: %v, left %+v", n, err, st)
		}
	}
	shut(t, s, h)
}

package iova

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// small are options for a space of 2048 pages or less without any class.
func small() Options {
	return Options{Ranges: []Range{{0, 2048*PageSize - 1}}, MaxWindows: 100, Stock: keepOnly(nil)}
}

func TestAllocWaitRefuses(t *testing.T) {
	o := small()
	o.MaxWindows = 3
	s := open(t, o)
	for name, c := range map[string]struct {
		q    Request
		want error
	}{
		"nothing":                {Request{}, ErrSize},
		"more than there is":     {Request{Size: 2048 * PageSize}, ErrNoSpace},
		"more than there can be": {Request{Size: math.MaxUint64}, ErrNoSpace},
		"an odd alignment":       {Request{Size: 1, Align: 12288}, ErrBadRequest},
		"too much alignment":     {Request{Size: 1, Align: 1 << 63}, ErrNoSpace},
		"an odd boundary":        {Request{Size: 1, Boundary: 3}, ErrBadRequest},
		"a boundary within":      {Request{Size: 4097, Boundary: 4096}, ErrBadRequest},
		"a boundary below pages": {Request{Size: 1, Boundary: 2048}, ErrBadRequest},
		"below everything":       {Request{Size: 1, Below: 4096}, ErrNoSpace},
		"below nothing":          {Request{Size: 1, Below: 1}, ErrNoSpace},
		"page 0":                 {Request{Size: 1, Fixed: true}, ErrInUse},
		"no page":                {Request{Size: 1, Fixed: true, At: 4097}, ErrBadRequest},
		"outside":                {Request{Size: 8192, Fixed: true, At: 2047 * PageSize}, ErrInUse},
		"around the end":         {Request{Size: 8192, Fixed: true, At: math.MaxUint64 &^ 4095}, ErrBadRequest},
		"fixed above Below":      {Request{Size: 8192, Fixed: true, At: 4096, Below: 8192}, ErrBadRequest},
		"fixed and unaligned":    {Request{Size: 8192, Fixed: true, At: 4096, Align: 8192}, ErrBadRequest},
		"fixed and crossing":     {Request{Size: 8192, Fixed: true, At: 4096, Boundary: 8192}, ErrBadRequest},
	} {
		w, err := s.AllocWait(soon(t), c.q)
		var op *OpError
		if !errors.Is(err, c.want) || !errors.As(err, &op) || op.Op != "alloc" || op.Size != c.q.Size {
			t.Errorf("%s: %+v, %v; want %v", name, w, err, c.want)
		}
	}
	if st := s.Stats(); st.Windows != 0 || st.Waits != 0 || st.Free != 2047*PageSize {
		t.Errorf("refused requests left %+v", st)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.AllocWait(ctx, Request{Size: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	var ws []Window
	for range 3 {
		w, err := s.AllocWait(soon(t), Request{Size: 1})
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, w)
	}
	if _, err := s.AllocWait(soon(t), Request{Size: 1}); !errors.Is(err, ErrNumbers) {
		t.Errorf("with all numbers taken: %v", err)
	}
	if _, err := s.NewRing(soon(t), 1, 1); !errors.Is(err, ErrNumbers) {
		t.Errorf("a ring with all numbers taken: %v", err)
	}
	for _, w := range ws {
		if err := s.FreeWait(w); err != nil {
			t.Error(err)
		}
	}
	if w, err := s.AllocWait(soon(t), Request{Size: 1, Fixed: true, At: PageSize}); err != nil {
		t.Error(err)
	} else if err := s.FreeWait(w); err != nil {
		t.Error(err)
	}
	shut(t, s, nil)
	if _, err := s.AllocWait(soon(t), Request{Size: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// The highest page of 5-level tables, and of all that there is, can be handed out.
func TestHighestPages(t *testing.T) {
	for _, top := range []uint64{1<<57 - 1, math.MaxUint64} {
		h := newHooks()
		s := open(t, h.in(Options{Ranges: []Range{{0, top}}, Stock: keepOnly(nil)}))
		const size = 1<<56 + 1<<12 // of its blocks only the lowest is not covered by it
		w, err := s.AllocWait(soon(t), Request{Size: size})
		if err != nil || w.Start != top-size+1 || w.Size != size || h.calls != 2 {
			t.Fatalf("%+v, %v, %d calls of hooks", w, err, h.calls)
		}
		if err := s.FreeWait(w); err != nil {
			t.Error(err)
		}
		shut(t, s, nil)
	}
}

// While Prepare is under way for a block, others that want it wait, and none else; when it fails, one of those
// that wait tries itself.
func TestPrepareUnderWay(t *testing.T) { synctest.Test(t, prepareUnderWay) }

func prepareUnderWay(t *testing.T) {
	var failed atomic.Bool
	started, goOn, second := make(chan struct{}), make(chan struct{}), make(chan struct{})
	h := newHooks()
	o := h.in(small())
	o.Prepare = func(ctx context.Context, level int, iova, size uint64) error {
		if level == chunkLevel && iova == 3<<chunkBits {
			if failed.CompareAndSwap(false, true) {
				close(started)
				<-goOn
				return errHook
			}
			close(second)
		}
		return h.prepare(ctx, level, iova, size)
	}
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	first, waits := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.AllocWait(t.Context(), Request{Size: PageSize, Fixed: true, At: 3 << chunkBits})
		first <- err
	}()
	<-started
	var w Window
	go func() {
		var err error
		w, err = s.AllocWait(t.Context(), Request{Size: PageSize, Fixed: true, At: 3<<chunkBits + PageSize})
		waits <- err
	}()
	other, err := s.AllocWait(t.Context(), Request{Size: PageSize, Fixed: true, At: 1 << chunkBits})
	if err != nil {
		t.Fatalf("another block: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := s.AllocWait(ctx, Request{Size: PageSize, Fixed: true, At: 3<<chunkBits + 2*PageSize})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("whose context ended: %v", err)
	}
	synctest.Wait() // the second waits for the first
	select {
	case <-second:
		t.Error("Prepare was called again while it was under way")
	case err := <-waits:
		t.Errorf("the block is used before it is prepared: %v", err)
	default:
	}
	close(goOn)
	if err := <-first; !errors.Is(err, errHook) || !errors.Is(err, ErrPrepare) {
		t.Errorf("whose Prepare failed: %v", err)
	}
	if err := <-waits; err != nil {
		t.Errorf("who waited: %v", err)
	}
	select {
	case <-second:
	default:
		t.Error("who waited has a window in a block that is not prepared")
	}
	for _, w := range []Window{w, other} {
		if err := s.FreeWait(w); err != nil {
			t.Error(err)
		}
	}
	shut(t, s, h)
}

// What a Retire that fails leaves behind is not handed out until one has succeeded.
func TestRetireFails(t *testing.T) {
	for level := range levels {
		h := newHooks()
		var bad atomic.Bool
		o := h.in(small())
		o.Ranges = append(o.Ranges, Range{5 << areaBits, 5<<areaBits + 4<<chunkBits - 1})
		o.Retire = func(l int, iova, size uint64) error {
			if bad.Load() && l == level {
				return errHook
			}
			return h.retire(l, iova, size)
		}
		s := open(t, o)
		all := s.Stats().Free
		place := Request{Size: PageSize, Fixed: true, At: 5<<areaBits + 3<<chunkBits}
		w, err := s.AllocWait(soon(t), place)
		if err != nil {
			t.Fatal(err)
		}
		bad.Store(true)
		if err := s.FreeWait(w); err != nil {
			t.Errorf("FreeWait: %v, but the window is gone", err)
		}
		st := s.Stats()
		lost := []uint64{1 << chunkBits, 4 << chunkBits}[level]
		if st.Retiring != 1 || st.RetireErrors == 0 || st.Free != all-lost {
			t.Errorf("level %d: %d retiring, %d errors, %#x bytes free of %#x", level, st.Retiring, st.RetireErrors, st.Free, all)
		}
		if _, err := s.AllocWait(soon(t), place); !errors.Is(err, ErrInUse) {
			t.Errorf("level %d: its place again: %v", level, err)
		}
		if err := s.Close(soon(t)); !errors.Is(err, ErrRetire) || !errors.Is(err, errHook) {
			t.Errorf("Close: %v", err)
		}
		bad.Store(false)
		shut(t, s, h)
	}
}

// A late block is tried again by whatever call comes along.
func TestRetireIsTriedAgain(t *testing.T) {
	h := newHooks()
	s := open(t, h.in(small()))
	w, err := s.AllocWait(soon(t), Request{Size: PageSize})
	if err != nil {
		t.Fatal(err)
	}
	fails := 2
	h.fail = func(int) bool { fails--; return fails >= 0 }
	if err := s.FreeWait(w); err != nil { // Retire, and once more
		t.Fatal(err)
	}
	if st := s.Stats(); st.Retiring != 1 || st.RetireErrors != 2 {
		t.Fatalf("%d retiring after %d errors", st.Retiring, st.RetireErrors)
	}
	w2, err := s.AllocWait(soon(t), Request{Size: PageSize, Fixed: true, At: w.Start})
	if err != nil {
		t.Fatalf("the place again: %v", err)
	}
	if err := s.FreeWait(w2); err != nil {
		t.Fatal(err)
	}
	shut(t, s, h)
}

// The range is given out from the top, and what lies between fixed windows is one range again once they are gone.
func TestTopDown(t *testing.T) {
	s := open(t, small())
	end := uint64(2048 * PageSize)
	var ws []Window
	for i := range uint64(5) {
		w, err := s.AllocWait(soon(t), Request{Size: 3 * PageSize})
		if err != nil || w.Start != end-(i+1)*3*PageSize {
			t.Fatalf("%+v, %v", w, err)
		}
		ws = append(ws, w)
	}
	for _, i := range []int{1, 3, 0, 4, 2} {
		if err := s.FreeWait(ws[i]); err != nil {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.Ranges != 1 || st.Largest != 2047*PageSize || st.Searches != 5 || st.Steps == 0 {
		t.Errorf("%+v", st)
	}
	shut(t, s, nil)
}

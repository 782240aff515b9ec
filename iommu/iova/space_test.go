package iova

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gommu/respool"
)

func TestSizes(t *testing.T) {
	for _, guard := range []uint64{0, PageSize} {
		s := open(t, Options{Guard: guard != 0})
		for _, size := range []uint64{1, 4095, 4096, 4097, 8192, 12288, 65536, 100000, 1 << 20, 1<<21 - 1, 1 << 21, 1<<21 + 1, 1<<29 + 1, 1<<30 - guard} {
			class := uint64(PageSize)
			for class < size+guard {
				class *= 2
			}
			w, err := s.Alloc(size)
			if err != nil || w.Size != class-guard || w.Start%class != 0 {
				t.Fatalf("%#x bytes, guard %#x: %+v, %v", size, guard, w, err)
			}
			if err := s.Free(w); err != nil {
				t.Fatal(err)
			}
		}
		c := s.NewCache(0)
		for _, size := range []uint64{0, 1<<30 + 1 - guard, 1 << 63, 1<<64 - 1} {
			_, err1 := s.Alloc(size)
			_, err2 := c.Alloc(size)
			if !errors.Is(err1, ErrSize) || !errors.Is(err2, ErrSize) {
				t.Errorf("%#x bytes: %v, %v", size, err1, err2)
			}
		}
		shut(t, s, nil)
	}
}

// A request for a class without windows gets one of the next.
func TestClassesLeftOut(t *testing.T) {
	s := open(t, Options{Stock: keepOnly(map[int]Stock{2: {Low: 8}, 9: {Low: 8}})})
	c := s.NewCache(2)
	for size, want := range map[uint64]uint64{1: 16 << 10, 16 << 10: 16 << 10, 16<<10 + 1: 2 << 20, 2 << 20: 2 << 20} {
		w, err := s.Alloc(size)
		w2, err2 := c.Alloc(size)
		if err != nil || err2 != nil || w.Size != want || w2.Size != want {
			t.Errorf("%#x bytes: %+v, %v; of the cache %+v, %v", size, w, err, w2, err2)
			continue
		}
		if n, err := s.FreeBatch([]Window{w, w2}); n != 2 || err != nil {
			t.Error(n, err)
		}
	}
	if _, err := s.Alloc(2<<20 + 1); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	shut(t, s, nil)
}

// A 32-bit space has the hole for interrupts, and blocks that are usable in part.
func Test32Bit(t *testing.T) {
	for _, random := range []bool{false, true} {
		h := newHooks()
		o := h.in(Options{Below: 1 << 32, Reserved: []Range{{0x7000_0000, 0x7000_0fff}}, Random: random, Seed: 7, MaxWindows: 1 << 12})
		s := open(t, o)
		l := newLedger(t, o, h)
		if sum := uint64(0xfff00000 - 0x100000 - 0x1000); s.Stats().Free > sum || s.opts.Below != 1<<32 {
			t.Fatalf("%#x bytes are free", s.Stats().Free)
		}
		inHole := func(w Window) bool {
			last := w.Start + w.Size - 1
			return w.Start < 1<<20 || last >= 1<<32 || w.Start <= 0xfeefffff && last >= 0xfee00000 || w.Start <= 0x7000_0fff && last >= 0x7000_0000
		}
		// All that is free, in pieces, and what every class has ready.
		var all, ready []Window
		for size := uint64(1 << 28); size >= PageSize; {
			w, err := s.AllocWait(soon(t), Request{Size: size})
			if errors.Is(err, ErrNoSpace) {
				size /= 2
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			l.add(t, w, size)
			all = append(all, w)
		}
		for k := range Classes {
			w, err := s.Alloc(ClassSize(k))
			if k > 13 {
				if !errors.Is(err, ErrSize) {
					t.Errorf("windows of %#x bytes, of which fewer than 64 fit: %v", ClassSize(k), err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			l.add(t, w, ClassSize(k))
			ready = append(ready, w)
		}
		if slices.ContainsFunc(all, inHole) || slices.ContainsFunc(ready, inHole) {
			t.Error("a window lies where none may be")
		}
		if n := s.Stats().Free; n != 0 {
			t.Errorf("%#x bytes are left", n)
		}
		for _, w := range all {
			l.remove(w)
			if err := s.FreeWait(w); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range ready {
			l.remove(w)
			if err := s.Free(w); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, s, h)
	}
}

func TestBadOptions(t *testing.T) {
	check := leaves(t)
	hook := newHooks()
	negative := Options{}
	negative.Stock[3].Low = -2
	crossed := Options{}
	crossed.Stock[3] = Stock{Low: 5, High: 4, Max: 10}
	for name, c := range map[string]struct {
		o    Options
		want error
	}{
		"a range backwards":      {Options{Ranges: []Range{{2, 1}}}, ErrBadOptions},
		"a hole backwards":       {Options{Reserved: []Range{{2, 1}}}, ErrBadOptions},
		"no range":               {Options{Ranges: []Range{}}, ErrBadOptions},
		"no whole page":          {Options{Ranges: []Range{{4097, 12286}}}, ErrBadOptions},
		"page 0 only":            {Options{Ranges: []Range{{0, 4095}}}, ErrBadOptions},
		"interrupts only":        {Options{Ranges: []Range{interrupts}}, ErrBadOptions},
		"all reserved":           {Options{Reserved: []Range{{0, 1<<64 - 1}}}, ErrBadOptions},
		"all above Below":        {Options{Below: 1 << 20}, ErrBadOptions},
		"fewer than no windows":  {Options{MaxWindows: -1}, ErrBadOptions},
		"too many windows":       {Options{MaxWindows: maxWindows + 1}, ErrBadOptions},
		"Prepare without Retire": {Options{Prepare: hook.prepare}, ErrBadOptions},
		"Retire without Prepare": {Options{Retire: hook.retire}, ErrBadOptions},
		"a negative stock":       {negative, respool.ErrBadOptions},
		"a crossed stock":        {crossed, respool.ErrBadOptions},
		"too few numbers":        {Options{MaxWindows: 10}, ErrNumbers},
		"too little space":       {Options{Ranges: []Range{{1 << 20, 2<<20 - 1}}}, ErrNoSpace},
	} {
		s, err := New(soon(t), c.o)
		var op *OpError
		if !errors.Is(err, c.want) || !errors.As(err, &op) || op.Op != "new" || s != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	check()
}

func TestUsable(t *testing.T) {
	const page = PageSize
	for name, c := range map[string]struct {
		o    Options
		want []run
	}{
		"default":        {Options{}, []run{{0x100, 0xfee00}, {0xfef00, 1 << 27}}},
		"page 0":         {Options{Ranges: []Range{{0, 3*page - 1}}}, []run{{1, 3}}},
		"parts of pages": {Options{Ranges: []Range{{page + 1, 4*page - 2}, {8*page - 1, 9*page - 1}}}, []run{{2, 3}, {8, 9}}},
		"overlapping":    {Options{Ranges: []Range{{8 * page, 12*page - 1}, {page, 9*page - 1}, {12 * page, 14*page - 1}}}, []run{{1, 14}}},
		"one in another": {Options{Ranges: []Range{{page, 9*page - 1}, {2 * page, 3*page - 1}}}, []run{{1, 9}}},
		"reserved bytes": {Options{Ranges: []Range{{page, 9*page - 1}}, Reserved: []Range{{3*page + 5, 3*page + 5}, {5*page - 1, 5 * page}}}, []run{{1, 3}, {6, 9}}},
		"below":          {Options{Ranges: []Range{{page, 9*page - 1}}, Below: 5*page + 100}, []run{{1, 5}}},
		"up to the top":  {Options{Ranges: []Range{{1<<64 - 2*page, 1<<64 - 1}}}, []run{{1<<52 - 2, 1 << 52}}},
	} {
		if got, err := c.o.usable(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %#x, %v; want %#x", name, got, err, c.want)
		}
	}
}

// With no window left Alloc says so at once. It has some again when a window comes back, and when the worker gets more.
func TestExhaustion(t *testing.T) {
	for name, c := range map[string]struct {
		windows, more int // of 64 KiB, with and without what blocks them
		most          int
		want          error
	}{
		"range":   {64, 96, 1000, ErrNoSpace},
		"numbers": {39, 40, 40, ErrNumbers},
	} {
		h := newHooks()
		o := h.in(Options{
			Name:   "exhausted",
			Ranges: []Range{{0, 8<<20 - 1}}, MaxWindows: c.most,
			Stock: keepOnly(map[int]Stock{4: {Low: 4, Max: 1000}}),
		})
		s := open(t, o)
		blocker, err := s.AllocWait(soon(t), Request{Size: 2 << 20, Align: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var ws []Window
		take := func(n int) {
			t.Helper()
			eventually(t, func() bool {
				w, err := s.Alloc(50000)
				if err == nil {
					ws = append(ws, w)
				} else if !errors.Is(err, ErrEmpty) || !errors.Is(err, respool.ErrEmpty) {
					t.Fatal(err)
				}
				return len(ws) == n
			})
		}
		take(c.windows)
		eventually(t, func() bool { return errors.Is(s.Stats().Classes[4].Pool.LastError, c.want) })
		_, err = s.Alloc(1)
		if _, again := s.Alloc(1); err == nil || err != again || !strings.Contains(err.Error(), `"exhausted" of 0x10000 bytes`) {
			t.Errorf("%s: with all windows out: %v and %v, want the same ready-made error", name, err, again)
		}
		if err := s.Free(ws[0]); err != nil {
			t.Fatal(err)
		}
		if ws[0], err = s.Alloc(1); err != nil {
			t.Errorf("%s: after a Free: %v", name, err)
		}
		if err := s.FreeWait(blocker); err != nil {
			t.Fatal(err)
		}
		take(c.more)
		if n, err := s.FreeBatch(ws); n != len(ws) || err != nil {
			t.Errorf("%s: %d of %d freed, %v", name, n, len(ws), err)
		}
		shut(t, s, h)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to pass")
		}
	}
}

// A class has no more chunks than its peak fills, however many windows are left, and gives all back but for what it keeps.
func TestFragmentationIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks()
		const class, low, high = 3, 16, 20
		s, err := New(t.Context(), h.in(Options{Stock: keepOnly(map[int]Stock{class: {Low: low, High: high, Max: 4096}})}))
		if err != nil {
			t.Fatal(err)
		}
		const perChunk = 1 << (chunkClass - class)
		peak := 0
		check := func(when string) ClassStats {
			t.Helper()
			synctest.Wait()
			st := s.Stats()
			k := st.Classes[class]
			if peak = max(peak, st.Windows); k.Chunks > (peak+perChunk-1)/perChunk || k.Chunks != st.Chunks {
				t.Errorf("%s: %d chunks, %d are prepared, there were at most %d windows", when, k.Chunks, st.Chunks, peak)
			}
			return k
		}
		var ws []Window
		take := func(n int) {
			for len(ws) < n {
				w, err := s.Alloc(32 << 10)
				if errors.Is(err, ErrEmpty) {
					check("growing")
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				ws = append(ws, w)
			}
		}
		take(1500)
		check("at the peak")
		// The worst case: one window in each chunk stays.
		slices.SortFunc(ws, func(a, b Window) int { return int(int64(a.Start) - int64(b.Start)) })
		var stay []Window
		seen := map[uint64]bool{}
		for _, w := range ws {
			if chunk := w.Start >> chunkBits; !seen[chunk] {
				seen[chunk] = true
				stay = append(stay, w)
				continue
			}
			if err := s.Free(w); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		if k := check("with one window in each chunk"); k.Chunks < len(stay) || k.Pool.Free > high {
			t.Errorf("%d chunks, %d windows are out and %d free", k.Chunks, len(stay), k.Pool.Free)
		}
		// New windows come from the chunks that there are.
		before := s.Stats().Chunks
		ws = stay
		take(1000)
		if n := check("again").Chunks; n != before {
			t.Errorf("%d chunks where %d had room", n, before)
		}
		for _, w := range ws {
			if err := s.Free(w); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		if k := check("at rest"); k.Chunks > high || k.Pool.Free > high || k.Pool.Free < low {
			t.Errorf("at rest %d chunks and %d windows", k.Chunks, k.Pool.Free)
		}
		shut(t, s, h)
	})
}

// A class cuts the chunk that has the fewest windows left, and gives back the one that is whole first.
func TestFullestChunkIsCut(t *testing.T) {
	const class = 7 // four windows in a chunk
	h := newHooks()
	s := open(t, h.in(Options{Stock: keepOnly(map[int]Stock{class: {Low: 1, High: 1, Max: 1}})}))
	c := newCarver(s, class)
	var ns []uint32
	for range 12 {
		n, err := c.Alloc(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		ns = append(ns, n)
	}
	chunk := func(n uint32) uint64 { return s.table[n].start >> chunkBits }
	free := func(is ...int) {
		t.Helper()
		for _, i := range is {
			if err := c.Free(ns[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	free(0, 1, 2, 4, 8, 9) // three are left of the first, one of the second, two of the third
	for i, like := range []int{5, 10, 10, 3, 3, 3} {
		n, err := c.Alloc(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if chunk(n) != chunk(ns[like]) {
			t.Errorf("window %d is cut from the chunk at %#x, that at %#x has fewer left", i, chunk(n), chunk(ns[like]))
		}
		ns[[]int{4, 8, 9, 0, 1, 2}[i]] = n
	}
	before := s.Stats().Chunks
	free(8, 9, 10, 11)
	if n := s.Stats().Chunks; n != before-1 || c.inUse != 2 {
		t.Errorf("%d chunks are prepared after one of %d became whole", n, before)
	}
	free(0, 1, 2, 3, 4, 5, 6, 7)
	shut(t, s, h)
}

// A fresh batch of a cache is a run of neighbours, handed out in order.
func TestNeighbours(t *testing.T) {
	s := open(t, Options{Stock: keepOnly(map[int]Stock{0: {Low: 512}})})
	for range 3 {
		c := s.NewCache(64)
		var last Window
		for i := range 33 {
			w, err := c.Alloc(1)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && w.Start != last.Start+PageSize {
				t.Fatalf("after %#x comes %#x", last.Start, w.Start)
			}
			last = w
			defer func() {
				if err := s.Free(w); err != nil {
					t.Error(err)
				}
			}()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { shut(t, s, nil) })
}

// With Random neither chunks nor the windows in them come in order, and a seed makes it the same again.
func TestRandom(t *testing.T) {
	starts := func(o Options) (chunks, windows []uint64) {
		h := newHooks()
		o.Stock = keepOnly(map[int]Stock{0: {Low: 64, Max: 64}, 9: {Low: 8, Max: 8}})
		s := open(t, h.in(o))
		var ws []Window
		for i := range 72 {
			size, starts := uint64(PageSize), &windows
			if i >= 64 {
				size, starts = 2<<20, &chunks
			}
			w, err := s.Alloc(size)
			if err != nil {
				t.Fatal(err)
			}
			ws = append(ws, w)
			*starts = append(*starts, w.Start)
		}
		w, err := s.AllocWait(soon(t), Request{Size: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, w.Start)
		if err := s.FreeWait(w); err != nil {
			t.Fatal(err)
		}
		if _, err := s.FreeBatch(ws); err != nil {
			t.Fatal(err)
		}
		shut(t, s, h)
		return chunks, windows
	}
	inOrder := func(addrs []uint64) bool {
		r := slices.Clone(addrs)
		slices.Reverse(r)
		return slices.IsSorted(addrs) || slices.IsSorted(r)
	}
	if _, windows := starts(Options{}); !inOrder(windows) {
		t.Errorf("without Random the windows are not in order: %#x", windows)
	}
	chunks, windows := starts(Options{Random: true, Seed: 1})
	if inOrder(chunks) || inOrder(windows) {
		t.Errorf("in order: large windows %#x or small ones %#x", chunks, windows)
	}
	for _, w := range windows {
		if w>>chunkBits != windows[0]>>chunkBits {
			t.Errorf("%#x and %#x are of two chunks", w, windows[0])
		}
	}
	if c, w := starts(Options{Random: true, Seed: 1}); !slices.Equal(c, chunks) || !slices.Equal(w, windows) {
		t.Error("the same seed gives other addresses")
	}
	for _, seed := range []uint64{0, 2} {
		if c, w := starts(Options{Random: true, Seed: seed}); slices.Equal(c, chunks) || slices.Equal(w, windows) {
			t.Errorf("seed %d gives the addresses of seed 1", seed)
		}
	}
}

// What is kept by default grows neither beyond a 64th of the numbers nor, for a class, beyond a 256th of the space,
// but for the one window that a class has at least; and a cache takes no more than half of it.
func TestDefaultStock(t *testing.T) {
	for name, o := range map[string]Options{
		"default":     {},
		"few numbers": {MaxWindows: 640},
		"32 bits":     {Below: 1 << 32, Guard: true},
		"small":       {Ranges: []Range{{1 << 20, 1<<28 - 1}}},
	} {
		s := open(t, o)
		space, c := s.Stats().Free, s.NewCache(0)
		for k, p := range s.pools {
			if p == nil {
				continue
			}
			low := s.opts.Stock[k].Low
			if low > max(1, s.opts.MaxWindows/64) || low > 1 && uint64(low)*ClassSize(k) > space/128 {
				t.Errorf("%s: %d windows of %#x bytes are kept, of %d windows and %#x bytes in all", name, low, ClassSize(k), s.opts.MaxWindows, space)
			}
			w, err := c.Alloc(ClassSize(k) - s.guard)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if n := p.Stats().Cached + 1; n > max(1, low/2) {
				t.Errorf("%s: a cache takes %d of %d windows of %#x bytes", name, n, low, ClassSize(k))
			}
			if err := c.Free(w); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		shut(t, s, nil)
	}
	if n := reflect.TypeFor[record]().Size(); n != 64 {
		t.Errorf("a record has %d bytes, not a cache line", n)
	}
}

// Close says what is out, accepts it as long as it waits, and can be called again.
func TestCloseWaits(t *testing.T) {
	check := leaves(t)
	h := newHooks()
	s := open(t, h.in(Options{}))
	w, err := s.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	waited, err := s.AllocWait(soon(t), Request{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := s.NewRing(soon(t), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := s.NewCache(0)
	cached, err := c.Alloc(9000)
	if err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	err = s.Close(now)
	var op *OpError
	if !errors.Is(err, ErrInUse) || !errors.Is(err, context.Canceled) || !errors.Is(err, respool.ErrLeaked) ||
		!strings.Contains(err.Error(), "2 windows of AllocWait and rings") || !errors.As(err, &op) || op.Op != "close" {
		t.Errorf("Close with windows out: %v", err)
	}
	for what, err := range map[string]error{
		"Alloc": second(s.Alloc(1)), "Alloc of a cache": second(c.Alloc(1)), "AllocWait": second(s.AllocWait(soon(t), Request{Size: 1})),
		"NewRing": second(s.NewRing(soon(t), 1, 0)), "Free": s.Free(w), "FreeBatch": second(s.FreeBatch([]Window{w})), "Free of a cache": c.Free(cached),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	closed := make(chan error)
	go func() { closed <- s.Close(soon(t)) }()
	for _, free := range []func() error{
		func() error { return s.Free(w) },
		func() error { return c.Free(cached) },
		c.Close,
	} {
		eventually(t, func() bool {
			err := free()
			if err != nil && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	if err := s.FreeWait(waited); err != nil {
		t.Error(err)
	}
	select {
	case err := <-closed:
		t.Errorf("Close returned while a ring is open: %v", err)
	default:
	}
	if err := ring.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for range 2 {
		shut(t, s, h)
	}
	check()
}

func second[T any](_ T, err error) error { return err }

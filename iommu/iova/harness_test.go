package iova

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"gommu/respool"

	"pgregory.net/rapid"
)

var errHook = errors.New("the hook fails, as the test told it to")

// hooks are Prepare and Retire that keep books.
type hooks struct {
	mu       sync.Mutex
	prepared map[blockKey]bool
	inside   map[blockKey]bool
	calls    int
	fail     func(call int) bool
	wrong    []string
	users    func(run) int // windows in a run, nil if nobody knows
}

func newHooks() *hooks {
	return &hooks{prepared: map[blockKey]bool{}, inside: map[blockKey]bool{}}
}

func (h *hooks) in(o Options) Options {
	o.Prepare, o.Retire = h.prepare, h.retire
	return o
}

func (h *hooks) complain(format string, args ...any) {
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// enter checks the block and says whether the call is to fail.
func (h *hooks) enter(what string, level int, iova, size uint64) (blockKey, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if level < 0 || level >= levels || size != PageSize<<blockPages[level] || iova%size != 0 {
		h.complain("%s of level %d, %#x bytes at %#x", what, level, size, iova)
		return blockKey{}, true
	}
	k := blockKey{level, iova / size}
	if h.inside[k] {
		h.complain("%s of %v while another call is under way", what, k)
	}
	h.inside[k] = true
	h.calls++
	return k, h.fail != nil && h.fail(h.calls)
}

func (h *hooks) prepare(ctx context.Context, level int, iova, size uint64) error {
	k, fail := h.enter("prepare", level, iova, size)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.inside, k)
	switch {
	case h.prepared[k]:
		h.complain("%v is prepared twice", k)
	case level == chunkLevel && !h.prepared[blockKey{areaLevel, k.index >> 9}]:
		h.complain("%v is prepared, its area is not", k)
	case fail:
		return errHook
	}
	h.prepared[k] = true
	return nil
}

func (h *hooks) retire(level int, iova, size uint64) error {
	k, fail := h.enter("retire", level, iova, size)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.inside, k)
	if !h.prepared[k] {
		h.complain("%v is retired, it was not prepared", k)
	}
	if h.users != nil {
		if n := h.users(k.run()); n > 0 {
			h.complain("%v is retired while %d windows lie in it", k, n)
		}
	}
	if level == areaLevel {
		for b := range h.prepared {
			if b.level == chunkLevel && b.index>>9 == k.index {
				h.complain("%v is retired before %v", k, b)
			}
		}
	}
	if fail {
		return errHook
	}
	delete(h.prepared, k)
	return nil
}

func (h *hooks) check(t rapid.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.wrong {
		t.Error(w)
	}
	if len(h.wrong) > 0 {
		t.FailNow()
	}
}

// A ledger knows the windows that are out and what may be.
type ledger struct {
	usable []run
	guard  uint64
	most   uint32
	hooks  *hooks
	byNum  map[uint32]Window
	runs   []run // of the windows with their guard pages, in order
}

func newLedger(t rapid.TB, o Options, h *hooks) *ledger {
	t.Helper()
	usable, err := o.usable()
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{usable: usable, most: uint32(o.MaxWindows), hooks: h, byNum: map[uint32]Window{}}
	if o.Guard {
		l.guard = 1
	}
	if h != nil {
		h.users = l.smaller
	}
	return l
}

// smaller is how many windows lie in a block, in full or in part, that do not cover it.
func (l *ledger) smaller(block run) int {
	n := 0
	for i := l.search(block.from); i < len(l.runs) && l.runs[i].from < block.to; i++ {
		if body := (run{l.runs[i].from, l.runs[i].to - l.guard}); body.to > block.from && (body.from > block.from || body.to < block.to) {
			n++
		}
	}
	return n
}

// search is the index of the first run that ends above page p.
func (l *ledger) search(p uint64) int {
	return sort.Search(len(l.runs), func(i int) bool { return l.runs[i].to > p })
}

func (l *ledger) add(t rapid.TB, w Window, size uint64) {
	t.Helper()
	l.hooks.mu.Lock()
	defer l.hooks.mu.Unlock()
	r := run{w.Start >> pageBits, (w.Start+w.Size)>>pageBits + l.guard}
	if w.Start%PageSize != 0 || w.Size%PageSize != 0 || w.Size < size || w.Size == 0 {
		t.Fatalf("window %+v for %#x bytes", w, size)
	}
	if w.Number == 0 || w.Number > l.most {
		t.Fatalf("number %d is not 1 to %d", w.Number, l.most)
	}
	if old, ok := l.byNum[w.Number]; ok {
		t.Fatalf("%+v and %+v have one number", w, old)
	}
	if !slices.ContainsFunc(l.usable, func(u run) bool { return u.from <= r.from && r.to <= u.to }) {
		t.Fatalf("%+v is not in what is usable", w)
	}
	i := l.search(r.from)
	if i < len(l.runs) && l.runs[i].from < r.to {
		t.Fatalf("%+v overlaps %v", w, l.runs[i])
	}
	l.runs = slices.Insert(l.runs, i, r)
	l.byNum[w.Number] = w
	for level := range levels {
		for b := r.from >> blockPages[level]; b <= (r.to-l.guard-1)>>blockPages[level]; b++ {
			k := blockKey{level, b}
			block := k.run()
			if whole := r.from <= block.from && block.to <= r.to-l.guard; !whole && !l.hooks.prepared[k] {
				t.Fatalf("%+v was handed out before %v was prepared", w, k)
			}
		}
	}
}

func (l *ledger) remove(w Window) {
	l.hooks.mu.Lock()
	defer l.hooks.mu.Unlock()
	i := l.search(w.Start >> pageBits)
	l.runs = slices.Delete(l.runs, i, i+1)
	delete(l.byNum, w.Number)
}

// keepNone is a Stock for none of the classes but those given.
func keepOnly(keep map[int]Stock) (st [Classes]Stock) {
	for k := range st {
		if st[k] = (Stock{Max: respool.None}); keep[k] != (Stock{}) {
			st[k] = keep[k]
		}
	}
	return st
}

// soon is a context that ends late enough to mean that something hangs.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// open makes a space that the test closes at its end, when all has to be back.
func open(t testing.TB, o Options) *Space {
	t.Helper()
	s, err := New(soon(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shut closes s and checks that all is as it was before the first window.
func shut(t rapid.TB, s *Space, h *hooks) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if h != nil {
		h.check(t)
		if len(h.prepared) > 0 {
			t.Fatalf("blocks %v are still prepared", h.prepared)
		}
	}
	usable, err := s.opts.usable()
	if err != nil {
		t.Fatal(err)
	}
	if runs := s.free.runs(t); !slices.Equal(runs, usable) {
		t.Fatalf("after Close %v is free, it was %v", runs, usable)
	}
	if st := s.Stats(); st.Windows != 0 || st.Waits != 0 || st.Chunks != 0 || st.Areas != 0 || st.Retiring != 0 || len(s.blocks) != 0 || len(s.singles) != 0 {
		t.Fatalf("after Close there are %d windows, %d waits, %d chunks, %d areas, %d retiring, blocks %v, singles %v",
			st.Windows, st.Waits, st.Chunks, st.Areas, st.Retiring, s.blocks, s.singles)
	}
	for k, c := range s.carvers {
		if c != nil && (c.inUse != 0 || len(c.spare) != len(c.chunks)) {
			t.Fatalf("after Close class %d has %d chunks", k, c.inUse)
		}
	}
}

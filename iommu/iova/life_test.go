package iova

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// A life is random calls of all kinds on one space, checked against a ledger. The choices come from pick, which a property
// test and a fuzzer can be.
type life struct {
	t      rapid.TB
	pick   func(n int) int // 0 to n-1
	opts   Options
	s      *Space
	l      *ledger
	hooks  *hooks
	caches []*Cache
	rings  []*Ring
	ready  []Window // of Alloc
	waited []Window // of AllocWait
	ringed [2][]Window
	gone   []Window // freed before

	failing atomic.Bool
}

var lifeRanges = []Range{{0, 64<<20 - 1}, {0xfe000123, 0x103ffffff}, {0x17fffe000, 0x1c0000fff}}

func newLife(t rapid.TB, pick func(n int) int) *life {
	f := &life{t: t, pick: pick, hooks: newHooks()}
	f.opts = Options{
		Ranges:     lifeRanges,
		Reserved:   []Range{{0x1234000, 0x1234fff}, {0xff000000, 0xff0000ff}, {0x180345678, 0x18045678a}},
		MaxWindows: 700,
		Guard:      pick(2) == 1,
		Random:     pick(2) == 1,
		Seed:       uint64(pick(1000)) + 1,
		Stock: keepOnly(map[int]Stock{
			0: {8, 16, 300}, 1: {8, 16, 100}, 4: {8, 16, 100}, 8: {2, 4, 10}, 9: {1, 2, 8}, 10: {1, 1, 4}, 16: {1, 1, 2},
		}),
	}
	if pick(2) == 1 {
		f.opts.Below = 0x1a0000000
	}
	f.hooks.fail = func(call int) bool { return f.failing.Load() && call%3 == 0 }
	s, err := New(context.Background(), f.hooks.in(f.opts))
	if err != nil {
		t.Fatal(err)
	}
	f.s, f.l = s, newLedger(t, f.opts, f.hooks)
	f.caches = []*Cache{s.NewCache(0), s.NewCache(16)}
	for range 2 {
		r, err := s.NewRing(context.Background(), uint64(1+pick(4<<20)), 1+pick(50))
		if err != nil {
			t.Fatal(err)
		}
		f.rings = append(f.rings, r)
	}
	return f
}

// take removes a random window of ws.
func (f *life) take(ws *[]Window) (w Window, ok bool) {
	if len(*ws) == 0 {
		return w, false
	}
	i := f.pick(len(*ws))
	w = (*ws)[i]
	*ws = slices.Delete(*ws, i, i+1)
	f.l.remove(w)
	f.gone = append(f.gone, w)
	return w, true
}

func (f *life) size() uint64 { return 1 + uint64(f.pick(4<<20))>>f.pick(22) }

// must fails the test on errors other than those given.
func (f *life) must(err error, allowed ...error) bool {
	if err != nil && !slices.ContainsFunc(allowed, func(a error) bool { return errors.Is(err, a) }) {
		f.t.Fatal(err)
	}
	return err == nil
}

func (f *life) alloc() {
	size := f.size()
	w, err := Window{}, error(nil)
	if i := f.pick(3); i < 2 {
		w, err = f.caches[i].Alloc(size)
	} else {
		w, err = f.s.Alloc(size)
	}
	if f.must(err, ErrEmpty) {
		f.l.add(f.t, w, size)
		f.ready = append(f.ready, w)
	}
}

func (f *life) free() {
	if w, ok := f.take(&f.ready); ok {
		if i := f.pick(3); i < 2 {
			f.must(f.caches[i].Free(w))
		} else {
			f.must(f.s.Free(w))
		}
	}
}

func (f *life) freeBatch() {
	var batch []Window
	for range f.pick(100) {
		if w, ok := f.take(&f.ready); ok {
			batch = append(batch, w)
		}
	}
	if n, err := f.s.FreeBatch(batch); n != len(batch) || err != nil {
		f.t.Fatalf("%d of %d are freed: %v", n, len(batch), err)
	}
}

func (f *life) allocWait() {
	q := Request{Size: f.size(), Align: 1 << f.pick(24)}
	if f.pick(3) == 0 {
		q.Boundary = PageSize
		for q.Boundary < q.Size {
			q.Boundary *= 2
		}
		q.Boundary <<= f.pick(3)
	}
	if f.pick(3) == 0 {
		q.Below = 0x100000000 << f.pick(2)
	}
	if f.pick(4) == 0 {
		q = Request{Size: f.size(), Fixed: true, At: lifeRanges[f.pick(3)].Start&^(PageSize-1) + uint64(f.pick(1<<14))<<pageBits}
	}
	w, err := f.s.AllocWait(context.Background(), q)
	if !f.must(err, ErrNoSpace, ErrInUse, ErrNumbers, errHook) {
		return
	}
	f.l.add(f.t, w, q.Size)
	f.waited = append(f.waited, w)
	last := w.Start + w.Size - 1
	if q.Align > 1 && w.Start%q.Align != 0 || q.Boundary != 0 && w.Start/q.Boundary != last/q.Boundary ||
		q.Below != 0 && last >= q.Below || q.Fixed && w.Start != q.At || w.Size != (q.Size+PageSize-1)&^(PageSize-1) {
		f.t.Fatalf("%+v for %+v", w, q)
	}
}

func (f *life) freeWait() {
	if w, ok := f.take(&f.waited); ok {
		f.must(f.s.FreeWait(w))
	}
}

func (f *life) ringAlloc() {
	i := f.pick(2)
	size := 1 + f.size()%(f.rings[i].Size()/4)
	w, err := f.rings[i].Alloc(size)
	if !f.must(err, ErrEmpty) {
		return
	}
	f.l.add(f.t, w, size)
	if start := f.rings[i].Start(); w.Start < start || w.Start+w.Size > start+f.rings[i].Size() {
		f.t.Fatalf("%+v is not in the ring at %#x", w, start)
	}
	f.ringed[i] = append(f.ringed[i], w)
}

func (f *life) ringFree() {
	i := f.pick(2)
	if w, ok := f.take(&f.ringed[i]); ok {
		f.must(f.rings[i].Free(w))
	}
}

// mistake makes a call that has to be refused.
func (f *life) mistake() {
	refused := func(err, want error) {
		if !errors.Is(err, want) {
			f.t.Fatalf("%v, want %v", err, want)
		}
	}
	all := func(w Window, by ...func(Window) error) {
		for _, free := range by {
			refused(free(w), ErrNotOut)
		}
	}
	if len(f.gone) > 0 {
		all(f.gone[f.pick(len(f.gone))], f.s.Free, f.caches[0].Free, f.s.FreeWait, f.rings[0].Free)
	}
	all(Window{}, f.s.Free, f.caches[0].Free, f.s.FreeWait, f.rings[0].Free)
	if len(f.ready) > 0 {
		w := f.ready[f.pick(len(f.ready))]
		refused(f.rings[0].Free(w), ErrKind)
		w.Start += PageSize
		all(w, f.s.Free, f.caches[0].Free, f.s.FreeWait, f.rings[0].Free)
		w.Number = 1 << 30
		all(w, f.s.Free, f.caches[0].Free, f.s.FreeWait, f.rings[0].Free)
	}
	if len(f.waited) > 0 {
		w := f.waited[f.pick(len(f.waited))]
		refused(f.s.Free(w), ErrKind)
		refused(f.caches[0].Free(w), ErrKind)
		refused(f.rings[0].Free(w), ErrKind)
		n, err := f.s.FreeBatch([]Window{w})
		refused(err, ErrKind)
		if n != 0 {
			f.t.Fatalf("%d are freed", n)
		}
	}
	if len(f.ringed[0]) > 0 {
		w := f.ringed[0][0]
		refused(f.s.Free(w), ErrKind)
		refused(f.s.FreeWait(w), ErrKind)
		refused(f.rings[1].Free(w), ErrKind)
		refused(f.rings[0].Close(), ErrInUse)
	}
}

func (f *life) step() {
	switch f.pick(24) {
	default:
		f.alloc()
	case 5, 6, 7, 8:
		f.free()
	case 9:
		f.freeBatch()
	case 10, 11, 12:
		f.allocWait()
	case 13, 14, 15:
		f.freeWait()
	case 16, 17:
		f.ringAlloc()
	case 18, 19:
		f.ringFree()
	case 20:
		f.must(f.caches[f.pick(2)].Flush())
	case 21:
		f.mistake()
	case 22:
		f.failing.Store(f.pick(2) == 0)
	}
	f.hooks.check(f.t)
}

// end gives all back and checks that nothing is missing.
func (f *life) end() {
	f.failing.Store(false)
	for _, ws := range []*[]Window{&f.ready, &f.waited, &f.ringed[0], &f.ringed[1]} {
		for {
			w, ok := f.take(ws)
			if !ok {
				break
			}
			switch ws {
			case &f.ready:
				f.must(f.s.Free(w))
			case &f.waited:
				f.must(f.s.FreeWait(w))
			case &f.ringed[0]:
				f.must(f.rings[0].Free(w))
			default:
				f.must(f.rings[1].Free(w))
			}
		}
	}
	for _, c := range f.caches {
		f.must(c.Close())
	}
	for _, r := range f.rings {
		f.must(r.Close())
	}
	shut(f.t, f.s, f.hooks)
}

func TestLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		f := newLife(t, dice.IntN)
		for range rapid.IntRange(1, 1000).Draw(t, "steps") {
			f.step()
		}
		f.end()
	})
}

package respool

import (
	"errors"
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// take moves es, which a Get returned, from free to out.
func (m *model) take(t *rapid.T, es []int) {
	for _, e := range es {
		if !m.free[e] {
			t.Fatalf("got %d, which is not free: %v", e, m.free)
		}
		delete(m.free, e)
	}
	m.out = append(m.out, es...)
}

// refused checks the error of a call that can only be answered want, and that it changed
// nothing of dst.
func refused(t *rapid.T, err, want error, dst []int) {
	if !errors.Is(err, want) || slices.ContainsFunc(dst, func(e int) bool { return e != 0 }) {
		t.Fatalf("%v, want %v; %v", err, want, dst)
	}
}

func (m *model) getBatch(t *rapid.T) {
	dst := make([]int, rapid.IntRange(1, 12).Draw(t, "n"))
	err := m.p.GetBatch(dst)
	switch {
	case len(dst) > m.o.Max:
		refused(t, err, ErrBatch, dst)
	case m.shut:
		refused(t, err, ErrClosed, dst)
	case len(dst) > len(m.free):
		refused(t, err, ErrEmpty, dst)
	case err != nil:
		t.Fatal(err)
	default:
		m.take(t, dst)
	}
}

func (m *model) putBatch(t *rapid.T) {
	src := m.out[:rapid.IntRange(0, len(m.out)).Draw(t, "n")]
	if m.c.n == 0 && len(src) == len(m.out) && !m.shut {
		refused(t, m.p.PutBatch(append(slices.Clone(src), 12345)), ErrForeign, nil)
	}
	err := m.p.PutBatch(src)
	switch {
	case m.shut && len(src) > 0:
		refused(t, err, ErrClosed, nil)
	case err != nil:
		t.Fatal(err)
	default:
		m.give(len(src))
		m.sync()
	}
}

// give takes the first n of out away: they are free or in the cache.
func (m *model) give(n int) { m.out = slices.Delete(m.out, 0, n) }

func (m *model) newCache(t *rapid.T) {
	if err := m.c.Close(); m.shut && m.c.n > 0 {
		refused(t, err, ErrClosed, nil)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if _, err := m.c.Get(); !errors.Is(err, ErrCacheClosed) {
		t.Fatal(err)
	}
	m.c = m.p.NewCache(rapid.IntRange(0, 12).Draw(t, "size"))
	m.account(t)
}

func (m *model) cacheFlush(t *rapid.T) {
	if err := m.c.Flush(); m.shut && m.c.n > 0 {
		refused(t, err, ErrClosed, nil)
	} else if err != nil || m.c.n != 0 {
		t.Fatalf("%v; %d left", err, m.c.n)
	}
	m.account(t)
}

func (m *model) cacheGet(t *rapid.T) {
	held, free := m.c.n, len(m.free)
	e, err := m.c.Get()
	want := held - 1
	switch {
	case m.shut:
		refused(t, err, ErrClosed, nil)
		want = held
	case held+free == 0:
		refused(t, err, ErrEmpty, nil)
		want = 0
	case err != nil:
		t.Fatal(err)
	default:
		if held == 0 {
			want = min(m.c.half, free-1)
		}
		m.out = append(m.out, e)
	}
	m.left(t, want)
}

func (m *model) cachePut(t *rapid.T) {
	if len(m.out) == 0 {
		t.Skip("nothing to put")
	}
	want := m.c.n + 1
	if m.c.n == len(m.c.elems) {
		want = m.c.half + 1
	}
	err := m.c.Put(m.out[0])
	switch {
	case m.shut:
		refused(t, err, ErrClosed, nil)
		want = m.c.n
	case err != nil:
		t.Fatal(err)
	default:
		m.give(1)
	}
	m.left(t, want)
}

func (m *model) cacheGetBatch(t *rapid.T) {
	held, free := m.c.n, len(m.free)
	dst := make([]int, rapid.IntRange(1, 15).Draw(t, "n"))
	want := held - len(dst)
	err := m.c.GetBatch(dst)
	switch {
	case m.shut:
		refused(t, err, ErrClosed, dst)
		want = held
	case len(dst) > m.o.Max:
		refused(t, err, ErrBatch, dst)
		want = held
	case len(dst) > held+free:
		refused(t, err, ErrEmpty, dst)
		want = held
	case err != nil:
		t.Fatal(err)
	default:
		if want < 0 {
			want = min(m.c.half, free+want)
		}
		m.out = append(m.out, dst...)
	}
	m.left(t, want)
}

func (m *model) cachePutBatch(t *rapid.T) {
	held := m.c.n
	src := m.out[:rapid.IntRange(0, len(m.out)).Draw(t, "n")]
	want := held + len(src)
	if want > len(m.c.elems) {
		if want = m.c.half; len(src) > m.c.half {
			want = held // past the cache
		}
	}
	err := m.c.PutBatch(src)
	switch {
	case m.shut && len(src) > 0:
		refused(t, err, ErrClosed, nil)
		want = held
	case err != nil:
		t.Fatal(err)
	default:
		m.give(len(src))
	}
	m.left(t, want)
}

// left checks that the cache holds n, and the rest.
func (m *model) left(t *rapid.T, n int) {
	if m.c.n != n {
		t.Fatalf("%d left in the cache of %d, want %d", m.c.n, len(m.c.elems), n)
	}
	m.account(t)
}

// account checks that every element that exists is in one place only: free, in the
// cache, or out.
func (m *model) account(t *rapid.T) {
	m.sync()
	all := slices.Concat(m.out, m.c.elems[:m.c.n], slices.Collect(maps.Keys(m.reserved)))
	for _, i := range m.p.readySlots() {
		all = append(all, m.p.elems[i])
	}
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n || n != len(m.v.live) {
		t.Fatalf("%d exist; out, cached, reserved and free are %v", len(m.v.live), all)
	}
}

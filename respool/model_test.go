package respool

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A model is what a pool must look like from outside: what is free and what is out.
type model struct {
	v    *vault
	p    *Pool[int]
	o    Options
	c    *Cache[int] // its contents are what the cache says, checked against the rest
	free map[int]bool
	out  []int
	shut bool

	rs       []*Reservation[int]
	reserved map[int]bool
}

// TestModel drives a pool and the passing of time, and compares it with the model. Only
// while time passes may the worker change what is free, within its limits.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Inside a bubble testing.T refuses to say its deadline, which rapid asks for.
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			m := newModel(t, rt)
			rt.Repeat(map[string]func(*rapid.T){
				"get": m.get,
				"put": m.put,

				"reserve":              m.reserve,
				"draw":                 m.draw,
				"put into reservation": m.putReserved,
				"split":                m.split,
				"return":               m.giveBack,
				"reserve of all":       m.reserveAll,

				"get batch":       m.getBatch,
				"put batch":       m.putBatch,
				"cache get":       m.cacheGet,
				"cache put":       m.cachePut,
				"cache get batch": m.cacheGetBatch,
				"cache put batch": m.cachePutBatch,
				"cache flush":     m.cacheFlush,
				"new cache":       m.newCache,

				"time":  m.time,
				"break": func(*rapid.T) { m.v.setFail(always) },
				"mend":  func(*rapid.T) { m.v.setFail(nil) },
				"settle": func(t *rapid.T) {
					m.v.setFail(nil)
					after(4 * time.Second) // the fewest at a time, each after IdleAfter
					m.settled(t)
				},
				"give up closing": m.giveUp,
				"":                m.check,
			})
			m.end(rt)
		})
	})
}

func newModel(t *testing.T, rt *rapid.T) *model {
	m := &model{v: newVault(t), reserved: map[int]bool{}}
	m.o.Max = rapid.IntRange(1, 30).Draw(rt, "max")
	m.o.High = rapid.IntRange(1, m.o.Max).Draw(rt, "high")
	m.o.Low = rapid.IntRange(1, m.o.High).Draw(rt, "low")
	m.o.Min = rapid.IntRange(0, m.o.Max).Draw(rt, "min")
	m.o.Step = rapid.IntRange(1, m.o.Max).Draw(rt, "step")
	m.o.IdleAfter, m.o.MaxBackoff = 100*time.Millisecond, 100*time.Millisecond
	p, err := New(context.Background(), m.v, m.o)
	if err != nil {
		rt.Fatal(err)
	}
	m.p = p
	m.c = p.NewCache(rapid.IntRange(0, 12).Draw(rt, "cache"))
	rt.Cleanup(func() { _ = p.Close(ended()) }) // a failed check leaves no worker in the bubble
	m.sync()
	return m
}

// sync takes over what the worker made of the free elements.
func (m *model) sync() {
	m.free = map[int]bool{}
	for e := range m.v.live {
		m.free[e] = true
	}
	for _, e := range slices.Concat(m.out, m.c.elems[:m.c.n]) {
		delete(m.free, e)
	}
	for e := range m.reserved {
		delete(m.free, e)
	}
}

func (m *model) get(t *rapid.T) {
	e, err := m.p.Get()
	switch {
	case m.shut:
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("Get after Close: %v", err)
		}
	case len(m.free) == 0:
		if !errors.Is(err, ErrEmpty) {
			t.Fatalf("Get with nothing free: %v", err)
		}
	case err != nil || !m.free[e]:
		t.Fatalf("Get: %d, %v; free are %v", e, err, m.free)
	default:
		delete(m.free, e)
		m.out = append(m.out, e)
	}
}

func (m *model) put(t *rapid.T) {
	want := error(nil)
	k, e := -1, 12345
	if len(m.out) > 0 {
		k = rapid.IntRange(0, len(m.out)-1).Draw(t, "which")
		e = m.out[k]
	} else if m.c.n > 0 {
		t.Skip("the pool would take it for one of the cache's")
	} else {
		want = ErrForeign
	}
	if m.shut {
		want = ErrClosed
	}
	err := m.p.Put(e)
	if !errors.Is(err, want) {
		t.Fatalf("Put: %v, want %v", err, want)
	}
	if want == nil {
		m.out = append(m.out[:k], m.out[k+1:]...)
		m.free[e] = true
	}
}

func (m *model) time(t *rapid.T) {
	after(time.Duration(rapid.IntRange(1, 300_000).Draw(t, "µs")) * time.Microsecond)
	m.sync()
}

// settled checks where a pool with a good source and a steady load ends.
func (m *model) settled(t *rapid.T) {
	m.sync()
	if m.shut {
		return
	}
	free, total := len(m.free), len(m.free)+len(m.out)+m.c.n+len(m.reserved)
	if free < m.o.Low && total < m.o.Max {
		t.Fatalf("%d free, Low is %d, Max is not reached: %+v", free, m.o.Low, m.p.Stats())
	}
	if free > m.o.High && total > m.o.Min {
		t.Fatalf("%d free, High is %d, %d in all: %+v", free, m.o.High, total, m.p.Stats())
	}
}

func (m *model) giveUp(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "rarely") != 0 {
		t.Skip("not now")
	}
	err := m.p.Close(ended())
	m.shut = true
	m.sync()
	var op *OpError
	if n := len(m.out) + m.c.n + len(m.reserved); n > 0 && (!errors.As(err, &op) || op.Out != n || op.Reserved != len(m.reserved)) {
		t.Fatalf("Close: %v, %d are out", err, len(m.out))
	}
	if len(m.free) != 0 {
		t.Fatalf("%d are left after Close", len(m.free))
	}
}

func (m *model) check(t *rapid.T) {
	s := m.p.Stats()
	if s.Cached != min(m.c.told, len(m.out)+m.c.n) {
		t.Fatalf("%d in the cache, it told %d, the pool says %+v", m.c.n, m.c.told, s)
	}
	if s.Free != len(m.free) || s.InUse+s.Cached != len(m.out)+m.c.n || s.Reserved != len(m.reserved) || s.LowestFree > int(s.Filled) {
		t.Fatalf("%d free and %d out, the pool says %+v", len(m.free), len(m.out), s)
	}
	if total := s.Free + s.InUse + s.Cached + s.Reserved; !m.shut && total < m.o.Min {
		t.Fatalf("%d in all, Min is %d: %+v", total, m.o.Min, s)
	}
	checkSum(t, m.p)
}

func (m *model) end(t *rapid.T) {
	m.v.setFail(nil)
	done := make(chan error, 1)
	go func() { done <- m.p.Close(context.Background()) }()
	synctest.Wait()
	m.shut = false // Put is accepted while Close waits
	for _, r := range m.rs {
		if err := r.Return(); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.c.Close(); err != nil {
		t.Fatal(err)
	}
	for len(m.out) > 0 {
		m.put(t)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := m.v.existing(); n != 0 {
		t.Fatalf("%d exist after Close", n)
	}
}

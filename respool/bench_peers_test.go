package respool_test

import (
	"context"
	"sync"
	"testing"

	"gommu/respool"
)

// A peer is one way to hold elements, which are words. open makes it with size elements, and
// returns what each goroutine gets its user by.
type peer struct {
	name string
	few  bool // for few goroutines only
	open func(b *testing.B, size int) (join func(b *testing.B) user)
}

// A user is what one goroutine calls.
type user interface {
	get() (e uint64, ok bool)
	put(e uint64)
	pairs(n int)        // n times get and put, as one would write it
	batch(buf []uint64) // takes as many as buf has room for, and gives them back
}

const batchSize = 32

var peers = []peer{
	{name: "pool", open: openPool},
	{name: "cache", open: openCache},
	{name: "sync.Pool", open: openSyncPool},
	{name: "channel", open: openChannel},
	{name: "mutex", open: openMutex},
}

// variants take what BenchmarkBatch takes in other ways.
var variants = []peer{
	{name: "pool-mixed", few: true, open: openPoolMixed},
	{name: "cache-singly", few: true, open: openCacheSingly},
}

type words struct{}

func (words) Alloc(context.Context) (uint64, error) { return 1, nil }
func (words) Free(uint64) error                     { return nil }

func check(b *testing.B, err error) {
	if err != nil {
		b.Error(err)
	}
}

// A poolUser calls the pool.
type poolUser struct {
	b *testing.B
	p *respool.Pool[uint64]
}

func newBenchPool(b *testing.B, size int) *respool.Pool[uint64] {
	p, err := respool.New(context.Background(), words{}, respool.Options{Min: size, Low: size, High: size, Max: size})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { check(b, p.Close(context.Background())) })
	return p
}

func openPool(b *testing.B, size int) func(*testing.B) user {
	p := newBenchPool(b, size)
	return func(b *testing.B) user { return &poolUser{b, p} }
}

func (u *poolUser) get() (uint64, bool) { e, err := u.p.Get(); return e, err == nil }
func (u *poolUser) put(e uint64)        { check(u.b, u.p.Put(e)) }

func (u *poolUser) pairs(n int) {
	for range n {
		e, err := u.p.Get()
		check(u.b, err)
		check(u.b, u.p.Put(e))
	}
}

func (u *poolUser) batch(buf []uint64) {
	check(u.b, u.p.GetBatch(buf))
	check(u.b, u.p.PutBatch(buf))
}

// A mixedUser gives back in other parts than it took: links have to be written.
type mixedUser struct{ poolUser }

func openPoolMixed(b *testing.B, size int) func(*testing.B) user {
	p := newBenchPool(b, size)
	return func(b *testing.B) user { return &mixedUser{poolUser{b, p}} }
}

func (u *mixedUser) batch(buf []uint64) {
	n := len(buf)
	check(u.b, u.p.GetBatch(buf[:n/2]))
	check(u.b, u.p.GetBatch(buf[n/2:]))
	check(u.b, u.p.PutBatch(buf[:n/4]))
	check(u.b, u.p.PutBatch(buf[n/4:]))
}

// A cacheUser calls a cache of its own.
type cacheUser struct {
	b *testing.B
	c *respool.Cache[uint64]
}

// cacheSize is that of a cache, if the pool is large enough for 16 of them.
const cacheSize = 64

func newCacheUser(b *testing.B, p *respool.Pool[uint64], size int) cacheUser {
	c := p.NewCache(max(1, min(cacheSize, size/32)))
	b.Cleanup(func() { check(b, c.Close()) })
	return cacheUser{b, c}
}

func openCache(b *testing.B, size int) func(*testing.B) user {
	p := newBenchPool(b, size)
	return func(b *testing.B) user { u := newCacheUser(b, p, size); return &u }
}

func (u *cacheUser) get() (uint64, bool) { e, err := u.c.Get(); return e, err == nil }
func (u *cacheUser) put(e uint64)        { check(u.b, u.c.Put(e)) }

func (u *cacheUser) pairs(n int) {
	for range n {
		e, err := u.c.Get()
		check(u.b, err)
		check(u.b, u.c.Put(e))
	}
}

func (u *cacheUser) batch(buf []uint64) {
	check(u.b, u.c.GetBatch(buf))
	check(u.b, u.c.PutBatch(buf))
}

// A singlyUser takes twice what a cache holds one by one, every fourth time for all four: each
// element makes the trip to the pool.
type singlyUser struct {
	cacheUser
	calls int
	all   []uint64
}

func openCacheSingly(b *testing.B, size int) func(*testing.B) user {
	p := newBenchPool(b, size)
	return func(b *testing.B) user {
		return &singlyUser{cacheUser: newCacheUser(b, p, size), all: make([]uint64, 4*batchSize)}
	}
}

func (u *singlyUser) batch([]uint64) {
	if u.calls++; u.calls%4 != 0 {
		return
	}
	for i := range u.all {
		e, err := u.c.Get()
		check(u.b, err)
		u.all[i] = e
	}
	for _, e := range u.all {
		check(u.b, u.c.Put(e))
	}
}

// A syncPoolUser holds pointers to words, as sync.Pool wants it.
type syncPoolUser struct {
	p    *sync.Pool
	free []*uint64 // that held words come from
}

func openSyncPool(_ *testing.B, size int) func(*testing.B) user {
	p := &sync.Pool{New: func() any { return new(uint64) }}
	for range size {
		p.Put(new(uint64))
	}
	return func(*testing.B) user { return &syncPoolUser{p: p} }
}

func (u *syncPoolUser) get() (uint64, bool) {
	w := u.p.Get().(*uint64)
	u.free = append(u.free, w)
	return *w, true
}

func (u *syncPoolUser) put(uint64) {
	n := len(u.free) - 1
	u.p.Put(u.free[n])
	u.free = u.free[:n]
}

func (u *syncPoolUser) pairs(n int) {
	for range n {
		u.p.Put(u.p.Get())
	}
}

func (u *syncPoolUser) batch(buf []uint64) {
	for i := range buf {
		buf[i], _ = u.get()
	}
	for _, e := range buf {
		u.put(e)
	}
}

type channelUser chan uint64

func openChannel(_ *testing.B, size int) func(*testing.B) user {
	c := make(channelUser, size)
	for range size {
		c <- 1
	}
	return func(*testing.B) user { return c }
}

func (c channelUser) get() (uint64, bool) {
	select {
	case e := <-c:
		return e, true
	default:
		return 0, false
	}
}

func (c channelUser) put(e uint64) { c <- e }

func (c channelUser) pairs(n int) {
	for range n {
		c <- <-c
	}
}

func (c channelUser) batch(buf []uint64) {
	for i := range buf {
		buf[i] = <-c
	}
	for _, e := range buf {
		c <- e
	}
}

type mutexUser struct {
	mu   sync.Mutex
	free []uint64
}

func openMutex(_ *testing.B, size int) func(*testing.B) user {
	l := &mutexUser{free: make([]uint64, size)}
	return func(*testing.B) user { return l }
}

func (l *mutexUser) get() (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - 1
	if n < 0 {
		return 0, false
	}
	e := l.free[n]
	l.free = l.free[:n]
	return e, true
}

func (l *mutexUser) put(e uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, e)
}

func (l *mutexUser) pairs(n int) {
	for range n {
		e, _ := l.get()
		l.put(e)
	}
}

func (l *mutexUser) batch(buf []uint64) {
	l.mu.Lock()
	at := len(l.free) - len(buf)
	copy(buf, l.free[at:])
	l.free = l.free[:at]
	l.mu.Unlock()
	l.mu.Lock()
	l.free = append(l.free, buf...)
	l.mu.Unlock()
}

// nothingUser is what it costs to measure.
type nothingUser struct{}

func openNothing(*testing.B, int) func(*testing.B) user {
	return func(*testing.B) user { return nothingUser{} }
}

func (nothingUser) get() (uint64, bool) { return 1, true }
func (nothingUser) put(uint64)          {}
func (nothingUser) pairs(int)           {}
func (nothingUser) batch([]uint64)      {}

package scenario

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"gommu/respool"
	"gommu/respool/discipline"
)

// A supply is where a task gets pages: a discipline, a class of a pool, the memory itself.
type supply interface {
	Get() (*page, error)
	GetWait(ctx context.Context) (*page, error)
	Put(*page) error
}

// A stock is a supply with its count. Several stocks may share one.
type stock struct {
	*count
	from  supply
	leave int                  // how many it leaves for others
	pool  *respool.Pool[*page] // nil but under pool-first
	marks [3]int               // what requests of each class leave
}

// open makes a stock of n pages under a discipline. A mempool can also get what is left of
// the memory; a pool cannot.
func (r *run) open(under Discipline, m *memory, name string, n int) (*stock, error) {
	if under == PoolFirst {
		return r.openPool(m, respool.Options{Name: name, Min: n, High: n, Max: n})
	}
	a, err := discipline.NewAllocatorFirst(r.ctx, m, discipline.AllocatorFirstOptions{Name: name, Reserve: n})
	if err != nil {
		return nil, err
	}
	r.later(a.Close)
	return &stock{count: &count{name: name, total: n + m.free()}, from: a}, nil
}

// openPool makes a pool, as small as o.Min and as large as o.Max. What a debug build reports is not heard: the
// circles are what is played, and what is not given back Close tells as well.
func (r *run) openPool(m *memory, o respool.Options) (*stock, error) {
	o.OnReport = func(respool.Report) {}
	p, err := respool.New(r.ctx, m, o)
	if err != nil {
		return nil, err
	}
	r.later(p.Close)
	return &stock{count: &count{name: o.Name, total: o.Max}, from: p, pool: p, leave: o.OrdinaryMark,
		marks: [...]int{respool.Ordinary: o.OrdinaryMark, respool.Atomic: o.AtomicMark, respool.Critical: 0}}, nil
}

// get takes a page of s, without waiting.
func (t *task) get(s *stock) (*page, error) {
	p, err := s.from.Get()
	if err == nil {
		t.adopt(&holding{of: s.count, n: 1, back: func() error { return s.from.Put(p) }})
	}
	return p, err
}

// getWait takes a page of s, and waits for it.
func (t *task) getWait(s *stock) error {
	h := &holding{of: s.count, n: 1}
	return t.wait(some{s.count, 1, s.leave}, h, func(ctx context.Context) error {
		p, err := s.from.GetWait(ctx)
		h.back = func() error { return s.from.Put(p) }
		return err
	})
}

// getAgain takes a page of s without waiting in line: if it gets none it comes back after a
// while. It says how often it got none.
func (t *task) getAgain(s *stock) (refused int, err error) {
	const while = time.Millisecond
	h := &holding{of: s.count, n: 1}
	err = t.wait(some{s.count, 1, s.leave}, h, func(ctx context.Context) error {
		for {
			p, err := s.from.Get()
			if !errors.Is(err, respool.ErrEmpty) {
				h.back = func() error { return s.from.Put(p) }
				return err
			}
			refused++
			select {
			case <-time.After(while):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return refused, err
}

// reserveWait sets n pages of the pool apart, and waits for them.
func (t *task) reserveWait(s *stock, n int) (r *respool.Reservation[*page], err error) {
	h := &holding{of: s.count, n: n}
	err = t.wait(some{s.count, n, s.leave}, h, func(ctx context.Context) error {
		r, err = s.pool.ReserveWait(ctx, n)
		h.back = func() error { return r.Return() }
		return err
	})
	return r, err
}

// putLast gives the last thing back that the task got.
func (t *task) putLast() error { return t.release(t.held[len(t.held)-1]) }

// putAll gives everything back, the last first.
func (t *task) putAll() error {
	for len(t.held) > 0 {
		if err := t.putLast(); err != nil {
			return err
		}
	}
	return nil
}

// use draws n pages from a reservation, does what takes no time with them, and gives them
// back to it.
func use(r *respool.Reservation[*page], n int) error {
	pages := make([]*page, 0, n)
	for range n {
		p, err := r.Get()
		if err != nil {
			return err
		}
		p.bytes[0]++
		pages = append(pages, p)
		runtime.Gosched()
	}
	for _, p := range pages {
		if err := r.Put(p); err != nil {
			return err
		}
	}
	return nil
}

// A mutex is a supply of one page, which is none. Unlike a sync.Mutex it can be given up waiting for.
type mutex chan struct{}

// newMutex makes a lock, which tasks get and put like a page.
func newMutex(name string) *stock {
	m := make(mutex, 1)
	m <- struct{}{}
	return &stock{count: &count{name: name, total: 1}, from: m}
}

func (m mutex) Get() (*page, error) { return m.GetWait(context.Background()) }

func (m mutex) GetWait(ctx context.Context) (*page, error) {
	select {
	case <-m:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m mutex) Put(*page) error {
	m <- struct{}{}
	return nil
}

// A barrier lets tasks on when all have arrived.
type barrier struct {
	missing atomic.Int64
	all     *event
}

func (r *run) barrier(tasks int) *barrier {
	b := &barrier{all: r.event("the others")}
	b.missing.Store(int64(tasks))
	return b
}

// arrive does not wait.
func (b *barrier) arrive() {
	if b.missing.Add(-1) == 0 {
		b.all.happen()
	}
}

// meet waits for the others.
func (t *task) meet(b *barrier) error {
	b.arrive()
	return t.await(b.all)
}

// A class is a pool as requests of one class see it.
type class struct {
	respool.Access[*page]
	pool *respool.Pool[*page]
}

func (c class) Put(p *page) error { return c.pool.Put(p) }

// as is s for requests of class c.
func (s *stock) as(c respool.Class) *stock {
	as := *s
	as.from, as.leave = class{s.pool.As(c), s.pool}, s.marks[c]
	return &as
}

package discipline

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"gommu/respool"
)

// PerCPU has several stocks that only a background goroutine fills, and frees from. Make one
// with NewPerCPU.
//
// In a kernel each processor has its stock. Go tells nobody cheaply on which processor a
// goroutine runs, so here each user has: who calls often asks for a Shard once and keeps
// it, as a poll loop or a worker of a set does. The methods of PerCPU itself take the stocks by turns.
// Either way a stock may be used from several processors at once, for which it has a lock.
//
// Get looks at one stock only, and fails when that is empty though others are not: that is
// the price of not sharing. GetWait, having found its own empty, looks at all of them. Put gives to
// one stock or, when that is full, leaves the element to the background goroutine, which
// moves it to a stock that runs low or frees it, as soon as the source lets it: while the source is slow
// such elements pile up. So no call of the source is on a caller's way. How many elements
// are out has no bound.
//
// The background goroutine starts to fill a stock when it holds less than Low, and stops at Size.
// When the source fails it tries again after 10 ms, then after twice that, up to 1 s.
type PerCPU[T any] struct {
	src  respool.Source[T]
	gate *gate
	size int
	low  int

	stocks  []stock[T]
	surplus stock[T] // what found its stock full
	bell    *bell    // struck for each element that comes into a stock or the surplus

	nextGet, nextPut atomic.Uint64 // for callers without a shard
	wake             chan struct{} // of the background goroutine
}

// PerCPUOptions configure a PerCPU. The zero value works.
type PerCPUOptions struct {
	// Name stands in errors.
	Name string

	// Shards is how many stocks there are. Default GOMAXPROCS.
	Shards int

	// Size is how many elements a stock holds at most; all are full at first. Default 32.
	Size int

	// Low is how many elements a stock may fall to before it is filled. Default half of
	// Size, but at least 1.
	Low int
}

// resolve checks what is set and replaces what is not by its default.
func (o PerCPUOptions) resolve() (PerCPUOptions, error) {
	for _, v := range []struct {
		name      string
		value     *int
		byDefault func() int
	}{
		{"Shards", &o.Shards, func() int { return runtime.GOMAXPROCS(0) }},
		{"Size", &o.Size, func() int { return max(32, o.Low) }},
		{"Low", &o.Low, func() int { return max(1, o.Size/2) }},
	} {
		n, err := count(v.name, *v.value, v.byDefault())
		if err != nil {
			return o, err
		}
		*v.value = n
	}
	if o.Low > o.Size {
		return o, fmt.Errorf("%w: Low (%d) is above Size (%d): lower Low or raise Size", respool.ErrBadOptions, o.Low, o.Size)
	}
	if o.Shards > maxElements/o.Size {
		return o, fmt.Errorf("%w: %d stocks of %d elements are too many: at most %d in all", respool.ErrBadOptions, o.Shards, o.Size, maxElements)
	}
	return o, nil
}

// NewPerCPU fills all stocks and starts the background goroutine, which only Close stops. It fails
// with respool.ErrNoMemory if src cannot give that much.
func NewPerCPU[T any](ctx context.Context, src respool.Source[T], opts PerCPUOptions) (*PerCPU[T], error) {
	p := &PerCPU[T]{src: src, gate: newGate(label("per-CPU", opts.Name)), bell: newBell(), wake: make(chan struct{}, 1)}
	opts, err := opts.resolve()
	if err == nil && src == nil {
		err = fmt.Errorf("%w: the source is nil: give it one", respool.ErrBadOptions)
	}
	var elems []T
	if err == nil {
		elems, err = fill(ctx, src, opts.Shards*opts.Size)
	}
	if err != nil {
		return nil, &OpError{Op: "new", Discipline: p.gate.label, Err: err}
	}
	p.size, p.low = opts.Size, opts.Low
	p.stocks = make([]stock[T], opts.Shards)
	for i := range p.stocks {
		p.stocks[i].elems = elems[i*p.size:][:p.size:p.size]
	}
	p.gate.enter()
	go (&filler[T]{p: p, filling: make([]bool, opts.Shards)}).run(p.gate.life)
	return p, nil
}

// A Shard is one of the stocks of a PerCPU, as its user sees it.
type Shard[T any] struct {
	p     *PerCPU[T]
	stock *stock[T]
}

// Shard returns the stock of user i: there are PerCPUOptions.Shards, and more users share them
// by turns.
func (p *PerCPU[T]) Shard(i int) Shard[T] {
	return Shard[T]{p, &p.stocks[uint(i)%uint(len(p.stocks))]}
}

// Get is Shard.Get of the stock whose turn it is.
func (p *PerCPU[T]) Get() (T, error) { return p.Shard(int(p.nextGet.Add(1))).Get() }

// GetWait is Shard.GetWait of the stock whose turn it is.
func (p *PerCPU[T]) GetWait(ctx context.Context) (T, error) {
	return p.Shard(int(p.nextGet.Add(1))).GetWait(ctx)
}

// Put is Shard.Put of the stock whose turn it is.
func (p *PerCPU[T]) Put(e T) error { return p.Shard(int(p.nextPut.Add(1))).Put(e) }

// Held is what is in the stocks, what waits to be freed, and what is out.
func (p *PerCPU[T]) Held() int {
	n := p.surplus.len() + p.gate.out()
	for i := range p.stocks {
		n += p.stocks[i].len()
	}
	return n
}

// Close is as Discipline says.
func (p *PerCPU[T]) Close(ctx context.Context) error { return p.gate.close(ctx, p.drain) }

// Get takes an element from the shard, or returns respool.ErrEmpty.
func (s Shard[T]) Get() (T, error) {
	var none T
	p := s.p
	if !p.gate.enter() {
		return none, p.gate.errs.getClosed
	}
	e, left, ok := s.stock.take()
	if left < p.low {
		p.ask()
	}
	if ok {
		return s.hand(e)
	}
	p.leave()
	return none, p.gate.errs.empty
}

// GetWait takes an element from the shard, else from any other, and waits for one if there is
// none.
func (s Shard[T]) GetWait(ctx context.Context) (T, error) {
	var none T
	p := s.p
	if !p.gate.enter() {
		return none, p.gate.errs.getClosed
	}
	p.bell.enter()
	defer p.bell.leave()
	for {
		returned := p.bell.listen()
		if e, ok := s.find(); ok {
			return s.hand(e)
		}
		select {
		case <-returned:
		case <-ctx.Done():
			p.leave()
			return none, p.gate.waitError(ctx, nil)
		case <-p.gate.life.Done():
			p.leave()
			return none, p.gate.errs.getClosed
		}
	}
}

// find takes an element from the shard, else from anywhere.
func (s Shard[T]) find() (T, bool) {
	p := s.p
	e, left, ok := s.stock.take()
	if left < p.low {
		p.ask()
	}
	if ok {
		return e, true
	}
	return p.takeAny()
}

// Put gives an element to the shard or, if that is full, to the background goroutine.
func (s Shard[T]) Put(e T) error {
	if err := s.p.gate.back(); err != nil {
		return err
	}
	s.settle(e)
	return nil
}

// settle is the second half of Put, and of a get that must not have e.
func (s Shard[T]) settle(e T) {
	s.p.store(s.stock, e)
	s.p.leave()
}

// hand ends a get that got e.
func (s Shard[T]) hand(e T) (T, error) {
	if s.p.gate.leaveWith() {
		return e, nil
	}
	var none T
	s.settle(e)
	return none, s.p.gate.errs.getClosed
}

// store puts e into a stock, or into the surplus if that is full.
func (p *PerCPU[T]) store(s *stock[T], e T) {
	if !s.put(e) {
		p.surplus.pile(e)
		p.ask()
	}
	p.bell.strike()
}

// ask wakes the background goroutine.
func (p *PerCPU[T]) ask() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// takeAny takes an element from wherever there is one.
func (p *PerCPU[T]) takeAny() (T, bool) {
	for i := range p.stocks {
		if e, _, ok := p.stocks[i].take(); ok {
			return e, true
		}
	}
	e, _, ok := p.surplus.take()
	return e, ok
}

// leave ends a call that hands out nothing.
func (p *PerCPU[T]) leave() {
	if p.gate.leave() {
		p.drain()
	}
}

// drain frees what is not out.
func (p *PerCPU[T]) drain() {
	for e, ok := p.takeAny(); ok; e, ok = p.takeAny() {
		p.gate.lost.add(p.src.Free(e))
	}
}

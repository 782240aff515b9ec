package iommu_test

import (
	"errors"
	"sync"

	"gommu/iommu"
	"gommu/pagetable"
)

// A gate stands before a unit: it lets flushes through late, or fails. While it is held
// the unit is told nothing, as if it were slow.
type gate struct {
	iommu.Unit
	mu     sync.Mutex
	held   bool
	broken bool // since a failure, until Recover
	stuck  bool // Recover fails
	busy   int  // so many Begins are answered with ErrBusy
	begins int
	failAt int // number of the Begin that fails; 0 is none
	doneAt int // number of the Done that fails
	dones  int
	queue  []queued
	last   iommu.Ticket
	closed int
}

type queued struct {
	b          *gated
	iova, size uint64
	leavesOnly bool
	ticket     iommu.Ticket
}

// gated is a binding of such a unit.
//
//gommu:maysleep a test's fake
type gated struct {
	iommu.Binding
	g    *gate
	done iommu.Ticket
}

var errBroken = errors.New("broken by the test")

func (g *gate) Bind(t *pagetable.Table) (iommu.Binding, error) {
	b, err := g.Unit.Bind(t)
	if err != nil {
		return nil, err
	}
	return &gated{Binding: b, g: g}, nil
}

func (g *gate) set(f func(g *gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g)
}

func (b *gated) Begin(iova, size uint64, leavesOnly bool) (iommu.Ticket, error) {
	g := b.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begins++; g.begins == g.failAt {
		g.broken = true
	}
	switch {
	case g.broken:
		return 0, errBroken
	case g.busy > 0:
		g.busy--
		return 0, iommu.ErrBusy
	}
	g.last++
	g.queue = append(g.queue, queued{b, iova, size, leavesOnly, g.last})
	return g.last, nil
}

func (b *gated) Done(t iommu.Ticket) (bool, error) {
	g := b.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dones++; g.dones == g.doneAt {
		g.broken = true
	}
	switch {
	case g.broken:
		return false, errBroken
	case g.held:
		return false, nil
	}
	for _, q := range g.queue {
		for {
			t, err := q.b.Binding.Begin(q.iova, q.size, q.leavesOnly)
			if err == iommu.ErrBusy {
				continue
			}
			for done := false; err == nil && !done; {
				done, err = q.b.Binding.Done(t)
			}
			if err != nil {
				return false, err
			}
			break
		}
		q.b.done = q.ticket
	}
	g.queue = g.queue[:0]
	return b.done >= t, nil
}

func (b *gated) Recover() error {
	g := b.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stuck {
		return errBroken
	}
	if err := b.Binding.Recover(); err != nil {
		return err
	}
	t, err := b.Binding.Begin(0, 0, false)
	for done := false; err == nil && !done; {
		done, err = b.Binding.Done(t)
	}
	b.done, g.queue, g.broken = g.last, nil, false
	return err
}

func (b *gated) Close() error {
	b.g.set(func(g *gate) { g.closed++ })
	return b.Binding.Close()
}

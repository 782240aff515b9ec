package vtd

import (
	"context"
	"fmt"
	"sync/atomic"

	"gommu/iommu"
	"gommu/pagetable"
)

var (
	_ iommu.Unit    = (*Unit)(nil)
	_ iommu.Binding = (*Binding)(nil)
)

// A Binding is a table under a domain id of its own. Its flushes need not sleep:
// Begin tells the unit and Done looks whether it has done so. Several may be on
// their way at once.
type Binding struct {
	u       *Unit
	id      uint16
	table   Table
	covered atomic.Pointer[coverage] // nil once closed

	subject uint64 // by which number tracers know the domain, 0 without; only who holds Unit.mu touches it

	// doubted is like Unit.doubted for this domain alone: a device did not
	// answer, and the unit goes on for others. Only who holds Unit.mu stores it.
	doubted atomic.Uint64
}

// Bind gives a table a domain id, until Close of the binding.
func (u *Unit) Bind(t *pagetable.Table) (iommu.Binding, error) {
	if t == nil {
		return nil, &OpError{Op: "bind", Err: fmt.Errorf("%w: it is nil", ErrTable)}
	}
	b, err := u.bind(t)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (u *Unit) bind(t Table) (*Binding, error) {
	id, err := u.AllocDomain()
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err := u.translation(t); err != nil {
		delete(u.domains.own, id)
		return nil, &OpError{Op: "bind", Target: domain(id), Err: err}
	}
	b := &Binding{u: u, id: id, table: t}
	b.doubted.Store(noDoubt)
	u.bindings[id] = b
	u.cover(id)
	return b, nil
}

// DomainID is the tag of the unit's caches. Other calls of Unit take it too.
func (b *Binding) DomainID() uint16 { return b.id }

// TraceAs says by which number tracers know the domain: see iommu.Subject.
func (b *Binding) TraceAs(domain uint64) {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	b.subject = domain
}

// Attach is Unit.Attach.
func (b *Binding) Attach(source uint16) error {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	err := ErrClosed
	if b.covered.Load() != nil {
		err = b.u.attach(source, noPASID, b.id, b.table)
	}
	if err != nil {
		return &OpError{Op: "attach", Target: fmt.Sprintf("%s to %s", device(source), domain(b.id)), Err: err}
	}
	return nil
}

// Detach is Unit.Detach. What is attached to another domain is refused with
// ErrNotAttached.
func (b *Binding) Detach(source uint16) error {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	err := ErrNotAttached
	if b.covered.Load() != nil && b.u.entries[place{source, noPASID}] == b.id {
		err = b.u.detach(source, noPASID)
	}
	if err != nil {
		return &OpError{Op: "detach", Target: fmt.Sprintf("%s from %s", device(source), domain(b.id)), Err: err}
	}
	return nil
}

// Close gives the domain id back. It fails with ErrDomainBusy while something is
// attached. Twice is harmless.
func (b *Binding) Close() error {
	u := b.u
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case b.covered.Load() == nil:
		return nil
	case u.domains.used[b.id] != nil:
		return &OpError{Op: "close binding", Target: domain(b.id), Err: fmt.Errorf("%w: detach what is attached to it", ErrDomainBusy)}
	}
	b.covered.Store(nil)
	delete(u.bindings, b.id)
	delete(u.domains.own, b.id)
	return nil
}

// quiet waits until all that was told is done, so that an attach of a device
// with a TLB finds nothing in the unit that is about to be dropped.
func (u *Unit) quiet(ctx context.Context) error {
	if u.queue == nil {
		return nil
	}
	u.turn.take()
	defer u.turn.leave()
	return u.queue.empty(ctx)
}

package dmar

import (
	"errors"
	"fmt"

	"gommu/pci"
)

// Resolve is the address of the function that the scope names in a segment, at which its
// RequesterID is what its requests carry. An I/O APIC, an HPET or a namespace device need not have
// a function there.
//
// Errors: ErrNoBridge where the path leads through something that is not there (a card that is not
// plugged in) or that has not got bus numbers, ErrLoop, ErrScope, and what the Topology says.
func (s Scope) Resolve(segment uint16, top Topology) (pci.Address, error) {
	fail := func(err error) (pci.Address, error) {
		return pci.Address{}, &OpError{Op: "resolve", Target: s.String(), Err: err}
	}
	if !s.Type.known() || len(s.Path) == 0 {
		return fail(ErrScope)
	}
	if err := s.checkPath(); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrPath, err))
	}
	a := pci.Address{Domain: uint32(segment), Bus: s.Bus}
	for i, p := range s.Path {
		a.Device, a.Function = p.Device, p.Function
		if i == len(s.Path)-1 {
			break
		}
		b, ok, err := behind(top, a)
		if err != nil {
			return fail(err)
		}
		if !ok {
			return fail(fmt.Errorf("%w: %s", ErrNoBridge, a))
		}
		a.Bus = b.Secondary
	}
	return a, nil
}

// behind asks top for the buses behind a. Bus numbers grow on the way down; that they do
// is what ends every walk.
func behind(top Topology, a pci.Address) (Buses, bool, error) {
	b, ok, err := top.Buses(a)
	switch {
	case err != nil || !ok:
		return Buses{}, false, err
	case b.Secondary == 0:
		return Buses{}, false, nil // nobody has configured it
	case b.Secondary <= a.Bus || b.Subordinate < b.Secondary:
		return Buses{}, false, fmt.Errorf("%w: %s has the buses %02x to %02x behind it", ErrLoop, a, b.Secondary, b.Subordinate)
	}
	return b, true, nil
}

// Owners says which unit translates for which device.
type Owners struct {
	// Skipped has why a unit's scope could not be found among the machine's devices: an
	// empty slot behind a bridge, say.
	Skipped []error

	functions map[pci.Address]int
	bridges   []hierarchy
	rest      map[uint16]int // INCLUDE_PCI_ALL
}

// hierarchy is the buses that a bridge's scope covers.
type hierarchy struct {
	segment uint16
	buses   Buses
	unit    int
}

// Resolve looks the units' scopes up in the machine. Errors: ErrConflict for a function or bridge
// that two units list, ErrLoop, and what the Topology says. What is just not there goes
// to Owners.Skipped.
func (t *Table) Resolve(top Topology) (*Owners, error) {
	o := &Owners{functions: make(map[pci.Address]int), rest: make(map[uint16]int)}
	for i, u := range t.Units {
		if u.IncludeAll {
			o.rest[u.Segment] = i
		}
		for _, s := range u.Scopes {
			if err := o.add(i, u.Segment, s, top); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// add enters a unit's scope. I/O APICs and HPETs only send interrupts: they own no
// function's DMA.
func (o *Owners) add(unit int, segment uint16, s Scope, top Topology) error {
	if s.Type != ScopeEndpoint && s.Type != ScopeBridge && s.Type != ScopeNamespace {
		return nil
	}
	a, err := s.Resolve(segment, top)
	if errors.Is(err, ErrNoBridge) {
		o.Skipped = append(o.Skipped, err)
		return nil
	}
	if err != nil {
		return err
	}
	if other, ok := o.functions[a]; ok && other != unit {
		return &OpError{Op: "resolve", Target: s.String(), Err: fmt.Errorf("%w %s: units %d and %d", ErrConflict, a, other, unit)}
	}
	o.functions[a] = unit
	if s.Type != ScopeBridge {
		return nil
	}
	// Firmware also lists non-transparent bridges and host bridges so: they have
	// nothing behind them and stand for themselves.
	b, ok, err := behind(top, a)
	if err != nil {
		return &OpError{Op: "resolve", Target: s.String(), Err: err}
	}
	if ok {
		o.bridges = append(o.bridges, hierarchy{segment, b, unit})
	}
	return nil
}

// Unit is the index in Table.Units of the unit that translates for the function, false if none does. A
// function that a unit lists belongs to it, else to the unit with the innermost bridge above it, else to the one with
// INCLUDE_PCI_ALL in its segment (section 8.3).
//
// A virtual function belongs to the unit of its physical function (section 8.3.3): ask for that one. Devices in
// Linux's own domains above 0xffff, which are behind an Intel VMD, carry its requester id:
// ask for the VMD.
func (o *Owners) Unit(a pci.Address) (int, bool) {
	if i, ok := o.functions[a]; ok {
		return i, true
	}
	if a.Domain > 1<<16-1 {
		return 0, false
	}
	best := -1
	for i, h := range o.bridges {
		if uint32(h.segment) == a.Domain && h.buses.Secondary <= a.Bus && a.Bus <= h.buses.Subordinate &&
			(best < 0 || h.buses.Secondary > o.bridges[best].buses.Secondary) {
			best = i
		}
	}
	if best >= 0 {
		return o.bridges[best].unit, true
	}
	i, ok := o.rest[uint16(a.Domain)]
	return i, ok
}

package measure

import (
	"context"
	"errors"

	"gommu/iommu"
	"gommu/pagetable"
	"gommu/qemu-tests/rung"
)

// Unit measures domains whose tables this process writes, on a rung whose unit is this process's (model, qtest, vm from within
// a guest), and with peers the plain way over the same unit, too. It blocks.
func Unit(ctx context.Context, name string, o rung.Options, peers bool, e Extent) (r Report, err error) {
	o.NoDomain, o.Devices = true, 2
	m, err := rung.Open(ctx, name, o)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	u := onUnit{m: m}
	defer func() { err = errors.Join(err, u.close()) }()
	if u.mem, err = m.Memory.Alloc(ctx, memorySize); err != nil {
		return Report{}, err
	}
	u.later(func() error { return m.Memory.Free(u.mem) })
	if err := u.openDomains(ctx); err != nil {
		return Report{}, err
	}
	cells := u.own(e)
	if peers {
		others, err := u.peers(e)
		if err != nil {
			return Report{}, err
		}
		cells = append(cells, others...)
	}
	if r, err = runWithLoops(ctx, e, cells); err != nil {
		return Report{}, err
	}
	r.Held = u.held()
	return r, nil
}

// runWithLoops measures cells, and then loops that are as long as a Map of a page.
func runWithLoops(ctx context.Context, e Extent, cells []Cell) (Report, error) {
	main, after := e.plan(cells), e.plan(loops(e, 1))
	main.After, after.Before = after.Steps(), main.Steps()
	r, err := Run(ctx, main)
	if err != nil {
		return Report{}, err
	}
	if page, ok := r.find(OwnTables, "batched", "map "+Page.Name, 1, Idle); ok {
		after.Cells = loops(e, page.P50)
	}
	l, err := Run(ctx, after)
	r.Rows = append(r.Rows, l.Rows...)
	return r, err
}

// memorySize is what is mapped again and again: enough for each shape.
const memorySize = 2 << 20

// onUnit is what is measured on a unit.
type onUnit struct {
	m               *rung.Machine
	mem             []byte
	strict, batched *iommu.Domain
	closers
}

// openDomains makes a domain for each flush policy, with a device each.
func (u *onUnit) openDomains(ctx context.Context) error {
	for i, d := range []struct {
		name   string
		policy iommu.Policy
		to     **iommu.Domain
	}{{"strict", iommu.Strict, &u.strict}, {"batched", iommu.Batched, &u.batched}} {
		opts := iommu.Options{Name: d.name, Flush: iommu.Flush{Policy: d.policy, Count: batchBurst}}
		domain, err := iommu.New(ctx, u.m.Memory, u.m.Tables, opts)
		if err != nil {
			return err
		}
		u.laterWithin(domain.Close)
		dev := iommu.Device{Source: u.m.Devices[i].Requester, Mask: u.m.Devices[i].Mask, Unit: u.m.Unit}
		if err := domain.Attach(dev); err != nil {
			return err
		}
		u.later(func() error { return domain.Detach(dev) })
		region, err := domain.Register(ctx, u.mem, iommu.Bidirectional)
		if err != nil {
			return err
		}
		u.later(region.Close)
		*d.to = domain
	}
	return nil
}

// own are the cells of the domains.
func (u *onUnit) own(e Extent) []Cell {
	strict := family{NewDomain(u.strict, u.mem), OwnTables, "strict", 1, Shapes()}
	batched := family{NewDomain(u.batched, u.mem), OwnTables, "batched", batchBurst, Shapes()}
	ring := family{NewRing(u.batched, u.mem, ringBurst), OwnTables, "ring", ringBurst, Shapes()}
	cells := append(strict.each(), batched.each()...)
	cells = append(cells, ring.each()...)
	cells = append(cells, batched.beside(e.neighbours())...)
	cells = append(cells, batched.crowded()...)
	if !e.Short {
		cells = append(cells, ring.beside(e.neighbours())...)
		cells = append(cells, ring.crowded()...)
		cells = append(cells, strict.crowded()...)
	}
	return cells
}

// peers are the cells of the plain way and of the table alone.
func (u *onUnit) peers(e Extent) ([]Cell, error) {
	t, err := pagetable.New(u.m.Tables.Memory, u.m.Tables.Frames, u.m.Tables.Table)
	if err != nil {
		return nil, err
	}
	u.later(t.Close)
	id, err := u.m.Unit.AllocDomain()
	if err != nil {
		return nil, err
	}
	u.later(func() error { return u.m.Unit.FreeDomain(id) })
	at, err := u.m.Memory.Pin(u.mem)
	if err != nil {
		return nil, err
	}
	u.later(func() error { return u.m.Memory.Unpin(u.mem) })
	c := ListConfig{Unit: u.m.Unit, Table: t, Domain: id, Mem: u.mem, At: at, Every: 1}
	strict := family{NewMutexList(c), MutexList, "strict", 1, Shapes()}
	c.Every = batchBurst
	batched := family{NewMutexList(c), MutexList, "batched", batchBurst, Shapes()}
	alone := family{NewTable(c), TableAlone, "", 1, Shapes()}
	cells := append(strict.each(), batched.each()...)
	cells = append(cells, alone.each()...)
	cells = append(cells, batched.beside(e.neighbours())...)
	return append(cells, batched.crowded()...), nil
}

// loops are the cells of a loop whose calls take so many nanoseconds.
func loops(e Extent, ns float64) []Cell {
	f := family{NewLoop(calibrate(ns)), LoopName, "", 1, []Shape{Page}}
	cells := append(f.each(), f.beside(e.neighbours())...)
	return append(cells, f.crowded()...)
}

// held is what the pools hold that both domains share.
func (u *onUnit) held() []Held {
	s := u.m.Tables.Frames.Stats()
	return []Held{
		{OwnTables, "frames in tables, of all domains, rings and peers while nothing is mapped", int64(s.InUse) * pagetable.FrameSize},
		{OwnTables, "frames ready in the pool", int64(s.Free) * pagetable.FrameSize},
	}
}

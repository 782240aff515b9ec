package iommu

import (
	"context"
	"errors"
	"fmt"

	"gommu/internal/procpin"
	"gommu/iommu/iova"
	"gommu/respool"
)

// premapped is what a domain has over tables of a kernel instead of a table.
type premapped struct {
	mapper Mapper
	page   uint64 // of the kernel's mappings
	space  *iova.Space
	top    uint64 // the highest IOVA that it has
	whose  []uint16
	budget budget
}

// newPremapped asks what can be mapped.
func newPremapped(ctx context.Context, m Mapper, opts *Options) (*premapped, error) {
	l, err := m.Limits()
	if err != nil {
		return nil, err
	}
	if l.Page < pageSize || l.Page&(l.Page-1) != 0 {
		return nil, fmt.Errorf("%w: pages of %#x bytes", ErrUnsupported, l.Page)
	}
	o := iova.Options{Name: opts.Name}
	for _, r := range l.Ranges {
		o.Ranges = append(o.Ranges, iova.Range(r))
	}
	for _, r := range opts.Reserved {
		o.Reserved = append(o.Reserved, iova.Range(r))
	}
	top := uint64(0)
	for _, r := range l.Ranges {
		if r.Start <= opts.Mask {
			top = max(top, min(r.Last, opts.Mask))
		}
	}
	o.Below = opts.Mask + 1 // 0 if that is all
	o.Guard, o.Random = opts.Guard, opts.Random
	for k := range o.Stock {
		o.Stock[k].Max = respool.None // regions are placed where one may sleep
	}
	space, err := iova.New(ctx, o)
	if err != nil {
		return nil, err
	}
	return &premapped{mapper: m, page: l.Page, space: space, top: top, whose: l.Sources, budget: budget{limit: l.Entries}}, nil
}

// enter maps a region at a place. What is large gets an IOVA that is as far from a multiple of 2 MiB as its memory is: so the
// kernel can use superpages.
func (p *premapped) enter(ctx context.Context, r *Region, at Place) error {
	if (uint64(r.start)|r.size)%p.page != 0 {
		return fmt.Errorf("%w: the kernel maps pages of %#x bytes", ErrRange, p.page)
	}
	if err := p.budget.take(); err != nil {
		return err
	}
	q := at.request(r.size)
	q.Align = max(q.Align, p.page)
	skip := uint64(0)
	if r.size >= slabSize && !at.Fixed {
		if at == (Place{}) {
			skip = uint64(r.start) % slabSize
		}
		q.Size += skip
		q.Align = max(q.Align, slabSize)
	}
	w, err := p.space.AllocWait(ctx, q)
	if err != nil {
		p.budget.give()
		return placeError(err, at)
	}
	r.window, r.iova = w, w.Start+skip
	if err := p.mapper.MapDMA(r.iova, r.mem, r.dir.prot()); err != nil {
		p.budget.give()
		return errors.Join(p.budget.refused(err), p.space.FreeWait(w))
	}
	return nil
}

// leave takes a region away from the devices. If the kernel refuses, all stays as it is.
func (p *premapped) leave(r *Region) error {
	if err := p.mapper.UnmapDMA(r.iova, r.size); err != nil {
		return err
	}
	p.budget.give()
	return p.space.FreeWait(r.window)
}

// placeError is what no place was found for, in words of this package.
func placeError(err error, at Place) error {
	switch {
	case errors.Is(err, iova.ErrInUse):
		return fmt.Errorf("%w: %w", ErrOverlap, err)
	case at.Mask != 0 && errors.Is(err, iova.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrMask, err)
	case errors.Is(err, iova.ErrBadRequest):
		return fmt.Errorf("%w: %w", ErrRange, err)
	}
	return err
}

// NewPremapped returns an empty domain over tables of a kernel, which takes all IOVAs that m has. Memory is mapped ahead, by
// Register, and by a worker for bounce buffers: as long as it is registered, all of it is what the devices reach, in the direction
// that it was registered for, whether some of it is mapped at this moment or not. Unmap takes nothing away from them;
// what is to be out of their reach must not be in a region. The bounce buffers they always reach, with what
// was copied through last. It blocks.
//
// mem and m stay the caller's, and are needed until Close.
func NewPremapped(ctx context.Context, mem Memory, m Mapper, opts Options) (*Domain, error) {
	d, err := newDomain(mem, opts)
	if err == nil {
		err = d.openPremapped(ctx, m)
	}
	if err != nil {
		return nil, &OpError{Op: opNew, Domain: opts.Name, Err: err}
	}
	return d, nil
}

// openPremapped makes the parts of a premapped domain.
func (d *Domain) openPremapped(ctx context.Context, m Mapper) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release(context.WithoutCancel(ctx)))
		}
	}()
	if m == nil {
		return fmt.Errorf("%w: the mapper must be given", ErrOptions)
	}
	if d.premapped, err = newPremapped(ctx, m, &d.opts); err != nil {
		return err
	}
	d.top = d.premapped.top
	d.subject.attached(d.premapped.whose)
	// What lies in the processors' caches is beyond what was asked for.
	d.owned = ownRecords * shardCount()
	if err := d.start(ctx, d.owned, d.opts.MaxMappings+extraCache*shardCount()); err != nil {
		return err
	}
	for i := range d.shards {
		d.shards[i].at = uint32(1 + i*ownRecords)
	}
	d.quick = procpin.Works && !d.opts.NonCoherent
	if d.opts.Bounce.Off {
		return nil
	}
	return d.openBounce(ctx)
}

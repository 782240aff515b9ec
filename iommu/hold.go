package iommu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gommu/pagetable"
)

// hold keeps the tables of a block ready, so that no Map in windows smaller than it needs a frame and no Unmap takes
// a table out of use. The space calls it before it hands out the first of them.
func (d *Domain) hold(ctx context.Context, level int, iova, size uint64) error {
	for {
		err := d.table.Hold(iova, size, level)
		if !errors.Is(err, ErrEmpty) {
			return err
		}
		if err := d.frames.Wait(ctx); err != nil {
			return err
		}
	}
}

// patience is how long those wait for a unit who have no context. Linux waits for an invalidation without end, but a
// unit of package vtd that is asked by somebody who may sleep gives up after a second.
const patience = 10 * time.Second

// flushSoon is flusher.flush for them: a unit that says nothing for so long has failed.
func (d *Domain) flushSoon() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := d.flusher.flush(ctx)
	if err != nil && ctx.Err() != nil {
		d.flusher.failed.Store(true)
		err = fmt.Errorf("%w: nothing was heard of it for %v", ErrFlush, patience)
		d.tell(err)
	}
	return err
}

// An unheld block waits for its flush.
type unheld struct {
	level int
	iova  uint64
}

// unhold lets them go. When it returns nil no unit has them cached any more, and their frames are back.
func (d *Domain) unhold(level int, iova, size uint64) error {
	at := unheld{level, iova}
	d.holds.Lock()
	b := d.unheld[at]
	if b == nil {
		b = new(pagetable.Batch)
		if err := d.table.Unhold(iova, size, level, b); err != nil {
			d.holds.Unlock()
			return err
		}
		d.unheld[at] = b
		d.check.unheld(level, iova, size)
	}
	d.holds.Unlock()
	var err error
	if keep(stepUnhold) {
		err = d.flushSoon()
	}
	if err == nil {
		d.check.released(level, iova)
		err = b.Release()
	}
	if err != nil {
		return err // the space calls again
	}
	d.holds.Lock()
	delete(d.unheld, at)
	d.holds.Unlock()
	return nil
}

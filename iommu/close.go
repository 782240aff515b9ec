package iommu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Close ends the domain: it detaches the devices that are attached still, flushes, and gives everything back. While
// mappings are live it is refused with ErrMapped, which names them, and nothing has changed. Calls that
// come at the same time are answered with ErrClosed, even if it is refused then. If it fails otherwise, call it again.
// Calling it once more after success does nothing. It blocks.
func (d *Domain) Close(ctx context.Context) error { return d.end(ctx, false) }

// CloseForced is Close, but unmaps what is live first. Nobody uses these mappings any more, nor the devices the memory. It blocks.
func (d *Domain) CloseForced(ctx context.Context) error { return d.end(ctx, true) }

func (d *Domain) end(ctx context.Context, forced bool) error {
	d.life.Lock()
	defer d.life.Unlock()
	if d.gone {
		return nil
	}
	err := d.quiet(ctx, forced)
	if err == nil {
		err = d.closeRings()
	}
	if err == nil {
		err = d.detachAll()
	}
	if err == nil {
		err = d.settle(ctx, 0)
	}
	if err == nil {
		err = d.release(ctx)
	}
	d.gone = err == nil // then what follows are only reports
	err = errors.Join(err, d.tellCheck())
	if err != nil {
		return &OpError{Op: opClose, Domain: d.opts.Name, Err: err}
	}
	return nil
}

// quiet closes the domain to calls that make mappings, and waits for those that are inside.
func (d *Domain) quiet(ctx context.Context, forced bool) error {
	if live, _, _ := d.census(0); live > 0 && !forced {
		return d.mapped()
	}
	if slices.ContainsFunc(*d.rings.Load(), func(r *Ring) bool { return r != nil }) && !forced {
		return fmt.Errorf("%w: there is a ring: close it first", ErrMapped)
	}
	d.closed.Store(true)
	d.grace()
	for {
		strays := d.strays.Load() // first: those who leave meanwhile have shown their records
		live, mapping, _ := d.census(0)
		switch {
		case mapping > 0 || strays != 0:
		case live == 0:
			return nil
		case forced:
			d.unmapAll()
			return nil
		default:
			d.closed.Store(false)
			return d.mapped()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// unmapAll unmaps what is live. What a unit does not confirm, settle finds.
func (d *Domain) unmapAll() {
	for i := range d.records {
		if m, ok := d.live(uint32(i)); ok {
			if d.table == nil {
				_ = d.unmapPremapped(m)
				continue
			}
			r, ring := &d.records[i], uint32(0)
			if r.kind() == kindRing {
				ring = r.aux
			}
			if rec, err := d.claim(m, ring); err == nil {
				_ = d.remove(rec)
			}
		}
	}
}

// mapped is the error that names live mappings.
func (d *Domain) mapped() error {
	const most = 4
	var names []string
	all := d.Live()
	for _, m := range all[:min(len(all), most)] {
		names = append(names, fmt.Sprintf("%#x bytes at %#x", m.size, m.iova))
	}
	if len(all) > most {
		names = append(names, fmt.Sprintf("%d more", len(all)-most))
	}
	return fmt.Errorf("%w: %s", ErrMapped, strings.Join(names, ", "))
}

// detachAll detaches what the caller left attached.
func (d *Domain) detachAll() error {
	for _, dev := range slices.Backward(d.devices) {
		if err := d.detach(dev); err != nil {
			return fmt.Errorf("detach of device %#04x: %w", dev.Source, err)
		}
	}
	return nil
}

// settle flushes until no record of a region, or of any with region 0, waits for it.
func (d *Domain) settle(ctx context.Context, region uint32) error {
	for {
		if err := d.flush(ctx); err != nil {
			return err
		}
		if _, _, unmapping := d.census(region); unmapping == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// release gives back what the domain is made of. No call is under way, nothing is mapped. It may be called again.
func (d *Domain) release(ctx context.Context) error {
	if d.stop != nil {
		d.stop()
		<-d.stopped
	}
	d.grace() // who has given back the last record may be about to put its window into a shard
	if err := d.closeShards(); err != nil {
		return err
	}
	if err := d.closeRegions(ctx); err != nil {
		return err
	}
	var errs []error
	if d.space != nil {
		errs = append(errs, d.space.Close(ctx))
	}
	if d.extra != nil {
		errs = append(errs, d.extra.Close(ctx))
	}
	if d.slots != nil {
		errs = append(errs, d.slots.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil || d.table == nil {
		return err
	}
	return d.table.Close()
}

// closeRings closes what rings there are. Nothing is mapped in them.
func (d *Domain) closeRings() error {
	for _, r := range *d.rings.Load() {
		if r == nil {
			continue
		}
		if err := r.close(); err != nil {
			return err
		}
	}
	return nil
}

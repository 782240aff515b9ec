//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"gommu/respool"
	"gommu/vfio/edu"
)

const (
	pageSize   = 4096
	demoCopies = 8               // pages copied by the device
	demoBytes  = edu.MaxTransfer // of each page: as much as the device's buffer takes
)

// closePool closes a stage's pool. Everything is back by then; what is not does
// not come any more.
func closePool[T any](p *respool.Pool[T]) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return p.Close(ctx)
}

// A demonstration is one run over a stage. What it sees goes into the report;
// an error says what did not hold.
type demonstration struct {
	*stage
	r *report

	// beforeTransfer, if set, is asked before the nth transfer (from 0): tests
	// make it fail there.
	beforeTransfer func(n int) error
}

// run copies random bytes through the device from page to page, then lets it
// reach for memory that is not mapped, then for memory that no longer is.
func (d *demonstration) run(ctx context.Context) error {
	for range demoCopies {
		if err := d.copyPage(ctx); err != nil {
			return err
		}
	}
	if err := d.reachOutside(ctx); err != nil {
		return fmt.Errorf("access outside every mapping: %w", err)
	}
	if err := d.reachUnmapped(ctx); err != nil {
		return fmt.Errorf("access after unmap: %w", err)
	}
	return nil
}

// copyPage has the device copy one page's bytes to another page.
func (d *demonstration) copyPage(ctx context.Context) (err error) {
	from, err := d.mapPage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.release(ctx, from)) }()
	to, err := d.mapPage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.release(ctx, to)) }()

	rand.Read(from.mem)
	rand.Read(to.mem)
	sent, guard := bytes.Clone(from.mem), bytes.Clone(to.mem[demoBytes:])
	if err := d.intact(from, to); err != nil {
		return err
	}
	if err := d.read(ctx, from.iova()); err != nil {
		return err
	}
	if err := d.write(ctx, to.iova()); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(from.mem, sent):
		return fmt.Errorf("the device changed the page at %#x, which it was to read", from.iova())
	case !bytes.Equal(to.mem[:demoBytes], sent[:demoBytes]):
		return fmt.Errorf("the page at %#x does not hold the %d bytes that the device read at %#x", to.iova(), demoBytes, from.iova())
	case !bytes.Equal(to.mem[demoBytes:], guard):
		return fmt.Errorf("the device wrote past the %d bytes it was told to write at %#x", demoBytes, to.iova())
	}
	d.r.BytesVerified += demoBytes
	return d.intact(to)
}

// read has the device fill its buffer from iova, write has it empty its
// buffer there.
func (d *demonstration) read(ctx context.Context, iova uint64) error {
	return d.transfer(ctx, iova, d.edu.ReadMemory)
}

func (d *demonstration) write(ctx context.Context, iova uint64) error {
	return d.transfer(ctx, iova, d.edu.WriteMemory)
}

func (d *demonstration) transfer(ctx context.Context, iova uint64, start func(ctx context.Context, iova uint64, off, n int) error) error {
	if d.beforeTransfer != nil {
		if err := d.beforeTransfer(d.r.Transfers); err != nil {
			return err
		}
	}
	d.r.Transfers++
	return start(ctx, iova, 0, demoBytes)
}

// reachOutside lets the device write where nothing is mapped.
func (d *demonstration) reachOutside(ctx context.Context) error {
	if err := d.intact(); err != nil {
		return err
	}
	iova := d.outside()
	if err := d.write(ctx, iova); err != nil {
		return err
	}
	d.r.BlockedBytes = d.changed()
	fault, err := d.fault(ctx, iova)
	if err != nil {
		return err
	}
	d.r.Fault = fault
	if d.r.BlockedBytes > 0 {
		return fmt.Errorf("the blocked write to %#x changed %d bytes of memory", iova, d.r.BlockedBytes)
	}
	return nil
}

// intact fails if memory other than the given pages has changed.
func (d *demonstration) intact(except ...page) error {
	if n := d.changed(except...); n > 0 {
		return fmt.Errorf("%d bytes changed of memory that the device was not to write", n)
	}
	return nil
}

// reachUnmapped lets the device use a page, takes the page away and lets the
// device try again. The device's last write warms the unit's cache, so only a
// finished invalidation can block the try.
func (d *demonstration) reachUnmapped(ctx context.Context) (err error) {
	p, err := d.mapPage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.release(ctx, p)) }()
	rand.Read(p.mem)
	if err := errors.Join(d.read(ctx, p.iova()), d.write(ctx, p.iova())); err != nil {
		return err
	}
	if err := d.unmapPage(p); err != nil {
		return err
	}
	stale, err := d.reaches(ctx, p)
	if err != nil {
		return err
	}
	d.r.StaleReached = &stale
	if err := d.invalidate(ctx, p); err != nil {
		return err
	}
	reached, err := d.reaches(ctx, p)
	if err != nil {
		return err
	}
	if reached {
		return fmt.Errorf("the device still reaches the page at %#x after its invalidation", p.iova())
	}
	if _, err := d.fault(ctx, p.iova()); err != nil {
		return err
	}
	d.r.StaleBlocked = true
	return nil
}

// reaches says whether a write of the device to p's IOVA arrives in p's
// memory. It must arrive nowhere else. The device's buffer holds what p held
// last, so p is given other bytes first.
func (d *demonstration) reaches(ctx context.Context, p page) (bool, error) {
	for i := range p.mem {
		p.mem[i] ^= 0xff
	}
	before := bytes.Clone(p.mem)
	if err := d.intact(p); err != nil {
		return false, err
	}
	if err := d.write(ctx, p.iova()); err != nil {
		return false, err
	}
	return !bytes.Equal(p.mem, before), d.intact(p)
}

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

// A stage is a rung made ready for the demonstration: a device behind an
// IOMMU, and memory that can be mapped for it page by page.
type stage interface {
	// engine is the device, which can copy between its buffer and an IOVA.
	engine() engine
	// mapPage gives a page of memory that is mapped for the device to read and
	// write, and release takes it back, whatever became of its mapping.
	mapPage() (page, error)
	release(page) error
	// unmapPage removes the page's mapping.
	unmapPage(page) error
	// invalidate makes the unit forget the pages that were unmapped. invalidates
	// says whether the rung leaves that to us; where the kernel owns the
	// tables, unmapPage has done it.
	invalidate() error
	invalidates() bool
	// outside is an IOVA that no mapping covers.
	outside() uint64
	// fault waits for the record of a blocked request at iova.
	fault(ctx context.Context, iova uint64) (*faultReport, error)
	// changed counts the bytes that changed since the call before in memory
	// other than the given pages: in what the device had no business with.
	changed(except ...page) int
}

// An engine is a device with a buffer of demoBytes or more. It reads n bytes of
// memory at an IOVA into it at offset off, and writes them from there.
type engine interface {
	ReadMemory(ctx context.Context, iova uint64, off, n int) error
	WriteMemory(ctx context.Context, iova uint64, off, n int) error
}

// A page is a mapped page: the device reaches mem at iova.
type page struct {
	iova uint64
	mem  []byte
}

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
	stage
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
	defer func() { err = errors.Join(err, d.release(from)) }()
	to, err := d.mapPage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.release(to)) }()

	rand.Read(from.mem)
	rand.Read(to.mem)
	sent, guard := bytes.Clone(from.mem), bytes.Clone(to.mem[demoBytes:])
	if err := d.intact(from, to); err != nil {
		return err
	}
	if err := d.read(ctx, from.iova); err != nil {
		return err
	}
	if err := d.write(ctx, to.iova); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(from.mem, sent):
		return fmt.Errorf("the device changed the page at %#x, which it was to read", from.iova)
	case !bytes.Equal(to.mem[:demoBytes], sent[:demoBytes]):
		return fmt.Errorf("the page at %#x does not hold the %d bytes that the device read at %#x", to.iova, demoBytes, from.iova)
	case !bytes.Equal(to.mem[demoBytes:], guard):
		return fmt.Errorf("the device wrote past the %d bytes it was told to write at %#x", demoBytes, to.iova)
	}
	d.r.BytesVerified += demoBytes
	return d.intact(to)
}

// read has the device fill its buffer from iova, write has it empty its
// buffer there.
func (d *demonstration) read(ctx context.Context, iova uint64) error {
	return d.transfer(ctx, iova, d.engine().ReadMemory)
}

func (d *demonstration) write(ctx context.Context, iova uint64) error {
	return d.transfer(ctx, iova, d.engine().WriteMemory)
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
	defer func() { err = errors.Join(err, d.release(p)) }()
	rand.Read(p.mem)
	if err := errors.Join(d.read(ctx, p.iova), d.write(ctx, p.iova)); err != nil {
		return err
	}
	if err := d.unmapPage(p); err != nil {
		return err
	}
	if d.invalidates() {
		reached, err := d.reaches(ctx, p)
		if err != nil {
			return err
		}
		d.r.StaleReached = &reached
	}
	if err := d.invalidate(); err != nil {
		return err
	}
	reached, err := d.reaches(ctx, p)
	if err != nil {
		return err
	}
	if reached {
		return fmt.Errorf("the device still reaches the page at %#x after its invalidation", p.iova)
	}
	if _, err := d.fault(ctx, p.iova); err != nil {
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
	if err := d.write(ctx, p.iova); err != nil {
		return false, err
	}
	return !bytes.Equal(p.mem, before), d.intact(p)
}

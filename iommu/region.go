package iommu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gommu/internal/probe"
	"gommu/iommu/iova"
	"gommu/pagetable"
)

// A Region is memory that was registered: it is pinned, and its bus addresses are known.
type Region struct {
	d     *Domain
	id    uint32    // 1 to regionMask, of records that have a mapping of it
	start uintptr   // of the memory in this process; 0 if it is none
	size  uint64    // bytes, whole pages
	dir   Direction // what mappings may be at most
	mem   []byte    // kept alive; nil for a bus range
	purpose

	// Where it is on the bus: in one piece from bus on if extents is nil, or in pieces, of which the
	// ith begins starts[i] bytes after the region does.
	bus     uint64
	extents []pagetable.Extent
	starts  []uint64

	iova   uint64      // of its first byte, in a premapped domain
	window iova.Window // that iova lies in

	// closing is set while nothing of the region can be mapped. Close sets it
	// and then looks for records of the region; a Map makes its record show the region and then looks at closing.
	// So one of the two sees the other.
	closing atomic.Bool
	single  atomic.Bool // it is for one mapping, after which the worker closes it
	retired atomic.Bool // that is unmapped
	freeing atomic.Bool // Domain.Free has unmapped the buffer

	mu                           sync.Mutex // of who closes
	entered, pinned, mapped, own bool       // what is to be undone; own: and the memory freed
	closed                       bool
}

// A purpose is what a region is registered for.
type purpose uint8

const (
	forBus purpose = iota // a bus range
	forAll                // what Map finds by its address
	forUse                // the domain itself: bounce buffers, one mapping
)

// Register pins mem, whole 4096-byte pages that stay mapped in this process until the region is closed. dir is what
// mappings of it may be at most. Any slice of mem can be mapped by Domain.Map from then on.
//
// In a premapped domain this is what lets the devices reach mem, all of it, in this direction, until the
// region is closed; it takes one of the kernel's mappings, whatever its size.
//
// It may sleep. Errors: ErrZeroSize, ErrRange (not whole pages), ErrDirection, ErrRegistered (mem overlaps a region), ErrMemory,
// ErrBudget, ErrClosed, those of the Memory and of the Mapper.
func (d *Domain) Register(ctx context.Context, mem []byte, dir Direction) (*Region, error) {
	r, err := d.openRegion(ctx, mem, false, dir, forAll, Place{})
	if err != nil {
		return nil, d.wrap(opRegister, 0, uint64(len(mem)), err)
	}
	return r, nil
}

// RegisterBus makes a region of a bus range that is no memory of this process, such as a BAR of another function: Region.Map
// maps it. A premapped domain cannot: ErrUnsupported. It may sleep.
func (d *Domain) RegisterBus(ctx context.Context, bus, size uint64, dir Direction) (*Region, error) {
	d.regions.gate.RLock()
	defer d.regions.gate.RUnlock()
	r := &Region{d: d, bus: bus, size: size, dir: dir}
	err := d.checkRegion(ctx, bus, size, dir)
	if err == nil && d.premapped != nil {
		err = ErrUnsupported
	}
	if err == nil {
		err = d.regions.add(r)
		r.entered = err == nil
	}
	if err != nil {
		return nil, d.wrap(opRegister, 0, size, err)
	}
	return r, nil
}

// checkRegion says what is wrong with what is to be registered.
func (d *Domain) checkRegion(ctx context.Context, at, size uint64, dir Direction) error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case size == 0:
		return ErrZeroSize
	case !dir.valid():
		return ErrDirection
	case (at|size)%pageSize != 0:
		return fmt.Errorf("%w: it is not whole pages of %d bytes", ErrRange, pageSize)
	case at+size-1 < at:
		return fmt.Errorf("%w: it passes the end of the address space", ErrRange)
	}
	return nil
}

// openRegion makes a region: it is entered, so that nobody else registers the same memory, pinned and, in a premapped domain, mapped at a
// place. All of it or nothing. If the memory is the domain's own it is freed with the region, and if this fails.
func (d *Domain) openRegion(ctx context.Context, mem []byte, own bool, dir Direction, what purpose, p Place) (*Region, error) {
	d.regions.gate.RLock()
	defer d.regions.gate.RUnlock()
	r := &Region{d: d, start: addressOf(mem), size: uint64(len(mem)), dir: dir, mem: mem, purpose: what, own: own}
	err := d.checkRegion(ctx, uint64(r.start), r.size, dir)
	if err == nil {
		err = r.open(ctx, p)
	}
	if err != nil {
		return nil, errors.Join(err, r.undo())
	}
	d.regions.show(r)
	return r, nil
}

func (r *Region) open(ctx context.Context, p Place) error {
	d := r.d
	if err := d.regions.add(r); err != nil {
		return err
	}
	r.entered = true
	x, err := d.mem.Pin(r.mem)
	if err != nil {
		return err
	}
	r.pinned = true
	if err := r.place(x); err != nil || d.premapped == nil {
		return err
	}
	err = d.premapped.enter(ctx, r, p)
	r.mapped = err == nil
	return err
}

// place takes down where the region lies on the bus.
func (r *Region) place(x []pagetable.Extent) error {
	if r.d.premapped != nil {
		return nil
	}
	var at uint64
	for _, e := range x {
		r.starts = append(r.starts, at)
		at += e.Size
	}
	if at != r.size {
		return fmt.Errorf("%w: bus addresses of %#x bytes are known of %#x", ErrMemory, at, r.size)
	}
	if len(x) == 1 {
		r.bus, r.starts = x[0].Bus, nil
	} else {
		r.extents = x
	}
	return nil
}

// undo takes back what open did. After an error it can be called again.
func (r *Region) undo() error {
	if r.mapped {
		if err := r.d.premapped.leave(r); err != nil {
			return err
		}
		r.mapped = false
	}
	if r.pinned {
		r.d.check.unpinned(r.id)
		if err := r.d.mem.Unpin(r.mem); err != nil {
			return err
		}
		r.pinned = false
	}
	if r.entered {
		r.d.regions.remove(r)
		r.entered = false
	}
	if r.own {
		if err := r.d.mem.Free(r.mem); err != nil {
			return err
		}
		r.own = false
	}
	return nil
}

// Map maps size bytes of the region from off on, as Domain.Map does.
//
//gommu:nosleep
func (r *Region) Map(off, size uint64, dir Direction) (Mapping, error) {
	if begin := probe.Begin(probe.Map); begin != 0 {
		m, err := r.mapPart(off, size, dir)
		r.d.subject.tellMap(begin, m, size, dir, err)
		return m, err
	}
	return r.mapPart(off, size, dir)
}

//gommu:nosleep
func (r *Region) mapPart(off, size uint64, dir Direction) (Mapping, error) {
	if size == 0 || !dir.valid() {
		return Mapping{}, r.d.refuse(opMap, Mapping{size: size}, wrong(size, dir))
	}
	if off >= r.size || size > r.size-off {
		return Mapping{}, r.d.refuse(opMap, Mapping{size: size}, ErrRange)
	}
	return r.d.mapRegion(r, off, size, dir, 0)
}

// Close unpins the memory; in a premapped domain the devices reach it until then. While something of it is mapped it
// is refused with ErrMapped, which names one mapping, and nothing has changed. A Map at the same time may fail
// with ErrNotRegistered even so. What was unmapped and waits for its flush is flushed first.
//
// It may sleep. Twice is harmless. After another error nothing of the region can be mapped any more, the memory must stay,
// and Close can be called again.
func (r *Region) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closing.Store(true)
	r.hide()
	if err := r.settle(); err != nil {
		if errors.Is(err, ErrMapped) {
			r.closing.Store(false)
			r.d.regions.show(r)
		}
		return err
	}
	if err := r.undo(); err != nil {
		return r.d.wrap(opCloseRegion, r.iova, r.size, err)
	}
	r.closed = true
	return nil
}

// hide has nobody find the region, and returns when everybody who has found it where the record is written without a fence
// has written it: he is pinned meanwhile.
func (r *Region) hide() {
	r.d.regions.hide(r)
	if r.purpose == forAll && r.d.quick {
		r.d.grace()
	}
}

// settle looks for records of the region, and returns when there are none.
func (r *Region) settle() error {
	for end := time.Now().Add(settleTime); ; {
		m, live, pending := r.records()
		pending = pending && keep(stepRegion)
		switch {
		case live:
			return r.d.refuse(opCloseRegion, m, fmt.Errorf("%w: at least this mapping is live", ErrMapped))
		case !pending:
			return nil
		case time.Now().After(end):
			return r.d.refuse(opCloseRegion, m, fmt.Errorf("%w: something of it waits for the Flush of a ring", ErrMapped))
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := r.d.flush(ctx)
		cancel()
		if err != nil {
			return r.d.wrap(opCloseRegion, r.iova, r.size, err)
		}
		time.Sleep(pause)
	}
}

// settleTime is how long Close waits for calls that are under way on other goroutines.
const settleTime = time.Second

// records looks through all records for those of the region: one of them, whether it is live, and
// whether any wait or are on their way.
func (r *Region) records() (m Mapping, live, pending bool) {
	for n := range r.d.records {
		rec := &r.d.records[n]
		s := rec.state.Load()
		if regionOf(s) != r.id || phaseOf(s) == phaseFree {
			continue
		}
		m = Mapping{iova: rec.iova.get(), size: rec.size.get(), number: uint32(n)}
		if p := phaseOf(s); p == phaseLive || p == phasePart {
			return m, true, true
		}
		pending = true
	}
	return m, false, pending
}

// retire has the worker close a region, if it was registered for one mapping. That is unmapped. The caller has looked it
// up while a record showed it: later its id may be another's.
//
//gommu:nosleep
func (d *Domain) retire(r *Region) {
	if r != nil && r.single.Load() {
		r.retired.Store(true)
		d.reapable.Store(true)
	}
}

// reap closes what was retired.
func (d *Domain) reap() error {
	d.reaping.Lock()
	defer d.reaping.Unlock()
	if !d.reapable.Swap(false) {
		return nil
	}
	var errs []error
	for _, r := range d.regions.all() {
		if !r.retired.Load() {
			continue
		}
		if err := r.Close(); err != nil {
			d.reapable.Store(true) // try again
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// upkeep is the worker's part in regions.
func (d *Domain) upkeep() {
	if err := d.reap(); err != nil {
		d.tell(err)
	}
	if d.premapped != nil {
		d.premapped.budget.tell(d.opts.OnBudget)
	}
}

// closeRegions closes all regions and gives up the bounce buffers, when nothing is mapped and the worker has ended. It
// may be called again.
func (d *Domain) closeRegions(ctx context.Context) error {
	d.regions.waitOpen() // those who come now see that the domain is closed
	if d.bounce != nil {
		if err := d.bounce.close(ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, r := range d.regions.all() {
		errs = append(errs, r.Close())
	}
	if err := errors.Join(errs...); err != nil || d.premapped == nil {
		return err
	}
	return d.premapped.space.Close(ctx)
}

// More values of OpError.Op.
const (
	opRegister    = "register"
	opCloseRegion = "close region"
	opAlloc       = "allocate"
	opSync        = "sync"
)

// wrap makes an error one of this package.
func (d *Domain) wrap(op string, iova, size uint64, err error) error {
	return &OpError{Op: op, Domain: d.opts.Name, IOVA: iova, Size: size, Err: err}
}

func (r *Region) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

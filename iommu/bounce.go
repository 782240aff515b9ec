package iommu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"gommu/respool"
)

// Bounce buffers stand between devices and memory that is not registered: Map copies into one, and Unmap back. They
// are carved from slabs of 2 MiB, which a worker allocates and registers ahead of time and gives back when they are idle.

// bouncer is a domain's stock of bounce buffers.
type bouncer struct {
	slabs *respool.Pool[uint32] // by number
	slots [bounceClasses]*respool.Pool[slot]
	carve carver

	table  []atomic.Pointer[slab] // by number; fixed
	source slabSource
	wipe   bool // clear what a device reaches beside a buffer
}

// mapForeign maps memory that is in no region.
//
//gommu:nosleep
func (d *Domain) mapForeign(mem []byte, dir Direction) (Mapping, error) {
	n := uint64(len(mem))
	if d.bounce == nil {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrNotRegistered)
	}
	x, err := d.bounce.take(mem, 0)
	switch {
	case err == ErrBounce:
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, err)
	case err != nil:
		return Mapping{}, err
	case d.table != nil:
		return d.mapRegion(x.r, x.off, n, dir, uint32(x.slot)+1)
	}
	d.flushLines(x.r, x.off, n)
	m, err := d.record(use{iova: x.r.iova + x.off, size: n, phase: phaseLive, dir: dir, slot: uint32(x.slot) + 1})
	if err != nil {
		d.bounce.free(uint32(x.slot))
	}
	return m, err
}

// A slab is registered memory that slots lie in.
type slab struct {
	r     *Region
	users [slabPages]slotUser // by the slot's first page
}

// slotUser is what a slot in use stands for. It is on the Go heap, so that the memory of the user, which may be
// too, is not collected; the records, which are not looked at, only have the slot's number.
type slotUser struct {
	mem []byte
	off uint64 // of mem in the mapping
}

const (
	defaultSlabsLow, defaultSlabsHigh, defaultSlabsMax = 1, 2, 64

	maxSlabs = 1 << 14 // what a record's number of a slot can tell apart
)

// What is kept ready of each class. All Low together are one slab.
var slotsLow, slotsHigh = [bounceClasses]int{64, 8, 1}, [bounceClasses]int{256, 16, 2}

// openBounce makes the domain's bounce buffers, and registers the first slab.
func (d *Domain) openBounce(ctx context.Context) error {
	b, err := newBouncer(ctx, d.opts.Bounce, d.opts.Name, d)
	if err != nil {
		return err
	}
	b.wipe = d.table != nil
	d.bounce = b
	return nil
}

// newBouncer makes the pools.
func newBouncer(ctx context.Context, o Bounce, name string, d *Domain) (*bouncer, error) {
	if o.Low < 0 || o.High < 0 || o.Max < 0 || o.Max > maxSlabs {
		return nil, fmt.Errorf("%w: Bounce.Low, High and Max are %d, %d and %d: use up to %d slabs", ErrOptions, o.Low, o.High, o.Max, maxSlabs)
	}
	opts := respool.Options{Name: name + " slabs", Low: o.Low, High: o.High, Max: o.Max, MaxShare: 1}
	if o.Max == 0 {
		// As many as the machine has memory for.
		opts.MaxBytes, opts.MaxShare = defaultSlabsMax*slabSize, 0
	}
	if o.Low == 0 {
		opts.Low = defaultSlabsLow
	}
	if o.High == 0 {
		opts.High = max(defaultSlabsHigh, opts.Low)
		if o.Max != 0 {
			opts.High = min(opts.High, o.Max)
		}
	}
	n := o.Max
	if n == 0 {
		n = max(defaultSlabsMax, opts.High)
	}
	b := &bouncer{table: make([]atomic.Pointer[slab], n), source: slabSource{d: d}}
	b.source.b = b
	var err error
	if b.slabs, err = respool.New(ctx, &b.source, opts); err != nil {
		return nil, err
	}
	b.carve.slabs = b.slabs
	for class := range b.slots {
		most := n * int(slabPages/bouncePages[class])
		b.slots[class], err = respool.New(ctx, slotSource{&b.carve, class}, respool.Options{
			Name: fmt.Sprintf("%s bounce buffers of %d KiB", name, bouncePages[class]*pageSize>>10),
			Low:  slotsLow[class], High: min(slotsHigh[class], most), Max: most,
		})
		if err != nil {
			return nil, errors.Join(err, b.close(ctx))
		}
	}
	return b, nil
}

// close gives all slabs back. No slot is in use.
func (b *bouncer) close(ctx context.Context) error {
	var errs []error
	for _, p := range b.slots {
		if p != nil {
			errs = append(errs, p.Close(ctx))
		}
	}
	return errors.Join(append(errs, b.slabs.Close(ctx), b.source.freeLost())...)
}

// slotSource carves the slots of a class.
type slotSource struct {
	carve *carver
	class int
}

func (s slotSource) Alloc(ctx context.Context) (slot, error) { return s.carve.take(ctx, s.class) }
func (s slotSource) Free(n slot) error                       { return s.carve.give(n, s.class) }

// slabSource makes slabs: it allocates and registers their memory.
type slabSource struct {
	d *Domain
	b *bouncer

	mu   sync.Mutex // of writing the table
	lost []*Region  // what could not be closed
}

func (s *slabSource) ElemSize() int64 { return slabSize }

// Alloc makes a slab.
func (s *slabSource) Alloc(ctx context.Context) (uint32, error) {
	r, err := s.d.allocRegion(ctx, slabSize, Bidirectional, forUse, Place{})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.b.table {
		if s.b.table[n].Load() == nil {
			s.b.table[n].Store(&slab{r: r})
			return uint32(n), nil
		}
	}
	return 0, errors.Join(ErrEmpty, r.Close()) // cannot be: the table has room for the pool's Max
}

// Free gives the memory of a slab back. If it cannot be taken away from the devices, close tries again.
func (s *slabSource) Free(n uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.b.table[n].Swap(nil).r
	err := r.Close()
	if err != nil {
		s.lost = append(s.lost, r)
	}
	return err
}

func (s *slabSource) freeLost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	left := s.lost[:0]
	for _, r := range s.lost {
		if err := r.Close(); err != nil {
			errs, left = append(errs, err), append(left, r)
		}
	}
	s.lost = left
	return errors.Join(errs...)
}

// A bounced is a slot in use.
type bounced struct {
	slot slot
	r    *Region // of the slab
	off  uint64  // in it, of what stands for the user's memory
	user *slotUser
}

// take copies mem, which starts at off of the mapping, into a buffer, at the same offset in its page. What only the
// device writes is copied, too: if it writes less, the copy back changes nothing else.
//
//gommu:nosleep
func (b *bouncer) take(mem []byte, off uint64) (bounced, error) {
	class := bounceClass(mem)
	if class == bounceClasses {
		return bounced{}, ErrBounce
	}
	n, err := b.slots[class].Get()
	if err != nil {
		return bounced{}, ErrEmpty
	}
	s := b.table[n/slabPages].Load()
	s.users[n%slabPages] = slotUser{mem: mem, off: off}
	x := b.used(n)
	if b.wipe {
		// The device reaches whole pages, and others may have used them before.
		end := x.off + uint64(len(mem))
		clear(x.r.mem[x.off&^pageMask : x.off])
		clear(x.r.mem[end : (end+pageMask)&^pageMask])
	}
	copy(x.mem(), mem)
	return x, nil
}

// bounceClass is the smallest class that holds mem and what is before it in its page.
//
//gommu:nosleep
func bounceClass(mem []byte) int {
	n := uint64(addressOf(mem)&pageMask) + uint64(len(mem))
	class := 0
	for class < bounceClasses && n > uint64(bouncePages[class])*pageSize {
		class++
	}
	return class
}

// used is the slot n, which is in use.
//
//gommu:nosleep
func (b *bouncer) used(n slot) bounced {
	s := b.table[n/slabPages].Load()
	u := &s.users[n%slabPages]
	return bounced{slot: n, r: s.r, off: uint64(n%slabPages)*pageSize + uint64(addressOf(u.mem)&pageMask), user: u}
}

// mem is the part of the buffer that stands for the user's memory.
//
//gommu:nosleep
func (x bounced) mem() []byte { return x.r.mem[x.off:][:len(x.user.mem)] }

// free gives a slot back.
//
//gommu:nosleep
func (b *bouncer) free(n uint32) {
	u := &b.table[n/slabPages].Load().users[n%slabPages]
	class := bounceClass(u.mem)
	*u = slotUser{}
	_ = b.slots[class].Put(slot(n)) // the pool is open as long as a slot is out
}

// span is the part of the slot that is in n bytes from off of the mapping on, from the start of the slot's memory.
//
//gommu:nosleep
func (x bounced) span(off, n uint64) (from, to uint64) {
	start, end := x.user.off, x.user.off+uint64(len(x.user.mem))
	from, to = max(off, start), min(off+n, end)
	if from >= to {
		return 0, 0
	}
	return from - start, to - start
}

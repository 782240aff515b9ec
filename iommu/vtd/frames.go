package vtd

import (
	"errors"
	"fmt"
	"slices"

	"gommu/pagetable"
)

// frame takes a zeroed frame that the unit will hold until release.
func (u *Unit) frame() (pagetable.Frame, *[512]uint64, error) {
	f, err := u.frames.Get()
	if err != nil {
		return f, nil, err
	}
	entries := u.mem.Entries(f)
	if entries == nil {
		return f, nil, errors.Join(fmt.Errorf("%w: frame %#x of the pool lies outside the memory given", ErrTable, f.Bus), u.frames.Put(f))
	}
	u.owned = append(u.owned, f)
	u.flush(flushNewFrame, entries[:]) // the zeros, too, must be in memory
	return f, entries, nil
}

// take takes a frame for each of the named tables, or none.
func (u *Unit) take(tables ...string) ([]pagetable.Frame, error) {
	var frames []pagetable.Frame
	for _, name := range tables {
		f, _, err := u.frame()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), u.giveBack(frames))
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// giveBack clears frames and puts them into the pool. What the pool refuses,
// being closed, stays the unit's for the next try.
func (u *Unit) giveBack(frames []pagetable.Frame) error {
	var errs []error
	for _, f := range frames {
		clear(u.mem.Entries(f)[:])
		if err := u.frames.Put(f); err != nil {
			errs = append(errs, err)
			continue
		}
		u.owned = slices.DeleteFunc(u.owned, func(o pagetable.Frame) bool { return o == f })
	}
	return errors.Join(errs...)
}

// freeLimbo gives back the frames that the unit has now forgotten.
func (u *Unit) freeLimbo() error {
	frames := u.limbo
	u.limbo = nil
	return u.giveBack(frames)
}

// release gives all frames back, cleared.
func (u *Unit) release() error {
	u.limbo = nil
	return u.giveBack(slices.Clone(u.owned))
}

// flush makes stores to a table visible to a unit that does not snoop. For
// root, context and PASID tables ECAP.C says so in both modes (section 11.4.3).
func (u *Unit) flush(p point, words []uint64) {
	if !u.caps.Coherent && keep(p) {
		u.writeBack(words)
	}
}

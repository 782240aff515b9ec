package pagetable

// A Batch gathers what unmaps of one table leave to do: the range that the
// unit may still have cached, and the frames of tables that went out of use.
// After the invalidation that covers them Release gives the frames back; not
// before, because the unit may still walk them.
//
// The zero value is an empty batch. A Batch belongs to one goroutine and is
// not copied once used. It takes no memory: the frames are linked through
// themselves.
type Batch struct {
	t           *Table // nil while empty
	frames      frameList
	elsewhere   int // tables whose frames a Map leaves to a later batch
	first, last uint64
}

// Empty says that nothing was unmapped, so there is nothing to invalidate.
func (b *Batch) Empty() bool { return b.t == nil }

// Tables is the number of tables that went out of use. Their frames are in the
// batch, but for those that a Map at the same time leaves to a later one. If it is not 0 the
// invalidation has to cover the unit's caches of non-leaf entries as well
// (invalidation hint IH = 0); otherwise those of leaves suffice.
func (b *Batch) Tables() int { return b.frames.n + b.elsewhere }

// Range returns the first and the last IOVA that the invalidation has to
// cover: all that was unmapped, and all that an unlinked table could have
// translated within the ranges asked for. It says false when the batch is empty.
func (b *Batch) Range() (first, last uint64, ok bool) { return b.first, b.last, b.t != nil }

// errAdd is the error of a wrong Add.
//
//gommu:refusal
func errAdd() error { return &OpError{Op: opAdd, Err: ErrBatch} }

// Add moves what other holds into b and leaves other empty: the range that b asks for then
// covers both. So a batch on the stack can gather one call's leavings for one that lives
// longer. It fails with ErrBatch, and changes nothing, if other is of another table, b itself
// or not given. Its work does not depend on what is in the two.
//
//gommu:nosleep
func (b *Batch) Add(other *Batch) error {
	switch {
	case other == nil || other == b || other.t != nil && b.t != nil && other.t != b.t:
		return errAdd()
	case other.t == nil:
		return nil
	}
	b.touch(other.t, other.first, other.last)
	b.frames.join(b.t.mem, &other.frames)
	b.elsewhere += other.elsewhere
	*other = Batch{}
	return nil
}

// Release clears the frames, gives them back to the pool, and leaves the batch
// empty. The caller has invalidated what the batch covers. Release does not
// block; its work is bounded by the number of frames. If the pool refuses
// frames, being closed, they stay in the batch and another Release tries again.
//
//gommu:nosleep
func (b *Batch) Release() error {
	if b.t == nil {
		return nil
	}
	if err := b.t.putAll(&b.frames); err != nil {
		//gommu:trust the error of a closed pool, or of tables that others have written to
		return &OpError{Op: opRelease, Err: err}
	}
	*b = Batch{}
	return nil
}

// touch adds [first, last] of t to what must be invalidated.
func (b *Batch) touch(t *Table, first, last uint64) {
	if b.t == nil {
		b.t, b.first, b.last = t, first, last
		return
	}
	b.first, b.last = min(b.first, first), max(b.last, last)
}

package respool

// A Poisoner is a Source whose elements can be made unusable while they lie in a pool, so
// that who uses one that it has put back shows. Debug builds call it, others do not.
//
// The pool calls Poison when it accepts an element from a Put and Check before the element
// leaves: to a Get, to Source.Free, or back to a caller whose Put is refused in the end. Both
// are called with the element out of everybody's reach, Poison and Check by turns, and at
// once for different elements; neither may call the pool.
type Poisoner[T any] interface {
	// Poison makes e's contents unusable.
	Poison(e T)

	// Check undoes Poison, so that e is what a Get of this source's pool promises: where
	// the contents survive in the pool (a table that is zero, a header that is filled in
	// once) they have to be restored. Its error says what was written since Poison.
	Check(e T) error
}

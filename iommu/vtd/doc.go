// Package vtd drives one Intel VT-d remapping unit, in legacy or in scalable
// mode: root, context and PASID tables, invalidation through the queue or through
// registers, translation on and off, faults.
//
// The unit is reached through a small Registers interface, so the same driver
// runs on QEMU's emulated unit, on a real one behind a mapping of its register
// page, and on a model. Page tables come from package pagetable; this package
// only points context entries at them.
//
// A Unit owns what it took from the frame pool (root, context and PASID tables,
// invalidation queue, status word), at most until Close. It does not own the
// registers, the page tables attached to it, or the pool.
//
// Every method that waits for the unit waits at most Options.Timeout for each
// step and then fails with ErrTimeout; a unit that reads as all ones has gone
// and gives ErrGone at once. Waiting polls, first spinning, later sleeping
// microseconds. Methods of Unit do not belong on a path that must not sleep. Begin,
// Done and Publish of a Binding do: they take no lock, but try for the turn to
// tell the unit something and go away if somebody has it. A flush that was begun is
// a number that the unit writes to memory when it is
// done. If the unit fails, flushes on their way are in doubt until Recover, which
// sleeps; whatever of Unit's methods is called first does the same.
//
// IOVAs from 0xfee00000 to 0xfeefffff never reach a table: a write there is an
// interrupt request. Who hands out IOVAs keeps the range free (section 3.15), and
// nothing may be mapped to the same range of bus addresses.
//
// All methods are safe to call at once from several goroutines; those of Unit
// take turns.
//
// While translation is off (before Enable, after Disable) the unit lets every
// DMA through untranslated. Stop the devices first.
//
// Sections are those of the "Intel Virtualization Technology for Directed I/O
// Architecture Specification", revision 5.10.
package vtd

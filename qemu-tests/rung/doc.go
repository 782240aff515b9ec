// Package rung gives a driver a machine to run on: an edu device, a domain of
// package iommu that maps memory for it, and its interrupt, by one call that is
// the same on every rung:
//
//	model  a strict unit in this process; needs nothing
//	qtest  QEMU's unit without a guest
//	vm     QEMU's unit in a Linux guest that leaves it to this program
//	vfio   a Linux guest whose kernel has the unit: VFIO type 1, premapped
//
// [Run] takes a function and calls it with the machine. On vm and vfio it boots a
// guest that runs this very program once more, and calls the function there;
// so a program begins with [Main], and the function depends on nothing that this
// process did before. [Open] opens a machine here, without a guest.
//
// What a rung lacks on this machine, and how to get it, is said by the error.
//
// A Machine owns all that it holds; its Close takes it down in order, and
// reports what did not come back. Run and Open block: model microseconds, qtest a
// tenth of a second, the guests seconds. A Machine's fields are for any
// goroutine; its methods but Close are safe to call at once.
//
// The package also has what these rungs are made of, for package conformance, which drives
// units by hand.
package rung

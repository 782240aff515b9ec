// Package measure takes the time of mapping memory for a device and unmapping it
// again, by several ways on the same hardware in one run: gommu's domains under
// each flush policy, and what else does the same work (the kernel's ioctls, a list under
// a mutex), so that what is compared is the ratio.
//
// A Way is one of those; its Workers make the calls. A Plan is what to measure of the
// ways of one machine, Run does it, and a Report has a Row for each. Reports of
// several machines become one by Join, which pairs each row with its peer.
//
// # What is timed
//
// Medians of what takes nanoseconds come from groups: the clock is read before and after
// many pairs of a Map and an Unmap, at least as many as one flush is for, so a
// median has its share of the flush. Tails come from single calls, between two readings of the clock
// whose median cost (Clock) is taken off. What the operating system and Go's
// scheduler add to any code is measured in the same run by a Way that maps nothing and only computes
// for as long: see NewLoop.
//
// # Ownership and blocking
//
// Run blocks for as long as it measures and owns the goroutines that it starts: when it returns they
// have ended and nothing of theirs is mapped. Ways belong to the caller. Run must not be called
// twice at once: one would measure the other.
package measure

// Package compare runs one and the same trace through every discipline of package discipline, and
// tells what each made of it.
//
// A [Trace] is a list of calls for each of several tasks, made from a seed: the same
// options give the same trace. What the disciplines stand in front of is a
// simulated allocator, the same for all; see [Allocator]. The run is in real time, so
// its figures, unlike the trace, are not the same twice: the scheduler and other load of the machine
// are in them.
//
// [Run] blocks for about as long as the trace is, for each discipline, and ends its tasks
// early when its context ends. It uses no state of the package, so several may run at once,
// but they disturb each other's figures.
//
// Only the command gommu uses it. It is a package of its own because a figure that is argued with
// wants tests of its own.
package compare

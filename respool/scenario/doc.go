// Package scenario runs what the threads about memory pools of 2001 to 2016 argued over: eight
// situations, each under a pool that is asked first and under one that the allocator stands
// before, with real goroutines over the real pools.
//
// A [Scenario] has several ways to go about the same work. Each way says beforehand how it ends,
// in a [Verdict]; [Scenario.Run] plays the ways of one [Discipline] and returns for each a [Result]
// with the progress of every task. A way that ends otherwise than it says is not OK.
//
// # Deadlocks
//
// Some ways are there to be seen to deadlock. That is not guessed from a timer. Every task tells what it
// holds and what it waits for, and a run is suspected when no task is left that does anything but
// wait, and nothing of what they wait for is there. In that state nothing can change, because only
// tasks give back, and no source gives more. The suspicion is then put to the test: the tasks, which are inside the
// real calls of the real pool, have Options.Patience to prove it wrong, which is many looks of a pool's worker.
// One that gets something after all makes the run Broken. Otherwise the state is recorded, and the
// tasks are released through their context: no goroutine stays behind. In a bubble of
// testing/synctest the patience passes only when every goroutine is durably blocked, so there the
// runtime itself says that they are.
//
// Options.Limit ends a run that is neither over nor in such a state. It is a failure always.
//
// # What may block
//
// Run blocks until all ways are played and all their goroutines have ended. It may be called at once from
// several goroutines.
package scenario

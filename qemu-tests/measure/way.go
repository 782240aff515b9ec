package measure

import (
	"context"
	"errors"

	"gommu/iommu"
	"gommu/respool"
)

// A Way is one way to let a device reach memory for the time of a transfer.
type Way interface {
	// Worker returns what one goroutine calls. It has a number of slots, each
	// for one mapping of the shape at a time. number tells workers apart that
	// exist at the same time. It may sleep.
	Worker(ctx context.Context, s Shape, number, slots int) (Worker, error)
}

// A Worker maps and unmaps for one goroutine.
type Worker interface {
	// Map maps into a slot that is empty. Dry errors mean that it was refused for want of something
	// ready; others are failures.
	Map(slot int) error
	// Unmap empties a slot.
	Unmap(slot int) error
	// Flush ends a burst of unmaps, for ways that have it.
	Flush() error
	// Close gives all back. Every slot is empty. It may sleep.
	Close() error
}

// A Pairer is a worker that makes many pairs by one call, so that what calls it is no part of their time: where
// a processor is translated, a call through an interface takes longer than many a Map.
type Pairer interface {
	// Pairs maps into n slots that are empty, one after the other from the first on, over and over, and unmaps
	// each before the next. It ends with the first error, and says how many pairs were done.
	Pairs(n int) (int, error)
}

// Dry says whether an error means: nothing ready at this moment, try again.
func Dry(err error) bool {
	return errors.Is(err, iommu.ErrEmpty) || errors.Is(err, iommu.ErrBusy) || errors.Is(err, respool.ErrEmpty)
}

// loop is the way that maps nothing: it computes.
type loop struct{ rounds int }

// NewLoop is a way whose calls touch no memory and only compute. Each takes about as long as that many
// multiplications that wait for each other. What its tail has beyond its median the
// operating system adds, or Go's scheduler and collector do.
func NewLoop(rounds int) Way { return loop{rounds} }

func (l loop) Worker(context.Context, Shape, int, int) (Worker, error) {
	return &loopWorker{rounds: l.rounds, x: 1}, nil
}

type loopWorker struct {
	rounds int
	x      uint64
}

func (w *loopWorker) compute() error {
	x := w.x
	for range w.rounds {
		x = x*6364136223846793005 + 1442695040888963407
	}
	w.x = x
	return nil
}

func (w *loopWorker) Map(int) error   { return w.compute() }
func (w *loopWorker) Unmap(int) error { return w.compute() }
func (w *loopWorker) Flush() error    { return nil }
func (w *loopWorker) Close() error    { return nil }

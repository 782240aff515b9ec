package iommu

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// pause is between two looks of those who sleep.
const pause = 20 * time.Microsecond

// take waits for the turn.
func (f *flusher) take() {
	for i := 0; !f.turn.CompareAndSwap(0, 1); i++ {
		if i < 100 {
			runtime.Gosched()
			continue
		}
		time.Sleep(pause)
	}
}

func (f *flusher) leave() { f.turn.Store(0) }

// flush is for those who may sleep: it returns when a flush is done that was begun after the call. Units that have failed
// it gets going first.
func (f *flusher) flush(ctx context.Context) error {
	for want := f.started.Load() + 1; ; {
		if f.failed.Load() {
			if err := f.recover(); err != nil {
				return err
			}
		}
		f.kick(want)
		if f.done.Load() >= want {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// recover makes the units that failed usable again; they forget everything then. What was begun on others is under way still.
func (f *flusher) recover() error {
	f.take()
	defer f.leave()
	if !f.failed.Load() {
		return nil
	}
	var errs []error
	for _, b := range *f.bindings.Load() {
		if !keep(stepRecover) {
			b.begun, b.done, b.err = f.started.Load(), f.started.Load(), nil
			continue
		}
		if err := b.recover(); err != nil {
			errs = append(errs, b.err, err)
			continue
		}
		b.err = nil // what it was told is done when it says so: a unit that had not failed has only been asked
	}
	if len(errs) > 0 {
		return errors.Join(append(errs, ErrFlush)...)
	}
	f.failed.Store(false)
	return nil
}

// recover makes the unit usable again, or finds that it was removed.
func (b *bound) recover() error {
	err := b.Recover()
	if errors.Is(err, ErrGone) {
		b.gone, err = true, nil
	}
	return err
}

package iommu

import (
	"testing"
)

// slowly is a binding that is told by a test what it has done.
//
//gommu:maysleep it is a test's
type slowly struct {
	Binding
	busy, done bool
	fail       error
	begins     int
}

func (s *slowly) Begin(iova, size uint64, leavesOnly bool) (Ticket, error) {
	switch {
	case s.fail != nil:
		return 0, s.fail
	case s.busy:
		return 0, ErrBusy
	}
	s.begins++
	return Ticket(s.begins), nil
}

func (s *slowly) Done(t Ticket) (bool, error) { return s.done, s.fail }

// Recover is vtd.Binding's: without a failure it does nothing.
func (s *slowly) Recover() error {
	if s.fail != nil {
		s.fail, s.done = nil, true
	}
	return nil
}

// A flush is not done because another unit of the domain, or a single wait, has failed and was recovered.
func TestRecoverOfAnotherUnit(t *testing.T) {
	for name, well := range map[string]*slowly{"begun": {}, "busy": {busy: true}} {
		t.Run(name, func(t *testing.T) {
			ill := &slowly{fail: ErrFlush}
			var f flusher
			f.bindings.Store(&[]*bound{{Binding: ill}, {Binding: well}})
			stamp := f.started.Load() // of something that was unmapped just now
			f.kick(stamp + 1)
			if !f.failed.Load() {
				t.Fatal("nothing has failed")
			}
			if err := f.recover(); err != nil {
				t.Fatal(err)
			}
			f.kick(stamp + 1)
			if f.done.Load() > stamp {
				t.Errorf("flush %d is done, of which the other unit was told %d times and has confirmed nothing", f.done.Load(), well.begins)
			}
			well.busy, well.done = false, true
			f.kick(stamp + 1)
			f.kick(stamp + 1)
			if f.done.Load() <= stamp {
				t.Error("the flush does not end")
			}
		})
	}
}

// The same with one unit that is only slow: a wait that gave up (Ring.Flush, a strict Unmap, Publish) sets failed.
func TestRecoverOfSlowUnit(t *testing.T) {
	u := &slowly{}
	var f flusher
	f.bindings.Store(&[]*bound{{Binding: u}})
	stamp := f.started.Load()
	f.kick(stamp + 1)
	f.failed.Store(true) // as forget and publish do after their spins
	if err := f.recover(); err != nil {
		t.Fatal(err)
	}
	f.kick(stamp + 1)
	if f.done.Load() > stamp {
		t.Error("a flush is done that the unit has not confirmed")
	}
}

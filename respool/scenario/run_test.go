package scenario

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gommu/respool"
)

// playFor runs a way in a bubble.
func playFor(t *testing.T, want Verdict, play func(*run) error) (res Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := Scenario{ways: []way{{under: PoolFirst, want: want, play: play}}}
		res = s.Run(t.Context(), PoolFirst, Options{})[0]
	})
	return res
}

// crossed is two tasks that take two locks crosswise.
func crossed(r *run) error {
	a, b := newMutex("a"), newMutex("b")
	both := r.barrier(2)
	for _, order := range [][]*stock{{a, b}, {b, a}} {
		r.start(order[0].name+" first", 2, func(t *task) error {
			for _, m := range order {
				if err := t.getWait(m); err != nil {
					return err
				}
				t.step()
				if err := t.meet(both); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

func TestDeadlockIsShown(t *testing.T) {
	res := playFor(t, Deadlock, crossed)
	if !res.OK || res.Error != "" || len(res.Tasks) != 2 || res.Tasks[0].Steps != 1 || res.Tasks[0].State != "holds 1 of a, waits for 1 of b" {
		t.Errorf("%+v", res)
	}
}

// It is not OK to end otherwise than expected, whichever way round.
func TestUnexpectedVerdicts(t *testing.T) {
	if res := playFor(t, Finished, crossed); res.OK || res.Got != Deadlock {
		t.Errorf("%+v", res)
	}
	if res := playFor(t, Deadlock, func(*run) error { return nil }); res.OK || res.Got != Finished {
		t.Errorf("%+v", res)
	}
}

// A run that goes on for ever, without a deadlock, ends with its limit.
func TestTimeLimit(t *testing.T) {
	res := playFor(t, Deadlock, func(r *run) error {
		done := r.event("the other")
		r.start("busy", 1, func(t *task) error { return sleep(r.ctx, 1e9) })
		r.start("waiting", 1, func(t *task) error { return t.await(done) })
		return nil
	})
	if res.OK || res.Got != TimeLimit || res.Finished() != 0 {
		t.Errorf("%+v", res)
	}
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		for _, r := range stampede().Run(ctx, PoolFirst, Options{Patience: time.Hour})[1:] {
			if r.OK || r.Got != TimeLimit {
				t.Errorf("%s: %s %v", r.Way, r.Got, r.OK)
			}
		}
	})
}

// If somebody gets on who could not, the books are wrong, and no deadlock is reported.
func TestRevival(t *testing.T) {
	res := playFor(t, Deadlock, func(r *run) error {
		s, err := r.open(PoolFirst, r.memory(1), "pages", 1)
		if err != nil {
			return err
		}
		p, err := s.pool.Get()
		if err != nil {
			return err
		}
		s.held = 1 // but somebody puts it back who is no task
		back := make(chan error, 1)
		time.AfterFunc(defaultPatience/2, func() { back <- s.pool.Put(p) })
		r.start("task", 1, func(t *task) error { return t.getWait(s) })
		r.wait()
		return <-back
	})
	if res.OK || res.Got != Broken || !strings.Contains(res.Error, errRevived.Error()) {
		t.Errorf("%+v", res)
	}
}

// A call for more than there can ever be is answered, so while it is under way nobody is stuck.
func TestImpossibleIsNoDeadlock(t *testing.T) {
	res := playFor(t, Broken, func(r *run) error {
		s, err := r.open(PoolFirst, r.memory(1), "pages", 1)
		if err != nil {
			return err
		}
		r.start("task", 1, func(t *task) error {
			_, err := t.reserveWait(s, 2)
			return err
		})
		return nil
	})
	if !res.OK || !strings.Contains(res.Error, respool.ErrReserve.Error()) || strings.Contains(res.Error, errRevived.Error()) {
		t.Errorf("%+v", res)
	}
}

// A task that fails before the others are stuck because of that is not hidden by a deadlock.
func TestFailureIsNoDeadlock(t *testing.T) {
	oops := errors.New("oops")
	res := playFor(t, Deadlock, func(r *run) error {
		other := r.event("the other")
		r.start("waiting", 1, func(t *task) error { return t.await(other) })
		r.start("failing", 1, func(*task) error { return oops })
		return nil
	})
	if res.OK || res.Got != Broken || res.Error != "oops" {
		t.Errorf("%+v", res)
	}
}

// What is not given back is told, though all tasks finished.
func TestLostPages(t *testing.T) {
	res := playFor(t, Finished, func(r *run) error {
		m := r.memory(2)
		_, err := m.TryAlloc()
		return err
	})
	if res.OK || res.Got != Finished || !strings.Contains(res.Error, "1 pages were not freed") {
		t.Errorf("%+v", res)
	}
	res = playFor(t, Finished, func(r *run) error {
		s, err := r.open(PoolFirst, r.memory(2), "pages", 2)
		if err != nil {
			return err
		}
		_, err = s.pool.Get()
		return err
	})
	if res.OK || res.Got != Finished || !strings.Contains(res.Error, respool.ErrLeaked.Error()) {
		t.Errorf("%+v", res)
	}
}

// A set-up that fails half way leaves nothing behind.
func TestFailedSetUp(t *testing.T) {
	res := playFor(t, Broken, func(r *run) error {
		m := r.memory(5)
		if _, err := r.open(PoolFirst, m, "first", 3); err != nil {
			return err
		}
		_, err := r.open(PoolFirst, m, "second", 3)
		return err
	})
	if !res.OK || !strings.Contains(res.Error, respool.ErrNoMemory.Error()) {
		t.Errorf("%+v", res)
	}
}

func TestMemoryRefusesWhatIsNotOut(t *testing.T) {
	m := &memory{left: 1, out: map[*page]bool{}}
	p, err := m.TryAlloc()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Alloc(t.Context()); !errors.Is(err, errNoPage) {
		t.Error(err)
	}
	if err := errors.Join(m.Free(p)); err != nil {
		t.Error(err)
	}
	if err := m.Free(p); !errors.Is(err, errNoOwner) {
		t.Error(err)
	}
}

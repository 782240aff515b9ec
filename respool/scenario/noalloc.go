package scenario

import (
	"errors"
	"fmt"

	"gommu/respool"
)

// Johannes Weiner, quoted by David Rientjes, 19 July 2016: "mempool: do not consume memory
// reserves from the reclaim path".
func noalloc() Scenario {
	const asked = "Johannes Weiner, 2016: one should be able to delete the call of the allocator and still make reliable forward " +
		"progress, if slowly. Does one?"
	return Scenario{Name: "noalloc", Asked: asked, ways: []way{
		{PoolFirst, "each has its reservation", Finished,
			"With the source gone all who have a reservation finish, and one page more is refused when it is reserved, not in the middle of the work.",
			noallocReserved},
		{AllocatorFirst, "one page each, waiting", Finished,
			"The claim holds for mempool where a task needs one page at a time and may sleep: the reserve goes round.",
			noallocSingles},
		{AllocatorFirst, "four pages each, not waiting", Broken,
			"Nothing tells a task beforehand that its four pages are not there: all five begin, and four of them fail with three pages in hand.",
			noallocFours},
	}}
}

const (
	noallocNeed   = 4                          // pages that a task needs at a time
	noallocPages  = 16                         // pages that there are
	noallocTasks  = noallocPages / noallocNeed // tasks that this is enough for
	noallocRounds = 250
)

func noallocReserved(r *run) error {
	m := r.memory(2 * noallocPages)
	s, err := r.openPool(m, respool.Options{Name: "pages", Min: noallocPages, Low: noallocPages, High: noallocPages, Max: 2 * noallocPages})
	if err != nil {
		return err
	}
	m.removed.Store(true)
	before := m.calls.Load()
	reserved, answered := r.barrier(noallocTasks), r.event("the answer to one more")
	for i := range noallocTasks {
		r.start(fmt.Sprintf("task %d", i), noallocRounds, func(t *task) error {
			pages, err := t.reserveWait(s, noallocNeed)
			if err != nil {
				return err
			}
			if err := t.meet(reserved); err != nil {
				return err
			}
			for range noallocRounds {
				if err := use(pages, noallocNeed); err != nil {
					return err
				}
				t.step()
			}
			return t.await(answered)
		})
	}
	r.start("one more task", noallocRounds, func(t *task) error {
		defer answered.happen()
		return noallocBeyond(t, s, reserved)
	})
	r.wait()
	r.figure("the worker asked the removed source %d times", m.calls.Load()-before)
	return nil
}

// noallocBeyond asks for more than there is.
func noallocBeyond(t *task, s *stock, reserved *barrier) error {
	if err := t.await(reserved.all); err != nil {
		return err
	}
	r, err := s.pool.Reserve(1)
	if err == nil {
		return errors.Join(errGranted, r.Return())
	}
	if !errors.Is(err, respool.ErrEmpty) {
		return err
	}
	t.refused("at reservation", err)
	return nil
}

var errGranted = errors.New("more was promised than there is")

// noallocOpen makes the stock and takes its source away.
func noallocOpen(r *run) (*stock, error) {
	m := r.memory(2 * noallocPages)
	s, err := r.open(AllocatorFirst, m, "pages", noallocPages)
	m.removed.Store(true)
	return s, err
}

func noallocSingles(r *run) error {
	s, err := noallocOpen(r)
	if err != nil {
		return err
	}
	for i := range 2 * noallocPages {
		r.start(fmt.Sprintf("task %d", i), noallocRounds, func(t *task) error {
			for range noallocRounds {
				if err := t.getWait(s); err != nil {
					return err
				}
				t.step()
				if err := t.putLast(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

func noallocFours(r *run) error {
	s, err := noallocOpen(r)
	if err != nil {
		return err
	}
	var each []*barrier // so that it happens each time
	for range noallocNeed {
		each = append(each, r.barrier(noallocTasks+1))
	}
	for i := range noallocTasks + 1 {
		r.start(fmt.Sprintf("task %d", i), noallocNeed, func(t *task) error {
			for k := range noallocNeed {
				_, err := t.get(s)
				if err == nil {
					t.step()
				}
				if lost := t.meet(each[k]); lost != nil {
					return lost
				}
				if err != nil {
					return fmt.Errorf("with %d pages in hand: %w", k, err)
				}
			}
			return nil
		})
	}
	return nil
}

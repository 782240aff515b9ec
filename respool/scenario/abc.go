package scenario

import (
	"context"
	"errors"
	"time"

	"gommu/respool"
)

// David Rientjes, 19 July 2016: "mempool: do not consume memory reserves from the reclaim path".
func abc() Scenario {
	const asked = "David Rientjes, 2016: A has emptied the pool and waits for a mutex; B has that mutex and stalls, say on another one; C has that and " +
		"waits for an element. May C, who is to get everybody out, go deeper into the reserve, or does the pool forbid it?"
	return Scenario{Name: "abc", Asked: asked, ways: []way{
		{PoolFirst, "C is critical", Finished,
			"The class is the caller's to name: A, ordinary, leaves an element that C, critical, may take, past D who waits in line. C, then B, A and D finish.",
			func(r *run) error { return abcCritical(r, retrying) }},
		{PoolFirst, "C is critical, and waits", Finished,
			"The same, but C waits in the pool's line, behind D: who waits for what only others may have must not keep them from it.",
			func(r *run) error { return abcCritical(r, (*task).getWait) }},
		{PoolFirst, "C has a reservation", Finished,
			"C reserved its element before it took the mutex, so it waits for nobody while it holds it.",
			abcReserved},
		{PoolFirst, "all are alike", Deadlock,
			"A holds all elements and waits for B, B waits for C, C waits for A: no order of asking pool and allocator helps.",
			func(r *run) error { return abcAlike(r, PoolFirst) }},
		{AllocatorFirst, "all are alike", Deadlock,
			"The allocator has nothing and mempool has one reserve for all: A has it, and the circle is the same.",
			func(r *run) error { return abcAlike(r, AllocatorFirst) }},
	}}
}

const abcPages = 4

// retrying is a get that does not wait in line.
func retrying(t *task, s *stock) error {
	_, err := t.getAgain(s)
	return err
}

// abcCritical has C get its element as a critical request, by get.
func abcCritical(r *run, get func(*task, *stock) error) error {
	s, err := r.openPool(r.memory(abcPages), respool.Options{
		Name: "elements", Min: abcPages, High: abcPages, Max: abcPages, OrdinaryMark: 1, AtomicMark: 1,
	})
	if err != nil {
		return err
	}
	abcPlay(r, s, func(t *task) error { return get(t, s.as(respool.Critical)) })
	return nil
}

func abcReserved(r *run) error {
	s, err := r.open(PoolFirst, r.memory(abcPages), "elements", abcPages)
	if err != nil {
		return err
	}
	mine, err := s.pool.Reserve(1)
	if err != nil {
		return err
	}
	h := &holding{of: s.count, n: 1, back: mine.Return}
	abcPlay(r, s, func(t *task) error {
		t.adopt(h)
		return use(mine, 1)
	})
	return nil
}

func abcAlike(r *run, under Discipline) error {
	s, err := r.open(under, r.memory(abcPages), "elements", abcPages)
	if err != nil {
		return err
	}
	abcPlay(r, s, func(t *task) error { return t.getWait(s) })
	return nil
}

// abcPlay starts A, B and C, and D, which waits for an element and has no part in the circle.
// c gets C's element.
func abcPlay(r *run, s *stock, c func(*task) error) {
	mutexB, mutexC := newMutex("mutex b"), newMutex("mutex c")
	emptied, bTaken, cTaken := r.event("A"), r.event("B"), r.event("C")
	r.start("A", 2, func(t *task) error {
		if err := drain(t, s); err != nil {
			return err
		}
		t.step()
		emptied.happen()
		return inTurn(t, bTaken, mutexB)
	})
	r.start("B", 2, func(t *task) error {
		if err := inTurn(t, emptied, mutexB); err != nil {
			return err
		}
		bTaken.happen()
		return inTurn(t, cTaken, mutexC)
	})
	r.start("C", 2, func(t *task) error {
		if err := inTurn(t, emptied, mutexC); err != nil {
			return err
		}
		cTaken.happen()
		if err := s.awaitLine(r.ctx); err != nil {
			return err
		}
		if err := c(t); err != nil {
			return err
		}
		t.step()
		return nil
	})
	r.start("D", 1, func(t *task) error { return inTurn(t, emptied, s) })
}

// awaitLine returns when somebody waits in the pool's line. mempool has none.
func (s *stock) awaitLine(ctx context.Context) error {
	for s.pool != nil && s.pool.Stats().Waiting == 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// drain takes all that there is without waiting.
func drain(t *task, s *stock) error {
	for {
		if _, err := t.get(s); errors.Is(err, respool.ErrEmpty) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// inTurn awaits the event and takes one of s.
func inTurn(t *task, first *event, s *stock) error {
	if err := t.await(first); err != nil {
		return err
	}
	if err := t.getWait(s); err != nil {
		return err
	}
	t.step()
	return nil
}

package scenario

import "fmt"

// Ingo Molnar, 15 December 2001: "mempool design".
func stampede() Scenario {
	const asked = "Ingo Molnar, 2001: 128 processes take bio1, then bio2, out of a reserve of 128, all at once. " +
		"Does every one get both, or do they sit on a bio1 each for ever?"
	return Scenario{Name: "stampede", Asked: asked, ways: []way{
		{PoolFirst, "both in one reservation", Finished,
			"A reservation is all or nothing, so nobody waits with half of what is needed: all tasks finish.",
			stampedeReserved},
		{PoolFirst, "two gets", Deadlock,
			"Every task holds a bio1 and waits for a bio2 that only another one could put back. A pool that is asked first does not change that.",
			func(r *run) error { return stampedeTwoGets(r, PoolFirst) }},
		{AllocatorFirst, "a mempool of pairs", Finished,
			"mempool's answer, a composite element as raid1 has it: 64 pairs instead of 128 bios, and all tasks finish.",
			stampedePairs},
		{AllocatorFirst, "two gets", Deadlock,
			"The allocator has nothing left, the reserve went into 128 bio1: every task waits for the others.",
			func(r *run) error { return stampedeTwoGets(r, AllocatorFirst) }},
	}}
}

// stampeders is the number of tasks, and of bios.
const stampeders = 128

// rush starts the tasks, which begin at once.
func rush(r *run, steps int, f func(*task) error) error {
	all := r.barrier(stampeders)
	for i := range stampeders {
		r.start(fmt.Sprintf("task %d", i), steps, func(t *task) error {
			if err := t.meet(all); err != nil {
				return err
			}
			return f(t)
		})
	}
	return nil
}

func stampedeReserved(r *run) error {
	bios, err := r.open(PoolFirst, r.memory(stampeders), "bios", stampeders)
	if err != nil {
		return err
	}
	crowd := r.barrier(stampeders / 2) // all bios are out, and the other tasks wait
	return rush(r, 2, func(t *task) error {
		both, err := t.reserveWait(bios, 2)
		if err == nil {
			err = t.meet(crowd)
		}
		for range 2 {
			if err == nil {
				t.step()
				err = use(both, 1)
			}
		}
		return err
	})
}

func stampedeTwoGets(r *run, under Discipline) error {
	bios, err := r.open(under, r.memory(stampeders), "bios", stampeders)
	if err != nil {
		return err
	}
	got := r.barrier(stampeders) // so that it happens each time
	return rush(r, 2, func(t *task) error {
		if err := t.getWait(bios); err != nil {
			return err
		}
		t.step()
		if err := t.meet(got); err != nil {
			return err
		}
		if err := t.getWait(bios); err != nil {
			return err
		}
		t.step()
		return nil
	})
}

func stampedePairs(r *run) error {
	pairs, err := r.open(AllocatorFirst, r.memory(stampeders/2), "pairs of bios", stampeders/2)
	if err != nil {
		return err
	}
	crowd := r.barrier(stampeders / 2)
	return rush(r, 2, func(t *task) error {
		if err := t.getWait(pairs); err != nil {
			return err
		}
		if err := t.meet(crowd); err != nil {
			return err
		}
		t.step()
		t.step()
		return nil
	})
}

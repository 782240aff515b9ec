package scenario

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"gommu/respool"
)

// Ingo Molnar, 15 December 2001: "mempool design".
func stack() Scenario {
	const asked = "Ingo Molnar, 2001: swap on a loop device on RAID on network block devices through tunnels: however deep, it should say ENOMEM when " +
		"it is set up, or work, if slowly. Never a deadlock."
	return Scenario{Name: "stack", Asked: asked, ways: []way{
		{PoolFirst, "a pool for each layer", Finished,
			"Every depth that memory is enough for works, and every other one is refused when it is set up.",
			func(r *run) error { return stackLayers(r, PoolFirst) }},
		{PoolFirst, "one pool, all reserved at the top", Finished,
			"One pool for all layers is enough if a request reserves at the top what all layers need: what can never be had is refused at once.",
			stackReserved},
		{PoolFirst, "one pool, a get in each layer", Deadlock,
			"One common reserve guarantees nothing from two layers on: requests stop in each other's way, half done.",
			func(r *run) error { return stackCommon(r, PoolFirst) }},
		{AllocatorFirst, "a mempool for each layer", Finished,
			"Molnar's claim holds: with a mempool for each layer a request always gets through, and set-up is refused where memory is short.",
			func(r *run) error { return stackLayers(r, AllocatorFirst) }},
		{AllocatorFirst, "one mempool, a get in each layer", Deadlock,
			"One common reserve guarantees nothing from two layers on, as Molnar said.",
			func(r *run) error { return stackCommon(r, AllocatorFirst) }},
	}}
}

const (
	deepest       = 16
	layerPages    = 4               // pages of a layer's pool
	stackPages    = 10 * layerPages // all memory: enough for ten layers
	stackRequests = 2 * layerPages  // at once
	commonPages   = stackRequests   // pages of a pool for all layers
	stackRounds   = 3               // of each request
)

var errDepth = errors.New("did not end as it should")

// depths plays a stack of each depth, each as a run of its own. Each has to end as ends says:
// Finished, Deadlock or, where that is empty, refused.
func (r *run) depths(ends func(depth int) Verdict, play func(r *run, depth int) error) error {
	deadlocked := false
	for depth := 1; depth <= deepest; depth++ {
		sub := perform(r.ctx, r.o, func(r *run) error { return play(r, depth) })
		res := sub.result(ends(depth))
		p := Progress{Name: fmt.Sprintf("depth %d", depth), Steps: res.Finished(), Of: stackRequests, State: string(res.Got)}
		refused := errors.Is(sub.err, respool.ErrNoMemory) || errors.Is(sub.err, respool.ErrReserve)
		switch {
		case refused:
			p.State = "refused: " + sub.err.Error()
		case res.Got == Deadlock:
			p.State = "deadlock: each " + res.Tasks[0].State
			deadlocked = true
		}
		r.progress = append(r.progress, p)
		if !res.OK && !(refused && ends(depth) == "" && sub.lost == nil) {
			return fmt.Errorf("depth %d: %w: %s: %s", depth, errDepth, res.Got, res.Error)
		}
	}
	r.deadlocked = deadlocked
	return nil
}

// startRequests starts the requests. Each does work as often as stackRounds says.
func (r *run) startRequests(work func(*task) error) {
	for i := range stackRequests {
		r.start(fmt.Sprintf("request %d", i), stackRounds, func(t *task) error {
			for range stackRounds {
				if err := work(t); err != nil {
					return err
				}
				if err := t.putAll(); err != nil {
					return err
				}
				t.step()
			}
			return nil
		})
	}
}

// down takes a page of each stock on the way down.
func down(t *task, layers []*stock) error {
	for _, s := range layers {
		if err := t.getWait(s); err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
}

func stackLayers(r *run, under Discipline) error {
	ends := func(depth int) Verdict {
		if depth*layerPages <= stackPages {
			return Finished
		}
		return ""
	}
	return r.depths(ends, func(r *run, depth int) error {
		m := r.memory(stackPages)
		var layers []*stock
		for k := range depth {
			s, err := r.open(under, m, fmt.Sprintf("layer %d", k), layerPages)
			if err != nil {
				return err
			}
			layers = append(layers, s)
		}
		r.startRequests(func(t *task) error { return down(t, layers) })
		return nil
	})
}

func stackReserved(r *run) error {
	ends := func(depth int) Verdict {
		if depth <= commonPages {
			return Finished
		}
		return ""
	}
	return r.depths(ends, func(r *run, depth int) error {
		s, err := r.open(PoolFirst, r.memory(commonPages), "pages", commonPages)
		if err != nil {
			return err
		}
		r.startRequests(func(t *task) error {
			pages, err := t.reserveWait(s, depth)
			if err == nil {
				err = use(pages, depth)
			}
			return err
		})
		return nil
	})
}

func stackCommon(r *run, under Discipline) error {
	ends := func(depth int) Verdict {
		if depth == 1 {
			return Finished
		}
		return Deadlock
	}
	return r.depths(ends, func(r *run, depth int) error {
		s, err := r.open(under, r.memory(commonPages), "pages", commonPages)
		if err != nil {
			return err
		}
		top := r.barrier(stackRequests) // so that it happens each time
		r.startRequests(func(t *task) error {
			if err := t.getWait(s); err != nil {
				return err
			}
			if t.steps == 0 {
				if err := t.meet(top); err != nil {
					return err
				}
			}
			return down(t, slices.Repeat([]*stock{s}, depth-1))
		})
		return nil
	})
}

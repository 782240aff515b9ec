package scenario

import (
	"context"
	"errors"
	"fmt"

	"gommu/respool"
)

// Daniel Phillips, 3 December 2004: "[Request for inclusion] Filesystem in Userspace".
func raid1() Scenario {
	const asked = "Daniel Phillips, 2004: writeout queues requests to raid1's daemon, which needs memory for each mirror; but ordinary tasks took " +
		"all memory and, through the daemon, its mempool, and wait for the writeout. How is the right to the reserve handed to the daemon?"
	return Scenario{Name: "raid1", Asked: asked, ways: []way{
		{PoolFirst, "a reservation comes with the request", Finished,
			"The reservation made when the device was set up travels with the request: the daemon draws from it, writes, and everybody goes on.",
			func(r *run) error { return raid1Pool(r, true) }},
		{PoolFirst, "nothing is handed over", Deadlock,
			"The same pool, but the daemon has to get its pages where everybody does: all are held by those who wait for it.",
			func(r *run) error { return raid1Pool(r, false) }},
		{AllocatorFirst, "the daemon has a mempool", Deadlock,
			"Memory is gone and the reserve too, by ordinary requests that now wait for memory: nothing tells the daemon's write from them.",
			raid1Mempool},
	}}
}

const (
	dirtiers   = 16 // tasks with a dirty page, that is clean when the daemon has written
	ordinaries = 4  // ordinary requests, that need two pages each
	mirrors    = 2  // pages that the daemon needs
	raidPages  = dirtiers + ordinaries
)

// A raidRequest is what the writer queues.
type raidRequest struct {
	reserved *respool.Reservation[*page] // nil: the daemon has to see for itself
	held     *holding
}

// A raid is what the tasks share.
type raid struct {
	dirty, requests *stock // where dirty pages and ordinary requests come from
	grabbed         *barrier
	queue           chan raidRequest
	queued, written *event
}

func raid1Pool(r *run, handedOver bool) error {
	s, err := r.open(PoolFirst, r.memory(raidPages), "pages", raidPages)
	if err != nil {
		return err
	}
	var req raidRequest
	if handedOver { // reserved when the device is set up
		if req.reserved, err = s.pool.Reserve(mirrors); err != nil {
			return err
		}
		req.held = &holding{of: s.count, n: mirrors, back: req.reserved.Return}
	}
	raid1Play(r, &raid{dirty: s, requests: s}, req)
	return nil
}

func raid1Mempool(r *run) error {
	m := r.memory(raidPages)
	s, err := r.open(AllocatorFirst, m, "pages", ordinaries)
	if err != nil {
		return err
	}
	raid1Play(r, &raid{dirty: &stock{count: s.count, from: direct{m}}, requests: s}, raidRequest{})
	return nil
}

// direct is memory without a pool before it.
type direct struct{ m *memory }

func (d direct) Get() (*page, error)                        { return d.m.TryAlloc() }
func (d direct) GetWait(ctx context.Context) (*page, error) { return d.m.Alloc(ctx) }
func (d direct) Put(p *page) error                          { return d.m.Free(p) }

func raid1Play(r *run, x *raid, req raidRequest) {
	x.grabbed = r.barrier(dirtiers + ordinaries)
	x.queue = make(chan raidRequest, 1)
	x.queued, x.written = r.event("a request"), r.event("the writeout")
	grabbedDirty := r.barrier(dirtiers)
	for i := range dirtiers {
		r.start(fmt.Sprintf("dirty page %d", i), 1, func(t *task) error {
			_, err := t.get(x.dirty)
			grabbedDirty.arrive()
			x.grabbed.arrive()
			if err == nil {
				err = t.await(x.written)
			}
			if err == nil {
				t.step()
			}
			return err
		})
	}
	for i := range ordinaries {
		r.start(fmt.Sprintf("ordinary request %d", i), 2, func(t *task) error {
			if err := t.await(grabbedDirty.all); err != nil {
				return err
			}
			return x.ordinary(t)
		})
	}
	r.start("raid1 daemon", mirrors, x.daemon)
	r.start("writer", 1, func(t *task) error {
		if req.held != nil {
			t.adopt(req.held)
		}
		if err := t.await(x.grabbed.all); err != nil {
			return err
		}
		if req.held != nil {
			t.drop(req.held)
		}
		x.queue <- req
		x.queued.happen()
		if err := t.await(x.written); err != nil {
			return err
		}
		t.step()
		return nil
	})
}

// ordinary takes a page, if there is one, and cannot give it back before it has another one.
func (x *raid) ordinary(t *task) error {
	_, err := t.get(x.requests)
	x.grabbed.arrive()
	if err == nil {
		t.step()
	} else if !errors.Is(err, respool.ErrEmpty) {
		return err
	}
	if err := t.await(x.grabbed.all); err != nil {
		return err
	}
	for t.steps < 2 {
		if err := t.getWait(x.requests); err != nil {
			return err
		}
		t.step()
	}
	return nil
}

// daemon writes to the mirrors.
func (x *raid) daemon(t *task) error {
	if err := t.await(x.queued); err != nil {
		return err
	}
	req := <-x.queue
	if req.held != nil {
		t.adopt(req.held)
	}
	for range mirrors {
		var err error
		if req.reserved != nil {
			err = use(req.reserved, 1)
		} else {
			err = t.getWait(x.requests)
		}
		if err != nil {
			return err
		}
		t.step()
	}
	x.written.happen()
	return nil
}

package scenario

import (
	"errors"
	"fmt"
	"sync/atomic"

	"gommu/respool"
)

// Rik van Riel, quoted by Daniel Phillips, 3 December 2004: "[Request for inclusion] Filesystem in
// Userspace".
func netack() Scenario {
	const asked = "Rik van Riel, 2004: writeout over the network may take memory down to the lowest mark, receiving only to a higher one. " +
		"When writeout has taken its share, who receives the acknowledgements that would give it back?"
	return Scenario{Name: "netack", Asked: asked, ways: []way{
		{PoolFirst, "the marks of 2004: writeout goes deeper", Deadlock,
			"Writeout (critical) takes everything, receiving (atomic) stops at its mark: every acknowledgement is dropped, however often it is sent again.",
			func(r *run) error { return netackClasses(r, respool.Critical, respool.Atomic) }},
		{PoolFirst, "receiving goes deeper", Finished,
			"Writeout (atomic) leaves what receiving (critical) needs. Packets of others are dropped when they ask for ordinary memory, so they cannot use that up.",
			func(r *run) error { return netackClasses(r, respool.Atomic, respool.Critical) }},
		{AllocatorFirst, "one mempool", Deadlock,
			"mempool has one reserve and no classes: writeout takes all of it, and the acknowledgements find none.",
			netackMempool},
		{AllocatorFirst, "a mempool for each direction", Finished,
			"mempool's answer is two reserves: writeout cannot take what receiving needs, and neither can use what the other does not need just now.",
			netackMempools},
	}}
}

const (
	netPages    = 16
	netOrdinary = 8 // what ordinary memory leaves
	netAtomic   = 4 // what atomic leaves
	writes      = 2 * netPages
	strangers   = 3 // packets of others before each acknowledgement
)

// A network is what the tasks share.
type network struct {
	write, receive, keep *stock   // memory for writeout, for receiving a packet, and for packets of others
	wire                 []*event // acknowledgements, one after the other
	acks                 []*event // what each of wire acknowledges
	sent                 atomic.Int64
	full                 *barrier // all that writeout may take is taken, and the server begins to answer
	again, kept, dropped int      // packets; the receiver's
}

func netackClasses(r *run, write, receive respool.Class) error {
	s, err := r.openPool(r.memory(netPages), respool.Options{
		Name: "pages", Min: netPages, High: netPages, Max: netPages, OrdinaryMark: netOrdinary, AtomicMark: netAtomic,
	})
	if err != nil {
		return err
	}
	netackPlay(r, &network{write: s.as(write), receive: s.as(receive), keep: s.as(respool.Ordinary)})
	return nil
}

func netackMempool(r *run) error {
	s, err := r.open(AllocatorFirst, r.memory(netPages), "pages", netPages)
	if err != nil {
		return err
	}
	netackPlay(r, &network{write: s, receive: s, keep: s})
	return nil
}

// netackMempools divides the same pages between two mempools.
func netackMempools(r *run) error {
	m := r.memory(netPages)
	receive, err := r.open(AllocatorFirst, m, "pages to receive", netAtomic)
	if err != nil {
		return err
	}
	write, err := r.open(AllocatorFirst, m, "pages to write", netPages-netAtomic)
	if err != nil {
		return err
	}
	receive.total = netAtomic // for the rest is in the other one
	netackPlay(r, &network{write: write, receive: receive, keep: receive})
	return nil
}

func netackPlay(r *run, n *network) {
	n.acks = make([]*event, writes)
	for range writes {
		n.wire = append(n.wire, r.event("a packet"))
	}
	n.full = r.barrier(n.write.total - n.write.leave)
	for i := range writes {
		r.start(fmt.Sprintf("write %d", i), 2, func(t *task) error { return n.writeout(t) })
	}
	r.start("receive path", writes, n.receivePath)
	r.wait()
	r.figure("acknowledgements dropped and sent again: %d; packets of others kept: %d, dropped: %d", n.again, n.kept, n.dropped)
}

// writeout holds a page until the server has acknowledged it.
func (n *network) writeout(t *task) error {
	if err := t.getWait(n.write); err != nil {
		return err
	}
	t.step()
	ack := t.r.event("the acknowledgement")
	k := n.sent.Add(1) - 1
	n.acks[k] = ack
	n.wire[k].happen()
	n.full.arrive()
	if err := t.await(ack); err != nil {
		return err
	}
	t.step()
	return nil
}

// receivePath takes packets in. Each needs a page before it is known whose it is.
func (n *network) receivePath(t *task) error {
	if err := t.await(n.full.all); err != nil {
		return err
	}
	for k := range writes {
		err := t.await(n.wire[k])
		for range strangers {
			if err == nil {
				err = n.stranger(t)
			}
		}
		if err == nil {
			err = n.packet(t)
		}
		if err != nil {
			return err
		}
		n.acks[k].happen()
		if err := t.putLast(); err != nil {
			return err
		}
		t.step()
	}
	return nil
}

// stranger takes in a packet for somebody else, who keeps it only if there is ordinary memory for that.
func (n *network) stranger(t *task) error {
	if err := n.packet(t); err != nil {
		return err
	}
	switch _, err := t.get(n.keep); {
	case err == nil:
		n.kept++
	case errors.Is(err, respool.ErrEmpty):
		n.dropped++
	default:
		return err
	}
	return t.putAll()
}

// packet gets a page for a packet, without waiting: one that finds none is dropped, and sent
// again after a while.
func (n *network) packet(t *task) error {
	dropped, err := t.getAgain(n.receive)
	n.again += dropped
	return err
}

package vtd

import (
	"context"
	"errors"
)

// A request is one invalidation, in whichever way the unit is told.
type request struct {
	kind        requestKind
	granularity granularity
	domainID    uint16
	source      uint16
	functions   uint8  // contexts of one device: FM, function bits to ignore
	depth       uint8  // device TLBs: how many invalidations the device takes at once
	physical    uint16 // device TLBs: the function's physical function
	pasid       uint32
	address     uint64 // of the first page, aligned to the mask
	mask        int    // 2^mask pages
	leaf        bool   // only leaves: no table was unlinked
}

// requestKind is the cache that an invalidation is of; its values are types of
// descriptors (section 6.5.2).
type requestKind uint8

const (
	ofContexts       requestKind = 1
	ofIOTLB          requestKind = 2
	ofDeviceTLB      requestKind = 3
	ofInterrupts     requestKind = 4
	fenced           requestKind = 5 // a wait that holds back what follows
	ofPASIDIOTLB     requestKind = 6
	ofPASIDs         requestKind = 7
	ofPASIDDeviceTLB requestKind = 8
)

var requestNames = map[requestKind]string{
	ofContexts: "contexts", ofIOTLB: "IOTLB", fenced: "fence", ofPASIDIOTLB: "IOTLB by PASID", ofPASIDs: "PASID cache",
	ofDeviceTLB: "device TLB", ofPASIDDeviceTLB: "device TLB by PASID", ofInterrupts: "interrupt entries",
}

func (k requestKind) String() string { return requestNames[k] }

// granularity is how much an invalidation drops, as descriptors and registers
// encode it (sections 6.5.1 and 6.5.2).
type granularity uint8

const (
	// Of contexts and of the IOTLB.
	global    granularity = 1
	byDomain  granularity = 2
	selective granularity = 3 // contexts: of one device; IOTLB: of pages
	// Of the IOTLB by PASID.
	wholePASID   granularity = 2
	pagesOfPASID granularity = 3
	// Of the PASID cache.
	pasidsOfDomain granularity = 0
	ofOnePASID     granularity = 1
	everyPASID     granularity = 3
	// Of interrupt entries: by index is 1.
	everyInterrupt granularity = 0
	someInterrupts granularity = 1
)

// An invalidator drops what the unit has cached and returns when all of it is
// dropped.
type invalidator interface {
	run(ctx context.Context, requests []request) error
}

// A plan is a list of invalidations that are told together.
type plan struct{ requests []request }

// newPlan is an empty plan in memory that the unit keeps for it.
func (u *Unit) newPlan() plan { return plan{u.planned[:0]} }

func (p *plan) add(at point, r request) {
	if keep(at) {
		p.requests = append(p.requests, r)
	}
}

// fence holds back what is added later until what was added before is done:
// what a cache lost must not come back out of one that was still to be dropped.
func (p *plan) fence() {
	if len(p.requests) > 0 {
		p.add(orderFence, request{kind: fenced})
	}
}

func (u *Unit) run(p plan) error { return u.runContext(context.Background(), p) }

func (u *Unit) runContext(ctx context.Context, p plan) error {
	u.planned = p.requests
	if len(p.requests) == 0 {
		return nil
	}
	return u.inv.run(ctx, p.requests)
}

// retired runs a plan that drops what is not present any more. If it fails, the
// unit may still use what it has cached, until forget, and the device what its
// TLB has, until forgetDevices.
func (u *Unit) retired(p plan, at place, domainID uint16) error {
	if !u.walking.Load() {
		return nil
	}
	_, hasTLB := u.deviceTLBs[at.source]
	if hasTLB {
		p.fence()
		u.planDevice(&p, at, 0, allOfDevice)
	}
	err := u.run(p)
	if err != nil {
		u.lost.Store(errors.Is(err, ErrGone))
		u.stale.Store(true)
		if hasTLB {
			u.silent[at] = domainID
		}
	}
	return err
}

// dropAll drops all that the unit has cached, contexts first (section 6.6).
func (u *Unit) dropAll(ctx context.Context) error {
	p := u.newPlan()
	p.add(rootContext, request{kind: ofContexts, granularity: global})
	p.fence()
	if u.opts.Mode == Scalable {
		p.add(rootPASID, request{kind: ofPASIDs, granularity: everyPASID})
		p.fence()
	}
	p.add(rootIOTLB, request{kind: ofIOTLB, granularity: global})
	if err := u.runContext(ctx, p); err != nil {
		return err
	}
	u.stale.Store(false)
	return u.freeLimbo()
}

// publishedBuffer flushes the write buffer, if the unit is on, for an entry that
// became present.
func (u *Unit) publishedBuffer() error {
	if !u.enabled || !keep(writeBuffer) {
		return nil
	}
	return u.flushWriteBuffer(context.Background())
}

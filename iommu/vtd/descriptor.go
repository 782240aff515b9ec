package vtd

// A descriptor is one entry of the invalidation queue (section 6.5.2): two
// words, or four of which the last two are 0. The type is in bits 3:0, the
// granularity in 5:4, the domain id in 31:16.
type descriptor [2]uint64

const (
	typeWait = 5

	descGranularity   = 4
	descDrain         = 6
	descDomain        = 16
	descContextSource = 32
	descPASID         = 32
	descLeaf          = 1 << 6 // IH, in the second word with the address and the mask

	waitStatusWrite = 1 << 5 // never together with the interrupt flag, bit 4: it ends some versions of QEMU
	waitFence       = 1 << 6
	waitStatusData  = 32
)

// descriptor is what the queue holds for a request.
func (q *queue) descriptor(r *request) descriptor {
	low := uint64(r.kind) | uint64(r.granularity)<<descGranularity | uint64(r.domainID)<<descDomain
	switch r.kind {
	case fenced:
		return q.filler(waitFence)
	case ofContexts:
		return descriptor{low | uint64(r.source)<<descContextSource, 0}
	case ofIOTLB:
		return descriptor{low | q.u.drain()<<descDrain, r.pages()}
	case ofPASIDIOTLB:
		return descriptor{low | uint64(r.pasid)<<descPASID, r.pages()}
	default: // ofPASIDs
		return descriptor{low | uint64(r.pasid)<<descPASID, 0}
	}
}

// pages is the second word of an invalidation of pages.
func (r *request) pages() uint64 {
	v := r.address | uint64(r.mask)
	if r.leaf {
		v |= descLeaf
	}
	return v
}

// wait is the wait descriptor of the current submission.
func (q *queue) wait() descriptor {
	return descriptor{typeWait | waitStatusWrite | uint64(q.number)<<waitStatusData, q.statusFrame.Bus}
}

// filler is a wait that nobody waits for: it writes to the word behind the
// status. A wait must do something: some versions of QEMU stop at one that
// neither writes nor interrupts.
func (q *queue) filler(flags uint64) descriptor {
	return descriptor{typeWait | waitStatusWrite | flags, q.statusFrame.Bus + 8}
}

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
	descFunctions     = 48 // FM
	descPASID         = 32
	descLeaf          = 1 << 6 // IH, in the second word with the address and the mask

	deviceDepth       = 16 // MIP, of a device TLB
	deviceSource      = 32
	pasidDeviceDepth  = 4 // and of one with PASID
	pasidDeviceSource = 16
	interruptMask     = 27
	interruptIndex    = 32

	waitStatusWrite = 1 << 5 // never together with the interrupt flag, bit 4: it ends some versions of QEMU
	waitFence       = 1 << 6
	waitStatusData  = 32
)

// descriptor is what the queue holds for a request.
//
//gommu:nosleep
func (q *queue) descriptor(r *request) descriptor {
	low := uint64(r.kind) | uint64(r.granularity)<<descGranularity | uint64(r.domainID)<<descDomain
	switch r.kind {
	case ofContexts:
		return descriptor{low | uint64(r.source)<<descContextSource | uint64(r.functions)<<descFunctions, 0}
	case ofIOTLB:
		return descriptor{low | q.u.drain()<<descDrain, r.pages()}
	case ofPASIDIOTLB:
		return descriptor{low | uint64(r.pasid)<<descPASID, r.pages()}
	case ofPASIDs:
		return descriptor{low | uint64(r.pasid)<<descPASID, 0}
	case ofInterrupts:
		return descriptor{low | uint64(r.mask)<<interruptMask | r.address<<interruptIndex, 0}
	case ofDeviceTLB:
		return descriptor{uint64(r.kind) | uint64(r.depth)<<deviceDepth | uint64(r.source)<<deviceSource |
			uint64(r.physical&0xf)<<12 | uint64(r.physical>>4)<<52, r.devicePages(1)}
	case ofPASIDDeviceTLB:
		return descriptor{uint64(r.kind) | uint64(r.depth)<<pasidDeviceDepth | uint64(r.source)<<pasidDeviceSource |
			uint64(r.pasid)<<descPASID | uint64(r.physical&0xf)<<12 | uint64(r.physical>>4)<<52, r.devicePages(1 << 11)}
	default: // fenced
		return q.filler(waitFence)
	}
}

// devicePages is the second word of an invalidation of a device's TLB. With the
// size bit set, the lowest 0 of the address says how many pages: as many as if
// it and all below were the page's offset (section 6.5.2.5).
//
//gommu:nosleep
func (r *request) devicePages(size uint64) uint64 {
	if r.mask == 0 {
		return r.address
	}
	if r.mask >= 52 { // everything
		return 1<<63 - 1<<12 | size
	}
	return r.address | (1<<(r.mask-1)-1)<<12 | size
}

// pages is the second word of an invalidation of pages.
//
//gommu:nosleep
func (r *request) pages() uint64 {
	v := r.address | uint64(r.mask)
	if r.leaf {
		v |= descLeaf
	}
	return v
}

// wait is the wait descriptor of a submission.
//
//gommu:nosleep
func (q *queue) wait(number uint64) descriptor {
	low := uint64(typeWait | waitStatusWrite | waitFence)
	if !keep(beginOrder) {
		low &^= waitFence
	}
	return descriptor{low | number<<waitStatusData, q.statusFrame.Bus}
}

// filler is a wait that nobody waits for: it writes to the word behind the
// status. A wait must do something: some versions of QEMU stop at one that
// neither writes nor interrupts.
//
//gommu:nosleep
func (q *queue) filler(flags uint64) descriptor {
	return descriptor{typeWait | waitStatusWrite | flags, q.statusFrame.Bus + 8}
}

package model

// A queue is the invalidation queue (section 6.5.2).
type queue struct {
	on         bool
	address    uint64 // IQA_REG
	head, tail uint64 // IQH_REG and IQT_REG: offsets in bytes
	errors     uint32 // bits of FSTS_REG: nothing is fetched while one is set
	why        uint64 // IQEI of IQERCD_REG
	silent     uint16 // ITESID of IQERCD_REG: the device that did not answer
	ended      bool   // the last descriptor was a wait

	// waiting are invalidations that were fetched and not performed: nothing says
	// when they are, before a wait descriptor does (section 6.5.2.9).
	waiting []descriptor
}

// A descriptor is one of 128 bits, or of 256 with two more words that are
// reserved.
type descriptor [4]uint64

const (
	queueWide = 1 << 11 // IQA.DW
	// maxWaiting bounds how much a queue without waits piles up.
	maxWaiting = 1 << 16
)

// size is the length of a queue in bytes: 2^QS pages, with descriptors of either
// width (section 11.4.9.3).
func (q *queue) size() uint64 { return pageSize << (q.address & 7) }

// step is the length of a descriptor in bytes.
func (q *queue) step() uint64 {
	if q.address&queueWide != 0 {
		return 32
	}
	return 16
}

func (u *Unit) setQueue(v uint64) {
	switch {
	case u.cfg.NoQueue:
		u.violation("IQA is written, but this unit has no invalidation queue")
		return
	case u.queue.on:
		u.violation("IQA is written while the queue is on (section 11.4.9.3)")
		return
	case v&0x7f8 != 0 || v>>u.cfg.HostWidth != 0:
		u.violation("IQA %#x has reserved bits set", v)
	}
	u.queue.address = v
}

func (u *Unit) enableQueue(on bool) {
	q := &u.queue
	switch {
	case u.cfg.NoQueue:
		u.violation("the queue is enabled, but this unit has none")
		return
	case on:
		if q.tail != 0 {
			u.violation("the queue is enabled while its tail is %#x: it must be 0 (section 6.5.2)", q.tail)
		}
		q.on, q.ended, q.waiting = true, true, nil
		u.regs.gsts |= globalQIE
		u.runQueue()
		return
	}
	if q.head != q.tail {
		u.violation("the queue is disabled while it is not empty: head %#x, tail %#x (section 6.5.2)", q.head, q.tail)
	} else if !q.ended {
		u.violation("the queue is disabled though its last descriptor was no wait (section 6.5.2)")
	}
	q.on, q.head, q.waiting = false, 0, nil
	u.regs.gsts &^= globalQIE
}

func (u *Unit) setTail(v uint64) {
	if u.cfg.NoQueue {
		u.violation("IQT is written, but this unit has no invalidation queue")
		return
	}
	u.queue.tail = v
	u.runQueue()
}

// runQueue fetches descriptors until the tail, or an error (section 6.5.2.11).
func (u *Unit) runQueue() {
	q := &u.queue
	if !q.on || q.errors != 0 {
		return
	}
	switch {
	case q.tail >= q.size():
		u.violation("the queue's tail is %#x, its size %#x (section 11.4.9.2)", q.tail, q.size())
		u.stopQueue(tailBeyond)
		return
	case q.tail%q.step() != 0:
		u.violation("the queue's tail is %#x, its descriptors have %d bytes (section 11.4.9.2)", q.tail, q.step())
		u.stopQueue(tailUnaligned)
		return
	}
	for q.head != q.tail {
		d, why := u.fetch()
		if why == 0 {
			why = u.execute(&d)
		}
		if why != 0 {
			u.stopQueue(why)
			return
		}
		q.ended = d.kind() == kindWait
		q.head = (q.head + q.step()) % q.size()
		if q.errors != 0 {
			return
		}
	}
}

// What is wrong with the queue or a descriptor: IQEI of IQERCD_REG (section
// 11.4.9.9).
const (
	tailBeyond    = 1
	notFetched    = 2
	kindInvalid   = 3
	fieldReserved = 4
	widthInvalid  = 5
	tailUnaligned = 6
	modeReserved  = 7
)

// stopQueue reports an error of the queue.
func (u *Unit) stopQueue(why uint64) {
	u.queue.why = why
	u.queueFault(faultQueue)
}

func (u *Unit) queueFault(status uint32) {
	before := u.faultStatus()
	u.queue.errors |= status
	u.faultEvent(before)
}

// errorRecord is IQERCD_REG.
func (q *queue) errorRecord() (v uint64) {
	if q.errors&faultQueue != 0 {
		v = q.why
	}
	if q.errors&faultTimeout != 0 {
		v |= uint64(q.silent) << 32
	}
	return v
}

// fetch reads the descriptor at the head. It snoops and passes the write buffers.
func (u *Unit) fetch() (d descriptor, why uint64) {
	addr := u.queue.address&nextTable + u.queue.head
	for i := range u.queue.step() / 8 {
		v, ok := u.mem.current(addr + i*8)
		if !ok {
			return d, notFetched
		}
		d[i] = v
	}
	return d, 0
}

// Types of descriptors (section 6.5.2).
const (
	kindContext     = 1
	kindIOTLB       = 2
	kindDevice      = 3
	kindInterrupt   = 4
	kindWait        = 5
	kindPASIDIOTLB  = 6
	kindPASID       = 7
	kindPASIDDevice = 8
)

func (d *descriptor) kind() uint64 { return d[0]&0xf | d[0]>>5&0x70 }

func (d *descriptor) granularity() uint64 { return d[0] >> 4 & 3 }

// invalid checks a descriptor: types that the unit or the queue's width have not,
// granularities and bits that are reserved.
func (u *Unit) invalid(d *descriptor) (why uint64) {
	type rule struct {
		lo, hi        uint64 // reserved
		granularities uint   // one bit each, 0 where there is none
		ok            bool
	}
	wide := u.queue.address&queueWide != 0
	switch { // table 26
	case u.root.mode > modeScalable:
		return modeReserved
	case wide && !u.cfg.Scalable, !wide && u.root.mode == modeScalable:
		return widthInvalid
	}
	rules := [...]rule{
		kindContext:     {0xfffc_0000_0000_f1c0, ^uint64(0), 0b1110, true},
		kindIOTLB:       {0xffff_ffff_0000_f100, 0xf80, 0b1110, true},
		kindDevice:      {0xffff_0000_ffe0_f1f0, 0xffe, 0, u.cfg.DeviceTLB},
		kindInterrupt:   {0xffff_0000_07ff_f1e0, ^uint64(0), 0, true},
		kindWait:        {0x0000_0000_ffff_f180, 3, 0, true},
		kindPASIDIOTLB:  {0xfff0_0000_0000_f1c0, 0xf80, 0b1100, wide},
		kindPASID:       {0xfff0_0000_0000_f1c0, ^uint64(0), 0b1011, wide},
		kindPASIDDevice: {0xfff0_0000_0000_f000, 0x7fe, 0, wide && u.cfg.DeviceTLB},
	}
	kind := d.kind()
	if kind == 0 || kind >= uint64(len(rules)) || !rules[kind].ok {
		return kindInvalid
	}
	r := &rules[kind]
	pages := (kind == kindIOTLB || kind == kindPASIDIOTLB) && d.granularity() == selective
	if d[0]&r.lo != 0 || d[1]&r.hi != 0 || d[2]|d[3] != 0 ||
		r.granularities != 0 && r.granularities>>d.granularity()&1 == 0 ||
		pages && (int(d[1]&0x3f) > u.cfg.MaxAddressMask || kind == kindIOTLB && u.cfg.NoPageSelective) {
		return fieldReserved
	}
	return 0
}

// execute performs a descriptor, or puts it off, or says why it is not valid.
func (u *Unit) execute(d *descriptor) (why uint64) {
	if why := u.invalid(d); why != 0 {
		return why
	}
	if d.kind() != kindWait {
		if len(u.queue.waiting) >= maxWaiting {
			u.perform()
		}
		u.queue.waiting = append(u.queue.waiting, *d)
		return 0
	}
	if u.perform() {
		u.completed(d)
	}
	return 0
}

// completed does what a wait descriptor asks for (section 6.5.2.9): a status
// write, an event, both, or with the fence flag nothing.
func (u *Unit) completed(d *descriptor) {
	if d[0]>>5&1 != 0 {
		status, addr := uint32(d[0]>>32), d[1]&^u.addressReserved()
		if !u.mem.write(addr, []byte{byte(status), byte(status >> 8), byte(status >> 16), byte(status >> 24)}) {
			u.violation("the status of a wait descriptor goes to %#x, where no memory is", addr)
		}
	}
	if d[0]>>4&1 != 0 && !u.regs.completed {
		u.regs.completed = true
		u.regs.iectl |= eventPending
		u.sendEvents()
	}
}

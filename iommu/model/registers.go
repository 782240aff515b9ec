package model

// Offsets of registers (section 11.4).
const (
	regVER     = 0x00
	regCAP     = 0x08
	regECAP    = 0x10
	regGCMD    = 0x18
	regGSTS    = 0x1c
	regRTADDR  = 0x20
	regCCMD    = 0x28
	regFSTS    = 0x34
	regFECTL   = 0x38
	regFEDATA  = 0x3c
	regFEADDR  = 0x40
	regFEUADDR = 0x44
	regPMEN    = 0x64
	regPLMBASE = 0x68
	regPLMEND  = 0x6c
	regPHMBASE = 0x70
	regPHMEND  = 0x78
	regIQH     = 0x80
	regIQT     = 0x88
	regIQA     = 0x90
	regICS     = 0x9c
	regIECTL   = 0xa0
	regIEDATA  = 0xa4
	regIEADDR  = 0xa8
	regIEUADDR = 0xac
	regIQERCD  = 0xb0
	regIRTA    = 0xb8

	iotlbOffset  = 0xf0 // IVA, and IOTLB behind it
	regIVA       = iotlbOffset
	regIOTLB     = iotlbOffset + 8
	recordOffset = 0x200
	registerSize = 0x1000
)

// registers are those that only hold what was written to them or a simple state.
type registers struct {
	gsts               uint32
	rtaddr, ccmd, irta uint64
	iva, iotlb         uint64
	fectl, fedata      uint32
	feaddr             uint64
	iectl, iedata      uint32
	ieaddr             uint64
	completed          bool // ICS.IWC
	pmen               uint32
	lowBase, lowEnd    uint32
	highBase, highEnd  uint64
}

// Size is the number of bytes of the register page.
func (u *Unit) Size() uint64 { return registerSize }

// Read32 reads a register, or half of one. Offsets without a register read 0.
func (u *Unit) Read32(off uint64) uint32 {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if off%4 != 0 {
		return 0
	}
	return uint32(u.read(off&^7) >> (off % 8 * 8))
}

// Read64 reads a 64-bit register, or two of 32 bits.
func (u *Unit) Read64(off uint64) uint64 {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if off%8 != 0 {
		return 0
	}
	return u.read(off)
}

// both puts two 32-bit registers side by side.
func both(lo, hi uint32) uint64 { return uint64(hi)<<32 | uint64(lo) }

// read is what the aligned 8 bytes at off hold.
func (u *Unit) read(off uint64) uint64 {
	r := &u.regs
	switch off {
	case regVER:
		if u.cfg.NoRegisterInvalidation {
			return 0x60
		}
		return 0x10
	case regCAP:
		return u.cfg.capability()
	case regECAP:
		return u.cfg.extended()
	case regGCMD: // write only; GSTS is above it
		return both(0, r.gsts)
	case regRTADDR:
		return r.rtaddr
	case regCCMD:
		return r.ccmd
	case regFSTS &^ 7:
		return both(0, u.faultStatus())
	case regFECTL:
		return both(r.fectl, r.fedata)
	case regFEADDR:
		return r.feaddr
	case regPMEN &^ 7:
		return both(0, r.pmen)
	case regPLMBASE:
		return both(r.lowBase, r.lowEnd)
	case regPHMBASE:
		return r.highBase
	case regPHMEND:
		return r.highEnd
	case regIVA:
		return 0 // write only
	case regIOTLB:
		return r.iotlb
	}
	if i := (off - recordOffset) / 16; off >= recordOffset && i < uint64(len(u.faults.records)) {
		return u.faults.records[i][off/8%2]
	}
	return u.readQueue(off)
}

// readQueue is read for the registers of the queue and of interrupts.
func (u *Unit) readQueue(off uint64) uint64 {
	r := &u.regs
	switch off {
	case regIQH:
		return u.queue.head
	case regIQT:
		return u.queue.tail
	case regIQA:
		return u.queue.address
	case regIQERCD:
		return u.queue.errorRecord()
	case regICS &^ 7:
		if r.completed {
			return 1 << 32
		}
	case regIECTL:
		return both(r.iectl, r.iedata)
	case regIEADDR:
		return r.ieaddr
	case regIRTA:
		return r.irta
	}
	return 0
}

// Write32 writes a register, or half of one.
func (u *Unit) Write32(off uint64, v uint32) {
	u.mu.Lock()
	defer u.unlock()
	switch off {
	case regGCMD:
		u.command(v)
	case regFSTS:
		u.clearFaultStatus(v)
	case regFECTL:
		u.regs.fectl = u.regs.fectl&eventPending | v&eventMasked
		u.sendEvents()
	case regFEDATA:
		u.regs.fedata = v
	case regPMEN:
		u.protect(v)
	case regPLMBASE:
		u.regs.lowBase = v &^ (protectedBlock - 1)
	case regPLMEND:
		u.regs.lowEnd = v &^ (protectedBlock - 1)
	case regICS:
		if v&1 != 0 {
			u.regs.completed = false
			u.regs.iectl &^= eventPending
		}
	case regIECTL:
		u.regs.iectl = u.regs.iectl&eventPending | v&eventMasked
		u.sendEvents()
	case regIEDATA:
		u.regs.iedata = v
	default:
		u.writeHalf(off, v)
	}
}

// writeHalf writes half of a 64-bit register. A fault record's F bit, the command
// bits, and the queue's tail act when their half is written.
func (u *Unit) writeHalf(off uint64, v uint32) {
	if i := (off - recordOffset) / 16; off >= recordOffset && i < uint64(len(u.faults.records)) {
		if off%16 == 12 && v>>31 != 0 {
			u.clearRecord(int(i))
		}
		return
	}
	if off%4 != 0 {
		u.violation("4-byte write to offset %#x, which is not aligned", off)
		return
	}
	old := u.read(off &^ 7)
	if off&^7 == regIVA {
		old = u.regs.iva
	}
	low, high := uint32(old), uint32(old>>32)
	if off%8 == 0 {
		u.write(off, both(v, high), false)
	} else {
		u.write(off&^7, both(low, v), true)
	}
}

// Write64 writes a 64-bit register. Registers of 32 bits must be written one by
// one.
func (u *Unit) Write64(off uint64, v uint64) {
	u.mu.Lock()
	defer u.unlock()
	if i := (off - recordOffset) / 16; off >= recordOffset && off%8 == 0 && i < uint64(len(u.faults.records)) {
		if off%16 == 8 && v>>63 != 0 {
			u.clearRecord(int(i))
		}
		return
	}
	u.write(off, v, true)
}

// write stores to a 64-bit register; high says that its upper half was written,
// which is where commands start.
func (u *Unit) write(off, v uint64, high bool) {
	r := &u.regs
	switch off {
	case regRTADDR:
		r.rtaddr = v
	case regCCMD:
		r.ccmd = v
		if high {
			u.contextCommand()
		}
	case regIVA:
		r.iva = v
	case regIOTLB:
		r.iotlb = v
		if high {
			u.iotlbCommand()
		}
	case regFEADDR:
		r.feaddr = v &^ 3
	case regIEADDR:
		r.ieaddr = v &^ 3
	case regPHMBASE:
		r.highBase = v &^ (protectedBlock - 1)
	case regPHMEND:
		r.highEnd = v &^ (protectedBlock - 1)
	case regIQT:
		u.setTail(v)
	case regIQA:
		u.setQueue(v)
	case regIRTA:
		r.irta = v
	case regCAP, regECAP, regIQH, regIQERCD:
	default:
		u.violation("write of %#x to offset %#x, where no register of this size is", v, off)
	}
}

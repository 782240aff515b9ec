package model

// A faultLog is the fault recording registers and what FSTS_REG says of them
// (section 7.2.1, primary fault logging).
type faultLog struct {
	records [][2]uint64
	next    int  // index of the record to be written next
	first   int  // FRI
	lost    bool // PFO
}

// Fields of a fault record's high half (section 11.4.7.5).
const (
	recordFault = 1 << 63
	recordRead  = 1 << 62
	recordPASID = 1 << 31
)

// pending says whether any record is set (PPF).
func (f *faultLog) pending() bool {
	for _, r := range f.records {
		if r[1]&recordFault != 0 {
			return true
		}
	}
	return false
}

// record takes down a blocked request.
func (u *Unit) record(r *request, why reason) {
	f := &u.faults
	if f.lost {
		return
	}
	high := uint64(recordFault) | uint64(r.kind)<<60 | uint64(why)<<32 | uint64(r.source)
	if !r.write {
		high |= recordRead
	}
	if r.hasPASID {
		high |= recordPASID | uint64(r.pasid)<<40
	}
	if u.cfg.CollapseFaults {
		for _, old := range f.records {
			if old[1]&recordFault != 0 && uint16(old[1]) == r.source {
				return
			}
		}
	}
	before := u.faultStatus()
	if f.records[f.next][1]&recordFault != 0 {
		f.lost = true
	} else {
		if !f.pending() {
			f.first = f.next
		}
		f.records[f.next] = [2]uint64{r.iova &^ (pageSize - 1), high}
		f.next = (f.next + 1) % len(f.records)
	}
	u.faultEvent(before)
}

// clearRecord is a write of 1 to F of a record.
func (u *Unit) clearRecord(i int) {
	u.faults.records[i][1] &^= recordFault
	u.faultsCleared()
}

// Bits of FSTS_REG (section 11.4.7.1).
const (
	faultOverflow = 1 << 0 // PFO
	faultPending  = 1 << 1 // PPF
	faultQueue    = 1 << 4 // IQE
	faultTimeout  = 1 << 6 // ITE

	faultClearable = faultOverflow | faultQueue | 1<<5 | faultTimeout
)

// faultStatus is FSTS_REG.
func (u *Unit) faultStatus() uint32 {
	v := u.queue.errors
	if u.faults.lost {
		v |= faultOverflow
	}
	if u.faults.pending() {
		v |= faultPending | uint32(u.faults.first)<<8
	}
	return v
}

// clearFaultStatus is a write to FSTS_REG.
func (u *Unit) clearFaultStatus(v uint32) {
	if v&faultOverflow != 0 {
		u.faults.lost = false
	}
	stopped := u.queue.errors != 0
	u.queue.errors &^= v & (faultClearable &^ faultOverflow)
	u.faultsCleared()
	if stopped && u.queue.errors == 0 {
		u.runQueue() // section 6.5.2.11: fetching goes on
	}
}

// Bits of FECTL_REG and IECTL_REG (sections 11.4.7.2 and 11.4.9.5).
const (
	eventMasked  = 1 << 31 // IM
	eventPending = 1 << 30 // IP
)

const anyFault = faultClearable | faultPending

// faultEvent raises the fault event if the status was clear before (section
// 7.3).
func (u *Unit) faultEvent(before uint32) {
	if before&anyFault == 0 && u.faultStatus()&anyFault != 0 {
		u.regs.fectl |= eventPending
		u.sendEvents()
	}
}

// faultsCleared takes a pending event back once there is no reason for it.
func (u *Unit) faultsCleared() {
	if u.faultStatus()&anyFault == 0 {
		u.regs.fectl &^= eventPending
	}
}

// sendEvents sends pending events that are not masked.
func (u *Unit) sendEvents() {
	if u.regs.fectl&(eventMasked|eventPending) == eventPending {
		u.regs.fectl &^= eventPending
		u.send(u.regs.feaddr, u.regs.fedata)
	}
	if u.regs.iectl&(eventMasked|eventPending) == eventPending {
		u.regs.iectl &^= eventPending
		u.send(u.regs.ieaddr, u.regs.iedata)
	}
}

func (u *Unit) send(address uint64, data uint32) {
	u.messages = append(u.messages, message{address, data})
}

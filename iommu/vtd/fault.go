package vtd

import (
	"fmt"

	"gommu/internal/probe"
)

// A Fault is a DMA, or an interrupt, that the unit blocked.
type Fault struct {
	Reason Reason `json:"reason"`
	Source uint16 `json:"source"` // requester id
	IOVA   uint64 `json:"iova"`   // the 4 KiB page; for an interrupt its index, in bits 63:48
	Write  bool   `json:"write"`  // it would have written; false for reads and atomic operations

	Atomic      bool        `json:"atomic,omitempty"`       // it was an atomic operation
	PageRequest bool        `json:"page_request,omitempty"` // it was a request for a page, not an access
	AddressType AddressType `json:"address_type,omitempty"`

	HasPASID   bool   `json:"has_pasid,omitempty"`
	PASID      uint32 `json:"pasid,omitempty"`      // 20 bits, if HasPASID
	Execute    bool   `json:"execute,omitempty"`    // it would have executed, if HasPASID
	Privileged bool   `json:"privileged,omitempty"` // it was made with supervisor privilege, if HasPASID
}

// AddressType says what a device took the address of a request for.
type AddressType uint8

const (
	Untranslated       AddressType = 0 // an IOVA: the ordinary DMA
	TranslationRequest AddressType = 1 // an IOVA that it wants to have translated
	Translated         AddressType = 2 // what the unit told it before
)

// String is one line for people.
func (f Fault) String() string {
	if f.Reason.Interrupt() {
		return fmt.Sprintf("interrupt %#x of %s: %v (%#02x)", f.IOVA>>48, requester(f.Source), f.Reason, uint8(f.Reason))
	}
	pasid := ""
	if f.HasPASID {
		pasid = fmt.Sprintf(" PASID %#x", f.PASID)
	}
	return fmt.Sprintf("%s of iova %#x by %s%s: %v (%#02x)", f.access(), f.IOVA, requester(f.Source), pasid, f.Reason, uint8(f.Reason))
}

// access says what was tried.
func (f Fault) access() string {
	what := "read"
	switch {
	case f.PageRequest:
		what = "page request"
	case f.Atomic:
		what = "atomic operation"
	case f.Write:
		what = "write"
	case f.Execute:
		what = "execution"
	}
	if f.Privileged {
		what = "privileged " + what
	}
	switch f.AddressType {
	case TranslationRequest:
		what += " (translation request)"
	case Translated:
		what += " (translated address)"
	}
	return what
}

// Fields of the high half of a fault recording register (FRCD_REG, section
// 11.4.7.6).
const (
	recordFault        = 1 << 63 // F
	recordType1        = 1 << 62 // T1: not a write
	recordAddressType  = 60      // AT
	recordPASIDPresent = 1 << 31 // PP
	recordExecute      = 1 << 30 // EXE
	recordPrivileged   = 1 << 29 // PRIV
	recordType2        = 1 << 28 // T2: with T1 an atomic operation, without a page request

	recordClear = 1 << 31 // F, in the register's last 4 bytes
)

// DecodeFault decodes a fault recording register, low half first. It reports
// false if the record is not set. It accepts any values.
func DecodeFault(low, high uint64) (Fault, bool) {
	type1, type2 := high&recordType1 != 0, high&recordType2 != 0
	f := Fault{
		Reason:      Reason(high >> 32),
		Source:      uint16(high),
		IOVA:        low &^ 0xfff,
		Write:       !type1 && !type2,
		Atomic:      type1 && type2,
		PageRequest: !type1 && type2,
		AddressType: AddressType(high >> recordAddressType & 3),
		HasPASID:    high&recordPASIDPresent != 0,
	}
	if f.HasPASID {
		f.PASID = uint32(high >> 40 & 0xfffff)
		f.Execute, f.Privileged = high&recordExecute != 0, high&recordPrivileged != 0
	}
	return f, high&recordFault != 0
}

// Faults takes the faults that the unit has recorded, oldest first, and makes
// room for new ones. A unit has few records: overflow says that at least one
// fault was lost since the last call. What follows a recorded fault of the same
// device may be dropped without a sign.
func (u *Unit) Faults() (faults []Fault, overflow bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, false, &OpError{Op: "read faults", Err: ErrClosed}
	}
	faults, overflow, err = u.drainFaults()
	if probe.On(probe.Fault) {
		u.tellFaults(faults, overflow)
	}
	if err != nil {
		err = &OpError{Op: "read faults", Err: err}
	}
	return faults, overflow, err
}

// drainFaults walks the ring of records once, from the one that the unit says
// is the first. Faults recorded before an error are returned with it.
func (u *Unit) drainFaults() (faults []Fault, overflow bool, err error) {
	status := u.regs.Read32(regFSTS)
	if status == gone32 {
		return nil, false, ErrGone
	}
	if status&faultPending != 0 {
		first := int(status >> 8 & 0xff) // FRI
		for i := range u.caps.FaultRecords {
			off := u.caps.FaultRecordOffset + 16*uint64((first+i)%u.caps.FaultRecords)
			// The half with F comes first: once that is set the record stays.
			high, low := u.regs.Read64(off+8), u.regs.Read64(off)
			if low == gone64 && high == gone64 {
				return faults, false, ErrGone
			}
			if f, ok := DecodeFault(low, high); ok {
				faults = append(faults, f)
				u.regs.Write32(off+12, recordClear)
			}
		}
	}
	if status&faultCompletion != 0 && !u.queue.busy() {
		u.completions()
	}
	u.stats.Faults += uint64(len(faults))
	overflow = status&faultOverflow != 0
	if overflow {
		u.stats.FaultsLost++
		u.regs.Write32(regFSTS, faultOverflow)
	}
	return faults, overflow, nil
}

// completions clears what a device answered unasked, which holds back the message
// of the next fault (section 7.3). Some units go on only when the tail is written.
func (u *Unit) completions() {
	u.turn.take()
	defer u.turn.leave()
	u.stats.Completions++
	u.regs.Write32(regFSTS, faultCompletion)
	if u.queue != nil && !u.queue.reached(u.number) {
		u.queue.doorbell()
	}
}

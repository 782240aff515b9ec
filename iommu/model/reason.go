package model

// A reason is a fault reason (section 7.1.3, table 30).
type reason uint8

const (
	rootAbsent      reason = 0x01
	contextAbsent   reason = 0x02
	contextInvalid  reason = 0x03
	beyondWidth     reason = 0x04
	noWrite         reason = 0x05
	noRead          reason = 0x06
	tableAccess     reason = 0x07
	rootAccess      reason = 0x08
	contextAccess   reason = 0x09
	rootReserved    reason = 0x0a
	contextReserved reason = 0x0b
	entryReserved   reason = 0x0c
	typeBlocked     reason = 0x0d
	outputInterrupt reason = 0x0e

	modeInvalid             reason = 0x30
	legacyPASID             reason = 0x31
	scalableRootAccess      reason = 0x38
	scalableRootAbsent      reason = 0x39
	scalableRootReserved    reason = 0x3a
	scalableContextAccess   reason = 0x40
	scalableContextAbsent   reason = 0x41
	scalableContextReserved reason = 0x42
	scalableContextInvalid  reason = 0x43
	noDeviceTLB             reason = 0x44
	noPASIDs                reason = 0x45
	pasidBeyond             reason = 0x46
	ridPASID                reason = 0x48
	directoryAccess         reason = 0x50
	directoryAbsent         reason = 0x51
	directoryReserved       reason = 0x52
	pasidAccess             reason = 0x58
	pasidAbsent             reason = 0x59
	pasidReserved           reason = 0x5a
	pasidInvalid            reason = 0x5b
	firstAccess             reason = 0x70
	firstAbsent             reason = 0x71
	firstReserved           reason = 0x72
	firstRoot               reason = 0x73
	secondAccess            reason = 0x78
	secondAbsent            reason = 0x79
	secondReserved          reason = 0x7a
	secondRoot              reason = 0x7b
	secondMark              reason = 0x7c
	secondMarkFailed        reason = 0x7d
	notCanonical            reason = 0x80
	notUser                 reason = 0x81
	beyondUnit              reason = 0x83
	beyondStage             reason = 0x84
	scalableNoWrite         reason = 0x85
	scalableNoRead          reason = 0x86
	scalableOutputInterrupt reason = 0x87
	pasidTooLarge           reason = 0x89
	firstMark               reason = 0x90
	firstMarkFailed         reason = 0x91
)

// qualified says whether FPD in the entries on the way keeps the fault out of the
// records (section 7.1.1; table 30 says for which).
func (r reason) qualified() bool {
	switch r {
	case rootAbsent, rootAccess, contextAccess, rootReserved, modeInvalid, legacyPASID,
		scalableRootAccess, scalableRootAbsent, scalableRootReserved, scalableContextAccess,
		directoryAccess, pasidAccess:
		return false
	}
	return true
}

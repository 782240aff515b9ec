package vtd

// Registers is a unit's register page. Offsets are in bytes; accesses are
// naturally aligned single transactions in program order. A unit that is gone
// reads as all ones. A pci.BAR is a Registers.
//
// If it also has a method Size() uint64, Open checks that all registers that
// the unit says it has lie inside.
//
// Flushes that must not sleep access registers. Where these are memory, an
// access does not sleep either. Where they are not, the type says so by
// "gommu:maysleep" and the reason, and its unit's flushes may sleep.
type Registers interface {
	//gommu:nosleep
	Read32(off uint64) uint32
	//gommu:nosleep
	Write32(off uint64, v uint32)
	//gommu:nosleep
	Read64(off uint64) uint64
	//gommu:nosleep
	Write64(off uint64, v uint64)
}

// Offsets of registers (section 11.4). FECTL, FEDATA, FEADDR and their twins
// for invalidation events (IECTL and up, page requests) are 4 bytes each: a
// wider access to them is not allowed, and ends some versions of QEMU.
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
	regIQH     = 0x80
	regIQT     = 0x88
	regIQA     = 0x90
	regIQERCD  = 0xb0
)

// The mode (TTM) in RTADDR_REG (11.4.5).
const (
	rootMode     = 3 << 10
	rootScalable = 1 << 10
)

// Bits of GCMD_REG and GSTS_REG (11.4.4.1, 11.4.4.2). A command and its status are
// the same bit.
const (
	globalTE   = 1 << 31 // translation enable
	globalSRTP = 1 << 30 // set root table pointer
	globalWBF  = 1 << 27 // write buffer flush
	globalQIE  = 1 << 26 // queued invalidation enable
	globalIRE  = 1 << 25 // interrupt remapping enable

	// globalState are the status bits that a new command must repeat; the
	// others are commands that happen once (11.4.4.1).
	globalState = 0x96ff_ffff
)

// Bits of FSTS_REG (11.4.7.1). All but PPF are cleared by writing ones.
const (
	faultOverflow      = 1 << 0 // PFO: a fault was lost
	faultPending       = 1 << 1 // PPF: a record is set
	faultQueue         = 1 << 4 // IQE
	faultCompletion    = 1 << 5 // ICE
	faultTimeout       = 1 << 6 // ITE
	faultInvalidations = faultQueue | faultCompletion | faultTimeout
)

// eventMask is IM in FECTL_REG: no message is sent (11.4.7.2).
const eventMask = 1 << 31

// Bits of PMEN_REG: protected memory regions (11.4.8.1).
const (
	protectEnable = 1 << 31 // EPM
	protectStatus = 1 << 0  // PRS
)

const (
	gone32 = ^uint32(0)
	gone64 = ^uint64(0)
)

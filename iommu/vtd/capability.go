package vtd

import (
	"fmt"
	"strings"
)

// Version is the architecture version of a unit, VER_REG (section 11.4.1).
type Version struct{ Major, Minor uint8 }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Capabilities are CAP_REG and ECAP_REG decoded (sections 11.4.2 and 11.4.3).
type Capabilities struct {
	Version   Version
	Cap, Ecap uint64 // as read

	Domains         int  // how many domain ids there are, 0 included
	MaxAddressWidth int  // MGAW: DMA above 2^this is blocked
	Width39         bool // second-stage tables of 3 levels
	Width48         bool // of 4 levels
	Width57         bool // of 5 levels
	Page2M          bool // 2 MiB leaves in the second stage
	Page1G          bool // 1 GiB leaves

	Coherent         bool // the unit's walks snoop the processors' caches
	CachingMode      bool // entries that are not present are cached, too
	WriteBufferFlush bool // stores to tables need an explicit flush (RWBF)
	ProtectedMemory  bool // there are protected memory regions (PLMR or PHMR)
	SnoopControl     bool // leaves may force snooping (SNP)
	PassThrough      bool // context entries may let DMA pass untranslated
	ZeroLengthReads  bool // reads of no bytes from write-only pages pass

	QueuedInvalidation  bool
	PageSelective       bool // IOTLB invalidation of pages
	MaxAddressMask      int  // MAMV: at most 2^this pages in one of these
	DrainReads          bool // DRD
	DrainWrites         bool // DWD
	DeviceTLB           bool
	InterruptRemapping  bool
	PhysicalFunctions   bool // device TLB invalidations name the physical function (DIT)
	MaxInterruptMask    int  // MHMV: at most 2^this interrupt entries in one invalidation
	ExtendedInterrupts  bool // x2APIC destinations (EIM)
	EnhancedRootPointer bool // setting the root pointer invalidates by itself (ESRTPS)

	FaultRecords      int    // NFR
	FaultRecordOffset uint64 // FRO, in bytes from the start of the registers
	IOTLBOffset       uint64 // IRO, in bytes

	ScalableMode   bool
	SecondStage    bool // of scalable mode
	FirstStage     bool
	FirstStage57   bool
	FirstStage1G   bool
	Nested         bool
	PASIDBits      int // 0 without PASID support
	PageRequests   bool
	AccessedDirty  bool // second stage, scalable mode
	ScalableSnoops bool // scalable-mode page walks are coherent (SMPWC)
}

// DecodeCapabilities decodes the three registers. It accepts any values.
func DecodeCapabilities(version uint32, capability, extended uint64) Capabilities {
	c := func(bit int) bool { return capability>>bit&1 != 0 }
	e := func(bit int) bool { return extended>>bit&1 != 0 }
	caps := Capabilities{
		Version: Version{uint8(version >> 4 & 0xf), uint8(version & 0xf)},
		Cap:     capability, Ecap: extended,

		Domains:         1 << (4 + 2*(capability&7)),
		MaxAddressWidth: int(capability>>16&0x3f) + 1,
		Width39:         c(9), Width48: c(10), Width57: c(11),
		Page2M: c(34), Page1G: c(35),

		Coherent: e(0), CachingMode: c(7), WriteBufferFlush: c(4), ProtectedMemory: c(5) || c(6),
		SnoopControl: e(7), PassThrough: e(6), ZeroLengthReads: c(22),

		QueuedInvalidation: e(1), PageSelective: c(39), MaxAddressMask: int(capability >> 48 & 0x3f),
		DrainReads: c(55), DrainWrites: c(54), DeviceTLB: e(2),
		PhysicalFunctions: e(41), MaxInterruptMask: int(extended >> 20 & 0xf),
		InterruptRemapping: e(3), ExtendedInterrupts: e(4), EnhancedRootPointer: c(63),

		FaultRecords:      int(capability>>40&0xff) + 1,
		FaultRecordOffset: capability >> 24 & 0x3ff * 16,
		IOTLBOffset:       extended >> 8 & 0x3ff * 16,

		ScalableMode: e(43), SecondStage: e(46), FirstStage: e(47), FirstStage57: c(60), FirstStage1G: c(56),
		Nested: e(26), PageRequests: e(29), AccessedDirty: e(45), ScalableSnoops: e(48),
	}
	if e(40) {
		caps.PASIDBits = int(extended>>35&0x1f) + 1
	}
	return caps
}

// end is the first byte behind the registers that the capabilities promise.
func (c Capabilities) end() uint64 {
	return max(c.FaultRecordOffset+16*uint64(c.FaultRecords), c.IOTLBOffset+16, regIQERCD+8)
}

// String lists the capabilities, several lines without a newline at the end.
func (c Capabilities) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "VT-d %v, CAP %#016x, ECAP %#016x\n", c.Version, c.Cap, c.Ecap)
	fmt.Fprintf(&b, "domains %d, IOVAs to %d bits, second stage%s\n", c.Domains, c.MaxAddressWidth,
		flags(flag{"39", c.Width39}, flag{"48", c.Width48}, flag{"57", c.Width57}, flag{"2M", c.Page2M}, flag{"1G", c.Page1G}))
	fmt.Fprintf(&b, "tables:%s\n", flags(flag{"coherent", c.Coherent}, flag{"caching-mode", c.CachingMode},
		flag{"write-buffer-flush", c.WriteBufferFlush}, flag{"protected-memory", c.ProtectedMemory},
		flag{"snoop-control", c.SnoopControl}, flag{"pass-through", c.PassThrough}, flag{"zero-length-reads", c.ZeroLengthReads}))
	fmt.Fprintf(&b, "invalidation:%s; masks to %d\n", flags(flag{"queued", c.QueuedInvalidation}, flag{"page-selective", c.PageSelective},
		flag{"drain-reads", c.DrainReads}, flag{"drain-writes", c.DrainWrites}, flag{"device-tlb", c.DeviceTLB},
		flag{"enhanced-root-pointer", c.EnhancedRootPointer}), c.MaxAddressMask)
	fmt.Fprintf(&b, "interrupts:%s\n", flags(flag{"remapping", c.InterruptRemapping}, flag{"extended", c.ExtendedInterrupts}))
	fmt.Fprintf(&b, "fault records: %d at %#x; IOTLB registers at %#x\n", c.FaultRecords, c.FaultRecordOffset, c.IOTLBOffset)
	fmt.Fprintf(&b, "scalable mode:%s; PASID bits %d", flags(flag{"supported", c.ScalableMode}, flag{"second-stage", c.SecondStage},
		flag{"first-stage", c.FirstStage}, flag{"first-stage-57", c.FirstStage57}, flag{"first-stage-1G", c.FirstStage1G},
		flag{"nested", c.Nested}, flag{"page-requests", c.PageRequests}, flag{"accessed-dirty", c.AccessedDirty},
		flag{"coherent", c.ScalableSnoops}), c.PASIDBits)
	return b.String()
}

type flag struct {
	name string
	set  bool
}

// flags lists the names of the flags that are set, each after a space.
func flags(all ...flag) string {
	s := ""
	for _, f := range all {
		if f.set {
			s += " " + f.name
		}
	}
	if s == "" {
		return " none"
	}
	return s
}

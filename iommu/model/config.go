package model

import (
	"errors"
	"fmt"
)

// Config says what a unit can do. The zero value, with RAM, is a legacy-mode
// unit that walks 39 and 48 bits with all page sizes, does not snoop, has an
// invalidation queue and registers for the same, and one fault record.
type Config struct {
	// RAM is the memory that unit and devices reach. RAMBase is the bus address
	// of its first byte. Both are multiples of 4096 bytes; RAM is at least
	// 8-byte aligned.
	RAM     []byte
	RAMBase uint64

	// Widths are the bits of IOVA that the second stage translates: 39, 48, 57.
	// None is 39 and 48. The largest is also the widest address of a DMA (MGAW).
	Widths []int
	// HostWidth is the number of bits of a bus address; higher bits in entries
	// are reserved. 0 is 46.
	HostWidth int
	// DomainBits is the number of bits of a domain id, even, 4 to 16. 0 is 16.
	DomainBits int
	No2M, No1G bool // page sizes that are missing; No2M implies No1G

	Coherent         bool // walks snoop the processors' caches (ECAP.C and ECAP.SMPWC)
	WriteBufferFlush bool // stores need a write-buffer flush (CAP.RWBF)
	CachingMode      bool // CAP.CM
	// UnorderedFlushes makes a unit that does not snoop see some flushed lines at
	// once and others only after a call of Unit.Fenced, as CLFLUSHOPT allows.
	UnorderedFlushes bool
	SnoopControl     bool // ECAP.SC: leaves may have SNP set
	NoPassThrough    bool // ECAP.PT is 0
	ProtectedMemory  bool // CAP.PLMR and CAP.PHMR

	NoQueue                bool // no invalidation queue
	NoRegisterInvalidation bool // version 6: invalidation by the queue only
	NoPageSelective        bool // CAP.PSI is 0
	MaxAddressMask         int  // CAP.MAMV. 0 is 18
	EnhancedRootPointer    bool // CAP.ESRTPS: setting the root pointer drops everything cached
	DeviceTLB              bool // ECAP.DT

	FaultRecords   int  // 1 to 224. 0 is 1
	CollapseFaults bool // a fault is not recorded while one of the same device is

	// Scalable adds scalable mode (and with it 256-bit descriptors) to legacy
	// mode.
	Scalable      bool
	NoFirstStage  bool // scalable mode without first-stage tables
	NoSecondStage bool // scalable mode without second-stage tables
	FirstStage57  bool // first-stage tables of five levels
	NoPASID       bool // no requests with PASID
	PASIDBits     int  // 6 to 20. 0 is 20
	AccessedDirty bool // accessed and dirty bits in second stages of scalable mode (ECAP.SSADS)

	// Interrupt, if set, is called for each interrupt message: a device's write
	// into the interrupt range and the unit's own events. It is called without
	// locks held, by the goroutine whose call caused the message.
	Interrupt func(address uint64, data uint32)
}

// ErrConfig reports a Config that describes no unit.
var ErrConfig = errors.New("bad configuration of a unit")

// fill sets the defaults and refuses what cannot be.
func (c *Config) fill() error {
	if len(c.Widths) == 0 {
		c.Widths = []int{39, 48}
	}
	c.HostWidth = or(c.HostWidth, 46)
	c.DomainBits = or(c.DomainBits, 16)
	c.MaxAddressMask = or(c.MaxAddressMask, 18)
	c.FaultRecords = or(c.FaultRecords, 1)
	c.PASIDBits = or(c.PASIDBits, 20)
	c.No1G = c.No1G || c.No2M
	for _, w := range c.Widths {
		if w != 39 && w != 48 && w != 57 {
			return fmt.Errorf("%w: width %d, want 39, 48 or 57", ErrConfig, w)
		}
	}
	for _, n := range []struct {
		name           string
		v, first, last int
	}{
		{"HostWidth", c.HostWidth, 32, 52}, {"DomainBits", c.DomainBits, 4, 16}, {"MaxAddressMask", c.MaxAddressMask, 1, 63},
		{"FaultRecords", c.FaultRecords, 1, 224}, {"PASIDBits", c.PASIDBits, 6, 20},
	} {
		if n.v < n.first || n.v > n.last {
			return fmt.Errorf("%w: %s is %d, want %d to %d", ErrConfig, n.name, n.v, n.first, n.last)
		}
	}
	size := uint64(len(c.RAM))
	switch {
	case c.DomainBits%2 != 0:
		return fmt.Errorf("%w: DomainBits is %d, want an even number", ErrConfig, c.DomainBits)
	case size == 0 || size%pageSize != 0 || c.RAMBase%pageSize != 0 || !aligned(c.RAM):
		return fmt.Errorf("%w: %d bytes of RAM at %#x: want multiples of %d", ErrConfig, size, c.RAMBase, pageSize)
	case c.RAMBase >= 1<<c.HostWidth || size > 1<<c.HostWidth-c.RAMBase:
		return fmt.Errorf("%w: RAM to %#x does not fit into %d bits of bus address", ErrConfig, c.RAMBase+size, c.HostWidth)
	case c.Scalable && c.NoQueue:
		return fmt.Errorf("%w: scalable mode needs the invalidation queue", ErrConfig)
	case c.NoQueue && c.NoRegisterInvalidation:
		return fmt.Errorf("%w: no way to invalidate", ErrConfig)
	}
	return nil
}

func or(v, fallback int) int {
	if v == 0 {
		return fallback
	}
	return v
}

// width is the widest IOVA of a DMA.
func (c *Config) width() int {
	w := 0
	for _, v := range c.Widths {
		w = max(w, v)
	}
	return w
}

// walks says whether second-stage tables of this many levels are supported.
func (c *Config) walks(levels int) bool {
	for _, w := range c.Widths {
		if w == widthOf(levels) {
			return true
		}
	}
	return false
}

// capability is CAP_REG (section 11.4.2).
func (c *Config) capability() uint64 {
	v := uint64(c.DomainBits-4)/2 |
		uint64(c.width()-1)<<16 |
		1<<22 | // ZLR
		recordOffset/16<<24 |
		uint64(c.FaultRecords-1)<<40 |
		uint64(c.MaxAddressMask)<<48 |
		3<<54 // DWD, DRD: all invalidations drain
	for _, w := range c.Widths {
		v |= 1 << (8 + (w-30)/9)
	}
	return v | set(
		bit{4, c.WriteBufferFlush}, bit{5, c.ProtectedMemory}, bit{6, c.ProtectedMemory}, bit{7, c.CachingMode},
		bit{34, !c.No2M}, bit{35, !c.No1G}, bit{39, !c.NoPageSelective},
		bit{56, c.Scalable && !c.NoFirstStage && !c.No1G}, bit{60, c.Scalable && !c.NoFirstStage && c.FirstStage57},
		bit{63, c.EnhancedRootPointer})
}

// extended is ECAP_REG (section 11.4.3).
func (c *Config) extended() uint64 {
	v := uint64(iotlbOffset / 16 << 8)
	pasid := c.Scalable && !c.NoPASID
	if pasid {
		v |= uint64(c.PASIDBits-1) << 35
	}
	return v | set(
		bit{0, c.Coherent}, bit{1, !c.NoQueue}, bit{2, c.DeviceTLB}, bit{6, !c.NoPassThrough}, bit{7, c.SnoopControl},
		bit{40, pasid}, bit{43, c.Scalable}, bit{45, c.Scalable && c.AccessedDirty && !c.NoSecondStage},
		bit{46, c.Scalable && !c.NoSecondStage}, bit{47, c.Scalable && !c.NoFirstStage}, bit{48, c.Scalable && c.Coherent}, bit{49, c.Scalable})
}

type bit struct {
	n  int
	on bool
}

func set(all ...bit) (v uint64) {
	for _, b := range all {
		if b.on {
			v |= 1 << b.n
		}
	}
	return v
}

package rung

import (
	"strings"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// A Mode is the way from a device to its page table, in a unit of our own.
type Mode string

const (
	Legacy         Mode = "legacy"          // root and context tables, second stage
	ScalableSecond Mode = "scalable-second" // PASID tables, second stage
	ScalableFirst  Mode = "scalable-first"  // PASID tables, first stage
)

// Modes are all modes.
var Modes = []Mode{Legacy, ScalableSecond, ScalableFirst}

// Stage is the stage of the mode's page tables.
func (m Mode) Stage() pagetable.Stage {
	if m == ScalableFirst {
		return pagetable.FirstStage
	}
	return pagetable.SecondStage
}

// Unit is the mode that the driver is opened in.
func (m Mode) Unit() vtd.Mode {
	if m == ScalableSecond || m == ScalableFirst {
		return vtd.Scalable
	}
	return vtd.Legacy
}

// A Variant is what is wanted of a unit beyond the usual: 48 bits, and what the
// rung has.
type Variant struct {
	CachingMode bool
	Narrow      bool // 39 bits at most (MGAW)
	WriteBuffer bool // needs write-buffer flushes (RWBF)
	Coherent    bool // walks snoop the processors' caches; the model only
}

// An Unavailable is the error of a rung that cannot be what is asked for. It says
// why, and a test is skipped with that.
type Unavailable string

func (u Unavailable) Error() string { return string(u) }

// QEMUUnit are the properties of QEMU's intel-iommu for a mode and a variant, but
// for the width, or an Unavailable.
func QEMUUnit(version string, m Mode, v Variant) (string, error) {
	if v.WriteBuffer {
		return "", Unavailable("QEMU's unit has no write buffers")
	}
	if v.Coherent {
		return "", Unavailable("QEMU's unit does not say that it snoops")
	}
	var p []string
	if v.CachingMode {
		p = append(p, "caching-mode=on")
	}
	major, _, _ := strings.Cut(version, ".")
	switch {
	case m == ScalableFirst && len(major) == 1:
		return "", Unavailable("QEMU " + version + " walks no first-stage tables; 10.0 does")
	case m == ScalableFirst:
		p = append(p, "x-scalable-mode=on", "x-flts=on")
	case m == ScalableSecond:
		p = append(p, "x-scalable-mode=on")
	}
	return strings.Join(p, ","), nil
}

// width is the width of QEMU's unit in bits.
func (v Variant) width() int {
	if v.Narrow {
		return 39
	}
	return 48
}

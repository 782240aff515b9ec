package vtd

import (
	"fmt"
	"slices"

	"gommu/pagetable"
)

// A Mode says which tables lead from a requester id to a page table.
type Mode int

const (
	// Legacy is root and context tables, which every unit has.
	Legacy Mode = iota
	// Scalable adds PASID tables and the first stage (section 3.4.3). The unit
	// must have it and a queue.
	Scalable
)

func (m Mode) String() string {
	if m == Scalable {
		return "scalable"
	}
	return "legacy"
}

// Widths are widths of page tables, in bits of IOVA, narrowest first.
type Widths []int

func (w Widths) has(width int) bool { return slices.Contains(w, width) }

// Usable says what of a unit can be used in one mode.
type Usable struct {
	Mode        Mode
	SecondStage Widths // of tables that may be attached; empty without any
	FirstStage  Widths
	PassThrough bool // PassThrough may be attached
	PASIDs      int  // AttachPASID takes 1 to PASIDs-1; 0 without any
	Coherent    bool // walks of page tables snoop; otherwise these are flushed
}

// Usable says what can be used in a mode: nothing if the unit does not have it.
func (c Capabilities) Usable(m Mode) Usable {
	u := Usable{Mode: m}
	if m == Scalable && (!c.ScalableMode || !c.QueuedInvalidation) {
		return u
	}
	u.PassThrough, u.Coherent = c.PassThrough, c.Coherent
	if m == Legacy || c.SecondStage {
		u.SecondStage = c.widths()
	}
	if m == Legacy {
		return u
	}
	u.Coherent = c.ScalableSnoops
	if c.FirstStage {
		u.FirstStage = Widths{48}
		if c.FirstStage57 {
			u.FirstStage = Widths{48, 57}
		}
	}
	if c.PASIDBits > 0 {
		u.PASIDs = min(1<<c.PASIDBits, maxPASIDs)
	}
	return u
}

// none says that no table can be attached in the mode.
func (u Usable) none() bool { return len(u.SecondStage) == 0 && len(u.FirstStage) == 0 }

// widest is the widest second-stage width as entries hold it, for entries that
// have no second-stage table: of 48 bits where there is none.
func (c Capabilities) widest() uint64 {
	if w := c.widths(); len(w) > 0 {
		return uint64(w[len(w)-1]-30) / 9
	}
	return 2
}

// widths are the second-stage widths of CAP.SAGAW.
func (c Capabilities) widths() Widths {
	var w Widths
	for _, s := range []struct {
		set   bool
		width int
	}{{c.Width39, 39}, {c.Width48, 48}, {c.Width57, 57}} {
		if s.set {
			w = append(w, s.width)
		}
	}
	return w
}

// TableOptions are the options of a second-stage table in legacy mode: of 48
// bits if the unit walks these, else of what it does. A unit may walk 48 bits
// and still block DMA above a lower MaxAddressWidth, whatever the table maps
// there.
func (c Capabilities) TableOptions() pagetable.Options {
	return c.tableOptions(c.Usable(Legacy), pagetable.SecondStage)
}

// TableOptions are the options of a table of the given stage that can be
// attached in the unit's mode: of 48 bits if it walks these, else of what it
// does. It fails with ErrUnsupported if it walks none of that stage.
func (u *Unit) TableOptions(stage pagetable.Stage) (pagetable.Options, error) {
	o := u.caps.tableOptions(u.caps.Usable(u.opts.Mode), stage)
	if o.AddressWidth == 0 {
		return o, &OpError{Op: "table options", Err: fmt.Errorf("%w: no %v in %v mode (ECAP %#x)", ErrUnsupported, stage, u.opts.Mode, u.caps.Ecap)}
	}
	return o, nil
}

func (c Capabilities) tableOptions(can Usable, stage pagetable.Stage) pagetable.Options {
	o := pagetable.Options{Stage: stage, Coherent: can.Coherent, No2M: !c.Page2M, No1G: !c.Page1G}
	widths := can.SecondStage
	if stage == pagetable.FirstStage {
		widths, o.No2M, o.No1G = can.FirstStage, false, !c.FirstStage1G
	}
	switch {
	case widths.has(48):
		o.AddressWidth = 48
	case len(widths) > 0:
		o.AddressWidth = widths[0]
	}
	return o
}

// String is one line for people.
func (u Usable) String() string {
	return fmt.Sprintf("%v: second stage %v, first stage %v, pass-through %v, PASIDs %d, coherent %v",
		u.Mode, []int(u.SecondStage), []int(u.FirstStage), u.PassThrough, u.PASIDs, u.Coherent)
}

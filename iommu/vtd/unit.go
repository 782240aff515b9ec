package vtd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gommu/internal/cacheline"
	"gommu/pagetable"
	"gommu/respool"
)

// InvalidationMode says how the unit is told to drop cached entries.
type InvalidationMode int

const (
	// InvalidateBest uses the queue if the unit has one.
	InvalidateBest InvalidationMode = iota
	// InvalidateByQueue uses the invalidation queue; Open fails without one.
	InvalidateByQueue
	// InvalidateByRegisters uses CCMD_REG and the IOTLB registers; Open fails on
	// units of version 6 and up, which do not have them (section 6.5).
	InvalidateByRegisters
)

// Options configure a Unit. The zero value works.
type Options struct {
	// Mode is Legacy or Scalable. Open fails if the unit does not have it.
	Mode         Mode
	Invalidation InvalidationMode
	// Adopt takes over a unit that somebody has left on, instead of refusing it
	// with ErrActive. Open then switches translation and the queue off, in this
	// order: from there to Enable every DMA passes untranslated, so devices that
	// the old tables confined must be quiet, and DMA through old IOVAs reaches
	// whatever has these physical addresses. Who had the unit must not use it any
	// more. One that remaps interrupts is refused all the same: these belong to
	// the kernel. If Open fails, translation may be off.
	Adopt bool
	// Timeout bounds each wait for the unit. 0 is one second.
	Timeout time.Duration
	// FaultInterrupt is how the unit tells that it recorded faults. Without it
	// FaultEvents looks every FaultPoll, where 0 is 10 milliseconds.
	FaultInterrupt Interrupt
	FaultPoll      time.Duration
}

// A Unit is one remapping unit that this process drives.
type Unit struct {
	regs   Registers
	mem    *pagetable.Memory
	frames *respool.Pool[pagetable.Frame]
	opts   Options
	caps   Capabilities

	// What writes cache lines back to memory for a unit that does not snoop;
	// tests put a model of such memory here.
	writeBack func([]uint64)

	mu         sync.Mutex
	closed     bool
	enabled    bool
	walking    atomic.Bool       // it may translate: from before it is told to until it confirms that it does not
	told       uint32            // GCMD as written last
	owned      []pagetable.Frame // everything taken from the pool
	root       pagetable.Frame
	contexts   [512]*[512]uint64      // context tables, by the word of the root table that leads to each
	spaces     map[uint16]*pasidSpace // scalable mode: by requester id
	domains    domainTable
	bindings   map[uint16]*Binding  // by domain id
	entries    map[place]uint16     // the domain id of all that is attached
	deviceTLBs map[uint16]deviceTLB // by requester id
	queue      *queue               // nil when registers are used
	inv        invalidator
	planned    []request // memory for plans
	stats      Stats     // what the queue counts is of who has the turn
	adopted    Adopted

	// An invalidation of something that is not present any more has failed.
	// Frames that the unit may therefore still read are in limbo.
	stale atomic.Bool
	limbo []pagetable.Frame
	// What was detached from devices that did not answer the invalidation of
	// their TLBs, and its domain id.
	silent map[place]uint16

	// What those share who hold mu and those who must not sleep.
	turn turn
	progress
}

// Open reads what the unit can do, refuses one that is in use, and takes the
// frames for the root table and the invalidation queue from the pool. Unless it
// adopts, it changes nothing in the unit: translation stays off until Enable. mem is where
// the pool's frames lie.
func Open(regs Registers, mem *pagetable.Memory, frames *respool.Pool[pagetable.Frame], opts Options) (*Unit, error) {
	return openUnit(regs, mem, frames, opts, func(words []uint64) {
		cacheline.Flush(words)
		cacheline.Fence()
	})
}

func openUnit(regs Registers, mem *pagetable.Memory, frames *respool.Pool[pagetable.Frame], opts Options, writeBack func([]uint64)) (*Unit, error) {
	if opts.Timeout <= 0 {
		opts.Timeout = time.Second
	}
	if opts.FaultPoll <= 0 {
		opts.FaultPoll = 10 * time.Millisecond
	}
	u := &Unit{
		regs: regs, mem: mem, frames: frames, opts: opts, writeBack: writeBack,
		spaces:  make(map[uint16]*pasidSpace),
		entries: make(map[place]uint16), deviceTLBs: make(map[uint16]deviceTLB), silent: make(map[place]uint16),
		bindings: make(map[uint16]*Binding),
		domains:  domainTable{used: make(map[uint16]*domainUse), own: make(map[uint16]bool)},
	}
	u.doubted.Store(noDoubt)
	if err := u.open(); err != nil {
		return nil, &OpError{Op: "open", Err: errors.Join(err, u.release())}
	}
	return u, nil
}

func (u *Unit) open() error {
	if err := u.identify(); err != nil {
		return err
	}
	var err error
	if u.root, _, err = u.frame(); err != nil {
		return fmt.Errorf("root table: %w", err)
	}
	if u.byRegisters() {
		u.inv = commands{u}
		return u.adopt(context.Background())
	}
	u.queue = &queue{u: u, words: 2}
	if u.caps.ScalableMode {
		u.queue.words = 4
	}
	u.inv = u.queue
	if u.queue.frame, u.queue.ring, err = u.frame(); err != nil {
		return fmt.Errorf("invalidation queue: %w", err)
	}
	if u.queue.statusFrame, u.queue.status, err = u.frame(); err != nil {
		return fmt.Errorf("invalidation status: %w", err)
	}
	return u.adopt(context.Background())
}

// byRegisters says that the unit is not, or cannot be, told through a queue.
func (u *Unit) byRegisters() bool {
	return u.opts.Invalidation == InvalidateByRegisters || !u.caps.QueuedInvalidation
}

// identify reads the capabilities and refuses a unit that cannot be driven.
func (u *Unit) identify() error {
	version, capability, extended := u.regs.Read32(regVER), u.regs.Read64(regCAP), u.regs.Read64(regECAP)
	status := u.regs.Read32(regGSTS)
	if version == gone32 || capability == gone64 || extended == gone64 || status == gone32 {
		return ErrGone
	}
	u.caps = DecodeCapabilities(version, capability, extended)
	switch {
	case u.caps.Version.Major == 0:
		return fmt.Errorf("%w: version %v: this is no VT-d unit", ErrUnsupported, u.caps.Version)
	case status&globalIRE != 0:
		return fmt.Errorf("%w: it remaps interrupts (GSTS %#x); the kernel must leave it alone: intremap=off", ErrActive, status)
	case status&(globalTE|globalQIE) != 0 && !u.opts.Adopt:
		return fmt.Errorf("%w: translation or its queue is on (GSTS %#x); the kernel must leave it alone: intel_iommu=off; or set Options.Adopt", ErrActive, status)
	case u.opts.Mode == Scalable && !u.caps.ScalableMode:
		return fmt.Errorf("%w: no scalable mode (ECAP %#x)", ErrUnsupported, extended)
	case u.opts.Mode == Scalable && u.byRegisters():
		return fmt.Errorf("%w: scalable mode needs the invalidation queue", ErrUnsupported)
	case u.caps.Usable(u.opts.Mode).none():
		return fmt.Errorf("%w: no page tables in %v mode (CAP %#x, ECAP %#x)", ErrUnsupported, u.opts.Mode, capability, extended)
	case u.opts.Invalidation == InvalidateByQueue && !u.caps.QueuedInvalidation:
		return fmt.Errorf("%w: no invalidation queue (ECAP %#x)", ErrUnsupported, extended)
	case u.byRegisters() && u.caps.Version.Major >= firstWithoutCommands:
		return fmt.Errorf("%w: version %v has no invalidation through registers", ErrUnsupported, u.caps.Version)
	}
	if s, ok := u.regs.(interface{ Size() uint64 }); ok && u.caps.end() > s.Size() {
		return fmt.Errorf("%w: registers up to %#x in a window of %#x bytes", ErrUnsupported, u.caps.end(), s.Size())
	}
	return nil
}

// Capabilities says what the unit can do.
func (u *Unit) Capabilities() Capabilities { return u.caps }

// Enabled says whether the unit translates, as far as this process switched
// it.
func (u *Unit) Enabled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.enabled
}

// Queued says whether the invalidation queue is used.
func (u *Unit) Queued() bool { return u.queue != nil }

// Close switches translation off and gives all frames back. If the unit does
// not confirm that it is off, it may still be reading them: then Close keeps
// them, says so by an error, and may be called again, as it may if the pool does
// not take them. A unit that is gone reads nothing. After success, calling it
// again is harmless.
func (u *Unit) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		if err := u.disable(context.Background()); err != nil && !errors.Is(err, ErrGone) {
			return &OpError{Op: "close", Err: fmt.Errorf("%d frames are kept: %w", len(u.owned), err)}
		}
	}
	u.closed, u.enabled = true, false
	u.off()
	if err := u.release(); err != nil {
		return &OpError{Op: "close", Err: err}
	}
	return nil
}

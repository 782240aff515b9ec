package model

import (
	"fmt"
	"sync"
)

// A Unit is one remapping unit. Its registers take a lock, and do the work of a
// queue in the goroutine that wrote its tail.
//
//gommu:maysleep a register access waits for DMA that is under way
type Unit struct {
	cfg Config
	mem *memory

	// DMA through cached entries holds mu for reading from translation to the end
	// of the copy, so what holds it for writing has drained all DMA.
	mu sync.RWMutex

	on   bool     // translation is enabled
	root rootInfo // as latched by SRTP

	regs   registers
	faults faultLog
	queue  queue
	caches caches

	devices    map[uint16]*Device
	messages   []message // to be delivered once mu is released
	violations []string
}

// rootInfo is RTADDR_REG at the time of a set root table pointer command.
type rootInfo struct {
	set  bool
	addr uint64
	mode uint64 // TTM
}

// New returns a unit in the state after a reset: nothing translated, nothing
// cached.
func New(c Config) (*Unit, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	u := &Unit{cfg: c, mem: newMemory(&c), devices: make(map[uint16]*Device)}
	u.caches.init()
	u.faults.records = make([][2]uint64, c.FaultRecords)
	u.regs.fectl, u.regs.iectl = eventMasked, eventMasked
	return u, nil
}

// Flushed tells the unit that the processor has written back the cache lines
// that hold words. A unit that does not snoop sees the stores to them from now
// on; words elsewhere than in its RAM are ignored. It may be called at any time
// by any goroutine, and waits for other flushes only.
func (u *Unit) Flushed(words []uint64) { u.mem.flushed(words) }

// Fenced tells the unit that the processor has waited for its flushes. It matters
// with Config.UnorderedFlushes only, and otherwise is like Flushed.
func (u *Unit) Fenced() { u.mem.fenced() }

// Violations are the things that software did and must not do, and that no fault
// reports, in the order of their happening. Only the first hundred are kept.
func (u *Unit) Violations() []string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return append([]string(nil), u.violations...)
}

func (u *Unit) violation(format string, args ...any) {
	if len(u.violations) < 100 {
		u.violations = append(u.violations, fmt.Sprintf(format, args...))
	}
}

// A message is an interrupt on its way.
type message struct {
	address uint64
	data    uint32
}

// unlock releases mu and delivers what was to be delivered.
func (u *Unit) unlock() {
	messages := u.messages
	u.messages = nil
	u.mu.Unlock()
	if u.cfg.Interrupt != nil {
		for _, m := range messages {
			u.cfg.Interrupt(m.address, m.data)
		}
	}
}

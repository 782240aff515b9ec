//go:build debug

package respool

import (
	"slices"
	"sync"
	"sync/atomic"
)

// NoSleep is a section of a goroutine that must not sleep. See BeginNoSleep.
type NoSleep struct{ section *section }

type section struct {
	began trace
	over  bool
}

// sections are those that have not ended.
var sections struct {
	n    atomic.Int64
	mu   sync.Mutex
	open map[uint64][]*section // by goroutine
}

// BeginNoSleep declares that the calling goroutine must not sleep until it calls End, as
// one that holds a spinlock or polls a device. Sections may be nested, and end in any order.
//
// In debug builds the calls of this package that wait (New, Close, GetWait, ReserveWait,
// ReserveAllWait and Wait) panic inside a section, with a Report of kind SleepInside that has
// the stack of the section's begin and that of the call. Otherwise a section costs nothing and means nothing.
func BeginNoSleep() NoSleep {
	s := &section{began: here()}
	sections.mu.Lock()
	defer sections.mu.Unlock()
	if sections.open == nil {
		sections.open = map[uint64][]*section{}
	}
	g := s.began.goroutine
	sections.open[g] = append(sections.open[g], s)
	sections.n.Add(1)
	return NoSleep{s}
}

// End ends the section. In debug builds it panics, with a Report of kind WrongEnd, where the section has
// ended already and where another goroutine began it: that one's section goes on.
func (n NoSleep) End() {
	if n.section == nil {
		return
	}
	if ended := here(); !n.section.end(ended.goroutine) {
		panic(Report{Kind: WrongEnd, Stacks: []Stack{n.section.began.stack("began"), ended.stack("ended")}})
	}
}

func (s *section) end(goroutine uint64) bool {
	sections.mu.Lock()
	defer sections.mu.Unlock()
	g := s.began.goroutine
	if s.over || g != goroutine {
		return false
	}
	s.over = true
	sections.n.Add(-1)
	open := sections.open[g]
	if open = slices.DeleteFunc(open, func(o *section) bool { return o == s }); len(open) > 0 {
		sections.open[g] = open
	} else {
		delete(sections.open, g)
	}
	return true
}

// mightSleep panics inside a section.
func mightSleep() {
	if sections.n.Load() == 0 {
		return
	}
	called := here()
	if s := innermost(called.goroutine); s != nil {
		panic(Report{Kind: SleepInside, Stacks: []Stack{s.began.stack("section begun"), called.stack("call that waits")}})
	}
}

func innermost(goroutine uint64) *section {
	sections.mu.Lock()
	defer sections.mu.Unlock()
	open := sections.open[goroutine]
	if len(open) == 0 {
		return nil
	}
	return open[len(open)-1]
}

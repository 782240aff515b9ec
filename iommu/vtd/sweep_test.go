package vtd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gommu/iommu"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// A call is one public call of a unit's life, and what of it undoes it.
type call struct {
	name string
	do   func(u *vtd.Unit) error
	// again says whether the call is to be repeated after a failure: all are
	// but those that take something away, which they do even then.
	once bool
}

// calls is a life in a mode in which every public call that talks to the unit
// occurs.
func calls(mode vtd.Mode) []call {
	ctx := context.Background()
	one, first := fakeTable{firstBus, 48}, stagedTable{fakeTable{firstBus + 4096, 48}}
	list := []call{
		{name: "enable", do: func(u *vtd.Unit) error { return u.Enable(ctx) }},
		{name: "attach", do: func(u *vtd.Unit) error { return u.Attach(0x18, 1, one) }},
		{name: "attach another", do: func(u *vtd.Unit) error { return u.Attach(0x1a0, 1, one) }},
		{name: "pass through", do: func(u *vtd.Unit) error { return u.Attach(0x20, 2, vtd.PassThrough) }},
		{name: "publish", do: func(u *vtd.Unit) error { return u.Publish(1, 0x1000, 0x1000) }},
		{name: "invalidate", do: func(u *vtd.Unit) error { return u.Invalidate(1, 0x1000, 0x1000) }},
		{name: "ranges", do: func(u *vtd.Unit) error {
			return u.InvalidateRanges(vtd.Range{Domain: 1, IOVA: 0x1000, Size: 1}, vtd.Range{Domain: 2, Size: 1 << 40})
		}},
		{name: "domain", do: func(u *vtd.Unit) error { return u.InvalidateDomain(1) }},
		{name: "all", do: (*vtd.Unit).InvalidateAll},
		{name: "submit", do: func(u *vtd.Unit) error {
			return u.Submit(ctx, vtd.AllContexts(), vtd.Fence(), vtd.Pages(1, 0, 0, true))
		}},
		{name: "faults", do: func(u *vtd.Unit) error { _, _, err := u.Faults(); return err }},
	}
	if mode == vtd.Scalable {
		list = append(list,
			call{name: "attach PASID", do: func(u *vtd.Unit) error { return u.AttachPASID(0x18, 5, 3, first) }},
			call{name: "attach far PASID", do: func(u *vtd.Unit) error { return u.AttachPASID(0x18, 5000, 3, first) }},
			call{name: "attach only PASID", do: func(u *vtd.Unit) error { return u.AttachPASID(0x300, 7, 3, first) }},
			call{name: "invalidate first", do: func(u *vtd.Unit) error { return u.Invalidate(3, 0x1000, 1) }},
			call{name: "detach PASID", do: func(u *vtd.Unit) error { return u.DetachPASID(0x18, 5000) }, once: true},
			call{name: "detach only PASID", do: func(u *vtd.Unit) error { return u.DetachPASID(0x300, 7) }, once: true})
	}
	list = append(list, flushCalls()...)
	return append(list,
		call{name: "detach", do: func(u *vtd.Unit) error { return u.Detach(0x18) }, once: true},
		call{name: "disable", do: func(u *vtd.Unit) error { return u.Disable(ctx) }},
		call{name: "enable again", do: func(u *vtd.Unit) error { return u.Enable(ctx) }},
		call{name: "close", do: (*vtd.Unit).Close})
}

// flushCalls flush through a binding.
func flushCalls() []call {
	var b *vtd.Binding
	attached := false
	return []call{
		{name: "bind", do: func(u *vtd.Unit) (err error) {
			if b == nil {
				b, err = u.BindTable(fakeTable{firstBus + 8192, 48})
			}
			return err
		}},
		{name: "attach binding", do: func(u *vtd.Unit) (err error) {
			if b != nil && !attached {
				err = b.Attach(0x28)
				attached = err == nil
			}
			return err
		}},
		{name: "flush", do: func(u *vtd.Unit) error {
			if b == nil {
				return nil
			}
			err := b.Publish(0x3000, 0x1000)
			if err != nil {
				return err
			}
			ticket, err := b.Begin(0x3000, 0x1000, true)
			for n := 0; err == iommu.ErrBusy && n < 100; n++ {
				ticket, err = b.Begin(0x3000, 0x1000, true)
			}
			if err == nil {
				err = awaited(b, ticket)
			}
			if err == errNever || err == iommu.ErrBusy {
				err = vtd.ErrTimeout
			}
			return err
		}},
		{name: "unbind", do: func(u *vtd.Unit) error {
			if b == nil || !attached {
				return nil
			}
			return errors.Join(b.Detach(0x28), b.Close())
		}, once: true},
	}
}

// sweepModes are units on which every kind of step occurs.
func sweepModes(t *testing.T, f func(t *testing.T, set setting)) {
	for _, set := range []setting{
		{name: "queue", inv: vtd.InvalidateByQueue, capability: capCM | capRWBF | capPLMR},
		{name: "registers", inv: vtd.InvalidateByRegisters, capability: capCM | capRWBF | capPLMR},
		{name: "scalable", mode: vtd.Scalable, capability: capCM | capRWBF | capPLMR, extra: ecapScalable},
		{name: "scalable, slow", mode: vtd.Scalable, lag: 2, capability: capCM, extra: ecapScalable},
	} {
		t.Run(set.name, func(t *testing.T) { f(t, set) })
	}
}

func sweepBench(t *testing.T, set setting) *bench {
	b := newBench(t)
	b.quiet = true
	b.capability |= set.capability
	b.extra |= set.extra
	b.lag = set.lag
	b.records[0] = [2]uint64{0x1000, 1<<63 | 5<<32 | 0x18}
	return b
}

// TestGoneAnywhere takes the unit away at each access of a life in turn.
func TestGoneAnywhere(t *testing.T) {
	sweepModes(t, func(t *testing.T, set setting) {
		for n := 1; ; n++ {
			b := sweepBench(t, set)
			b.goneAt = n
			u, err := vtd.Open(b, b.mem, b.frames, vtd.Options{Mode: set.mode, Invalidation: set.inv, Timeout: time.Minute})
			if err == nil {
				for _, c := range calls(set.mode) {
					err = errors.Join(err, c.do(u))
				}
				err = errors.Join(err, u.Close())
			}
			if b.accesses < n {
				if err != nil {
					t.Errorf("without a loss: %v", err)
				}
				t.Logf("%d accesses", b.accesses)
				return
			}
			for _, e := range leaves(err) {
				// What failed half way is not there for later calls.
				if !errors.Is(e, vtd.ErrGone) && !errors.Is(e, vtd.ErrNotAttached) && !errors.Is(e, vtd.ErrNotEnabled) {
					t.Errorf("gone at access %d: %v", n, e)
				}
			}
			if got := b.frames.Stats().InUse; got != 0 {
				t.Errorf("gone at access %d: %d frames in use", n, got)
			}
		}
	})
}

// leaves are the errors that were joined.
func leaves(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range j.Unwrap() {
			all = append(all, leaves(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// everything that can be stuck.
var everythingStuck = []string{"WBF", "SRTP", "QIE", "TE", "PMEN", "CCMD", "IOTLB", "queue"}

// TestStuckAnywhere lets the unit finish nothing from each access of a life on,
// until the call has failed. Repeated, it succeeds, and the life goes on.
func TestStuckAnywhere(t *testing.T) {
	sweepModes(t, func(t *testing.T, set setting) {
		set.lag = 0 // so that what succeeds needs no time
		for n := 1; ; n++ {
			b := sweepBench(t, set)
			u, err := vtd.Open(b, b.mem, b.frames, vtd.Options{Mode: set.mode, Invalidation: set.inv, Timeout: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			b.stickAt = b.accesses + n
			for _, c := range calls(set.mode) {
				used := b.frames.Stats().InUse
				err := c.do(u)
				if err == nil {
					continue
				}
				if !errors.Is(err, vtd.ErrTimeout) {
					t.Errorf("stuck at access %d: %s: %v", n, c.name, err)
				}
				// A context table stays with the unit.
				if got := b.frames.Stats().InUse; got < used || got > used+3 {
					t.Errorf("stuck at access %d: %s: %d frames in use, %d before", n, c.name, got, used)
				}
				b.unstick()
				if !c.once {
					if err := c.do(u); err != nil {
						t.Errorf("stuck at access %d: %s again: %v", n, c.name, err)
					}
				}
			}
			if got := b.frames.Stats().InUse; got != 0 {
				t.Errorf("stuck at access %d: %d frames in use", n, got)
			}
			if b.stickAt > b.accesses {
				t.Logf("%d accesses", b.accesses)
				return
			}
		}
	})
}

// TestFramesAnywhere lets each call of a life find the pool with too few
// frames, from none on: it changes nothing.
func TestFramesAnywhere(t *testing.T) {
	sweepModes(t, func(t *testing.T, set setting) {
		b := sweepBench(t, set)
		u, err := vtd.Open(b, b.mem, b.frames, vtd.Options{Mode: set.mode, Invalidation: set.inv})
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for _, c := range calls(set.mode) {
			for left := 0; ; left++ {
				if left > poolFrames {
					t.Fatalf("%s never has enough frames", c.name)
				}
				b.leave(t, left)
				err := c.do(u)
				if err == nil {
					b.giveBack(t)
					break
				}
				failures++
				if !errors.Is(err, respool.ErrEmpty) {
					t.Fatalf("%s with %d frames: %v", c.name, left, err)
				}
				if got := b.frames.Stats().Free; got != left {
					t.Errorf("%s: %d frames before, %d after", c.name, left, got)
				}
				for bus := range uint64(poolFrames) {
					if b.isHeld(firstBus+bus*4096) && *b.mem.Entries(pagetable.Frame{Bus: firstBus + bus*4096}) != [512]uint64{} {
						t.Errorf("%s: a frame that is free was written", c.name)
					}
				}
				b.giveBack(t)
			}
		}
		if want := map[vtd.Mode]int{vtd.Legacy: 2, vtd.Scalable: 14}[set.mode]; failures != want {
			t.Errorf("%d failures, want %d: the sweep misses frames", failures, want)
		}
	})
}

// giveBack undoes leave.
func (b *bench) giveBack(t testing.TB) {
	for _, f := range b.held {
		if err := b.frames.Put(f); err != nil {
			t.Fatal(err)
		}
	}
	b.held = nil
}

func (b *bench) isHeld(bus uint64) bool {
	for _, f := range b.held {
		if f.Bus == bus {
			return true
		}
	}
	return false
}

// TestStaleDetach lets the unit not confirm a detach: what was cached stays
// until the next attach has everything dropped, and so do the frames.
func TestStaleDetach(t *testing.T) {
	for _, set := range settings() {
		if set.capability&capRWBF != 0 {
			continue // there the unit does not even see that the entry is gone
		}
		t.Run(set.name, func(t *testing.T) {
			set.lag = 0
			l := newLife(t, set)
			if err := l.u.Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			opts := vtd.Options{Mode: set.mode, Invalidation: set.inv, Timeout: time.Millisecond}
			if l.u, err = vtd.OpenWithWriteBack(l.b, l.b.mem, l.b.frames, opts, l.s.writeBack); err != nil {
				t.Fatal(err)
			}
			one, two := fakeTable{l.root(0), 48}, fakeTable{l.root(1), 48}
			a := actor{0x18, 0}
			l.step("enable", l.u.Enable(t.Context()))
			l.attach(a, 1, one)
			l.mapPage(1, one, 0x10)
			l.b.stuck["queue"], l.b.stuck["CCMD"] = true, true
			if err := l.u.Detach(a.source); !errors.Is(err, vtd.ErrTimeout) {
				t.Fatal(err)
			}
			if l.s.reach(a, 0x10) != one.root {
				t.Fatal("the unit forgot by itself: this case proves nothing")
			}
			if err := l.u.Attach(a.source, 1, two); err == nil {
				t.Error("an attach succeeds while the unit may use an old table")
			}
			l.b.unstick()
			l.attach(a, 1, two)
			l.mapPage(1, two, 0x11)
			l.detach(a)
			l.step("close", l.u.Close())
			for _, w := range l.wrong {
				t.Error(w)
			}
		})
	}
}

// TestDomains hands out ids and refuses two tables for one.
func TestDomains(t *testing.T) {
	b := newBench(t)
	b.capability &^= 7 // 16 domains
	u := b.enabled(t, byQueue)
	if err := u.Attach(0x18, 3, goodTable); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{3: true}
	for range 14 {
		id, err := u.AllocDomain()
		if err != nil || id == 0 || id >= 16 || seen[id] {
			t.Fatalf("%d %v, seen %v", id, err, seen)
		}
		seen[id] = true
	}
	if id, err := u.AllocDomain(); !errors.Is(err, vtd.ErrDomainID) {
		t.Errorf("a 16th: %d %v", id, err)
	}
	other := fakeTable{firstBus + 4096, 48}
	for name, c := range map[string]struct{ got, want error }{
		"another table": {u.Attach(0x20, 3, other), vtd.ErrDomainBusy},
		"another width": {u.Attach(0x20, 3, fakeTable{goodTable.root, 39}), vtd.ErrDomainBusy},
		"pass-through":  {u.Attach(0x20, 3, vtd.PassThrough), vtd.ErrDomainBusy},
		"the same":      {u.Attach(0x20, 3, goodTable), nil},
		"not allocated": {u.FreeDomain(3), vtd.ErrDomainID},
		"0":             {u.FreeDomain(0), vtd.ErrDomainID},
		"in use":        {errors.Join(u.Attach(0x28, 5, other), u.FreeDomain(5)), vtd.ErrDomainBusy},
		"nil table":     {u.Attach(0x30, 6, nil), vtd.ErrTable},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v", name, c.got)
		}
	}
	if err := errors.Join(u.Detach(0x28), u.FreeDomain(5)); err != nil {
		t.Error(err)
	}
	if id, err := u.AllocDomain(); id != 5 || err != nil {
		t.Errorf("%d %v", id, err)
	}
	if err := errors.Join(u.Detach(0x18), u.Detach(0x20), u.Attach(0x18, 3, other)); err != nil {
		t.Errorf("an id that nothing is attached to takes another table: %v", err)
	}
}

func TestBadPASIDs(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable
	u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
	first := stagedTable{goodTable}
	for name, c := range map[string]struct{ got, want error }{
		"0":            {u.AttachPASID(0x18, 0, 1, first), vtd.ErrPASID},
		"too high":     {u.AttachPASID(0x18, 1<<15, 1, first), vtd.ErrPASID},
		"the highest":  {errors.Join(u.AttachPASID(0x18, 1<<15-1, 1, first), u.DetachPASID(0x18, 1<<15-1)), nil},
		"not attached": {u.DetachPASID(0x18, 7), vtd.ErrNotAttached},
		"detach 0":     {u.DetachPASID(0x18, 0), vtd.ErrPASID},
		"39 bits":      {u.AttachPASID(0x18, 1, 1, stagedTable{fakeTable{goodTable.root, 39}}), vtd.ErrTable},
		"57 bits":      {u.AttachPASID(0x18, 1, 1, stagedTable{fakeTable{goodTable.root, 57}}), vtd.ErrTable},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v", name, c.got)
		}
	}
	if err := u.AttachPASID(0x18, 4, 9, first); err != nil {
		t.Fatal(err)
	}
	if err := u.AttachPASID(0x18, 4, 9, first); !errors.Is(err, vtd.ErrAttached) {
		t.Error(err)
	}
	legacy := newBench(t)
	v := legacy.open(t, byQueue)
	if err := v.AttachPASID(0x18, 1, 1, goodTable); !errors.Is(err, vtd.ErrPASID) {
		t.Error(err)
	}
	if err := v.Attach(0x18, 1, first); !errors.Is(err, vtd.ErrTable) {
		t.Errorf("a first stage in legacy mode: %v", err)
	}
	if _, err := vtd.Open(legacy, legacy.mem, legacy.frames, vtd.Options{Mode: vtd.Scalable}); !errors.Is(err, vtd.ErrUnsupported) {
		t.Error(err)
	}
}

func ExampleCapabilities_Usable() {
	caps := vtd.DecodeCapabilities(0x10, 0x01d2008c222f0606, 0x0000880000f00f4a)
	fmt.Println(caps.Usable(vtd.Legacy))
	fmt.Println(caps.Usable(vtd.Scalable))
	// Output:
	// legacy: second stage [39 48], first stage [], pass-through true, PASIDs 0, coherent false
	// scalable: second stage [], first stage [48], pass-through true, PASIDs 0, coherent false
}

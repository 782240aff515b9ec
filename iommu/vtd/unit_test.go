package vtd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

var (
	byQueue     = vtd.Options{Invalidation: vtd.InvalidateByQueue}
	byRegisters = vtd.Options{Invalidation: vtd.InvalidateByRegisters}
)

// bothWays runs a test with the queue and with registers.
func bothWays(t *testing.T, f func(t *testing.T, opts vtd.Options)) {
	t.Run("queue", func(t *testing.T) { f(t, byQueue) })
	t.Run("registers", func(t *testing.T) { f(t, byRegisters) })
}

func TestEnableOrder(t *testing.T) {
	b := newBench(t)
	b.capability |= capRWBF | capPLMR
	b.pmen = 1<<31 | 1
	b.fault = 0x11
	u := b.open(t, byQueue)
	if len(b.log) != 0 {
		t.Errorf("opening did %q", b.log)
	}
	if err := u.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"WBF true", "clear faults 0x1", "event 0x38 0x80000000", "clear faults 0x10", "IQA", "QIE true", "RTADDR 0", "SRTP true",
		"context 1 did 0 sid 0x0", "iotlb 1 did 0 drain 3", "TE true", "PMEN 0x1",
	}
	if diff := cmp.Diff(want, b.log); diff != "" {
		t.Error(diff)
	}
	b.log = nil
	if err := u.Disable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"TE false", "QIE false"}, b.log); diff != "" {
		t.Error(diff)
	}
}

// TestAttachOrder says which invalidations follow, by the unit's capabilities.
func TestAttachOrder(t *testing.T) {
	cases := []struct {
		name           string
		capability     uint64
		attach, detach []string
	}{
		{"plain", 0, nil, []string{"context 3 did 7 sid 0x18", "iotlb 2 did 7 drain 3"}},
		{"buffered", capRWBF, []string{"WBF true"}, []string{"context 3 did 7 sid 0x18", "iotlb 2 did 7 drain 3"}},
		{"caching", capCM, []string{"context 3 did 0 sid 0x18", "iotlb 2 did 7 drain 3"}, []string{"context 3 did 7 sid 0x18", "iotlb 2 did 7 drain 3"}},
	}
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		for _, c := range cases {
			b := newBench(t)
			b.capability |= c.capability
			u := b.enabled(t, opts)
			if err := u.Attach(0x18, 7, goodTable); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.attach, b.log); diff != "" {
				t.Errorf("%s: %s", c.name, diff)
			}
			root := b.mem.Entries(pagetable.Frame{Bus: b.rtaddr})
			if root[0]&1 == 0 {
				t.Fatalf("%s: root entry %#x", c.name, root[0])
			}
			entry := b.mem.Entries(pagetable.Frame{Bus: root[0] &^ 0xfff})[2*0x18:][:2]
			if entry[0] != goodTable.root|1 || entry[1] != 7<<8|2 {
				t.Errorf("%s: context entry %#x %#x", c.name, entry[0], entry[1])
			}
			b.log = nil
			if err := u.Publish(7, 0x1000, 1); err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{"caching": {"iotlb 3 did 7 drain 3", "pages 0x1000"}, "buffered": {"WBF true"}}[c.name]
			if diff := cmp.Diff(want, b.log); diff != "" {
				t.Errorf("%s: publish: %s", c.name, diff)
			}
			b.log = nil
			if err := u.Detach(0x18); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.detach, b.log); diff != "" {
				t.Errorf("%s: %s", c.name, diff)
			}
			if entry[0] != 0 || entry[1] != 0 {
				t.Errorf("%s: context entry %#x %#x after detaching", c.name, entry[0], entry[1])
			}
		}
	})
}

// TestDetachLeavesRest: a unit that reads the entry in two halves while it goes
// must not find P with the rest gone, so only P goes before the invalidation
// (section 6.5.3.3).
func TestDetachLeavesRest(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		b := newBench(t)
		u := b.enabled(t, opts)
		if err := u.Attach(0x18, 7, goodTable); err != nil {
			t.Fatal(err)
		}
		root := b.mem.Entries(pagetable.Frame{Bus: b.rtaddr})
		entry := b.mem.Entries(pagetable.Frame{Bus: root[0] &^ 0xfff})[2*0x18:][:2]
		seen := 0
		b.watch = func() {
			seen++
			if entry[0]&1 != 0 || entry[1] != 7<<8|2 {
				t.Errorf("context entry %#x %#x while the unit invalidates", entry[0], entry[1])
			}
		}
		err := u.Detach(0x18)
		b.watch = nil
		if err != nil || seen != 2 {
			t.Errorf("%v after %d invalidations", err, seen)
		}
		if entry[0] != 0 || entry[1] != 0 {
			t.Errorf("context entry %#x %#x afterwards", entry[0], entry[1])
		}
	})
}

// TestAttachFails lets the unit not confirm an Attach: the device has no entry
// afterwards and can be attached again.
func TestAttachFails(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		b := newBench(t)
		b.capability |= capCM
		u := b.enabled(t, shortly(opts))
		b.stuck["queue"], b.stuck["CCMD"] = true, true
		if err := u.Attach(0x18, 7, goodTable); !errors.Is(err, vtd.ErrTimeout) {
			t.Errorf("attach: %v", err)
		}
		root := b.mem.Entries(pagetable.Frame{Bus: b.rtaddr})
		if e := b.mem.Entries(pagetable.Frame{Bus: root[0] &^ 0xfff})[2*0x18]; e&1 != 0 {
			t.Errorf("context entry %#x after a failed attach", e)
		}
		if err := u.Detach(0x18); !errors.Is(err, vtd.ErrNotAttached) {
			t.Errorf("detach: %v", err)
		}
		b.unstick()
		if err := u.Attach(0x18, 7, goodTable); err != nil {
			t.Errorf("attach again: %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name string
		set  func(f *fakeUnit)
		opts vtd.Options
		want error
	}{
		{"translating", func(f *fakeUnit) { f.status = 1 << 31 }, vtd.Options{}, vtd.ErrActive},
		{"queue on", func(f *fakeUnit) { f.status = 1 << 26 }, vtd.Options{}, vtd.ErrActive},
		{"remapping interrupts", func(f *fakeUnit) { f.status = 1 << 25 }, vtd.Options{}, vtd.ErrActive},
		{"gone", func(f *fakeUnit) { f.goneAt = 1 }, vtd.Options{}, vtd.ErrGone},
		{"no unit", func(f *fakeUnit) { f.version = 0 }, vtd.Options{}, vtd.ErrUnsupported},
		{"no widths", func(f *fakeUnit) { f.capability &^= 0x1f00 }, vtd.Options{}, vtd.ErrUnsupported},
		{"no queue", func(f *fakeUnit) { f.extra &^= ecapQI }, byQueue, vtd.ErrUnsupported},
		{"no registers", func(f *fakeUnit) { f.version = 0x60 }, byRegisters, vtd.ErrUnsupported},
		{"neither", func(f *fakeUnit) { f.version, f.extra = 0x60, f.extra&^ecapQI }, vtd.Options{}, vtd.ErrUnsupported},
	}
	for _, c := range cases {
		b := newBench(t)
		c.set(b.fakeUnit)
		u, err := vtd.Open(b, b.mem, b.frames, c.opts)
		if u != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, ok := errors.AsType[*vtd.OpError](err); !ok {
			t.Errorf("%s: %T", c.name, err)
		}
		if got := b.frames.Stats().InUse; got != 0 {
			t.Errorf("%s: %d frames in use", c.name, got)
		}
	}
}

// sized is a register page that knows its size.
type sized struct {
	*fakeUnit
	size uint64
}

func (s sized) Size() uint64 { return s.size }

func TestWindowTooSmall(t *testing.T) {
	b := newBench(t)
	if _, err := vtd.Open(sized{b.fakeUnit, 0x22f}, b.mem, b.frames, vtd.Options{}); !errors.Is(err, vtd.ErrUnsupported) {
		t.Errorf("fault records outside the window: %v", err)
	}
	u, err := vtd.Open(sized{b.fakeUnit, 0x230}, b.mem, b.frames, vtd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

func TestBestInvalidation(t *testing.T) {
	b := newBench(t)
	if u := b.open(t, vtd.Options{}); !u.Queued() {
		t.Error("the queue is not used")
	}
	b = newBench(t)
	b.extra &^= ecapQI
	if u := b.open(t, vtd.Options{}); u.Queued() {
		t.Error("a queue that is not there is used")
	}
}

// TestFrameFailures lets the pool run dry at each frame that is taken.
func TestFrameFailures(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		for n := 0; ; n++ {
			b := newBench(t)
			b.leave(t, n)
			u, err := vtd.Open(b, b.mem, b.frames, opts)
			if err != nil {
				if !errors.Is(err, respool.ErrEmpty) {
					t.Fatalf("%d frames: %v", n, err)
				}
				if got := b.frames.Stats().Free; got != n {
					t.Errorf("%d frames before, %d after", n, got)
				}
				continue
			}
			defer u.Close()
			left := b.frames.Stats().Free
			err = u.Attach(0x18, 1, goodTable)
			if err == nil {
				if left == 0 {
					t.Error("a context table came from nowhere")
				}
				return
			}
			if !errors.Is(err, respool.ErrEmpty) || left != 0 || b.frames.Stats().Free != left {
				t.Errorf("%d frames: %v, %d free before, %d after", n, err, left, b.frames.Stats().Free)
			}
			if err := u.Detach(0x18); !errors.Is(err, vtd.ErrNotAttached) {
				t.Errorf("after a failed attach: %v", err)
			}
		}
	})
}

func TestForeignFrames(t *testing.T) {
	b, other := newBench(t), newBench(t)
	b.mem, other.mem = mustMemory(t), b.mem
	if _, err := vtd.Open(b, b.mem, b.frames, vtd.Options{}); !errors.Is(err, vtd.ErrTable) {
		t.Errorf("frames of other memory: %v", err)
	}
	if got := b.frames.Stats().InUse; got != 0 {
		t.Errorf("%d frames in use", got)
	}
}

func mustMemory(t *testing.T) *pagetable.Memory {
	m, err := pagetable.NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestStuck lets each command in turn never finish.
func TestStuck(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		for _, what := range []string{"WBF", "SRTP", "QIE", "TE", "PMEN", "CCMD", "IOTLB", "queue"} {
			queueOnly, registersOnly := what == "QIE" || what == "queue", what == "CCMD" || what == "IOTLB"
			if opts == byQueue && registersOnly || opts == byRegisters && queueOnly {
				continue
			}
			b := newBench(t)
			b.capability |= capRWBF | capPLMR
			u := b.open(t, shortly(opts))
			b.stuck[what] = true
			err := u.Enable(t.Context())
			if !errors.Is(err, vtd.ErrTimeout) {
				t.Errorf("%s: %v", what, err)
			}
			if u.Enabled() || b.status&(1<<31) != 0 && what != "TE" {
				t.Errorf("%s: translation is on after a failed Enable", what)
			}
			// A unit that is only slow would switch it on later.
			if b.told&(1<<31) != 0 {
				t.Errorf("%s: the last command was to translate", what)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := u.Enable(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, vtd.ErrTimeout) {
				t.Errorf("%s, cancelled: %v", what, err)
			}
			b.unstick()
			if err := u.Enable(t.Context()); err != nil {
				t.Errorf("%s: the unit works again and Enable says %v", what, err)
			}
		}
	})
}

// TestGone takes the unit away at each access in turn.
func TestGone(t *testing.T) {
	life := func(b *bench, opts vtd.Options) (err error) {
		u, err := vtd.Open(b, b.mem, b.frames, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, u.Close(), u.Close()) }()
		ctx := context.Background()
		steps := []func() error{
			func() error { return u.Enable(ctx) },
			func() error { return u.Attach(0x18, 1, goodTable) },
			func() error { return u.Publish(1, 0x1000, 0x1000) },
			func() error { return u.Invalidate(1, 0x1000, 0x1000) },
			func() error { return u.InvalidateDomain(1) },
			u.InvalidateAll,
			func() error { _, _, err := u.Faults(); return err },
			func() error { return u.Detach(0x18) },
			func() error { return u.Disable(ctx) },
		}
		for _, step := range steps {
			err = errors.Join(err, step())
		}
		return err
	}
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		for n := 1; ; n++ {
			b := newBench(t)
			b.quiet = true
			b.capability |= capRWBF | capPLMR | capCM
			b.records[0] = [2]uint64{0x1000, 1<<63 | 5<<32 | 0x18}
			b.goneAt = n
			err := life(b, opts)
			if b.accesses < n {
				if err != nil {
					t.Errorf("without a loss: %v", err)
				}
				t.Logf("%d accesses", b.accesses)
				return
			}
			// The last accesses may be writes, whose loss nobody sees, and
			// Close forgives.
			if err != nil && !errors.Is(err, vtd.ErrGone) {
				t.Errorf("gone at access %d: %v", n, err)
			}
			if got := b.frames.Stats().InUse; got != 0 {
				t.Errorf("gone at access %d: %d frames in use", n, got)
			}
		}
	})
}

// TestCloseKeepsFrames closes a unit that goes on translating.
func TestCloseKeepsFrames(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, shortly(byQueue))
	if err := u.Attach(0x18, 1, goodTable); err != nil {
		t.Fatal(err)
	}
	used := b.frames.Stats().InUse
	b.stuck["TE"] = true
	if err := u.Close(); !errors.Is(err, vtd.ErrTimeout) || !strings.Contains(err.Error(), "4 frames are kept") {
		t.Errorf("close: %v", err)
	}
	if got := b.frames.Stats().InUse; got != used {
		t.Errorf("%d frames in use, %d before: the unit may be walking them", got, used)
	}
	b.unstick()
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if got := b.frames.Stats().InUse; got != 0 {
		t.Errorf("%d frames in use", got)
	}
	for what, err := range map[string]error{
		"enable": u.Enable(t.Context()), "disable": u.Disable(t.Context()), "attach": u.Attach(1, 1, goodTable),
		"detach": u.Detach(0x18), "invalidate": u.Invalidate(1, 0, 1), "invalidate all": u.InvalidateAll(),
	} {
		if !errors.Is(err, vtd.ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	if _, _, err := u.Faults(); !errors.Is(err, vtd.ErrClosed) {
		t.Errorf("faults after close: %v", err)
	}
}

func TestBadArguments(t *testing.T) {
	b := newBench(t)
	b.capability &^= 7 // 16 domains
	u := b.enabled(t, byQueue)
	cases := map[string]struct {
		got, want error
	}{
		"domain 0":       {u.Attach(0x18, 0, goodTable), vtd.ErrDomainID},
		"domain 16":      {u.Attach(0x18, 16, goodTable), vtd.ErrDomainID},
		"width 57":       {u.Attach(0x18, 1, fakeTable{0x10_0000, 57}), vtd.ErrTable},
		"width 30":       {u.Attach(0x18, 1, fakeTable{0x10_0000, 30}), vtd.ErrTable},
		"root elsewhere": {u.Attach(0x18, 1, fakeTable{0x5000, 48}), vtd.ErrTable},
		"root askew":     {u.Attach(0x18, 1, fakeTable{0x10_0010, 48}), vtd.ErrTable},
		"detach":         {u.Detach(0x18), vtd.ErrNotAttached},
		"empty":          {u.Invalidate(1, 0x1000, 0), vtd.ErrRange},
		"wraps":          {u.Invalidate(1, ^uint64(0), 2), vtd.ErrRange},
		"of domain 0":    {u.Invalidate(0, 0, 1), vtd.ErrDomainID},
		"all of 0":       {u.InvalidateDomain(0), vtd.ErrDomainID},
		"publish":        {u.Publish(0, 0, 1), vtd.ErrDomainID},
	}
	for name, c := range cases {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v", name, c.got)
		}
	}
	if len(b.log) != 0 {
		t.Errorf("the unit was told %q", b.log)
	}
	if err := u.Invalidate(1, ^uint64(0), 1); err != nil {
		t.Errorf("the last byte: %v", err)
	}
}

func TestNotPerformed(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byRegisters)
	b.refuse = true
	for _, err := range []error{u.Invalidate(1, 0, 1), u.InvalidateAll(), u.InvalidateDomain(1)} {
		if !errors.Is(err, vtd.ErrNotInvalidated) {
			t.Errorf("got %v", err)
		}
	}
	b.refuse = false
}

// TestQueueStalls lets the queue stop for a while: nothing may be overwritten,
// and it goes on when the unit does.
func TestQueueStalls(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, shortly(byQueue))
	b.stuck["queue"] = true
	for range 200 {
		if err := u.Invalidate(1, 0x1000, 1); !errors.Is(err, vtd.ErrTimeout) {
			t.Fatal(err)
		}
		if b.tail-b.head != 2 {
			t.Fatalf("%d descriptors wait", b.tail-b.head)
		}
	}
	b.unstick()
	if err := u.Invalidate(1, 0x2000, 1); err != nil {
		t.Error(err)
	}
}

// TestQueueStopsLate lets the queue stop at a descriptor after its submission
// has timed out: the next submission gets it going again.
func TestQueueStopsLate(t *testing.T) {
	for _, fault := range []uint32{0x10, 0x40, 0x20} {
		b := newBench(t)
		u := b.enabled(t, shortly(byQueue))
		b.stuck["queue"] = true
		if err := u.Invalidate(1, 0x1000, 1); !errors.Is(err, vtd.ErrTimeout) {
			t.Fatal(err)
		}
		b.badType, b.badFault = 2, fault
		b.unstick()
		b.log = nil
		if err := u.Invalidate(1, 0x2000, 1); err != nil {
			t.Errorf("FSTS %#x: %v", fault, err)
		}
		if got := strings.Join(b.log, ", "); !strings.HasSuffix(got, "pages 0x2000") {
			t.Errorf("FSTS %#x: the unit did %s", fault, got)
		}
	}
}

// TestEnableAfterQueueStopped lets an Enable give up on the queue, which then
// stops for good reason: the next Enable succeeds.
func TestEnableAfterQueueStopped(t *testing.T) {
	for _, fault := range []uint32{0x10, 0x40, 0x20} {
		b := newBench(t)
		u := b.open(t, shortly(byQueue))
		b.stuck["queue"] = true
		if err := u.Enable(t.Context()); !errors.Is(err, vtd.ErrTimeout) {
			t.Fatal(err)
		}
		b.badType, b.badFault = 1, fault
		b.unstick()
		if err := u.Enable(t.Context()); err != nil {
			t.Errorf("FSTS %#x: %v", fault, err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	b := newBench(t)
	b.quiet = true
	u := b.enabled(t, byQueue)
	var wg sync.WaitGroup
	for id := uint16(1); id <= 8; id++ {
		wg.Go(func() {
			for i := range uint64(200) {
				source := id<<8 | uint16(i)
				err := errors.Join(u.Attach(source&0x3ff, id, goodTable), u.Invalidate(id, i<<12, 0x1000), u.Detach(source&0x3ff))
				if err != nil && !errors.Is(err, vtd.ErrAttached) && !errors.Is(err, vtd.ErrNotAttached) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAllocations(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		b := newBench(t)
		u := b.enabled(t, opts)
		b.quiet = true
		if n := testing.AllocsPerRun(100, func() { u.Invalidate(1, 0, 0x1000) }); n != 0 {
			t.Errorf("an invalidation allocates %v times", n)
		}
	})
}

func TestErrorText(t *testing.T) {
	b := newBench(t)
	u := b.open(t, byQueue)
	for _, c := range []struct {
		err  error
		want string
	}{
		{u.Detach(0x19), "vtd: detach device 00:03.1: device is not attached"},
		{u.Attach(0x118, 0, goodTable), "vtd: attach device 01:03.0 to domain 0: bad domain id: 0 is not in 1 to 65535"},
		{u.Invalidate(3, 0x1000, 0x2000), "vtd: invalidate domain 3 iova 0x1000 size 0x2000: translation is not enabled"},
	} {
		if fmt.Sprint(c.err) != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
}

package vtd_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// ecapDT is device TLBs.
const ecapDT = 1 << 2

// bothWidths runs a test with narrow and with wide descriptors.
func bothWidths(t *testing.T, f func(t *testing.T, extra uint64)) {
	t.Run("128", func(t *testing.T) { f(t, 0) })
	t.Run("256", func(t *testing.T) { f(t, ecapScalable) })
}

// queueErrors are the QueueErrors in an error, also in one that joins several.
func queueErrors(err error) (all []*vtd.QueueError) {
	if q, ok := err.(*vtd.QueueError); ok {
		return []*vtd.QueueError{q}
	}
	switch w := err.(type) {
	case interface{ Unwrap() error }:
		return queueErrors(w.Unwrap())
	case interface{ Unwrap() []error }:
		for _, e := range w.Unwrap() {
			all = append(all, queueErrors(e)...)
		}
	}
	return all
}

// TestBadDescriptors lets the queue stop at some of a batch: all others are
// done, and each bad one is reported.
func TestBadDescriptors(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		b := newBench(t)
		b.extra |= extra
		u := b.enabled(t, byQueue)
		rapid.Check(t, func(t *rapid.T) {
			bad := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 40), 0, 10, rapid.ID).Draw(t, "bad")
			n := rapid.Uint64Range(1, 40).Draw(t, "n")
			bad = slices.DeleteFunc(bad, func(p uint64) bool { return p > n })
			b.refuses = func(low, high uint64) bool { return low&0xf == 2 && slices.Contains(bad, high>>12) }
			b.log = nil
			var ranges []vtd.Range
			var want []string
			for p := range n {
				ranges = append(ranges, vtd.Range{Domain: 1, IOVA: (p + 1) << 12, Size: 1})
				if !slices.Contains(bad, p+1) {
					want = append(want, fmt.Sprintf("pages %#x", (p+1)<<12))
				}
			}
			err := u.InvalidateRanges(ranges...)
			if (err != nil) != (len(bad) > 0) || len(queueErrors(err)) != len(bad) {
				t.Fatalf("%d bad descriptors give %v", len(bad), err)
			}
			for _, q := range queueErrors(err) {
				if !q.Queue || !slices.Contains(bad, q.Descriptor[1]>>12) || q.Info != 3 || !strings.Contains(q.Error(), "unknown type") {
					t.Errorf("%+v: %v", q, q)
				}
			}
			got := slices.DeleteFunc(b.log, func(s string) bool { return !strings.HasPrefix(s, "pages") })
			if !slices.Equal(want, got) {
				t.Errorf("the unit did %q, want %q", got, want)
			}
		})
		b.refuses = nil
		if err := u.Invalidate(1, 0x1000, 1); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestBadWait lets the unit refuse the wait itself: once is forgiven, for ever
// is an error, and the unit can be used when that has passed.
func TestBadWait(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byQueue)
	times := 1
	b.refuses = func(low, high uint64) bool {
		if low&0xf != 5 || times == 0 {
			return false
		}
		times--
		return true
	}
	if err := u.Invalidate(1, 0x1000, 1); err != nil {
		t.Errorf("a wait that is refused once: %v", err)
	}
	times = 1000
	if err := u.Invalidate(1, 0x1000, 1); len(queueErrors(err)) != 1 {
		t.Errorf("a wait that is always refused: %v", err)
	}
	times = 0
	if err := u.Invalidate(1, 0x2000, 1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestUnexpectedCompletion: nothing was lost, so nothing has failed.
func TestUnexpectedCompletion(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byQueue)
	before := u.Stats()
	for range 300 { // around the queue
		b.fault |= 0x20
		b.log = nil
		b.lag = 2
		if err := u.Invalidate(1, 0x5000, 0x1000); err != nil || !slices.Contains(b.log, "pages 0x5000") {
			t.Fatal(err, b.log)
		}
	}
	if got := u.Stats(); got.Completions-before.Completions != 300 || got.Submissions-before.Submissions != 300 {
		t.Errorf("%+v", got)
	}
}

// TestTimeouts lets devices not answer: what else was told is done, and the
// error names the device.
func TestTimeouts(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		b := newBench(t)
		b.extra |= extra | ecapDT
		u := b.enabled(t, byQueue)
		for i, source := range []uint16{0x18, 0x20, 0x28} {
			if err := u.SetDeviceTLB(source, &vtd.DeviceTLB{QueueDepth: uint8(i)}); err != nil {
				t.Fatal(err)
			}
			if err := u.Attach(source, 1, goodTable); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 200 {
			b.silent = map[uint16]bool{0x18: round&1 != 0, 0x20: round&2 != 0, 0x28: round&4 != 0}
			b.log = nil
			err := u.InvalidateRanges(vtd.Range{Domain: 1, IOVA: 0x5000, Size: 1}, vtd.Range{Domain: 1, IOVA: 0x8000, Size: 0x2000})
			silent := 0
			for source, is := range b.silent {
				told := slices.ContainsFunc(b.log, func(s string) bool {
					return strings.HasPrefix(s, fmt.Sprintf("device sid %#x ", source)) && strings.HasSuffix(s, "pages 0x8001")
				})
				if told == is {
					t.Errorf("round %d: device %#x, silent %v, was told %v: %q", round, source, is, told, b.log)
				}
				if is {
					silent++
					named := slices.ContainsFunc(queueErrors(err), func(q *vtd.QueueError) bool { return q.Timeout && q.Source == int(source) })
					if !named {
						t.Errorf("round %d: %v does not name %#x", round, err, source)
					}
				}
			}
			if (err != nil) != (silent > 0) || !slices.Contains(b.log, "pages 0x5000") || !slices.Contains(b.log, "pages 0x8001") {
				t.Fatalf("round %d: %v, %q", round, err, b.log)
			}
		}
		b.silent = nil
	})
}

// TestForeignTimeout is a time-out of nobody's: what was told is told again.
func TestForeignTimeout(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byQueue)
	for range 300 {
		b.badType, b.badFault = 2, 0x40
		b.log = nil
		if err := u.Invalidate(1, 0x5000, 0x1000); err != nil || !slices.Contains(b.log, "pages 0x5000") {
			t.Fatal(err, b.log)
		}
	}
}

// TestManyRanges submits more than the queue holds.
func TestManyRanges(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		b := newBench(t)
		b.extra |= extra
		u := b.enabled(t, byQueue)
		before := u.Stats()
		var ranges []vtd.Range
		for i := range uint64(1000) {
			ranges = append(ranges, vtd.Range{Domain: 1, IOVA: i << 12, Size: 1})
		}
		if err := u.InvalidateRanges(ranges...); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(1000) {
			if got, want := b.log[2*i+1], fmt.Sprintf("pages %#x", i<<12); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
		after, want := u.Stats(), uint64(4)
		if extra != 0 {
			want = 8
		}
		if got := after.Submissions - before.Submissions; got != want {
			t.Errorf("%d submissions, want %d", got, want)
		}
	})
}

// TestSubmit says how each invalidation is told.
func TestSubmit(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable | ecapDT
	u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
	if err := u.SetDeviceTLB(0x18, &vtd.DeviceTLB{QueueDepth: 5}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		is   vtd.Invalidation
		want []string
	}{
		{vtd.AllContexts(), []string{"context 1 did 0 sid 0x0"}},
		{vtd.DomainContexts(3), []string{"context 2 did 3 sid 0x0"}},
		{vtd.DeviceContexts(3, 0x18, 1), []string{"context 3 did 3 sid 0x18"}},
		{vtd.AllTranslations(), []string{"iotlb 1 did 0 drain 3"}},
		{vtd.DomainTranslations(4), []string{"iotlb 2 did 4 drain 3"}},
		{vtd.Pages(4, 0x8000, 3, true), []string{"iotlb 3 did 4 drain 3", "pages 0x8043"}},
		{vtd.AllPASIDs(), []string{"pasid 3 did 0 pasid 0x0"}},
		{vtd.DomainPASIDs(5), []string{"pasid 0 did 5 pasid 0x0"}},
		{vtd.OnePASID(5, 0xabcde), []string{"pasid 1 did 5 pasid 0xabcde"}},
		{vtd.PASIDTranslations(5, 6), []string{"iotlb 2 did 5 pasid 0x6"}},
		{vtd.PASIDPages(5, 6, 0x1000, 0, false), []string{"iotlb 3 did 5 pasid 0x6", "pages 0x1000"}},
		{vtd.DevicePages(0x18, 0x4000, 2), []string{"device sid 0x18 depth 5 pages 0x5001"}},
		{vtd.DevicePages(0x18, 0, 52), []string{"device sid 0x18 depth 5 pages 0x7ffffffffffff001"}},
		{vtd.DevicePASIDPages(0x18, 7, 0x2000, 1), []string{"device sid 0x18 pasid 0x7 depth 5 pages 0x2800"}},
		{vtd.AllInterrupts(), []string{"interrupts 0 index 0 mask 0"}},
		{vtd.Interrupts(8, 3), []string{"interrupts 1 index 8 mask 3"}},
		{vtd.Fence(), nil},
	} {
		b.log = nil
		if err := u.Submit(t.Context(), c.is); err != nil {
			t.Error(c.want, err)
		}
		if diff := cmp.Diff(c.want, b.log); diff != "" {
			t.Error(diff)
		}
	}
	b.log = nil
	for _, c := range []struct {
		is   vtd.Invalidation
		want error
	}{
		{vtd.Invalidation{}, vtd.ErrUnsupported}, {vtd.Pages(1, 0x1000, 1, false), vtd.ErrRange}, {vtd.Pages(1, 0, 19, false), vtd.ErrRange},
		{vtd.Pages(1, 0, -1, false), vtd.ErrRange}, {vtd.DeviceContexts(1, 1, 4), vtd.ErrRange}, {vtd.OnePASID(1, 1<<20), vtd.ErrPASID},
		{vtd.DevicePages(1, 0, 53), vtd.ErrRange}, {vtd.Interrupts(1, 1), vtd.ErrRange},
	} {
		if err := u.Submit(t.Context(), vtd.AllContexts(), c.is); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.is, err)
		}
	}
	if len(b.log) != 0 {
		t.Errorf("the unit was told %q", b.log)
	}
}

// TestDeviceTLB says what a device that has one changes.
func TestDeviceTLB(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable | ecapDT
	u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
	if err := u.SetDeviceTLB(0x18, &vtd.DeviceTLB{QueueDepth: 32}); !errors.Is(err, vtd.ErrRange) {
		t.Error(err)
	}
	if err := errors.Join(u.SetDeviceTLB(0x18, &vtd.DeviceTLB{}), u.Attach(0x18, 1, goodTable), u.AttachPASID(0x18, 9, 2, stagedTable{goodTable})); err != nil {
		t.Fatal(err)
	}
	if err := u.SetDeviceTLB(0x18, nil); !errors.Is(err, vtd.ErrAttached) {
		t.Error(err)
	}
	root := b.mem.Entries(pagetable.Frame{Bus: b.rtaddr &^ 0xfff})
	if e := b.mem.Entries(pagetable.Frame{Bus: root[0] &^ 0xfff})[4*0x18]; e&4 == 0 {
		t.Errorf("context entry %#x", e)
	}
	for _, c := range []struct {
		name string
		do   func() error
		want string
	}{
		{"domain", func() error { return u.InvalidateDomain(1) }, "device sid 0x18 depth 0 pages 0x7ffffffffffff001"},
		{"PASID", func() error { return u.Invalidate(2, 0x3000, 1) }, "device sid 0x18 pasid 0x9 depth 0 pages 0x3000"},
		{"detach", func() error { return u.DetachPASID(0x18, 9) }, "device sid 0x18 pasid 0x9 depth 0 pages 0x7ffffffffffff800"},
		{"all", u.InvalidateAll, "device sid 0x18 depth 0 pages 0x7ffffffffffff001"},
	} {
		b.log = nil
		if err := c.do(); err != nil || len(b.log) == 0 || b.log[len(b.log)-1] != c.want {
			t.Errorf("%s: %v, %q", c.name, err, b.log)
		}
	}
	plain := newBench(t)
	if err := plain.open(t, byQueue).SetDeviceTLB(0x18, &vtd.DeviceTLB{}); !errors.Is(err, vtd.ErrUnsupported) {
		t.Error(err)
	}
}

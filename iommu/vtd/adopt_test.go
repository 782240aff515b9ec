package vtd_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
)

// leftOn is a unit that somebody has left translating.
func leftOn(t *testing.T) *bench {
	b := newBench(t)
	b.extra |= ecapScalable
	b.status = 1<<31 | 1<<26
	b.rtaddr = 0x7000 | 1<<10
	b.queue = 0x9000 | 1<<11
	b.head, b.tail = 5, 5
	return b
}

func TestAdopt(t *testing.T) {
	b := leftOn(t)
	if _, err := vtd.Open(b, b.mem, b.frames, vtd.Options{}); !errors.Is(err, vtd.ErrActive) {
		t.Errorf("without asking: %v", err)
	}
	if len(b.log) != 0 {
		t.Errorf("the unit was told %q", b.log)
	}
	u := b.open(t, vtd.Options{Adopt: true})
	if diff := cmp.Diff([]string{"TE false", "QIE false"}, b.log); diff != "" {
		t.Error(diff)
	}
	want := vtd.Adopted{Translating: true, Queued: true, Mode: vtd.Scalable, Root: 0x7000, Queue: 0x9000}
	if got, ok := u.Adopted(); got != want || !ok {
		t.Errorf("%+v", got)
	}
	b.log = nil
	if err := u.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"event 0x38 0x80000000", "clear faults 0x0", "IQA", "QIE true", "RTADDR 0", "SRTP true", "context 1 did 0 sid 0x0", "iotlb 1 did 0 drain 3", "TE true"}, b.log); diff != "" {
		t.Error(diff)
	}
}

// TestAdoptRefuses is what adoption does not take over.
func TestAdoptRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(b *bench)
		want error
	}{
		"interrupts":   {func(b *bench) { b.status |= 1 << 25 }, vtd.ErrActive},
		"stuck":        {func(b *bench) { b.stuck["TE"] = true }, vtd.ErrTimeout},
		"busy queue":   {func(b *bench) { b.head, b.stuck["queue"] = 4, true }, vtd.ErrTimeout},
		"QIE stuck":    {func(b *bench) { b.stuck["QIE"] = true }, vtd.ErrTimeout},
		"gone at once": {func(b *bench) { b.goneAt = 6 }, vtd.ErrGone},
		"gone later":   {func(b *bench) { b.goneAt = 9 }, vtd.ErrGone},
	} {
		b := leftOn(t)
		c.set(b)
		u, err := vtd.Open(b, b.mem, b.frames, vtd.Options{Adopt: true, Timeout: 1e6})
		if u != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if n := b.frames.Stats().InUse; n != 0 {
			t.Errorf("%s: %d frames in use", name, n)
		}
	}
}

// TestAdoptNothing is a unit that is off.
func TestAdoptNothing(t *testing.T) {
	b := newBench(t)
	u := b.open(t, vtd.Options{Adopt: true})
	if got, ok := u.Adopted(); ok || len(b.log) != 0 {
		t.Errorf("%+v, %q", got, b.log)
	}
}

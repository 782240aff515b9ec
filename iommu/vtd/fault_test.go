package vtd_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
)

// lateRecord records a fault just behind the first look at the record.
//
//gommu:maysleep it locks
type lateRecord struct {
	*bench
	done bool
}

func (l *lateRecord) Read64(off uint64) uint64 {
	v := l.bench.Read64(off)
	if off >= 0x220 && off < 0x230 && !l.done {
		l.done = true
		l.mu.Lock()
		l.records[0] = [2]uint64{0x5000, 1<<63 | 5<<32 | 0x18}
		l.mu.Unlock()
	}
	return v
}

// TestFaultRecordedMeanwhile: a record that is written while it is read is read
// whole or next time.
func TestFaultRecordedMeanwhile(t *testing.T) {
	b := newBench(t)
	b.capability |= 1 << 40 // two records
	b.records[1] = [2]uint64{0x7000, 1<<63 | 6<<32 | 0x20}
	u, err := vtd.Open(&lateRecord{bench: b}, b.mem, b.frames, byQueue)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var got []uint64
	for range 2 {
		faults, _, err := u.Faults()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			got = append(got, f.IOVA)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]uint64{0x5000, 0x7000}, got); diff != "" {
		t.Error(diff)
	}
}

// TestCompletionCleared: an unexpected completion that stands keeps the unit from
// sending fault messages.
func TestCompletionCleared(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byQueue)
	b.fault = 0x20
	if _, _, err := u.Faults(); err != nil || b.fault != 0 || u.Stats().Completions != 1 {
		t.Errorf("%v, FSTS %#x, %+v", err, b.fault, u.Stats())
	}
}

// TestReasonTexts are reasons whose meaning is easily taken for another.
func TestReasonTexts(t *testing.T) {
	for r, want := range map[vtd.Reason]string{
		0x43: "RID_PASID", 0x48: "requests without PASID", 0x7d: "cannot be updated", 0x83: "host", 0x84: "second stage", 0x89: "larger",
	} {
		if s := r.String(); !strings.Contains(s, want) {
			t.Errorf("%#02x is %q", uint8(r), s)
		}
	}
}

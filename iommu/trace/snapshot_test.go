package trace

import (
	"testing"
	"time"
)

// spread is a tally of the same number of calls for each nanosecond from low to high.
func spread(low, high uint64, each uint64) (t Tally) {
	for v := low; v <= high; v++ {
		slot := 0
		for w := v; w > 1; w /= 2 {
			slot++
		}
		t.Count += each
		t.Time += time.Duration(v * each)
		t.Slots[slot] += each
	}
	return t
}

func TestQuantile(t *testing.T) {
	if q := (Tally{}).Quantile(0.5); q != 0 {
		t.Errorf("of nothing: %v", q)
	}
	// What is spread evenly over whole slots is estimated exactly.
	all := spread(0, 1023, 3)
	for q, want := range map[float64]time.Duration{0: 0, 0.25: 256, 0.5: 512, 0.75: 768, 1: 1024} {
		if got := all.Quantile(q); got != want {
			t.Errorf("%v of 0 to 1023 ns: %v, want %v", q, got, want)
		}
	}
	// Otherwise it is in the slot of the right one.
	few := spread(5000, 5100, 1)
	few.Slots[3] = 1
	if got := few.Quantile(0.5); got < 4096 || got > 8192 {
		t.Errorf("the median of 5000 to 5100 ns: %v", got)
	}
	if got := few.Quantile(0.001); got > 16 {
		t.Errorf("the least: %v", got)
	}
}

func TestSince(t *testing.T) {
	key := Tally{Operation: Flush, Result: 1, Class: 12, Process: 7, Source: 0x18}
	before, now := key, key
	before.Add(Tally{Count: 3, Time: 30, Size: 300, Items: 3000})
	before.Slots[4] = 3
	now.Add(before)
	now.Add(Tally{Count: 5, Time: 50, Size: 500, Items: 5000})
	now.Slots[9] = 5
	same := Tally{Operation: Map, Count: 4}
	a := Snapshot{Tallies: []Tally{before, same}, Lost: Lost{1, 2, 3, 4}}
	b := Snapshot{Tallies: []Tally{now, same}, Lost: Lost{11, 22, 33, 44}}
	want := key
	want.Count, want.Time, want.Size, want.Items = 5, 50, 500, 5000
	want.Slots[9] = 5
	d := b.Since(a)
	if len(d.Tallies) != 1 || d.Tallies[0] != want || d.Lost != (Lost{10, 20, 30, 40}) {
		t.Errorf("%+v, want %+v", d, want)
	}
}

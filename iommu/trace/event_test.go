package trace

import (
	"encoding/json"
	"strings"
	"testing"

	"gommu/internal/probe"
	"gommu/iommu/vtd"
)

// TestKernelFault decodes what the kernel's driver was about to take: the record, and whether the unit had no room for others.
func TestKernelFault(t *testing.T) {
	const upper = 1<<63 | 1<<62 | 7<<40 | 1<<31 | 6<<32 | 0x18 // F, T1: a read, PASID 7, reason 6
	n := note{Operation: uint16(KernelFault), Result: 6, Source: 0x1_0018, IOVA: 0x1234_5678, Time: upper, Extra: 2}
	e := n.event()
	want := vtd.Fault{Reason: vtd.ReasonNoRead, Source: 0x18, IOVA: 0x1234_5000, HasPASID: true, PASID: 7}
	if e.Fault == nil || *e.Fault != want || e.IOVA != want.IOVA || e.Source != 0x1_0018 || e.Time != 0 || e.Skipped {
		t.Errorf("%+v, %v; want %v", e, e.Fault, want)
	}
	n.Extra |= statusOverflow
	if e := n.event(); !e.Skipped {
		t.Errorf("%+v does not say that there was no room for more", e)
	}
}

// TestOverflowAlone: a unit that has no record left to tell what it had no room for.
func TestOverflowAlone(t *testing.T) {
	n := note{Operation: uint16(Fault), Source: uint64(Several), Extra: probe.AccessLost}
	if e := n.event(); e.Fault != nil || !e.Skipped {
		t.Errorf("%+v", e)
	}
}

// TestEventJSON: what is not there, or does not apply, is not printed.
func TestEventJSON(t *testing.T) {
	n := note{Operation: uint16(Map), Result: 2, Source: 0x18, IOVA: 4096, Size: 100, Time: 7, Extra: 1, Process: 5, Thread: 6, Domain: 3}
	b, err := json.Marshal(n.event())
	want := `{"at_ns":0,"operation":"map","result":2,"process":5,"thread":6,"domain":3,"source":"00:03.0","iova":4096,"size":100,"direction":"to device","ns":7}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v\nwant %s", b, err, want)
	}
	n = note{Operation: uint16(PoolGrow), Source: 9, Time: 7, Extra: 64}
	if b, err = json.Marshal(n.event()); err != nil || !strings.Contains(string(b), `"items":64`) || !strings.Contains(string(b), `"source":"-","pool":9,`) || strings.Contains(string(b), "direction") || strings.Contains(string(b), "fault") {
		t.Errorf("%s, %v", b, err)
	}
}

package vtd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

func ExampleDecodeCapabilities() {
	caps := vtd.DecodeCapabilities(0x10, 0x00d2008c222f0606, 0x0000000000f00f4a)
	fmt.Println(caps)
	// Output:
	// VT-d 1.0, CAP 0x00d2008c222f0606, ECAP 0x0000000000f00f4a
	// domains 65536, IOVAs to 48 bits, second stage 39 48 2M 1G
	// tables: pass-through
	// invalidation: queued page-selective drain-reads drain-writes; masks to 18
	// interrupts: remapping
	// fault records: 1 at 0x220; IOTLB registers at 0xf0
	// scalable mode: none; PASID bits 0
}

func ExampleReason() {
	fmt.Println(vtd.ReasonNoRead)
	fmt.Println(vtd.Reason(0xff))
	// Output:
	// no read permission
	// unknown fault reason 0xff
}

// TestCapabilities decodes the units of QEMU and one of a client processor.
func TestCapabilities(t *testing.T) {
	c := vtd.DecodeCapabilities(0x10, 0x00d2008c22260206, 0xf00f4a)
	if c.Width48 || !c.Width39 || c.MaxAddressWidth != 39 || c.TableOptions().AddressWidth != 39 {
		t.Errorf("39 bits: %+v", c)
	}
	c = vtd.DecodeCapabilities(0x60, 0xd9de008c40780c66, 0x3ef9e86f050df)
	want := vtd.Version{Major: 6}
	if c.Version != want || c.MaxAddressWidth != 57 || !c.Width57 || !c.Width48 || c.Width39 || c.Domains != 65536 ||
		!c.Coherent || c.QueuedInvalidation != true || !c.ScalableMode || c.PASIDBits != 20 || c.MaxAddressMask != 0x1e ||
		c.FaultRecords != 1 || c.FaultRecordOffset != 0x400 || c.IOTLBOffset != 0x500 || !c.ProtectedMemory || !c.EnhancedRootPointer {
		t.Errorf("client: %+v", c)
	}
	opts := c.TableOptions()
	if opts.AddressWidth != 48 || !opts.Coherent || opts.No2M || opts.No1G {
		t.Errorf("client: %+v", opts)
	}
	if opts := vtd.DecodeCapabilities(0x10, 0x0400, 0).TableOptions(); !opts.No2M || !opts.No1G || opts.Coherent {
		t.Errorf("small: %+v", opts)
	}
}

// TestUsable says what a mode leaves of a unit.
func TestUsable(t *testing.T) {
	const scalable = 1<<43 | 1<<1
	for name, c := range map[string]struct {
		capability, extended uint64
		mode                 vtd.Mode
		want                 vtd.Usable
	}{
		"legacy":        {qemuCap, qemuEcap | 1, vtd.Legacy, vtd.Usable{SecondStage: vtd.Widths{39, 48}, PassThrough: true, Coherent: true}},
		"not scalable":  {qemuCap, qemuEcap, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable}},
		"without queue": {qemuCap, 1<<43 | 1<<46, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable}},
		// ECAP.C is about other tables than SMPWC.
		"second stage": {1 << 11, scalable | 1<<46 | 1, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable, SecondStage: vtd.Widths{57}}},
		"first stage":  {1 << 60, scalable | 1<<47 | 1<<48, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable, FirstStage: vtd.Widths{48, 57}, Coherent: true}},
		"few PASIDs":   {0, scalable | 1<<47 | 1<<40 | 7<<35, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable, FirstStage: vtd.Widths{48}, PASIDs: 256}},
		"many PASIDs":  {0, scalable | 1<<47 | 1<<40 | 19<<35, vtd.Scalable, vtd.Usable{Mode: vtd.Scalable, FirstStage: vtd.Widths{48}, PASIDs: 1 << 15}},
	} {
		if diff := cmp.Diff(c.want, vtd.DecodeCapabilities(0x10, c.capability, c.extended).Usable(c.mode)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTableOptions(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable
	u := b.open(t, vtd.Options{Mode: vtd.Scalable})
	if got, err := u.TableOptions(pagetable.FirstStage); err != nil || got != (pagetable.Options{Stage: pagetable.FirstStage, AddressWidth: 48, No1G: true}) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := u.TableOptions(pagetable.SecondStage); err != nil || got != (pagetable.Options{AddressWidth: 48}) {
		t.Errorf("%+v %v", got, err)
	}
	legacy := newBench(t)
	if _, err := legacy.open(t, byQueue).TableOptions(pagetable.FirstStage); !errors.Is(err, vtd.ErrUnsupported) {
		t.Error(err)
	}
}

func TestReasons(t *testing.T) {
	listed := func(r int) bool {
		for _, span := range [][2]int{{0x01, 0x0e}, {0x20, 0x2b}, {0x30, 0x34}, {0x38, 0x3a}, {0x40, 0x49}, {0x50, 0x52},
			{0x58, 0x5d}, {0x60, 0x60}, {0x70, 0x7d}, {0x80, 0x87}, {0x89, 0x89}, {0x90, 0x91}, {0xa0, 0xa5}} {
			if r >= span[0] && r <= span[1] {
				return true
			}
		}
		return false
	}
	for r := range 256 {
		s := vtd.Reason(r).String()
		if known := !strings.HasPrefix(s, "unknown"); known != listed(r) {
			t.Errorf("reason %#02x is %q", r, s)
		}
		if vtd.Reason(r).Interrupt() && listed(r) != (r >= 0x20 && r <= 0x2b) {
			t.Errorf("reason %#02x is about an interrupt", r)
		}
	}
}

func TestDecodeFault(t *testing.T) {
	for _, c := range []struct {
		low, high uint64
		want      vtd.Fault
		text      string
	}{
		{0x1234_5678_9abc, 1<<63 | 5<<32 | 0x18, vtd.Fault{Reason: 5, Source: 0x18, IOVA: 0x1234_5678_9000, Write: true},
			"write of iova 0x123456789000 by 00:03.0: no write permission (0x05)"},
		// PASID bits without PP are rubbish (QEMU 7.2 sets them).
		{0x1000, 3<<62 | 0xffff<<40 | 6<<32 | 0x1a1, vtd.Fault{Reason: 6, Source: 0x1a1, IOVA: 0x1000},
			"read of iova 0x1000 by 01:14.1: no read permission (0x06)"},
		{0x1000, 3<<62 | 0xabcde<<40 | 0x71<<32 | 1<<31 | 0x18, vtd.Fault{Reason: 0x71, Source: 0x18, IOVA: 0x1000, HasPASID: true, PASID: 0xabcde},
			"read of iova 0x1000 by 00:03.0 PASID 0xabcde: first-stage entry is not present (0x71)"},
		{0x1000, 3<<62 | 0x82<<32 | 3<<29 | 0x18, vtd.Fault{Reason: 0x82, Source: 0x18, IOVA: 0x1000}, // PRIV and EXE without PP
			"read of iova 0x1000 by 00:03.0: no execute permission (0x82)"},
		{0x1000, 3<<62 | 2<<60 | 0x82<<32 | 1<<31 | 1<<30 | 0x18, vtd.Fault{Reason: 0x82, Source: 0x18, IOVA: 0x1000, AddressType: vtd.Translated, HasPASID: true, Execute: true},
			"execution (translated address) of iova 0x1000 by 00:03.0 PASID 0x0: no execute permission (0x82)"},
		{0x1000, 3<<62 | 0x86<<32 | 1<<28 | 0x18, vtd.Fault{Reason: 0x86, Source: 0x18, IOVA: 0x1000, Atomic: true},
			"atomic operation of iova 0x1000 by 00:03.0: no read permission (0x86)"},
		{0x1000, 1<<63 | 1<<60 | 0x47<<32 | 1<<28 | 0x18, vtd.Fault{Reason: 0x47, Source: 0x18, IOVA: 0x1000, PageRequest: true, AddressType: vtd.TranslationRequest},
			"page request (translation request) of iova 0x1000 by 00:03.0: context entry does not allow page requests (0x47)"},
		{0x7 << 48, 1<<63 | 0x22<<32 | 0x18, vtd.Fault{Reason: 0x22, Source: 0x18, IOVA: 7 << 48, Write: true},
			"interrupt 0x7 of 00:03.0: interrupt remapping entry is not present (0x22)"},
	} {
		f, ok := vtd.DecodeFault(c.low, c.high)
		if diff := cmp.Diff(c.want, f); !ok || diff != "" {
			t.Error(ok, diff)
		}
		if f.String() != c.text {
			t.Errorf("got  %s\nwant %s", f, c.text)
		}
	}
	if _, ok := vtd.DecodeFault(1, 1<<62); ok {
		t.Error("a record that is not set counts")
	}
}

// TestFaultRing drains eight records, from the middle.
func TestFaultRing(t *testing.T) {
	b := newBench(t)
	b.capability |= 7 << 40
	u := b.enabled(t, byQueue)
	b.fault = 6<<8 | 1 // the first is record 6, and one was lost
	for i := range 4 {
		b.records[(6+i)%8] = [2]uint64{uint64(i+1) << 12, 1<<63 | 5<<32 | 0x18}
	}
	faults, overflow, err := u.Faults()
	if err != nil || !overflow || len(faults) != 4 {
		t.Fatal(faults, overflow, err)
	}
	for i, f := range faults {
		if f.IOVA != uint64(i+1)<<12 {
			t.Errorf("fault %d is %v", i, f)
		}
	}
	want := []string{"clear record 6", "clear record 7", "clear record 0", "clear record 1", "clear faults 0x1"}
	if diff := cmp.Diff(want, b.log); diff != "" {
		t.Error(diff)
	}
	if faults, overflow, err := u.Faults(); len(faults) != 0 || overflow || err != nil {
		t.Error("again:", faults, overflow, err)
	}
}

// TestInvalidationCovers checks that what the unit is told covers what was
// asked for, and no more than it must.
func TestInvalidationCovers(t *testing.T) {
	b := newBench(t)
	b.capability = b.capability&^(0x3f<<48) | 9<<48 // at most 2^9 pages
	u := b.enabled(t, byQueue)
	rapid.Check(t, func(t *rapid.T) {
		iova := rapid.Uint64Range(0, 1<<48-1).Draw(t, "iova")
		size := rapid.OneOf(rapid.Uint64Range(1, 4*4096), rapid.Uint64Range(1, 1<<22)).Draw(t, "size")
		b.log = nil
		if err := u.Invalidate(3, iova, size); err != nil {
			t.Fatal(err)
		}
		first, last := iova>>12, (iova+size-1)>>12
		if b.log[0] == "iotlb 2 did 3 drain 3" {
			if first>>9 == last>>9 {
				t.Fatalf("the whole domain for pages %#x to %#x", first, last)
			}
			return
		}
		var address uint64
		if n, err := fmt.Sscanf(strings.Join(b.log, " "), "iotlb 3 did 3 drain 3 pages %v", &address); n != 1 {
			t.Fatal(b.log, err)
		}
		mask := address & 0x3f
		low, high := address>>12, address>>12+1<<mask-1
		if mask > 9 || low&(1<<mask-1) != 0 || first < low || last > high {
			t.Fatalf("pages %#x to %#x for %#x to %#x", low, high, first, last)
		}
		if half := uint64(1) << mask >> 1; mask > 0 && first/half == last/half {
			t.Fatalf("mask %d is more than needed for %#x to %#x", mask, first, last)
		}
	})
	b.capability &^= capPSI
	u.Close()
	u = b.enabled(t, byQueue)
	if err := u.Invalidate(3, 0x1000, 1); err != nil || b.log[0] != "iotlb 2 did 3 drain 3" {
		t.Errorf("without page-selective invalidation: %v %q", err, b.log)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint32(0x10), uint64(qemuCap), uint64(qemuEcap), uint64(0x1000), uint64(1<<63|5<<32|0x18))
	f.Add(^uint32(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0))
	f.Add(uint32(0x60), uint64(0xd9de008c40780c66), uint64(0x3ef9e86f050df), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, version uint32, capability, extended, low, high uint64) {
		caps := vtd.DecodeCapabilities(version, capability, extended)
		if caps.String() == "" || caps.FaultRecords < 1 || caps.Domains < 16 {
			t.Errorf("%+v", caps)
		}
		fault, _ := vtd.DecodeFault(low, high)
		if fault.String() == "" || fault.PASID >= 1<<20 || fault.IOVA&0xfff != 0 {
			t.Errorf("%+v", fault)
		}
	})
}

package model_test

import (
	"strings"
	"testing"

	"gommu/iommu/model"
)

// TestWaitNeeded: an invalidation is done when a wait descriptor says so, not
// when it was fetched.
func TestWaitNeeded(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	d := r.Device(source)
	r.fill(dataBase)
	r.fill(dataBase + 0x1000)
	r.page(top, 0x5000, dataBase, rw)
	r.reads(d, 0x5000, dataBase)
	r.page(top, 0x5000, dataBase+0x1000, rw)
	r.push(iotlbInv(global, 0, 0, 0, 0))
	if r.Read64(regIQH) != r.tail {
		t.Errorf("head %#x, tail %#x", r.Read64(regIQH), r.tail)
	}
	r.reads(d, 0x5000, dataBase)
	r.invalidate()
	r.reads(d, 0x5000, dataBase+0x1000)
}

// TestWrap runs the queue around several times, with both sizes of descriptors,
// one and several at a time.
func TestWrap(t *testing.T) {
	for _, scalable := range []bool{false, true} {
		r := newRig(t, model.Config{Scalable: scalable})
		r.start(0)
		for i := range 700 {
			r.invalidate([]desc{iotlbInv(global, 0, 0, 0, 0), contextInv(global, 0, 0, 0), {4 | 1<<4}}[:i%4]...)
		}
		r.lawful()
	}
}

// TestBadDescriptors: each stops the queue at it; after a repair and the clearing
// of the error it goes on.
func TestBadDescriptors(t *testing.T) {
	for _, c := range []struct {
		name string
		d    desc
		wide bool
	}{
		{"type 0", desc{0}, false},
		{"type 9", desc{9}, false},
		{"type 0x11", desc{1 | 1<<4 | 1<<9}, false},
		{"context, no granularity", contextInv(0, 0, 0, 0), false},
		{"context, reserved", desc{1 | 1<<4 | 1<<50}, false},
		{"context, high", desc{1 | 1<<4, 1}, false},
		{"IOTLB, no granularity", iotlbInv(0, 0, 0, 0, 0), false},
		{"IOTLB, reserved", desc{2 | 1<<4 | 1<<32}, false},
		{"IOTLB, high reserved", desc{2 | 1<<4, 1 << 7}, false},
		{"IOTLB, mask", iotlbInv(selective, domain, 0, 19, 0), false},
		{"device TLB without", desc{3 | 0x118<<32, 0x5000}, false},
		{"wait, reserved", desc{5 | 1<<12}, false},
		{"wait, address", desc{5 | 1<<5, 1}, false},
		{"wait, page requests", desc{5 | 1<<7}, false},
		{"PASID cache, narrow", desc{7 | 3<<4}, false},
		{"PASID IOTLB, narrow", desc{6 | 2<<4}, false},
		{"PASID cache, granularity", desc{7 | 2<<4}, true},
		{"PASID IOTLB, granularity", desc{6 | 1<<4}, true},
		{"PASID IOTLB, mask", desc{6 | 3<<4, 20}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, model.Config{Scalable: c.wide})
			r.start(0)
			r.invalidate(contextInv(global, 0, 0, 0))
			at := r.tail
			r.push(c.d, r.wait())
			if r.Read32(regFSTS) != 1<<4 || r.Read64(regIQH) != at || r.done() {
				t.Errorf("FSTS %#x, head %#x, want %#x", r.Read32(regFSTS), r.Read64(regIQH), at)
			}
			want := uint64(4) // reserved field
			if strings.HasPrefix(c.name, "type") || strings.HasSuffix(c.name, "narrow") || strings.HasSuffix(c.name, "without") {
				want = 3
			}
			if got := r.Read64(regIQERCD); got != want {
				t.Errorf("IQERCD %#x, want %#x", got, want)
			}
			r.Write64(regIQT, r.tail) // the error still stands
			if r.done() {
				t.Error("the queue went on in spite of the error")
			}
			r.put(r.queue+at, 4)
			r.put(r.queue+at+8, 0)
			r.Write32(regFSTS, 1<<4)
			if r.Read32(regFSTS) != 0 || r.Read64(regIQH) != r.tail || !r.done() {
				t.Errorf("FSTS %#x, head %#x, want %#x", r.Read32(regFSTS), r.Read64(regIQH), r.tail)
			}
			r.lawful()
		})
	}
}

// TestQueueErrors are those that are not a descriptor's own fault.
func TestQueueErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		why  uint64
		c    model.Config
		do   func(r *rig)
	}{
		{"tail beyond", 1, model.Config{}, func(r *rig) { r.start(0); r.Write64(regIQT, 4096) }},
		{"outside memory", 2, model.Config{}, func(r *rig) { r.queue = 1 << 40; r.start(0); r.Write64(regIQT, 16) }},
		{"pages without PSI", 4, model.Config{NoPageSelective: true}, func(r *rig) { r.start(0); r.push(iotlbInv(selective, 1, 0, 0, 0)) }},
		{"upper half", 4, model.Config{Scalable: true}, func(r *rig) { r.start(0); r.put(r.queue+16, 1); r.put(r.queue, 4); r.Write64(regIQT, 32) }},
		{"narrow in scalable mode", 5, model.Config{Scalable: true}, func(r *rig) { r.wide = false; r.start(1); r.push(iotlbInv(global, 0, 0, 0, 0)) }},
		{"wide without scalable mode", 5, model.Config{}, func(r *rig) { r.wide = true; r.start(0); r.push(iotlbInv(global, 0, 0, 0, 0)) }},
		{"tail not aligned", 6, model.Config{Scalable: true}, func(r *rig) { r.start(0); r.Write64(regIQT, 16) }},
		{"mode", 7, model.Config{}, func(r *rig) { r.start(2); r.push(iotlbInv(global, 0, 0, 0, 0)) }},
	} {
		r := newRig(t, c.c)
		c.do(r)
		if r.Read32(regFSTS) != 1<<4 || r.Read64(regIQERCD) != c.why || r.Read64(regIQH) != 0 {
			t.Errorf("%s: FSTS %#x, IQERCD %#x, want %d", c.name, r.Read32(regFSTS), r.Read64(regIQERCD), c.why)
		}
	}
}

// TestWaitEvent: the interrupt flag, and both flags at once.
func TestWaitEvent(t *testing.T) {
	n := 0
	r, _ := legacy(t, model.Config{Interrupt: func(a uint64, d uint32) { n++ }}, 4)
	r.Write32(regIEDATA, 0x42)
	r.Write32(regIEADDR, 0xfee0_0000)
	r.Write32(regIECTL, 0)
	r.push(desc{5 | 1<<4})
	if n != 1 || r.Read32(regICS) != 1 {
		t.Errorf("%d messages, ICS %#x", n, r.Read32(regICS))
	}
	r.push(desc{5 | 1<<4})
	if n != 1 {
		t.Errorf("%d messages while ICS.IWC is set", n)
	}
	r.Write32(regICS, 1)
	w := r.wait()
	w[0] |= 1 << 4
	r.push(w)
	if n != 2 || !r.done() {
		t.Errorf("%d messages, status written: %v", n, r.done())
	}
	r.Write32(regICS, 1)
	r.Write32(regIECTL, 1<<31)
	r.push(desc{5 | 1<<4})
	if n != 2 || r.Read32(regIECTL) != 3<<30 {
		t.Errorf("%d messages, IECTL %#x", n, r.Read32(regIECTL))
	}
	r.Write32(regIECTL, 0)
	if n != 3 {
		t.Errorf("%d messages", n)
	}
	r.lawful()
}

// TestRegisterInvalidation is CCMD and IOTLB, with the queue off.
func TestRegisterInvalidation(t *testing.T) {
	r, top := legacy(t, model.Config{NoQueue: true}, 4)
	d := r.Device(source)
	r.fill(dataBase)
	r.fill(dataBase + 0x1000)
	r.page(top, 0x5000, dataBase, rw)
	r.reads(d, 0x5000, dataBase)
	r.page(top, 0x5000, dataBase+0x1000, rw)
	iotlb := func(v, iva, want uint64) {
		t.Helper()
		r.Write64(regIVA, iva)
		r.Write64(regIOTLB, v|1<<63)
		if got := r.Read64(regIOTLB) >> 57; got&3 != want || got>>6 != 0 {
			t.Errorf("IOTLB %#x, want %d done", r.Read64(regIOTLB), want)
		}
	}
	iotlb(3<<60|domain<<32, 0x6000, 3)
	iotlb(2<<60|(domain+1)<<32, 0, 2)
	iotlb(0, 0, 0)
	r.reads(d, 0x5000, dataBase)
	iotlb(3<<60|domain<<32, 0x5000, 3)
	r.reads(d, 0x5000, dataBase+0x1000)
	other := r.frame()
	r.attach(source, domain+1, other, 4)
	command := func(v, want uint64) {
		t.Helper()
		r.Write32(regCCMD, uint32(v))
		r.Write32(regCCMD+4, uint32(v>>32)|1<<31) // the upper half starts it
		if got := r.Read64(regCCMD) >> 59; got&3 != want || got>>4 != 0 {
			t.Errorf("CCMD %#x, want %d done", r.Read64(regCCMD), want)
		}
	}
	command(3<<61|source<<16|domain+1, 3)
	command(0, 0)
	r.reads(d, 0x5000, dataBase+0x1000)
	command(3<<61|source<<16|domain, 3)
	r.reads(d, 0x5000, dataBase+0x1000)
	iotlb(2<<60|domain<<32, 0, 2)
	r.cannotRead(d, 0x5000, 6)
	r.lawful()
	iotlb(3<<60|domain<<32, 19, 0)
	if v := r.Violations(); len(v) != 1 || !strings.Contains(v[0], "MAMV") {
		t.Errorf("violations %q", v)
	}
}

// TestViolations: what software must not do is noted, once each.
func TestViolations(t *testing.T) {
	for _, c := range []struct {
		want string
		c    model.Config
		do   func(r *rig)
	}{
		{"several bits", model.Config{}, func(r *rig) { r.Write32(regGCMD, srtp|qie) }},
		{"several bits", model.Config{}, func(r *rig) { r.start(0); r.Write32(regGCMD, 0) }},
		{"reserved bits", model.Config{}, func(r *rig) { r.Write32(regGCMD, 1) }},
		{"AFL", model.Config{}, func(r *rig) { r.Write32(regGCMD, 1<<28) }},
		{"before a root table pointer", model.Config{}, func(r *rig) { r.Write32(regGCMD, te) }},
		{"RTADDR", model.Config{}, func(r *rig) { r.root |= 1; r.setRoot(0) }},
		{"mode changes", model.Config{Scalable: true}, func(r *rig) { r.start(0); r.setRoot(1) }},
		{"128-bit descriptors", model.Config{Scalable: true}, func(r *rig) { r.wide = false; r.start(1) }},
		{"no protected memory", model.Config{}, func(r *rig) { r.Write32(regPMEN, 0) }},
		{"no invalidation queue", model.Config{NoQueue: true}, func(r *rig) { r.Write64(regIQA, 0) }},
		{"no invalidation queue", model.Config{NoQueue: true}, func(r *rig) { r.Write64(regIQT, 0) }},
		{"this unit has none", model.Config{NoQueue: true}, func(r *rig) { r.Write32(regGCMD, qie) }},
		{"queue is on", model.Config{}, func(r *rig) { r.start(0); r.Write64(regIQA, r.queue) }},
		{"IQA", model.Config{}, func(r *rig) { r.Write64(regIQA, 1<<3) }},
		{"must be 0", model.Config{}, func(r *rig) {
			r.Write64(regIQT, 16)
			r.Write64(regIQA, r.queue)
			r.put(r.queue, 4)
			r.Write32(regGCMD, qie)
		}},
		{"not empty", model.Config{}, func(r *rig) { r.start(0); r.push(desc{0}); r.Write32(regGCMD, te) }},
		{"no wait", model.Config{}, func(r *rig) { r.start(0); r.push(desc{4}); r.Write32(regGCMD, te) }},
		{"tail", model.Config{}, func(r *rig) { r.start(0); r.Write64(regIQT, 4096) }},
		{"tail", model.Config{Scalable: true}, func(r *rig) { r.start(0); r.Write64(regIQT, 16) }},
		{"status of a wait", model.Config{}, func(r *rig) { r.start(0); r.push(desc{5 | 1<<5, 1 << 40}) }},
		{"queue is on", model.Config{}, func(r *rig) { r.start(0); r.Write64(regCCMD, 1<<63|1<<61) }},
		{"has not", model.Config{NoRegisterInvalidation: true}, func(r *rig) { r.Write64(regIOTLB, 1<<63|1<<60) }},
		{"caching mode", model.Config{CachingMode: true}, func(r *rig) {
			r.attach(source, 0, ramBase, 4)
			r.start(0)
			r.Device(source).Read(0, make([]byte, 1))
		}},
		{"largest", model.Config{}, func(r *rig) {
			r.attach(source, domain, 2<<2, 3)
			r.start(0)
			r.Device(source).Read(0, make([]byte, 1))
		}},
		{"not aligned", model.Config{}, func(r *rig) { r.Write32(0x21, 0) }},
		{"no register", model.Config{}, func(r *rig) { r.Write64(regFECTL, 0) }},
	} {
		r := newRig(t, c.c)
		c.do(r)
		if v := r.Violations(); len(v) != 1 || !strings.Contains(v[0], c.want) {
			t.Errorf("violations %q, want %q", v, c.want)
		}
	}
}

// TestNoRoot: without a root table all DMA is blocked.
func TestNoRoot(t *testing.T) {
	r := newRig(t, model.Config{})
	r.Write32(regGCMD, te)
	r.cannotRead(r.Device(source), 0, 8)
	r.Write32(regGCMD, 0)
	r.fill(dataBase)
	r.reads(r.Device(source), dataBase, dataBase)
	r = newRig(t, model.Config{})
	r.start(3)
	r.cannotRead(r.Device(source), 0, 0x30)
}

func TestConfig(t *testing.T) {
	good := frames(2)
	for _, c := range []model.Config{
		{},
		{RAM: good[:4097]},
		{RAM: good[1:4097]},
		{RAM: good, RAMBase: 8},
		{RAM: good, Widths: []int{47}},
		{RAM: good, HostWidth: 53},
		{RAM: good, RAMBase: 1 << 46},
		{RAM: good, DomainBits: 5},
		{RAM: good, MaxAddressMask: 64},
		{RAM: good, FaultRecords: 225},
		{RAM: good, PASIDBits: 21},
		{RAM: good, Scalable: true, NoQueue: true},
		{RAM: good, NoQueue: true, NoRegisterInvalidation: true},
	} {
		if _, err := model.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	u, err := model.New(model.Config{RAM: good})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.Read64(8), uint64(0x00d2_008c_202f_0606|1<<22); got&^(0x3ff<<24) != want&^(0x3ff<<24) {
		t.Errorf("CAP %#x, want %#x", got, want)
	}
	if got := u.Read64(0x10); got != 0xf42 {
		t.Errorf("ECAP %#x", got)
	}
	if u.Read32(0) != 0x10 || u.Size() != 0x1000 || u.Read32(0x8) != uint32(u.Read64(8)) || u.Read32(0xc) != uint32(u.Read64(8)>>32) {
		t.Error("VER, size, or halves of CAP")
	}
}

// TestIgnoredBits: domain ids, IOVAs and status addresses in descriptors are as
// wide as the unit's.
func TestIgnoredBits(t *testing.T) {
	r, top := legacy(t, model.Config{DomainBits: 8}, 4)
	d := r.Device(source)
	r.fill(dataBase)
	for _, inv := range []desc{
		iotlbInv(selective, domain|0x100, 0x5000, 0, 0),
		iotlbInv(selective, domain, 1<<60|0x5000, 0, 0),
		iotlbInv(byDomain, domain|0xff00, 0, 0, 0),
	} {
		r.page(top, 0x5000, dataBase, rw)
		r.reads(d, 0x5000, dataBase)
		r.page(top, 0x5000, 0, 0)
		w := r.wait()
		w[1] |= 1 << 60
		r.push(inv, w)
		if !r.done() {
			t.Errorf("%#x: the status was not written", inv)
		}
		r.cannotRead(d, 0x5000, 6)
	}
	r.lawful()
}

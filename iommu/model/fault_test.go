package model_test

import (
	"bytes"
	"errors"
	"testing"

	"gommu/iommu/model"
)

// TestLegacyReasons raises each fault reason of legacy mode, and checks which of
// them FPD keeps out of the records.
func TestLegacyReasons(t *testing.T) {
	const beyondRAM = 1 << 40
	for _, c := range []struct {
		name      string
		reason    uint8
		write     bool
		qualified bool
		iova      uint64
		spoil     func(r *rig, top uint64)
	}{
		{"root absent", 1, false, false, 0, func(r *rig, _ uint64) { r.put(r.root+16, 0) }},
		{"context absent", 2, false, true, 0, func(r *rig, _ uint64) { e := r.contextEntry(source); r.put(e, r.get(e)&^1) }},
		{"context width", 3, false, true, 0, func(r *rig, _ uint64) { r.put(r.contextEntry(source)+8, domain<<8|3) }},
		{"context type", 3, false, true, 0, func(r *rig, top uint64) { e := r.contextEntry(source); r.put(e, r.get(e)|3<<2) }},
		{"context type without device TLB", 3, false, true, 0, func(r *rig, top uint64) { e := r.contextEntry(source); r.put(e, r.get(e)|1<<2) }},
		{"top table outside memory", 3, false, true, 0, func(r *rig, top uint64) { e := r.contextEntry(source); r.put(e, r.get(e)&0xfff|beyondRAM) }},
		{"beyond the table", 4, true, true, 1 << 39, func(r *rig, _ uint64) { r.put(r.contextEntry(source)+8, domain<<8|1) }},
		{"beyond the unit", 4, false, true, 1 << 48, nil},
		{"no write", 5, true, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, dataBase, 1) }},
		{"no write above", 5, true, true, 0x5000, func(r *rig, top uint64) { e := r.entry(top, 4, 0x5000, 3, 0); r.put(e, r.get(e)&^2) }},
		{"absent write", 5, true, true, 0x6000, nil},
		{"no read", 6, false, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, dataBase, 2) }},
		{"absent", 6, false, true, 1 << 40, nil},
		{"table outside memory", 7, false, true, 0x5000, func(r *rig, top uint64) { r.put(r.entry(top, 4, 0x5000, 4, 0), beyondRAM|rw) }},
		{"root table outside memory", 8, false, false, 0, func(r *rig, _ uint64) { r.root = beyondRAM; r.setRoot(0) }},
		{"context table outside memory", 9, false, false, 0, func(r *rig, _ uint64) { r.put(r.root+16, beyondRAM|1) }},
		{"root low", 0xa, false, false, 0, func(r *rig, _ uint64) { r.put(r.root+16, r.get(r.root+16)|1<<4) }},
		{"root address", 0xa, false, false, 0, func(r *rig, _ uint64) { r.put(r.root+16, r.get(r.root+16)|1<<46) }},
		{"root high", 0xa, false, false, 0, func(r *rig, _ uint64) { r.put(r.root+24, 1) }},
		{"context low", 0xb, false, true, 0, func(r *rig, _ uint64) { e := r.contextEntry(source); r.put(e, r.get(e)|1<<5) }},
		{"context high", 0xb, false, true, 0, func(r *rig, _ uint64) { e := r.contextEntry(source) + 8; r.put(e, r.get(e)|1<<24) }},
		{"context bit 71", 0xb, false, true, 0, func(r *rig, _ uint64) { e := r.contextEntry(source) + 8; r.put(e, r.get(e)|1<<7) }},
		{"leaf SNP", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, dataBase, rw|1<<11) }},
		{"leaf bit 62", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, dataBase, rw|1<<62) }},
		{"leaf address", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, 1<<46, rw) }},
		{"2M address", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.put(r.entry(top, 4, 0x5000, 2, 0), 1<<12|1<<7|rw) }},
		{"1G address", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.put(r.entry(top, 4, 0x5000, 3, 0), 1<<29|1<<7|rw) }},
		{"512G page", 0xc, false, true, 0x5000, func(r *rig, top uint64) { r.put(r.entry(top, 4, 0x5000, 4, 0), 1<<7|rw) }},
		{"table SNP", 0xc, false, true, 0x5000, func(r *rig, top uint64) { e := r.entry(top, 4, 0x5000, 2, 0); r.put(e, r.get(e)|1<<11) }},
		{"interrupt range", 0xe, true, true, 0x5000, func(r *rig, top uint64) { r.page(top, 0x5000, 0xfee0_1000, rw) }},
	} {
		for _, silent := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				r, top := legacy(t, model.Config{}, 4)
				r.page(top, 0x5000, dataBase, rw)
				if silent {
					e := r.contextEntry(source)
					r.put(e, r.get(e)|2)
				}
				if c.spoil != nil {
					c.spoil(r, top)
				}
				var err error
				if c.write {
					err = r.Device(source).Write(c.iova, []byte{1})
				} else {
					err = r.Device(source).Read(c.iova, make([]byte, 1))
				}
				if silent && c.qualified {
					var e *model.DMAError
					if !errors.As(err, &e) || e.Reason != c.reason {
						t.Errorf("%v, want reason %#x", err, c.reason)
					}
					if r.Read32(regFSTS) != 0 {
						t.Errorf("FSTS %#x in spite of FPD", r.Read32(regFSTS))
					}
				} else {
					r.blocked(err, c.reason)
				}
				r.lawful()
			})
		}
	}
}

// TestMissingSizes: superpages that the unit has not are reserved; bits that
// belong to features are not when it has these.
func TestMissingSizes(t *testing.T) {
	r, top := legacy(t, model.Config{No1G: true, SnoopControl: true}, 4)
	r.put(r.entry(top, 4, 0, 3, rw), 1<<7|rw)
	r.cannotRead(r.Device(source), dataBase, 0xc)
	r.put(r.entry(top, 4, 1<<30, 2, rw), 1<<7|rw|1<<11)
	if err := r.Device(source).Read(1<<30+ramBase, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	r, top = legacy(t, model.Config{No2M: true}, 4)
	r.put(r.entry(top, 4, 0, 2, rw), 1<<7|rw)
	r.cannotRead(r.Device(source), ramBase, 0xc)
	if cap := r.Read64(8); cap>>34&3 != 0 {
		t.Errorf("CAP %#x has superpages", cap)
	}
}

// TestRecords: the ring of records, overflow, and what is lost until it is
// cleared.
func TestRecords(t *testing.T) {
	r, _ := legacy(t, model.Config{FaultRecords: 3}, 4)
	fault := func(source uint16) {
		t.Helper()
		if err := r.Device(source).Read(0x5000, make([]byte, 1)); !errors.Is(err, model.ErrBlocked) {
			t.Error(err)
		}
	}
	status := func(want uint32) {
		t.Helper()
		if got := r.Read32(regFSTS); got != want {
			t.Errorf("FSTS %#x, want %#x", got, want)
		}
	}
	who := func(i uint64) uint64 { return r.Read64(regFRCD+16*i+8) & (1<<63 | 0xffff) }
	for s := range uint16(3) {
		fault(source + s)
		status(2)
	}
	fault(source + 3)
	status(3)
	r.Write32(regFRCD+12, 1<<31)
	fault(source + 4) // still lost
	status(3)
	r.Write32(regFSTS, 1)
	status(2)
	fault(source + 5)
	if who(0) != 1<<63|source+5 || who(1) != 1<<63|source+1 {
		t.Errorf("records %#x %#x", who(0), who(1))
	}
	for i := range uint64(3) {
		r.Write64(regFRCD+16*i+8, 1<<63)
	}
	status(0)
	fault(source + 6)
	status(2 | 1<<8) // the next record, and the first that is set
	if who(1) != 1<<63|source+6 {
		t.Errorf("record %#x", who(1))
	}
	fault(source + 6) // not collapsed
	if who(2) != 1<<63|source+6 {
		t.Errorf("record %#x", who(2))
	}
	fault(source + 6)
	r.Write32(regFRCD+12, 1<<31)
	r.Write32(regGCMD, r.Read32(regGSTS)&^(srtp|te))
	r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|te)
	fault(source + 7)
	if who(0) != 1<<63|source+7 {
		t.Errorf("record %#x after switching off and on", who(0))
	}
}

func TestCollapse(t *testing.T) {
	r, _ := legacy(t, model.Config{CollapseFaults: true}, 4)
	for range 2 {
		if err := r.Device(source).Read(0x5000, make([]byte, 1)); err == nil {
			t.Error("passed")
		}
	}
	if v := r.Read32(regFSTS); v != 2 {
		t.Errorf("FSTS %#x", v)
	}
	if err := r.Device(source+1).Read(0x5000, make([]byte, 1)); err == nil {
		t.Error("passed")
	}
	if v := r.Read32(regFSTS); v != 3 {
		t.Errorf("FSTS %#x", v)
	}
}

// TestFaultEvent: one message when the first thing goes wrong, kept back while it
// is masked.
func TestFaultEvent(t *testing.T) {
	type message struct {
		address uint64
		data    uint32
	}
	var got []message
	r, _ := legacy(t, model.Config{Interrupt: func(a uint64, d uint32) { got = append(got, message{a, d}) }}, 4)
	r.Write32(regFEDATA, 0x41)
	r.Write32(regFEADDR, 0xfee0_0000)
	d := r.Device(source)
	d.Read(0x5000, make([]byte, 1))
	if len(got) != 0 || r.Read32(regFECTL) != 3<<30 {
		t.Errorf("%v, FECTL %#x", got, r.Read32(regFECTL))
	}
	r.Write32(regFECTL, 0)
	if len(got) != 1 || got[0] != (message{0xfee0_0000, 0x41}) || r.Read32(regFECTL) != 0 {
		t.Errorf("%v, FECTL %#x", got, r.Read32(regFECTL))
	}
	d.Read(0x5000, make([]byte, 1))
	if len(got) != 1 {
		t.Errorf("%v: a second message while the first fault stands", got)
	}
	r.Write32(regFRCD+12, 1<<31)
	r.Write32(regFSTS, 1)
	d.Read(0x5000, make([]byte, 1))
	if len(got) != 2 {
		t.Errorf("%v", got)
	}
	r.Write32(regFRCD+12, 1<<31)
	r.Write32(regFECTL, 1<<31)
	d.Read(0x5000, make([]byte, 1))
	r.Write32(regFRCD+12, 1<<31) // served before it was sent
	r.Write32(regFECTL, 0)
	if len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// TestInterruptRange: a write of 4 bytes is an interrupt whatever the table says,
// and nothing else gets through.
func TestInterruptRange(t *testing.T) {
	var address uint64
	var data uint32
	r, top := legacy(t, model.Config{Interrupt: func(a uint64, d uint32) { address, data = a, d }}, 4)
	r.fill(dataBase)
	r.page(top, 0xfee0_1000, dataBase, rw)
	d := r.Device(source)
	if err := d.Write(0xfee0_1004, []byte{0x34, 0x12, 0, 0}); err != nil || address != 0xfee0_1004 || data != 0x1234 {
		t.Errorf("%v, %#x to %#x", err, data, address)
	}
	r.cannotRead(d, 0xfee0_1000, 0)
	r.blocked(d.Write(0xfee0_1000, make([]byte, 8)), 0)
	r.blocked(d.Write(0xfee0_1002, make([]byte, 4)), 0)
	if r.get(dataBase) != dataBase || r.Read32(regFSTS) != 0 {
		t.Errorf("memory %#x, FSTS %#x", r.get(dataBase), r.Read32(regFSTS))
	}
	r.page(top, 0xfed0_0000, dataBase, rw)
	r.reads(d, 0xfed0_0000, dataBase)
}

// TestLeak: a DMA that crosses into a blocked page reads zeros from there on, and
// writes nothing there.
func TestLeak(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	r.page(top, 0x5000, dataBase, rw)
	r.page(top, 0x7000, dataBase+0x1000, rw)
	copy(r.ram[512*4096:], bytes.Repeat([]byte{0xaa}, 3*4096))
	d := r.Device(source)
	got := bytes.Repeat([]byte{1}, 3*4096)
	r.blocked(d.Read(0x5000, got), 6)
	if !bytes.Equal(got, append(bytes.Repeat([]byte{0xaa}, 4096), make([]byte, 2*4096)...)) {
		t.Error("what was read is not the first page and zeros")
	}
	r.blocked(d.Write(0x5ffc, bytes.Repeat([]byte{2}, 16)), 5)
	if want := append(bytes.Repeat([]byte{0xaa}, 4092), 2, 2, 2, 2, 0xaa); !bytes.Equal(r.ram[512*4096:][:4097], want) {
		t.Error("what was written is not the end of the first page")
	}
}

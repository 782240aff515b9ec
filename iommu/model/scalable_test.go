package model_test

import (
	"errors"
	"testing"

	"gommu/iommu/model"
)

// Fields of scalable-mode entries, and kinds of PASID entries.
const (
	pgttFirst, pgttSecond, pgttPass = 1, 2, 4

	snoop = 1 << 23 // PWSNP, in the second word of a PASID entry

	fP, fRW, fUS, fA, fD = 1, 2, 4, 1 << 5, 1 << 6
	fAll                 = fP | fRW | fUS
)

// scalable is a rig in scalable mode, whose device has PASID directory and table,
// and RID_PASID 0. PASID entries are made with bind.
func scalable(t testing.TB, c model.Config) *rig {
	c.Scalable = true
	r := newRig(t, c)
	r.admit(source, 1<<3)
	r.start(1)
	return r
}

// admit makes the context entry of a device, with a directory of 128 entries and
// one PASID table.
func (r *rig) admit(source uint16, flags uint64) {
	e := r.scalableContext(source)
	dir := r.frame()
	r.put(dir, r.frame()|1)
	r.put(e, dir|flags|1)
}

// scalableContext is where the context entry is.
func (r *rig) scalableContext(source uint16) uint64 {
	half := r.root + uint64(source>>7)*8
	if r.get(half) == 0 {
		r.put(half, r.frame()|1)
	}
	return r.get(half)&^0xfff + uint64(source&0x7f)*32
}

// pasid is where a PASID entry below 64 is.
func (r *rig) pasid(source uint16, pasid uint64) uint64 {
	dir := r.get(r.scalableContext(source)) &^ 0xfff
	return r.get(dir)&^0xfff + pasid*64
}

// bind writes a PASID entry for a table of four levels.
func (r *rig) bind(source uint16, pasid, kind, domain, top, more uint64) {
	e := r.pasid(source, pasid)
	if kind == pgttFirst {
		r.put(e+16, top)
		top = 0
	}
	r.put(e+8, domain|more)
	r.put(e, top|kind<<6|2<<2|1)
}

// firstPage maps a page of 4 KiB in a 4-level first stage.
func (r *rig) firstPage(top, iova, bus, bits uint64) {
	r.put(r.entry(top, 4, iova, 1, fAll), bus|bits)
}

func (r *rig) readsPASID(d *model.Device, pasid uint32, iova, bus uint64) {
	r.t.Helper()
	var b [8]byte
	if err := d.ReadPASID(pasid, iova, b[:]); err != nil {
		r.t.Errorf("read of %#x with PASID %d: %v, want %#x", iova, pasid, err, bus)
	} else if got := words(b[:])[0]; got != bus {
		r.t.Errorf("read of %#x with PASID %d found %#x, want %#x", iova, pasid, got, bus)
	}
}

// TestScalable translates through each kind of PASID entry, with and without
// PASID, for devices in both halves of a root entry.
func TestScalable(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true})
	second, first := r.frame(), r.frame()
	r.fill(dataBase)
	r.fill(dataBase + 0x1000)
	r.page(second, 0x5000, dataBase, rw)
	const high = 0xffff_8000_0000_5000 // sign-extended
	r.firstPage(first, high, dataBase+0x1000, fAll)
	for _, s := range []uint16{source, source | 0x80} {
		if s != source {
			r.admit(s, 1<<3)
		}
		r.bind(s, 0, pgttSecond, 1, second, snoop)
		r.bind(s, 1, pgttFirst, 2, first, snoop)
		r.bind(s, 2, pgttPass, 3, 0, snoop)
		d := r.Device(s)
		r.reads(d, 0x5000, dataBase)
		r.bind(s, 3, pgttSecond, 1, second, snoop)
		r.readsPASID(d, 3, 0x5000, dataBase)
		r.readsPASID(d, 1, high, dataBase+0x1000)
		r.readsPASID(d, 2, dataBase, dataBase)
		if err := d.WritePASID(1, high+8, []byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil || r.get(dataBase+0x1008) != 0x0807060504030201 {
			t.Errorf("%v, %#x", err, r.get(dataBase+0x1008))
		}
		r.put(dataBase+0x1008, dataBase+0x1008)
	}
	r.lawful()
}

// TestFirstPageSizes: superpages, five levels, and the bit that is PAT there.
func TestFirstPageSizes(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true, FirstStage57: true})
	r.fill(dataBase)
	d := r.Device(source)
	for level := 1; level <= 3; level++ {
		top := r.frame()
		mask := uint64(1)<<(12+9*(level-1)) - 1
		bits := uint64(fAll | 1<<7)
		if level > 1 {
			bits |= 1 << 12
		}
		iova := uint64(1)<<55 + 1<<30
		r.put(r.entry(top, 5, iova, level, fAll), dataBase&^mask|bits)
		r.bind(source, 0, pgttFirst, uint64(level), top, snoop)
		r.put(r.pasid(source, 0)+16, top|1<<2)
		r.invalidate(pasidInv(3, 0, 0))
		r.reads(d, iova|dataBase&mask, dataBase)
		if got := r.get(r.entry(top, 5, iova, level, 0)) & (fA | fD); got != fA {
			t.Errorf("level %d: bits %#x", level, got)
		}
		for l := level + 1; l <= 5; l++ {
			if r.get(r.entry(top, 5, iova, l, 0))&fA == 0 {
				t.Errorf("level %d, a table of level %d is not accessed", level, l)
			}
		}
	}
	r.lawful()
}

// TestMissingStages: what belongs to a stage that the unit has not is reserved, and
// the stage itself is invalid. First stages keep 2 MiB pages without CAP.SSLPS.
func TestMissingStages(t *testing.T) {
	for _, c := range []struct {
		c      model.Config
		kind   uint64
		word   uint64
		v      uint64
		reason uint8
	}{
		{model.Config{NoFirstStage: true}, pgttFirst, 2, 0, 0x5b},
		{model.Config{NoFirstStage: true}, pgttPass, 2, 1 << 4, 0x5a},
		{model.Config{NoFirstStage: true}, pgttPass, 2, 1 << 12, 0x5a},
		{model.Config{NoSecondStage: true}, pgttSecond, 0, 0, 0x5b},
		{model.Config{NoSecondStage: true}, pgttPass, 0, 1 << 2, 0x5a},
		{model.Config{NoPassThrough: true}, pgttPass, 0, 0, 0x5b},
		{model.Config{No2M: true}, pgttFirst, 0, 0, 0},
		{model.Config{}, pgttPass, 0, 1 << 2, 0},
		{model.Config{}, pgttPass, 2, 1 << 12, 0},
	} {
		c.c.Coherent = true
		r := scalable(t, c.c)
		r.fill(dataBase)
		first := r.frame()
		r.put(r.entry(first, 4, dataBase, 2, fAll), dataBase&^(1<<21-1)|1<<7|fAll)
		e := r.pasid(source, 1)
		r.put(e, c.kind<<6|1)
		r.put(e+8, 1|snoop)
		if c.kind == pgttFirst && c.reason == 0 {
			r.put(e+16, first)
		}
		r.put(e+8*c.word, r.get(e+8*c.word)|c.v)
		if c.reason == 0 {
			r.readsPASID(r.Device(source), 1, dataBase, dataBase)
		} else {
			r.blocked(r.Device(source).ReadPASID(1, dataBase, make([]byte, 1)), c.reason)
		}
		r.lawful()
	}
}

// TestDirty: a read leaves D clear, a later write through the cached entry sets
// it; a request that faults sets nothing in the leaf.
func TestDirty(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true, AccessedDirty: true})
	first, second := r.frame(), r.frame()
	r.firstPage(first, 0x5000, dataBase, fAll)
	r.firstPage(first, 0x6000, dataBase, fP|fUS)
	r.page(second, 0x5000, dataBase, rw)
	r.bind(source, 1, pgttFirst, 1, first, snoop)
	r.bind(source, 2, pgttSecond, 2, second, snoop)
	e := r.pasid(source, 2)
	r.put(e, r.get(e)|1<<9)
	d := r.Device(source)
	bits := func(top, iova, want uint64) {
		t.Helper()
		if got := r.get(r.entry(top, 4, iova, 1, 0)) & 0xf60; got != want {
			t.Errorf("entry of %#x has bits %#x, want %#x", iova, got, want)
		}
	}
	b := make([]byte, 8)
	for pasid, c := range map[uint32]struct{ top, a, d uint64 }{1: {first, fA, fD}, 2: {second, 1 << 8, 1 << 9}} {
		if err := d.ReadPASID(pasid, 0x5000, b); err != nil {
			t.Error(err)
		}
		bits(c.top, 0x5000, c.a)
		if err := d.WritePASID(pasid, 0x5000, b); err != nil {
			t.Error(err)
		}
		bits(c.top, 0x5000, c.a|c.d)
	}
	r.blocked(d.WritePASID(1, 0x6000, b), 0x85)
	bits(first, 0x6000, 0)
	// The walk for the dirty bit finds the entry as it is now.
	if err := d.ReadPASID(1, 0x6000, b); err != nil {
		t.Error(err)
	}
	r.lawful()
}

// TestScalableReasons raises each fault reason of scalable mode that requests can
// raise, and checks which of them FPD keeps out of the records.
func TestScalableReasons(t *testing.T) {
	const beyondRAM = 1 << 40
	type spoil func(r *rig, first, second uint64)
	change := func(at func(r *rig) uint64, clear, set uint64) spoil {
		return func(r *rig, _, _ uint64) { r.put(at(r), r.get(at(r))&^clear|set) }
	}
	root := func(r *rig) uint64 { return r.root + 16 }
	context := func(r *rig) uint64 { return r.scalableContext(source) }
	dir := func(r *rig) uint64 { return r.get(context(r)) &^ 0xfff }
	entry := func(pasid, word uint64) func(r *rig) uint64 {
		return func(r *rig) uint64 { return r.pasid(source, pasid) + 8*word }
	}
	const addr = ^uint64(0xfff)
	for _, c := range []struct {
		name      string
		reason    uint8
		pasid     int // -1 is a request without
		iova      uint64
		write     bool
		qualified bool
		spoil     spoil
	}{
		{"root table outside memory", 0x38, 1, 0, false, false, func(r *rig, _, _ uint64) { r.root = beyondRAM; r.setRoot(1) }},
		{"root absent", 0x39, 1, 0, false, false, change(root, 1, 0)},
		{"root reserved", 0x3a, 1, 0, false, false, change(root, 0, 2)},
		{"context outside memory", 0x40, 1, 0, false, false, change(root, addr, beyondRAM)},
		{"context absent", 0x41, 1, 0, false, true, change(context, 1, 0)},
		{"context reserved", 0x42, 1, 0, false, true, change(context, 0, 1<<5)},
		{"context device TLB", 0x42, 1, 0, false, true, change(context, 0, 1<<2)},
		{"context third word", 0x42, 1, 0, false, true, change(func(r *rig) uint64 { return context(r) + 16 }, 0, 1)},
		{"no PASIDs", 0x45, 1, 0, false, true, change(context, 1<<3, 0)},
		{"PASID beyond directory", 0x46, 1 << 13, 0, false, true, nil},
		{"PASID beyond unit", 0x89, 1 << 19, 0, false, true, nil},
		{"RID_PASID used", 0x48, 0, 0, false, true, nil},
		{"RID_PASID beyond directory", 0x43, -1, 0, false, true, change(func(r *rig) uint64 { return context(r) + 8 }, 0, 1<<13)},
		{"directory outside memory", 0x50, 1, 0, false, false, change(context, addr, beyondRAM)},
		{"directory absent", 0x51, 64, 0, false, true, nil},
		{"directory reserved", 0x52, 1, 0, false, true, change(dir, 0, 4)},
		{"PASID table outside memory", 0x58, 1, 0, false, false, change(dir, addr, beyondRAM)},
		{"PASID absent", 0x59, 5, 0, false, true, nil},
		{"PASID reserved", 0x5a, 1, 0, false, true, change(entry(1, 0), 0, 1<<10)},
		{"PASID memory type", 0x5a, 1, 0, false, true, change(entry(1, 1), 0, 1<<32)},
		{"PASID supervisor", 0x5a, 1, 0, false, true, change(entry(1, 2), 0, 1)},
		{"PASID fourth word", 0x5a, 1, 0, false, true, change(entry(1, 3), 0, 1)},
		{"PGTT 0", 0x5b, 1, 0, false, true, change(entry(1, 0), 7<<6, 0)},
		{"PGTT nested", 0x5b, 1, 0, false, true, change(entry(1, 0), 0, 3<<6)},
		{"second stage width", 0x5b, 2, 0, false, true, change(entry(2, 0), 7<<2, 3<<2)},
		{"five levels", 0x5b, 1, 0, false, true, change(entry(1, 2), 0, 1<<2)},
		{"first table outside memory", 0x70, 1, 0x5000, false, true, func(r *rig, first, _ uint64) { r.put(first, beyondRAM|fAll) }},
		{"first absent", 0x71, 1, 0x6000, false, true, nil},
		{"first 512G", 0x72, 1, 0x5000, false, true, func(r *rig, first, _ uint64) { r.put(first, r.get(first)|1<<7) }},
		{"first address", 0x72, 1, 0x5000, false, true, func(r *rig, first, _ uint64) { r.firstPage(first, 0x5000, 1<<46, fAll) }},
		{"first top outside memory", 0x73, 1, 0x5000, false, true, change(entry(1, 2), addr, beyondRAM)},
		{"second table outside memory", 0x78, 2, 0x5000, false, true, func(r *rig, _, second uint64) { r.put(second, beyondRAM|rw) }},
		{"second absent", 0x79, 2, 0x6000, false, true, nil},
		{"second reserved", 0x7a, 2, 0x5000, false, true, func(r *rig, _, second uint64) { r.page(second, 0x5000, dataBase, rw|1<<11) }},
		{"second top outside memory", 0x7b, 2, 0x5000, false, true, change(entry(2, 0), addr, beyondRAM|pgttSecond<<6|2<<2|1)},
		{"second accessed without snoop", 0x7c, 2, 0x5000, false, true, func(r *rig, _, _ uint64) {
			change(entry(2, 0), 0, 1<<9)(r, 0, 0)
			change(entry(2, 1), snoop, 0)(r, 0, 0)
		}},
		{"not canonical", 0x80, 1, 1 << 47, false, true, nil},
		{"not user", 0x81, 1, 0x5000, false, true, func(r *rig, first, _ uint64) { r.firstPage(first, 0x5000, dataBase, fP|fRW) }},
		{"not user above", 0x81, 1, 0x5000, false, true, func(r *rig, first, _ uint64) { r.put(first, r.get(first)&^fUS) }},
		{"beyond unit", 0x84, 2, 1 << 48, false, true, nil},
		{"beyond bus", 0x83, 3, 1 << 46, false, true, nil},
		{"beyond second stage", 0x84, 2, 1 << 39, false, true, change(entry(2, 0), 7<<2, 1<<2)},
		{"first no write", 0x85, 1, 0x5000, true, true, func(r *rig, first, _ uint64) { r.firstPage(first, 0x5000, dataBase, fP|fUS) }},
		{"second no write", 0x85, 2, 0x5000, true, true, func(r *rig, _, second uint64) { r.page(second, 0x5000, dataBase, 1) }},
		{"second no read", 0x86, 2, 0x5000, false, true, func(r *rig, _, second uint64) { r.page(second, 0x5000, dataBase, 2) }},
		{"interrupt range", 0x87, 1, 0x5000, true, true, func(r *rig, first, _ uint64) { r.firstPage(first, 0x5000, 0xfee0_0000, fAll) }},
		{"first accessed without snoop", 0x90, 1, 0x5000, false, true, change(entry(1, 1), snoop, 0)},
	} {
		// FPD nowhere, in the context entry, the directory entry, the PASID entry: it
		// counts where the walk got as far.
		for fpd := range 4 {
			r := scalable(t, model.Config{Coherent: true, AccessedDirty: true, PASIDBits: 19})
			first, second := r.frame(), r.frame()
			r.firstPage(first, 0x5000, dataBase, fAll)
			r.page(second, 0x5000, dataBase, rw)
			r.bind(source, 0, pgttSecond, 1, second, snoop)
			r.bind(source, 1, pgttFirst, 2, first, snoop)
			r.bind(source, 2, pgttSecond, 1, second, snoop)
			r.bind(source, 3, pgttPass, 3, 0, snoop)
			quiet := false
			switch {
			case fpd == 1:
				r.put(context(r), r.get(context(r))|2)
				quiet = c.qualified
			case fpd == 2 && c.reason >= 0x52 && c.reason != 0x89:
				r.put(dir(r), r.get(dir(r))|2)
				quiet = c.qualified
			case fpd == 3 && c.reason > 0x59 && c.reason != 0x89:
				r.put(r.pasid(source, uint64(c.pasid)), r.get(r.pasid(source, uint64(c.pasid)))|2)
				quiet = c.qualified
			}
			if c.spoil != nil {
				c.spoil(r, first, second)
			}
			d, b := r.Device(source), make([]byte, 1)
			var err error
			switch {
			case c.pasid < 0:
				err = d.Read(c.iova, b)
			case c.write:
				err = d.WritePASID(uint32(c.pasid), c.iova, b)
			default:
				err = d.ReadPASID(uint32(c.pasid), c.iova, b)
			}
			if quiet {
				var e *model.DMAError
				if !errors.As(err, &e) || e.Reason != c.reason || r.Read32(regFSTS) != 0 {
					t.Errorf("%v, want reason %#x; FSTS %#x", err, c.reason, r.Read32(regFSTS))
				}
			} else {
				r.blocked(err, c.reason)
			}
			r.lawful()
			if t.Failed() {
				t.Fatalf("%s, FPD %d", c.name, fpd)
			}
		}
	}
	r, _ := legacy(t, model.Config{}, 4)
	r.blocked(r.Device(source).ReadPASID(1, 0, make([]byte, 1)), 0x31)
}

// TestPageWalkSnoop: PWSNP decides about page tables, ECAP.C about the rest.
func TestPageWalkSnoop(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true})
	second := r.frame()
	r.fill(dataBase)
	r.page(second, 0x5000, dataBase, rw)
	r.lazy = true
	r.page(second, 0x6000, dataBase, 0)
	r.page(second, 0x8000, dataBase, rw) // the line after
	r.bind(source, 1, pgttSecond, 1, second, 0)
	r.bind(source, 2, pgttSecond, 2, second, snoop)
	d := r.Device(source)
	r.readsPASID(d, 1, 0x5000, dataBase)
	r.blocked(d.ReadPASID(1, 0x8000, make([]byte, 1)), 0x79)
	r.readsPASID(d, 2, 0x8000, dataBase)
	r.lawful()
}

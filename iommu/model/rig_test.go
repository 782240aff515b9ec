package model_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"gommu/iommu/model"
)

// Registers and bits that the tests use.
const (
	regGCMD, regGSTS, regRTADDR, regCCMD, regFSTS = 0x18, 0x1c, 0x20, 0x28, 0x34
	regFECTL, regFEDATA, regFEADDR, regPMEN       = 0x38, 0x3c, 0x40, 0x64
	regIQH, regIQT, regIQA, regICS                = 0x80, 0x88, 0x90, 0x9c
	regIECTL, regIEDATA, regIEADDR                = 0xa0, 0xa4, 0xa8
	regIQERCD, regIVA, regIOTLB, regFRCD          = 0xb0, 0xf0, 0xf8, 0x200

	te, srtp, wbf, qie = 1 << 31, 1 << 30, 1 << 27, 1 << 26

	rw = 3 // R and W of second-stage entries
)

// A rig is a unit with tables that the test writes by hand. Bus addresses start at
// ramBase. Frames are handed out from the start, pages for data are taken from
// dataBase on.
type rig struct {
	*model.Unit
	t     testing.TB
	ram   []byte
	words []uint64
	lazy  bool // stores are not flushed
	next  uint64
	root  uint64 // root table

	queue, status uint64
	wide          bool // 256-bit descriptors
	tail          uint64
	number        uint64
}

const (
	ramBase  = 0x10_0000
	ramPages = 1024
	dataBase = ramBase + 512*4096
	source   = 0x0118
	domain   = 7
)

func newRig(t testing.TB, c model.Config) *rig {
	t.Helper()
	r := &rig{t: t, ram: frames(ramPages), next: ramBase}
	r.words = words(r.ram)
	c.RAM, c.RAMBase = r.ram, ramBase
	u, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Unit = u
	r.root = r.frame()
	if !c.NoQueue {
		r.queue, r.status = r.frame(), r.frame()
		r.wide = c.Scalable
	}
	return r
}

// legacy is a rig whose device has an empty table of so many levels, and
// translation on.
func legacy(t testing.TB, c model.Config, levels int) (r *rig, top uint64) {
	r = newRig(t, c)
	top = r.frame()
	r.attach(source, domain, top, levels)
	r.start(0)
	return r, top
}

// frame takes a page, which is zero and was never used, and flushes it.
func (r *rig) frame() uint64 {
	f := r.next
	r.next += 4096
	if !r.lazy {
		r.Flushed(r.words[(f-ramBase)/8:][:512])
	}
	return f
}

func (r *rig) at(addr uint64) *uint64 { return &r.words[(addr-ramBase)/8] }

func (r *rig) get(addr uint64) uint64 { return atomic.LoadUint64(r.at(addr)) }

// put stores a word, and flushes it.
func (r *rig) put(addr, v uint64) {
	atomic.StoreUint64(r.at(addr), v)
	if !r.lazy && r.Unit != nil {
		i := (addr - ramBase) / 8
		r.Flushed(r.words[i:][:1])
	}
}

// attach writes root and context entry.
func (r *rig) attach(source uint16, domain, top uint64, levels int) {
	r.put(r.contextEntry(source)+8, domain<<8|uint64(levels-2))
	r.put(r.contextEntry(source), top|1)
}

// contextEntry is where it is; its table is made if it is missing.
func (r *rig) contextEntry(source uint16) uint64 {
	root := r.root + uint64(source>>8)*16
	if r.get(root) == 0 {
		r.put(root, r.frame()|1)
	}
	return r.get(root)&^0xfff + uint64(source&0xff)*16
}

// entry is where the second-stage entry of a level is; tables on the way are
// made with bits.
func (r *rig) entry(top uint64, levels int, iova uint64, level int, bits uint64) uint64 {
	for l := levels; ; l-- {
		at := top + iova>>(12+9*(l-1))&511*8
		if l == level {
			return at
		}
		if r.get(at) == 0 {
			r.put(at, r.frame()|bits)
		}
		top = r.get(at) & 0xf_ffff_ffff_f000
	}
}

// page maps one page of 4 KiB in a 4-level second stage.
func (r *rig) page(top, iova, bus, bits uint64) {
	r.put(r.entry(top, 4, iova, 1, rw), bus|bits)
}

// start gives the unit its root table and its queue and switches it on. mode goes
// to bits 11:10 of RTADDR.
func (r *rig) start(mode uint64) {
	r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|wbf)
	if r.queue != 0 {
		wide := uint64(0)
		if r.wide {
			wide = 1 << 11
		}
		r.Write64(regIQT, 0)
		r.Write64(regIQA, r.queue|wide)
		r.Write32(regGCMD, qie)
	}
	r.setRoot(mode)
	r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|te)
}

func (r *rig) setRoot(mode uint64) {
	r.Write64(regRTADDR, r.root|mode<<10)
	r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|srtp)
}

// Descriptors.
type desc [2]uint64

func contextInv(g, domain, source, mask uint64) desc {
	return desc{1 | g<<4 | domain<<16 | source<<32 | mask<<48}
}

func iotlbInv(g, domain, addr, mask, hint uint64) desc {
	return desc{2 | g<<4 | 3<<6 | domain<<16, addr | hint<<6 | mask}
}

func pasidInv(g, domain, pasid uint64) desc {
	return desc{7 | g<<4 | domain<<16 | pasid<<32}
}

func pasidIOTLBInv(g, domain, pasid, addr, mask, hint uint64) desc {
	return desc{6 | g<<4 | domain<<16 | pasid<<32, addr | hint<<6 | mask}
}

const global, byDomain, selective = 1, 2, 3

// push puts descriptors into the queue and moves its tail.
func (r *rig) push(ds ...desc) {
	size := uint64(16)
	if r.wide {
		size = 32
	}
	for _, d := range ds {
		slot := r.queue + r.tail
		for i := range size / 8 {
			v := uint64(0)
			if i < 2 {
				v = d[i]
			}
			atomic.StoreUint64(r.at(slot+8*i), v)
		}
		r.tail = (r.tail + size) % 4096
	}
	r.Write64(regIQT, r.tail)
}

// wait is a wait descriptor with a new status.
func (r *rig) wait() desc {
	r.number++
	return desc{5 | 1<<5 | r.number<<32, r.status}
}

// done says whether the last wait was answered.
func (r *rig) done() bool { return r.get(r.status) == r.number }

// invalidate runs descriptors and waits.
func (r *rig) invalidate(ds ...desc) {
	r.t.Helper()
	r.push(append(ds, r.wait())...)
	if !r.done() {
		r.t.Fatalf("the queue did not finish: FSTS %#x, head %#x", r.Read32(regFSTS), r.Read64(regIQH))
	}
}

// fill writes a pattern to a data page that says which page it is.
func (r *rig) fill(bus uint64) {
	for i := range uint64(512) {
		atomic.StoreUint64(r.at(bus+8*i), bus+8*i)
	}
}

// reads checks that the device finds the data page at an IOVA.
func (r *rig) reads(d *model.Device, iova, bus uint64) {
	r.t.Helper()
	var b [8]byte
	if err := d.Read(iova, b[:]); err != nil {
		r.t.Errorf("read of %#x: %v, want %#x", iova, err, bus)
	} else if got := words(b[:])[0]; got != bus {
		r.t.Errorf("read of %#x found %#x, want %#x", iova, got, bus)
	}
}

// blocked checks that a DMA was, for a reason, and that the fault was recorded
// (reason 0: none is). It clears the record.
func (r *rig) blocked(err error, reason uint8) {
	r.t.Helper()
	var e *model.DMAError
	switch {
	case !errors.As(err, &e) || !errors.Is(err, model.ErrBlocked):
		r.t.Errorf("error %v, want reason %#x", err, reason)
		return
	case e.Reason != reason:
		r.t.Errorf("blocked with reason %#x, want %#x", e.Reason, reason)
		return
	case reason == 0:
		return
	}
	lo, hi := r.Read64(regFRCD), r.Read64(regFRCD+8)
	want := uint64(1)<<63 | uint64(reason)<<32 | uint64(e.Source)
	if !e.Write {
		want |= 1 << 62
	}
	if e.HasPASID {
		want |= 1<<31 | uint64(e.PASID)<<40
	}
	if lo != e.IOVA&^0xfff || hi != want || r.Read32(regFSTS)&3 != 2 {
		r.t.Errorf("recorded %#x %#x, want %#x %#x; FSTS %#x", lo, hi, e.IOVA&^0xfff, want, r.Read32(regFSTS))
	}
	r.Write32(regFRCD+12, 1<<31)
	if r.Read32(regFSTS)&3 != 0 {
		r.t.Errorf("FSTS %#x after clearing the record", r.Read32(regFSTS))
	}
}

// cannotRead reads 8 bytes and checks as blocked does, and that zeros came.
func (r *rig) cannotRead(d *model.Device, iova uint64, reason uint8) {
	r.t.Helper()
	b := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	err := d.Read(iova, b)
	r.blocked(err, reason)
	if words(b)[0] != 0 {
		r.t.Errorf("a blocked read found %#x", words(b)[0])
	}
}

func (r *rig) lawful() {
	r.t.Helper()
	for _, v := range r.Violations() {
		r.t.Errorf("violation: %s", v)
	}
}

//go:build linux

package qtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
	"gommu/respool"
	"gommu/vfio/edu"
)

// Where things are in the machine's RAM.
const (
	tableBase = 16 << 20 // frames for tables
	tableSize = 4 << 20
	dataBase  = 32 << 20 // what devices may reach
	page      = 4096
)

// A mode is one combination that every case runs in.
type mode struct {
	qemu   provision.QEMU
	width  int
	inv    vtd.InvalidationMode
	iommu  string // extra properties
	vtd    vtd.Mode
	second bool // a second edu, at device 4
	hook   func(int, string) error
}

var invalidations = map[vtd.InvalidationMode]string{vtd.InvalidateByQueue: "queue", vtd.InvalidateByRegisters: "registers"}

func (m mode) String() string {
	return fmt.Sprintf("%s/%d/%s", m.qemu.Version, m.width, invalidations[m.inv])
}

// everyMode runs a case in all of them.
func everyMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, qemu := range qemus(t) {
		for _, width := range []int{39, 48} {
			for _, inv := range []vtd.InvalidationMode{vtd.InvalidateByQueue, vtd.InvalidateByRegisters} {
				m := mode{qemu: qemu, width: width, inv: inv}
				t.Run(m.String(), func(t *testing.T) { f(t, m) })
			}
		}
	}
}

// A rig is a machine with its unit driven and its devices open.
type rig struct {
	t       testing.TB
	m       *qtest.Machine
	mem     *pagetable.Memory
	source  *pagetable.FrameSource
	frames  *respool.Pool[pagetable.Frame]
	unit    *vtd.Unit
	devices []*edu.Device
	closers []func() error
}

const firstEdu, secondEdu = uint16(3 << 3), uint16(4 << 3) // requester ids

// newRig starts a machine; the unit is open and not yet enabled.
func newRig(t testing.TB, md mode) *rig {
	t.Helper()
	r := &rig{t: t}
	if err := r.setUp(t.Context(), md, nil); err != nil {
		r.close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// setUp makes the rig. What it made until an error is for close. started is
// told of the machine.
func (r *rig) setUp(ctx context.Context, md mode, started func(*qtest.Machine)) (err error) {
	cfg := qtest.Config{QEMU: md.qemu.Path, AddressWidth: md.width, IOMMU: md.iommu, Devices: []string{eduDevice}, BeforeRequest: md.hook}
	if md.second {
		cfg.Devices = append(cfg.Devices, "edu,addr=0x4,dma_mask=0xffffffffffffffff")
	}
	if r.m, err = qtest.Start(ctx, cfg); err != nil {
		return err
	}
	r.closers = append(r.closers, r.m.Close)
	if started != nil {
		started(r.m)
	}
	ram := r.m.RAM()
	if r.mem, err = pagetable.NewMemory(pagetable.Segment{Bus: tableBase, Mem: ram[tableBase:][:tableSize]}); err != nil {
		return err
	}
	r.source = r.mem.Frames()
	if r.frames, err = respool.New(ctx, r.source, respool.Options{Name: "frames", Low: 64}); err != nil {
		return err
	}
	r.closers = append(r.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return r.frames.Close(ctx)
	})
	if r.unit, err = vtd.Open(r.m.IOMMU(), r.mem, r.frames, vtd.Options{Invalidation: md.inv, Mode: md.vtd}); err != nil {
		return err
	}
	r.closers = append(r.closers, r.unit.Close)
	for _, d := range []uint8{3, 4}[:len(cfg.Devices)] {
		if err := r.openEdu(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) openEdu(device uint8) error {
	f, err := r.m.PCI(pci.Address{Device: device})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, f.Close)
	d, err := edu.Open(f, edu.Options{DMAMask: ^uint64(0)})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, d.Close)
	r.devices = append(r.devices, d)
	return nil
}

// close undoes setUp and reports frames that did not come back.
func (r *rig) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	if r.source != nil {
		if n := r.source.Outstanding(); n != 0 {
			errs = append(errs, fmt.Errorf("%d frames did not come back", n))
		}
	}
	return errors.Join(errs...)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// enable switches translation on.
func (r *rig) enable() { r.t.Helper(); r.must(r.unit.Enable(r.t.Context())) }

// table makes an empty table as the unit wants it.
func (r *rig) table() *pagetable.Table {
	r.t.Helper()
	tbl, err := pagetable.New(r.mem, r.frames, r.unit.Capabilities().TableOptions())
	r.must(err)
	r.afterUnit(tbl.Close)
	return tbl
}

// afterUnit has f called when the unit is off and the pool still open.
func (r *rig) afterUnit(f func() error) { r.closers = slices.Insert(r.closers, poolOpen, f) }

// poolOpen is how many closers there are when the pool is made.
const poolOpen = 2

// attached is a table that the device has, with translation on.
func (r *rig) attached(source, domain uint16) *pagetable.Table {
	r.t.Helper()
	tbl := r.table()
	r.must(r.unit.Attach(source, domain, tbl))
	r.enable()
	return tbl
}

const both = pagetable.Read | pagetable.Write

func (r *rig) mapRange(tbl *pagetable.Table, iova, bus, size uint64, prot pagetable.Prot) {
	r.t.Helper()
	r.must(tbl.Map(iova, bus, size, prot))
}

// unmap takes a range out of the table without telling the unit.
func (r *rig) unmap(tbl *pagetable.Table, iova, size uint64) *pagetable.Batch {
	r.t.Helper()
	var b pagetable.Batch
	n, err := tbl.Unmap(iova, size, &b)
	r.must(err)
	if n != size {
		r.t.Fatalf("unmapped %#x of %#x bytes", n, size)
	}
	return &b
}

// frame is the physical address of data page i.
func frame(i int) uint64 { return dataBase + uint64(i)*page }

// bytesAt is n bytes of RAM.
func (r *rig) bytesAt(phys uint64, n int) []byte { return r.m.RAM()[phys:][:n] }

// random fills n bytes of RAM and returns a copy of them.
func (r *rig) random(phys uint64, n int) []byte {
	rand.Read(r.bytesAt(phys, n))
	return bytes.Clone(r.bytesAt(phys, n))
}

// read lets device i read n bytes at iova into its buffer.
func (r *rig) read(i int, iova uint64, n int) {
	r.t.Helper()
	r.must(r.devices[i].ReadMemory(r.t.Context(), iova, 0, n))
}

// write lets device i write n bytes of its buffer to iova.
func (r *rig) write(i int, iova uint64, n int) {
	r.t.Helper()
	r.must(r.devices[i].WriteMemory(r.t.Context(), iova, 0, n))
}

// copyThrough checks that device i moves n random bytes from one IOVA to
// another, which lead to the given places.
func (r *rig) copyThrough(i int, from, fromPhys, to, toPhys uint64, n int) {
	r.t.Helper()
	want := r.random(fromPhys, n)
	rand.Read(r.bytesAt(toPhys, n))
	r.read(i, from, n)
	r.write(i, to, n)
	if !bytes.Equal(r.bytesAt(toPhys, n), want) {
		r.t.Errorf("%d bytes from iova %#x to %#x did not arrive", n, from, to)
	}
	r.noFaults()
}

// reaches says whether a write of device i to iova changes phys. Fault records that
// this makes are left.
func (r *rig) reaches(i int, iova, phys uint64) bool {
	r.t.Helper()
	before := r.random(phys, 64)
	r.write(i, iova, 64)
	return !bytes.Equal(r.bytesAt(phys, 64), before)
}

func (r *rig) noFaults() {
	r.t.Helper()
	r.faults(false)
}

// faults checks what the unit has recorded.
func (r *rig) faults(overflow bool, want ...vtd.Fault) {
	r.t.Helper()
	got, lost, err := r.unit.Faults()
	r.must(err)
	if lost != overflow {
		r.t.Errorf("overflow %v, want %v", lost, overflow)
	}
	if len(got) != len(want) {
		r.t.Fatalf("faults %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			r.t.Errorf("fault %v, want %v", got[i], want[i])
		}
	}
}

// writeFault is the fault of a blocked write, readFault that of a read.
func writeFault(reason vtd.Reason, source uint16, iova uint64) vtd.Fault {
	return vtd.Fault{Reason: reason, Source: source, IOVA: iova, Write: true}
}

func readFault(reason vtd.Reason, source uint16, iova uint64) vtd.Fault {
	return vtd.Fault{Reason: reason, Source: source, IOVA: iova}
}

// msi is a device's MSI aimed at a mapped word of RAM, which then is the
// interrupt.
type msi struct{ word *uint32 }

const msiData = 0x5aa5

func (i msi) Wait(ctx context.Context) error {
	for !atomic.CompareAndSwapUint32(i.word, msiData, 0) {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// enableMSI points the function's MSI at an IOVA.
func (r *rig) enableMSI(cfg pci.Config, iova uint64) {
	r.t.Helper()
	c, err := pci.FindCapability(cfg, pci.CapMSI, false)
	r.must(err)
	r.must(cfg.Write(c.Offset+4, 4, uint32(iova)))
	r.must(cfg.Write(c.Offset+8, 4, uint32(iova>>32)))
	r.must(cfg.Write(c.Offset+12, 2, msiData))
	control, err := cfg.Read(c.Offset+2, 2)
	r.must(err)
	r.must(cfg.Write(c.Offset+2, 2, control|1))
}

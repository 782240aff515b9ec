//go:build linux

package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/iommu/devmem"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/vm/guest"
	"gommu/respool"
	"gommu/respool/source"
	"gommu/vfio/edu"
)

// What the tests of a unit that belongs to this process want.
const unitGuest = `kernel command line "` + conformance.DevmemCmdline + `", device "edu,addr=0x3,dma_mask=0xffffffffffffffff"`

const (
	unitAddress = 0xfed90000 // of QEMU's only unit
	unitIOVA    = 0x7f_1234_5000
	unitDomain  = 7
	unitPage    = 4096
	unitBoth    = pagetable.Read | pagetable.Write
)

// needUnit skips a test in a guest whose kernel has the unit.
func needUnit(t *testing.T) {
	t.Helper()
	guest.SkipUnlessInside(t)
	if taken, _ := filepath.Glob("/sys/class/iommu/dmar*"); len(taken) > 0 {
		t.Skip("the kernel drives the unit: boot this guest with " + unitGuest)
	}
}

// An ownUnit is the unit, driven by this process, with a device behind it.
type ownUnit struct {
	t      *testing.T
	data   *devmem.Memory
	tables *pagetable.Memory
	source *pagetable.FrameSource
	frames *respool.Pool[pagetable.Frame]
	unit   *vtd.Unit
	edu    *edu.Device
	id     uint16
}

// openUnit opens all of it. What it took is given back when the test ends, and files and mappings
// are as before then.
func openUnit(t *testing.T, opts vtd.Options) *ownUnit {
	t.Helper()
	before := held.Now(t)
	t.Cleanup(func() { held.Check(t, before) })
	u := &ownUnit{t: t}
	regs, err := devmem.Open(unitAddress, devmem.Options{})
	u.must(err)
	u.later(regs.Close)
	frames := u.memory(1 << 20)
	u.data = u.memory(4 << 20)
	u.tables, err = pagetable.NewMemory(frames.Segments()...)
	u.must(err)
	u.source = u.tables.Frames()
	t.Cleanup(func() {
		if n := u.source.Outstanding(); n != 0 {
			t.Errorf("%d frames did not come back", n)
		}
	})
	u.frames, err = respool.New(t.Context(), u.source, respool.Options{Name: "frames", Low: 64})
	u.must(err)
	u.later(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return u.frames.Close(ctx)
	})
	u.unit, err = vtd.Open(regs, u.tables, u.frames, opts)
	u.must(err)
	u.later(u.unit.Close)
	u.openEdu()
	return u
}

func (u *ownUnit) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *ownUnit) later(f func() error) {
	u.t.Cleanup(func() {
		if err := f(); err != nil {
			u.t.Error(err)
		}
	})
}

// memory is hugepages, zeroed by the kernel, that must not have moved at the end.
func (u *ownUnit) memory(size int) *devmem.Memory {
	m, err := devmem.NewMemory(u.t.Context(), size)
	u.must(err)
	u.later(m.Close)
	u.later(m.Check)
	return m
}

func (u *ownUnit) openEdu() {
	all, err := pci.Scan()
	u.must(err)
	i := slices.IndexFunc(all, func(i pci.Info) bool { return i.Vendor == edu.VendorID && i.Device == edu.DeviceID })
	if i < 0 {
		u.t.Fatal("no edu device: boot this guest with " + unitGuest)
	}
	f, err := pci.Open(all[i].Address)
	u.must(err)
	u.later(f.Close)
	u.edu, err = edu.Open(f, edu.Options{DMAMask: ^uint64(0)})
	u.must(err)
	u.later(u.edu.Close)
	u.id = all[i].Address.RequesterID()
}

// table is an empty table of a stage that the device has.
func (u *ownUnit) table(stage pagetable.Stage) *pagetable.Table {
	opts, err := u.unit.TableOptions(stage)
	u.must(err)
	tbl, err := pagetable.New(u.tables, u.frames, opts)
	u.must(err)
	u.later(func() error { // the unit is off: its cleanup came before
		return errors.Join(u.unit.Close(), tbl.Close())
	})
	u.must(u.unit.Attach(u.id, unitDomain, tbl))
	return tbl
}

// reaches says whether a write of the device to an IOVA changes memory.
func (u *ownUnit) reaches(iova uint64, mem []byte) bool {
	u.t.Helper()
	rand.Read(mem[:64])
	was := bytes.Clone(mem[:64])
	u.must(u.edu.WriteMemory(u.t.Context(), iova, 0, 64))
	return !bytes.Equal(was, mem[:64])
}

// faults checks what the unit has recorded.
func (u *ownUnit) faults(want ...vtd.Fault) {
	u.t.Helper()
	got, lost, err := u.unit.Faults()
	u.must(err)
	for i := range got { // older QEMUs write rubbish where there is no PASID
		got[i].HasPASID, got[i].PASID, got[i].Execute, got[i].Privileged = false, 0, false, false
	}
	if lost || !slices.Equal(got, want) {
		u.t.Errorf("faults %v (lost %v), want %v", got, lost, want)
	}
}

// TestUnitTaken: a unit that the kernel drives is refused.
func TestUnitTaken(t *testing.T) {
	needIOMMU(t)
	_, err := devmem.Open(unitAddress, devmem.Options{})
	want(t, "opening the kernel's unit", err, devmem.ErrKernelOwns, "dmar0", "intel_iommu=off")
}

// TestUnitRefusals: what is wrong with an address, and no memory.
func TestUnitRefusals(t *testing.T) {
	needUnit(t)
	before := held.Now(t)
	_, err := devmem.Open(unitAddress+0x1000, devmem.Options{})
	want(t, "an address where nothing is", err, devmem.ErrNoUnit, "DMAR")
	_, err = devmem.Open(unitAddress+8, devmem.Options{})
	want(t, "an address inside a page", err, devmem.ErrBadAddress)
	_, err = devmem.NewMemory(t.Context(), 1<<30)
	want(t, "more hugepages than there are", err, source.ErrNoHugePages, "nr_hugepages")
	held.Check(t, before)
}

// TestUnit drives the unit in each mode that it has.
func TestUnit(t *testing.T) {
	needUnit(t)
	regs, err := devmem.Open(unitAddress, devmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	caps := vtd.DecodeCapabilities(regs.Read32(0), regs.Read64(8), regs.Read64(0x10))
	if err := errors.Join(regs.Close(), regs.Close()); err != nil {
		t.Fatal(err)
	}
	t.Log(caps)
	for _, c := range []struct {
		name   string
		opts   vtd.Options
		stage  pagetable.Stage
		absent vtd.Reason // of a write to what is not mapped
	}{
		{"legacy", vtd.Options{}, pagetable.SecondStage, 0x05},
		{"legacy-registers", vtd.Options{Invalidation: vtd.InvalidateByRegisters}, pagetable.SecondStage, 0x05},
		{"scalable-second", vtd.Options{Mode: vtd.Scalable}, pagetable.SecondStage, 0x05}, // QEMU records legacy's reasons
		{"scalable-first", vtd.Options{Mode: vtd.Scalable}, pagetable.FirstStage, 0x71},
	} {
		t.Run(c.name, func(t *testing.T) {
			can := caps.Usable(c.opts.Mode)
			if c.stage == pagetable.SecondStage && len(can.SecondStage) == 0 || c.stage == pagetable.FirstStage && len(can.FirstStage) == 0 {
				t.Skipf("this unit has no %v in %v mode", c.stage, c.opts.Mode)
			}
			testUnit(t, c.opts, c.stage, c.absent)
		})
	}
}

func testUnit(t *testing.T, opts vtd.Options, stage pagetable.Stage, absent vtd.Reason) {
	u := openUnit(t, opts)
	tbl := u.table(stage)
	seg := u.data.Segments()[0]
	u.must(u.unit.Enable(t.Context()))

	// Bytes go through two pages that are not where they seem to be.
	u.must(tbl.Map(unitIOVA, seg.Bus+3*unitPage, unitPage, unitBoth))
	u.must(tbl.Map(unitIOVA+unitPage, seg.Bus, unitPage, unitBoth))
	in, out := seg.Mem[3*unitPage:][:unitPage], seg.Mem[:unitPage]
	rand.Read(in)
	u.must(u.edu.ReadMemory(t.Context(), unitIOVA, 0, 2000))
	u.must(u.edu.WriteMemory(t.Context(), unitIOVA+unitPage+96, 0, 2000))
	if !bytes.Equal(in[:2000], out[96:][:2000]) || bytes.Count(out, []byte{0}) < unitPage-2000 {
		t.Error("the bytes did not come through, or went elsewhere")
	}
	u.faults()

	// What is not mapped is blocked, though memory is there.
	physical := seg.Mem[8*unitPage:]
	if u.reaches(seg.Bus+8*unitPage, physical) {
		t.Error("the device reaches physical memory")
	}
	u.faults(vtd.Fault{Reason: absent, Source: u.id, IOVA: seg.Bus + 8*unitPage, Write: true})

	// The unit caches; only the flush ends what was unmapped.
	var b pagetable.Batch
	n, err := tbl.Unmap(unitIOVA, unitPage, &b)
	u.must(err)
	if n != unitPage || !u.reaches(unitIOVA, in) {
		t.Errorf("unmapped %d bytes; the unit cached nothing: what follows proves nothing", n)
	}
	u.must(u.unit.Flush(unitDomain, &b))
	if u.reaches(unitIOVA, in) {
		t.Error("the device reaches memory that was taken away from it")
	}
	u.faults(vtd.Fault{Reason: absent, Source: u.id, IOVA: unitIOVA, Write: true})

	u.superpage(tbl)

	// Off means that all passes.
	u.must(u.unit.Disable(t.Context()))
	if !u.reaches(seg.Bus+8*unitPage, physical) {
		t.Error("the unit is off and still blocks")
	}
	u.faults()
}

// superpage maps a hugepage as one leaf.
func (u *ownUnit) superpage(tbl *pagetable.Table) {
	u.t.Helper()
	const iova = 0x40_0000_0000
	seg := u.data.Segments()[1]
	u.must(tbl.Map(iova, seg.Bus, uint64(len(seg.Mem)), unitBoth))
	u.must(u.unit.Publish(unitDomain, iova, uint64(len(seg.Mem))))
	if l, ok := tbl.Lookup(iova); !ok || l.Size != 2<<20 {
		u.t.Errorf("leaf %+v, want one of 2 MiB", l)
	}
	end := len(seg.Mem) - unitPage
	if !u.reaches(iova+uint64(end), seg.Mem[end:]) {
		u.t.Error("the device does not reach the end of the superpage")
	}
	u.faults()
}

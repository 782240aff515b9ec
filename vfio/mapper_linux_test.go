package vfio

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gommu/iommu"
	"gommu/pagetable"
)

func TestMapper(t *testing.T) {
	k, c, _ := attached(t)
	m := c.Mapper()
	l, err := m.Limits()
	if err != nil {
		t.Fatal(err)
	}
	want := iommu.MapperLimits{Ranges: []iommu.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<48 - 1}}, Entries: 8, Page: 4096, Sources: []uint16{0x18}}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	mem := pages(t, 2)
	for _, p := range []pagetable.Prot{pagetable.Read, pagetable.Write, pagetable.Read | pagetable.Write} {
		if err := errors.Join(m.MapDMA(0x10000, mem, p), m.UnmapDMA(0x10000, uint64(len(mem)))); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	expect(t, "no rights", m.MapDMA(0x10000, mem, 0), ErrBadProt)
	for i := range uint64(8) {
		if err := m.MapDMA(i<<20, mem, pagetable.Read); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := m.Limits(); err != nil || l.Entries != 0 {
		t.Errorf("%d entries left, %v", l.Entries, err)
	}
	err = m.MapDMA(8<<20, mem, pagetable.Read)
	expect(t, "ninth of eight", err, unix.ENOSPC, "dma_entry_limit")
	expect(t, "more than was mapped", m.UnmapDMA(7<<20, 1<<20), ErrShortUnmap)
	expect(t, "a part", m.UnmapDMA(6<<20, 4096), ErrBisect)
	expect(t, "nothing", m.UnmapDMA(7<<20, 4096), ErrNotMapped)
	k.shortUnmap = true
	expect(t, "a kernel that unmaps less", m.UnmapDMA(0, uint64(len(mem))), ErrShortUnmap, "0x1000")
}

// TestMapperProt: each right reaches the kernel as itself.
func TestMapperProt(t *testing.T) {
	for p, want := range map[pagetable.Prot]Prot{pagetable.Read: DMARead, pagetable.Write: DMAWrite, pagetable.Read | pagetable.Write: DMARead | DMAWrite} {
		if got := protOf(p); got != want {
			t.Errorf("%v becomes %#x", p, got)
		}
	}
}

// TestMapperOldKernel: one that does not tell ranges and entries.
func TestMapperOldKernel(t *testing.T) {
	k, c, _ := attached(t)
	k.info = cat(words(0, iommuInfoPageSizes), w64(0x1000), words(0, 0))
	l, err := c.Mapper().Limits()
	if err != nil {
		t.Fatal(err)
	}
	want := iommu.MapperLimits{Ranges: []iommu.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<39 - 1}}, Page: 4096, Sources: []uint16{0x18}}
	if d := cmp.Diff(want, l); d != "" {
		t.Error(d)
	}
	c.Close()
	_, err = c.Mapper().Limits()
	expect(t, "closed", err, ErrClosed)
}

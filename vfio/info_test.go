package vfio

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ne = binary.NativeEndian

// words are 32-bit numbers in memory order; w64 makes two of one.
func words(list ...uint32) (b []byte) {
	for _, v := range list {
		b = ne.AppendUint32(b, v)
	}
	return b
}

func capHead(id, version uint16, next uint32) []byte {
	return ne.AppendUint32(ne.AppendUint16(ne.AppendUint16(nil, id), version), next)
}

func w64(list ...uint64) (b []byte) {
	for _, v := range list {
		b = ne.AppendUint64(b, v)
	}
	return b
}

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// vtdAnswer is what Linux 6.12 says of a 48-bit VT-d.
func vtdAnswer() []byte {
	return cat(
		words(0, iommuInfoPageSizes|iommuInfoCaps), w64(0x40201000), words(24, 0),
		capHead(2, 1, 56), words(0, 0), w64(0x1000, 1<<25), // migration, at 24
		capHead(iommuCapDMAAvail, 1, 72), words(65535, 0), // at 56
		capHead(iommuCapIOVARange, 1, 0), words(2, 0), w64(0xfef00000, 1<<48-1, 0, 0xfedfffff), // at 72
	)
}

func TestParseIOMMUInfo(t *testing.T) {
	got, err := parseIOMMUInfo(vtdAnswer())
	want := IOMMUInfo{PageSizes: 0x40201000, Ranges: []IOVARange{{0, 0xfedfffff}, {0xfef00000, 1<<48 - 1}}, Entries: 65535}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got.PageSize() != 4096 {
		t.Errorf("page size %#x", got.PageSize())
	}
	for r, want := range map[IOVARange]bool{{0, 4095}: true, {0xfedff000, 0xfef00fff}: false, {0xfee00000, 0xfee00fff}: false, {1<<48 - 4096, 1<<48 - 1}: true, {1<<48 - 4096, 1 << 48}: false} {
		if got.contains(r.Start, r.Last) != want {
			t.Errorf("contains(%v) = %v", r, !want)
		}
	}
	old, err := parseIOMMUInfo(cat(words(0, 0), w64(0), words(0, 0)))
	if err != nil || old.Entries != -1 || old.PageSize() != 4096 || !old.contains(0, 1<<63) {
		t.Errorf("a kernel that says nothing: %+v, %v", old, err)
	}
}

func TestParseIOMMUInfoHostile(t *testing.T) {
	head := func(off uint32) []byte {
		return cat(words(0, iommuInfoPageSizes|iommuInfoCaps), w64(0x1000), words(off, 0))
	}
	for name, b := range map[string][]byte{
		"empty":              nil,
		"cut short":          vtdAnswer()[:20],
		"no page sizes":      cat(words(0, iommuInfoPageSizes), w64(0), words(0, 0)),
		"offset in the head": head(4),
		"offset beyond":      head(1 << 31),
		"offset at the end":  head(24),
		"loop":               cat(head(24), capHead(9, 1, 24)),
		"two in a loop":      cat(head(24), capHead(9, 1, 32), capHead(9, 1, 24)),
		"ranges cut":         cat(head(24), capHead(iommuCapIOVARange, 1, 0)),
		"more ranges":        cat(head(24), capHead(iommuCapIOVARange, 1, 0), words(2, 0), w64(0, 1)),
		"all the ranges":     cat(head(24), capHead(iommuCapIOVARange, 1, 0), words(1<<32-1, 0), w64(0, 1)),
		"range upside down":  cat(head(24), capHead(iommuCapIOVARange, 1, 0), words(1, 0), w64(2, 1)),
		"entries cut":        cat(head(24), capHead(iommuCapDMAAvail, 1, 0)),
	} {
		if _, err := parseIOMMUInfo(b); !errors.Is(err, ErrBadInfo) {
			t.Errorf("%s: %v, want ErrBadInfo", name, err)
		}
	}
}

// msixAnswer is a BAR of 16 KiB with an MSI-X table in its second page.
func msixAnswer() []byte {
	return cat(
		words(0, regionRead|regionWrite|regionMmap|regionCaps, 2, 32), w64(0x4000, 2<<40),
		capHead(regionCapSparse, 1, 80), words(2, 0), w64(0, 0x1000, 0x2000, 0x2000), // at 32
		capHead(regionCapType, 1, 96), words(1<<31|0x8086, 7), // at 80
		capHead(regionCapMSIXMappable, 1, 0), // at 96
	)
}

func TestParseRegionInfo(t *testing.T) {
	got, err := parseRegionInfo(msixAnswer())
	want := RegionInfo{
		Index: 2, Size: 0x4000, Readable: true, Writable: true, Mapable: true, Areas: []Area{{0, 0x1000}, {0x2000, 0x2000}},
		MSIXMappable: true, Type: 1<<31 | 0x8086, Subtype: 7, offset: 2 << 40,
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(RegionInfo{}), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	none, err := parseRegionInfo(cat(words(0, regionRead|regionMmap|regionCaps, 0, 32), w64(0x1000, 0), capHead(regionCapSparse, 1, 0), words(0, 0)))
	if err != nil || none.Mapable {
		t.Errorf("an empty list of areas: %+v, %v; nothing may be mapped", none, err)
	}
}

func TestParseRegionInfoHostile(t *testing.T) {
	head := func(size, off uint64) []byte {
		return cat(words(0, regionRead|regionMmap|regionCaps, 0, 32), w64(size, off))
	}
	for name, b := range map[string][]byte{
		"cut short":    msixAnswer()[:31],
		"huge offset":  head(1, 1<<63),
		"past the end": head(1<<62, 1<<63-2),
		"area beyond":  cat(head(0x1000, 0), capHead(regionCapSparse, 1, 0), words(1, 0), w64(0x800, 0x801)),
		"area wraps":   cat(head(0x1000, 0), capHead(regionCapSparse, 1, 0), words(1, 0), w64(0x800, 1<<64-0x800)),
		"many areas":   cat(head(0x1000, 0), capHead(regionCapSparse, 1, 0), words(1<<31, 0), w64(0, 1)),
		"sparse cut":   cat(head(0x1000, 0), capHead(regionCapSparse, 1, 0)),
		"type cut":     cat(head(0x1000, 0), capHead(regionCapType, 1, 0)),
		"loop":         cat(head(0x1000, 0), capHead(77, 1, 32)),
	} {
		if _, err := parseRegionInfo(b); !errors.Is(err, ErrBadInfo) {
			t.Errorf("%s: %v, want ErrBadInfo", name, err)
		}
	}
}

func FuzzIOMMUInfo(f *testing.F) {
	f.Add(vtdAnswer())
	f.Add(vtdAnswer()[:24])
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parseIOMMUInfo(b)
		if err != nil {
			return
		}
		if i.PageSize() == 0 || i.PageSize()&(i.PageSize()-1) != 0 || i.Entries < -1 || len(i.Ranges)*16 > len(b) {
			t.Fatalf("%+v", i)
		}
		for _, r := range i.Ranges {
			if r.Start > r.Last {
				t.Fatalf("%+v", i)
			}
		}
	})
}

func FuzzRegionInfo(f *testing.F) {
	f.Add(msixAnswer())
	f.Add(msixAnswer()[:32])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRegionInfo(b)
		if err != nil {
			return
		}
		for _, a := range r.Areas {
			if a.Size == 0 || a.Offset+a.Size < a.Offset || a.Offset+a.Size > r.Size {
				t.Fatalf("%+v", r)
			}
		}
		if r.offset+r.Size > 1<<63 {
			t.Fatalf("%+v", r)
		}
	})
}

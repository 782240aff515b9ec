package vfio

import (
	"fmt"
	"slices"
	"strings"
)

// IOMMUInfo is what the IOMMU behind a container can do.
type IOMMUInfo struct {
	// PageSizes has a bit set for every page size in bytes. The least is the unit of mappings.
	PageSizes uint64
	// Ranges are the IOVAs that can be mapped, ascending; the end is inclusive. Empty if the kernel does not say
	// (before Linux 5.4).
	Ranges []IOVARange
	// Entries is how many more mappings the container takes; -1 if the kernel does not say (before Linux 5.10).
	Entries int
}

// An IOVARange is a run of IOVAs from Start to Last, both included.
type IOVARange struct {
	Start, Last uint64
}

// String is "start-last" in hexadecimal.
func (r IOVARange) String() string { return fmt.Sprintf("%#x-%#x", r.Start, r.Last) }

// PageSize is the smallest page of the IOMMU in bytes.
func (i IOMMUInfo) PageSize() uint64 { return i.PageSizes & -i.PageSizes }

// contains reports whether one range holds first to last.
func (i IOMMUInfo) contains(first, last uint64) bool {
	if len(i.Ranges) == 0 {
		return true
	}
	for _, r := range i.Ranges {
		if first >= r.Start && last <= r.Last {
			return true
		}
	}
	return false
}

// rangesText lists the ranges for an error message.
func (i IOMMUInfo) rangesText() string {
	var s []string
	for _, r := range i.Ranges {
		s = append(s, r.String())
	}
	return strings.Join(s, ", ")
}

// RegionInfo describes a region of a device: BARs 0 to 5, expansion ROM (6), configuration space (7), VGA (8), and
// from 9 on what Type says.
type RegionInfo struct {
	Index                       int
	Size                        uint64 // bytes; zero if the device has none
	Readable, Writable, Mapable bool
	// Areas are the parts that may be mapped. A Mapable region without areas may be mapped whole.
	Areas []Area
	// MSIXMappable says that the MSI-X table may be mapped with the rest.
	MSIXMappable bool
	// Type and Subtype tell device specific regions apart; zero if there is none.
	Type, Subtype uint32

	offset uint64 // in the device's file
}

// An Area is a part of a region, in bytes from its start.
type Area struct {
	Offset, Size uint64
}

// IRQInfo describes one kind of interrupt of a device.
type IRQInfo struct {
	Count      int  // interrupts; zero if the device has none of this kind
	EventFD    bool // can be delivered to a file
	Maskable   bool
	Automasked bool // masked when it fires, until Unmask
	NoResize   bool // all or none: vectors cannot be added later
}

// An infoCap is one capability of an answer: its header and all bytes from there to the answer's end.
type infoCap struct {
	infoCapHeader
	body []byte
}

// walkCaps follows the chain of capabilities in answer from offset first on. It trusts no offset: each must lie
// behind the fixed part, hold a header, and be new.
func walkCaps(answer []byte, first uint32, fixed int) ([]infoCap, error) {
	var caps []infoCap
	seen := map[uint32]bool{}
	for off := first; off != 0; {
		if int64(off) < int64(fixed) || int64(off)+int64(sizeOf[infoCapHeader]()) > int64(len(answer)) {
			return nil, fmt.Errorf("%w: a capability at %#x of %#x bytes", ErrBadInfo, off, len(answer))
		}
		if seen[off] {
			return nil, fmt.Errorf("%w: the capabilities at %#x have a loop", ErrBadInfo, off)
		}
		seen[off] = true
		c := infoCap{body: answer[off:]}
		decode(&c.infoCapHeader, c.body)
		caps = append(caps, c)
		off = c.next
	}
	return caps, nil
}

// decode fills *p from the start of b and reports whether b is long enough.
func decode[T any](p *T, b []byte) bool {
	dst := bytesOf(p)
	if len(b) < len(dst) {
		return false
	}
	copy(dst, b)
	return true
}

// items decodes n structures that follow a capability's fixed part.
func items[T any](body []byte, fixed int, n uint32) ([]T, error) {
	size := sizeOf[T]()
	if fixed > len(body) || uint64(n)*uint64(size) > uint64(len(body)-fixed) {
		return nil, fmt.Errorf("%w: a capability of %d items does not fit its answer", ErrBadInfo, n)
	}
	list := make([]T, n)
	for i := range list {
		decode(&list[i], body[fixed+i*size:])
	}
	return list, nil
}

// parseIOMMUInfo reads an answer to VFIO_IOMMU_GET_INFO.
func parseIOMMUInfo(answer []byte) (IOMMUInfo, error) {
	var head iommuInfo
	info := IOMMUInfo{Entries: -1}
	if !decode(&head, answer) {
		return info, fmt.Errorf("%w: %d bytes", ErrBadInfo, len(answer))
	}
	info.PageSizes = 4096
	if head.flags&iommuInfoPageSizes != 0 {
		info.PageSizes = head.pageSizes
	}
	if info.PageSizes == 0 {
		return info, fmt.Errorf("%w: no page sizes", ErrBadInfo)
	}
	if head.flags&iommuInfoCaps == 0 {
		return info, nil
	}
	caps, err := walkCaps(answer, head.capOffset, sizeOf[iommuInfo]()-4) // capabilities may start in the padding
	if err != nil {
		return info, err
	}
	for _, c := range caps {
		switch c.id {
		case iommuCapIOVARange:
			if info.Ranges, err = parseRanges(c.body); err != nil {
				return info, err
			}
		case iommuCapDMAAvail:
			var a dmaAvail
			if !decode(&a, c.body) {
				return info, fmt.Errorf("%w: DMA entry capability cut short", ErrBadInfo)
			}
			info.Entries = int(min(a.avail, 1<<31-1))
		}
	}
	return info, nil
}

func parseRanges(body []byte) ([]IOVARange, error) {
	var head iovaRanges
	if !decode(&head, body) {
		return nil, fmt.Errorf("%w: IOVA range capability cut short", ErrBadInfo)
	}
	list, err := items[iovaRange](body, sizeOf[iovaRanges](), head.nr)
	if err != nil {
		return nil, err
	}
	var ranges []IOVARange
	for _, r := range list {
		if r.start > r.end {
			return nil, fmt.Errorf("%w: IOVA range %#x-%#x", ErrBadInfo, r.start, r.end)
		}
		ranges = append(ranges, IOVARange{r.start, r.end})
	}
	slices.SortFunc(ranges, func(a, b IOVARange) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	return ranges, nil
}

// parseRegionInfo reads an answer to VFIO_DEVICE_GET_REGION_INFO.
func parseRegionInfo(answer []byte) (RegionInfo, error) {
	var head regionInfo
	if !decode(&head, answer) {
		return RegionInfo{}, fmt.Errorf("%w: %d bytes", ErrBadInfo, len(answer))
	}
	r := RegionInfo{
		Index: int(head.index), Size: head.size, offset: head.offset,
		Readable: head.flags&regionRead != 0, Writable: head.flags&regionWrite != 0, Mapable: head.flags&regionMmap != 0,
	}
	if r.offset > 1<<63-1 || r.Size > 1<<63-1-r.offset {
		return r, fmt.Errorf("%w: region %d of %#x bytes at %#x of the file", ErrBadInfo, r.Index, r.Size, r.offset)
	}
	if head.flags&regionCaps == 0 {
		return r, nil
	}
	caps, err := walkCaps(answer, head.capOffset, sizeOf[regionInfo]())
	if err != nil {
		return r, err
	}
	for _, c := range caps {
		switch c.id {
		case regionCapSparse:
			if r.Areas, err = parseAreas(c.body, r.Size); err != nil {
				return r, err
			}
			// A list without areas says that nothing may be mapped.
			r.Mapable = r.Mapable && len(r.Areas) > 0
		case regionCapType:
			var t regionType
			if !decode(&t, c.body) {
				return r, fmt.Errorf("%w: region type capability cut short", ErrBadInfo)
			}
			r.Type, r.Subtype = t.typ, t.subtype
		case regionCapMSIXMappable:
			r.MSIXMappable = true
		}
	}
	return r, nil
}

func parseAreas(body []byte, size uint64) ([]Area, error) {
	var head sparseMmap
	if !decode(&head, body) {
		return nil, fmt.Errorf("%w: sparse mmap capability cut short", ErrBadInfo)
	}
	list, err := items[sparseArea](body, sizeOf[sparseMmap](), head.nrAreas)
	if err != nil {
		return nil, err
	}
	var areas []Area
	for _, a := range list {
		if a.offset > size || a.size > size-a.offset {
			return nil, fmt.Errorf("%w: mappable area %#x+%#x of a region of %#x bytes", ErrBadInfo, a.offset, a.size, size)
		}
		if a.size > 0 {
			areas = append(areas, Area{a.offset, a.size})
		}
	}
	return areas, nil
}

package vfio

import (
	"gommu/iommu"
	"gommu/pagetable"
)

// Mapper is the container as iommu.NewPremapped wants it: memory that was mapped through it is what all devices of the
// container's groups reach. At least one group is attached by then. Tracers see the domain's calls as those of the container's device,
// if it has no other by then.
//
// Two that map into one container must not use the same IOVAs; a domain takes all that Limits returns.
func (c *Container) Mapper() iommu.Mapper { return mapper{c} }

type mapper struct{ c *Container }

// sources are the requester ids of the functions of the container's groups, nil if they cannot all be told.
func (c *Container) sources() (ids []uint16) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, g := range c.groups {
		members, err := g.Members()
		if err != nil {
			return nil
		}
		for _, m := range members {
			ids = append(ids, m.Address.RequesterID())
		}
	}
	return ids
}

// MapDMA is Container.MapDMA.
func (m mapper) MapDMA(iova uint64, mem []byte, prot pagetable.Prot) error {
	return m.c.MapDMA(iova, mem, protOf(prot))
}

func protOf(prot pagetable.Prot) Prot {
	var p Prot
	if prot&pagetable.Read != 0 {
		p |= DMARead
	}
	if prot&pagetable.Write != 0 {
		p |= DMAWrite
	}
	return p
}

// UnmapDMA is Container.UnmapDMA. If the kernel had mapped anything else than exactly this range, that is an error:
// ErrBisect, ErrNotMapped or ErrShortUnmap.
func (m mapper) UnmapDMA(iova, size uint64) error { return m.c.UnmapDMA(iova, size) }

// Limits are what Container.Info says now. Entries are those that are left.
func (m mapper) Limits() (iommu.MapperLimits, error) {
	info, err := m.c.Info()
	if err != nil {
		return iommu.MapperLimits{}, err
	}
	l := iommu.MapperLimits{Entries: max(info.Entries, 0), Page: info.PageSize(), Sources: m.c.sources()}
	for _, r := range info.Ranges {
		l.Ranges = append(l.Ranges, iommu.IOVARange(r))
	}
	if len(l.Ranges) == 0 {
		// A kernel before 5.4 does not say. Every VT-d unit translates 39 bits; the interrupt range lies below 4 GiB.
		l.Ranges = []iommu.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<39 - 1}}
	}
	return l, nil
}

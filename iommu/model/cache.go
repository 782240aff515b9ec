package model

import "math/bits"

// caches are all address translation caches (section 6.2).
type caches struct {
	contexts map[uint16]*context
	pasids   map[pasidKey]*binding // scalable mode
	spaces   map[spaceKey]*space
}

type pasidKey struct {
	source uint16
	pasid  uint32
}

// A spaceKey is what translations are tagged with: the domain id, and for a first
// stage the PASID (section 6.2.1).
type spaceKey struct {
	domain uint16
	pasid  uint32 // noPASID for second stages and pass-through
}

const noPASID = ^uint32(0)

// A space holds the translations that are cached under one tag. It stays when it
// is emptied, so bindings may point to it.
type space struct {
	spaceKey
	leaves [3]map[uint64]leaf  // IOTLB: 4 KiB, 2 MiB, 1 GiB; by page number
	tables [4]map[uint64]table // paging-structure caches: entries of level 2 to 5
}

// A leaf is an IOTLB entry.
type leaf struct {
	out   uint64 // bus address of the page
	perm  permission
	dirty bool   // writes need no walk to set a dirty bit
	wrong defect // of an entry that is cached in caching mode though it does not translate
}

// A table is a paging-structure cache entry: where the next table is, and what
// the entries on the way to it permit.
type table struct {
	addr  uint64
	perm  permission
	wrong defect
}

type permission uint8

const (
	mayRead permission = 1 << iota
	mayWrite
	mayUser

	mayAll = mayRead | mayWrite | mayUser
)

// A defect is why an entry does not translate.
type defect uint8

const (
	sound defect = iota
	notPresent
	reservedSet
)

func (c *caches) init() {
	c.contexts = make(map[uint16]*context)
	c.pasids = make(map[pasidKey]*binding)
	c.spaces = make(map[spaceKey]*space)
}

// space is the one with the given tag.
func (c *caches) space(domain uint16, pasid uint32) *space {
	key := spaceKey{domain, pasid}
	s := c.spaces[key]
	if s == nil {
		s = &space{spaceKey: key}
		for i := range s.leaves {
			s.leaves[i] = make(map[uint64]leaf)
		}
		for i := range s.tables {
			s.tables[i] = make(map[uint64]table)
		}
		c.spaces[key] = s
	}
	return s
}

// find is the translation of an IOVA in the IOTLB, and its size as a shift.
func (s *space) find(iova uint64) (leaf, int, bool) {
	if l, ok := s.leaves[0][iova>>12]; ok {
		return l, 12, true
	}
	if l, ok := s.leaves[1][iova>>21]; ok {
		return l, 21, true
	}
	l, ok := s.leaves[2][iova>>30]
	return l, 30, ok
}

// drop empties the space.
func (s *space) drop() {
	for _, m := range s.leaves {
		clear(m)
	}
	for _, m := range s.tables {
		clear(m)
	}
}

// dropRange drops the translations of any page in [first, last], and the
// paging-structure entries that lead to one of them unless only leaves are meant.
func (s *space) dropRange(first, last uint64, leavesOnly bool) {
	for i, m := range s.leaves {
		dropKeys(m, first>>shiftOf(i+1), last>>shiftOf(i+1))
	}
	if leavesOnly {
		return
	}
	for i, m := range s.tables {
		dropKeys(m, first>>shiftOf(i+2), last>>shiftOf(i+2))
	}
}

// dropKeys deletes the keys from first to last.
func dropKeys[V any](m map[uint64]V, first, last uint64) {
	if last-first < uint64(len(m)) {
		for k := first; ; k++ {
			delete(m, k)
			if k == last {
				return
			}
		}
	}
	for k := range m {
		if k >= first && k <= last {
			delete(m, k)
		}
	}
}

// shiftOf is the number of bits below what an entry of a level covers: 12 at
// level 1.
func shiftOf(level int) int { return 12 + 9*(level-1) }

// widthOf is the number of bits that tables of so many levels translate.
func widthOf(levels int) int { return 12 + 9*levels }

// block is the aligned run of 2^mask pages around an address.
func block(addr uint64, mask int) (first, last uint64) {
	if mask+12 >= bits.UintSize {
		return 0, ^uint64(0)
	}
	size := uint64(1) << (mask + 12)
	first = addr &^ (size - 1)
	return first, first + size - 1
}

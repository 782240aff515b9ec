package model

import "math/bits"

// caches are all address translation caches (section 6.2), with the tags of
// table 17 there: what they are looked up by is their key, what they are
// invalidated by is in the entries.
type caches struct {
	contexts   map[uint16]*context
	pasids     map[requesterKey]*binding // scalable mode
	requesters map[requesterKey]*requester
	spaces     map[spaceKey]*space
	first      bool // there may be IOTLB entries of first stages
}

// A requesterKey is what IOTLB and PASID cache are looked up by: the IOTLB by
// noPASID for requests without.
type requesterKey struct {
	source uint16
	pasid  uint32
}

const noPASID = ^uint32(0)

// A requester holds the IOTLB entries of one device's requests without PASID, or
// with one: for pages of 4 KiB, 2 MiB and 1 GiB, by page number.
type requester [3]map[uint64]leaf

// A spaceKey is what paging-structure entries are tagged with: the domain id, and
// for a first stage the PASID.
type spaceKey struct {
	domain uint16
	pasid  uint32 // noPASID for second stages
}

// A space holds paging-structure cache entries of level 2 to 5. It stays when it
// is emptied, so bindings may point to it.
type space [4]map[uint64]table

// A leaf is an IOTLB entry.
type leaf struct {
	out   uint64 // bus address of the page
	by    *binding
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
	c.pasids = make(map[requesterKey]*binding)
	c.requesters = make(map[requesterKey]*requester)
	c.spaces = make(map[spaceKey]*space)
}

// space is the one with the given tag.
func (c *caches) space(domain uint16, pasid uint32) *space {
	key := spaceKey{domain, pasid}
	s := c.spaces[key]
	if s == nil {
		s = new(space)
		for i := range s {
			s[i] = make(map[uint64]table)
		}
		c.spaces[key] = s
	}
	return s
}

// requester is where the IOTLB entries for a request are.
func (c *caches) requester(r *request) *requester {
	key := r.key()
	q := c.requesters[key]
	if q == nil {
		q = new(requester)
		for i := range q {
			q[i] = make(map[uint64]leaf)
		}
		c.requesters[key] = q
	}
	return q
}

// find is the translation of an IOVA, and the page's size as a shift.
func (q *requester) find(iova uint64) (leaf, int, bool) {
	for i := range q {
		if l, ok := q[i][iova>>shiftOf(i+1)]; ok {
			return l, shiftOf(i + 1), true
		}
	}
	return leaf{}, 0, false
}

// dropLeaves drops the IOTLB entries of any page in [first, last] that match.
func (c *caches) dropLeaves(first, last uint64, match func(*binding) bool) {
	for _, q := range c.requesters {
		for i, m := range q {
			dropKeys(m, first>>shiftOf(i+1), last>>shiftOf(i+1), func(l leaf) bool { return match(l.by) })
		}
	}
}

// dropTables drops the paging-structure entries on the way to any page in [first,
// last] whose tag matches.
func (c *caches) dropTables(first, last uint64, match func(spaceKey) bool) {
	for key, s := range c.spaces {
		if match(key) {
			for i, m := range s {
				dropKeys(m, first>>shiftOf(i+2), last>>shiftOf(i+2), func(table) bool { return true })
			}
		}
	}
}

// dropKeys deletes the keys from first to last whose values match.
func dropKeys[V any](m map[uint64]V, first, last uint64, match func(V) bool) {
	if last-first < uint64(len(m)) {
		for k := first; ; k++ {
			if v, ok := m[k]; ok && match(v) {
				delete(m, k)
			}
			if k == last {
				return
			}
		}
	}
	for k, v := range m {
		if k >= first && k <= last && match(v) {
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

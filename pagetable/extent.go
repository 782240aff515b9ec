package pagetable

// An Extent is memory that is contiguous on the bus. Both numbers are
// multiples of 4096.
type Extent struct {
	Bus, Size uint64
}

// cursor reads extents that are mapped one after the other, joined where they
// are contiguous. In hand it has the run that maps the IOVAs up to end, each to
// itself plus delta.
type cursor struct {
	delta, end uint64
	rest       []Extent
}

// next takes the run at iova in hand.
func (c *cursor) next(iova uint64) {
	x := c.rest[0]
	c.rest = c.rest[1:]
	for len(c.rest) > 0 && c.rest[0].Bus == x.Bus+x.Size {
		x.Size += c.rest[0].Size
		c.rest = c.rest[1:]
	}
	c.delta, c.end = x.Bus-iova, iova+x.Size-1
}

// seek takes the run that maps iova in hand.
func (c *cursor) seek(iova uint64) {
	for iova > c.end && len(c.rest) > 0 {
		c.next(c.end + 1)
	}
}

// leaves is how many leaves of level the run holds that start at first, and end
// no later than last.
func (c *cursor) leaves(level, maxLeaf int, first, last uint64) int {
	if level > maxLeaf || (first|c.delta)&(span(level)-1) != 0 {
		return 0
	}
	return int((min(c.end, last) - first + 1) >> (shift(level) & 63))
}

package vtd_test

import (
	"fmt"
	"maps"

	"gommu/pagetable"
)

// strict is what a unit caches, at its most annoying: everything that it may, as
// soon as it can, for as long as it may. Devices use all their IOVAs before each
// access to a register and after each invalidation. It reads memory as a unit
// does that does not snoop (only what was written back) or that has write
// buffers (only what was flushed out of them). A nil strict does nothing.
//
// It knows how entries lead to a page table, not page tables: instead, it is
// told which pages of a table are mapped.
type strict struct {
	b       *bench
	actors  []actor
	mapped  map[uint64]map[uint64]bool // page numbers by root
	written map[uint64]uint64          // words by bus address: written back
	seen    map[uint64]uint64          // and out of the write buffers

	contextCache map[uint16]cachedContext
	pasidCache   map[actor]cachedPASID
	tlb          map[tlbKey]uint64    // the root that the translation came from; 0 is "not present"
	devices      map[deviceKey]uint64 // what devices with a TLB have in it
	complaints   []string
}

// An actor is a device with one of its PASIDs, 0 for none.
type actor struct {
	source uint16
	pasid  uint32
}

// cachedContext is a context entry; in legacy mode all that there is.
type cachedContext struct {
	present   bool
	deviceTLB bool
	directory uint64
	cachedPASID
}

type cachedPASID struct {
	present bool
	did     uint16
	kind    uint64 // PGTT
	root    uint64
}

type tlbKey struct {
	did   uint16
	pasid int // -1 for the second stage
	page  uint64
}

type deviceKey struct {
	actor
	page uint64
}

// strictPages are the pages that every device keeps using.
var strictPages = []uint64{0x10, 0x11, 0x200}

func newStrict(b *bench, actors ...actor) *strict {
	s := &strict{b: b, actors: actors, mapped: map[uint64]map[uint64]bool{}, written: map[uint64]uint64{}, devices: map[deviceKey]uint64{},
		contextCache: map[uint16]cachedContext{}, pasidCache: map[actor]cachedPASID{}, tlb: map[tlbKey]uint64{}}
	b.strict = s
	return s
}

// writeBack is how the driver writes cache lines back.
func (s *strict) writeBack(words []uint64) {
	for bus := uint64(firstBus); bus < firstBus+poolFrames*4096; bus += 4096 {
		e := s.b.mem.Entries(pagetable.Frame{Bus: bus})
		for i := range e {
			if len(words) > 0 && &e[i] == &words[0] {
				for j, w := range words {
					s.written[bus+uint64(8*(i+j))] = w
				}
			}
		}
	}
	s.pump()
}

func (s *strict) coherent() bool { return s.b.extra&1 != 0 }
func (s *strict) buffered() bool { return s.b.capability&capRWBF != 0 }
func (s *strict) caching() bool  { return s.b.capability&capCM != 0 }

// drain empties the write buffers.
func (s *strict) drain() {
	if s == nil || !s.buffered() {
		return
	}
	if !s.coherent() {
		s.seen = maps.Clone(s.written)
		return
	}
	s.seen = map[uint64]uint64{}
	for bus := uint64(firstBus); bus < firstBus+poolFrames*4096; bus += 4096 {
		for i, w := range s.b.mem.Entries(pagetable.Frame{Bus: bus}) {
			s.seen[bus+uint64(8*i)] = w
		}
	}
}

// stale is what memory holds where nothing was written back: as an entry it has
// P set, and as a domain id it is none that anybody uses.
const stale = 0xa5a5_a5a5_a5a5_a5a5

func (s *strict) word(bus uint64) uint64 {
	from := s.written
	if s.buffered() {
		from = s.seen
	} else if s.coherent() {
		e := s.b.mem.Entries(pagetable.Frame{Bus: bus &^ 0xfff})
		if e == nil {
			return stale
		}
		return e[bus&0xfff/8]
	}
	if w, ok := from[bus]; ok {
		return w
	}
	return stale
}

func (s *strict) complain(format string, args ...any) {
	if len(s.complaints) < 5 {
		s.complaints = append(s.complaints, fmt.Sprintf(format, args...))
	}
}

// pump lets every device use all its pages.
func (s *strict) pump() {
	if s == nil || s.b.status&(1<<31) == 0 {
		return
	}
	for _, a := range s.actors {
		for _, page := range strictPages {
			s.reach(a, page)
		}
	}
}

// reach is the root of the table through which the device reaches the page, 1 if
// it passes through, and 0 if it is blocked.
func (s *strict) reach(a actor, page uint64) uint64 {
	if a.pasid != 0 && s.b.rtaddr>>10&3 == 0 {
		return 0
	}
	if root, ok := s.devices[deviceKey{a, page}]; ok {
		return root
	}
	root, device := s.translate(a, page)
	if root != 0 && device {
		s.devices[deviceKey{a, page}] = root
	}
	return root
}

// translate is what the unit answers, and whether the device may keep that.
func (s *strict) translate(a actor, page uint64) (root uint64, device bool) {
	c, ok := s.contextCache[a.source]
	if !ok {
		c = s.walkContext(a.source)
		if c.present || s.caching() {
			s.contextCache[a.source] = c
		}
	}
	if !c.present {
		return 0, false
	}
	p := c.cachedPASID
	if s.b.rtaddr>>10&3 == 1 {
		if p, ok = s.pasidCache[a]; !ok {
			p = s.walkPASID(c.directory, a)
			if p.present || s.caching() {
				s.pasidCache[a] = p
			}
		}
		if !p.present {
			return 0, false
		}
	}
	if p.kind == 4 {
		return 1, c.deviceTLB
	}
	key := tlbKey{p.did, -1, page}
	if p.kind == 1 {
		key.pasid = int(a.pasid)
	}
	if root, ok := s.tlb[key]; ok {
		return root, c.deviceTLB
	}
	if s.mapped[p.root][page] {
		root = p.root
	}
	if root != 0 || s.caching() && p.kind == 2 {
		s.tlb[key] = root
	}
	return root, c.deviceTLB
}

func (s *strict) walkContext(source uint16) (c cachedContext) {
	top := s.b.rtaddr &^ 0xfff
	scalable := s.b.rtaddr>>10&3 == 1
	root := s.word(top + 8*uint64(source>>8*2))
	if scalable {
		root = s.word(top + 8*uint64(source>>7))
	}
	if root&1 == 0 {
		return c
	}
	entry := root&^0xfff + 16*uint64(source&0xff)
	if scalable {
		entry = root&^0xfff + 32*uint64(source&0x7f)
	}
	low, high := s.word(entry), s.word(entry+8)
	if low&1 == 0 {
		return c
	}
	c.present = true
	if scalable {
		c.directory, c.deviceTLB = low&^0xfff, low&4 != 0
		return c
	}
	c.cachedPASID = cachedPASID{true, uint16(high >> 8), 2, low &^ 0xfff}
	if low>>2&3 == 2 {
		c.kind = 4
	}
	c.deviceTLB = low>>2&3 == 1
	s.check(c.cachedPASID, "context entry of %#x", source)
	return c
}

func (s *strict) walkPASID(directory uint64, a actor) (p cachedPASID) {
	d := s.word(directory + 8*uint64(a.pasid/64))
	if d&1 == 0 {
		return p
	}
	entry := d&^0xfff + 64*uint64(a.pasid%64)
	low := s.word(entry)
	if low&1 == 0 {
		return p
	}
	p = cachedPASID{true, uint16(s.word(entry + 8)), low >> 6 & 7, low &^ 0xfff}
	if p.kind == 1 {
		p.root = s.word(entry+16) &^ 0xfff
	}
	s.check(p, "PASID entry of %+v", a)
	return p
}

// check complains about an entry that the driver cannot have meant.
func (s *strict) check(p cachedPASID, what string, args ...any) {
	if p.did == 0 || p.did > 100 || p.kind != 4 && s.mapped[p.root] == nil {
		s.complain("the unit read %s as %+v", fmt.Sprintf(what, args...), p)
	}
}

func (s *strict) contexts(g uint64, source uint16) {
	if s == nil {
		return
	}
	s.drain()
	maps.DeleteFunc(s.contextCache, func(k uint16, c cachedContext) bool { return g != 3 || k == source })
}

// pasids drops entries by the domain id that they were cached with: 0 for those
// that are not present.
func (s *strict) pasids(g uint64, did uint16, pasid uint32) {
	if s == nil {
		return
	}
	s.drain()
	maps.DeleteFunc(s.pasidCache, func(k actor, p cachedPASID) bool {
		return g == 3 || p.did == did && (g == 0 || k.pasid == pasid)
	})
}

func (s *strict) iotlb(g uint64, did uint16, address uint64) {
	if s == nil {
		return
	}
	s.drain()
	maps.DeleteFunc(s.tlb, func(k tlbKey, _ uint64) bool {
		return g == 1 || k.did == did && (g == 2 || k.pasid >= 0 || covers(address, k.page))
	})
}

func (s *strict) pasidIOTLB(g uint64, did uint16, pasid uint32, address uint64) {
	if s == nil {
		return
	}
	s.drain()
	maps.DeleteFunc(s.tlb, func(k tlbKey, _ uint64) bool {
		return k.did == did && k.pasid == int(pasid) && (g == 2 || covers(address, k.page))
	})
}

// deviceTLB has a device forget pages: size is its size bit.
func (s *strict) deviceTLB(a actor, address, size uint64) {
	if s == nil {
		return
	}
	mask := uint64(0)
	if address&size != 0 {
		for mask = 1; address>>(11+mask)&1 != 0; mask++ {
		}
	}
	maps.DeleteFunc(s.devices, func(k deviceKey, _ uint64) bool {
		return k.actor == a && k.page>>mask == address>>12>>mask
	})
}

// consistent complains if what the unit can reach is not what was stored.
func (s *strict) consistent() {
	top := s.b.rtaddr &^ 0xfff
	for i := range uint64(512) {
		if s.b.rtaddr>>10&3 == 0 {
			if i%2 == 0 && s.same("root entry", top+8*i, 1) {
				s.each(s.word(top+8*i)&^0xfff, 2, "context entry", nil)
			}
			continue
		}
		if s.same("root entry", top+8*i, 1) {
			s.each(s.word(top+8*i)&^0xfff, 4, "context entry", func(low uint64) {
				s.each(low&^0xfff, 1, "PASID directory entry", func(low uint64) {
					s.each(low&^0xfff, 8, "PASID entry", nil)
				})
			})
		}
	}
}

// each compares all entries of a table and goes below those that are present.
func (s *strict) each(table, words uint64, what string, below func(low uint64)) {
	for at := table; at < table+4096; at += 8 * words {
		if s.same(what, at, words) && below != nil {
			below(s.word(at))
		}
	}
}

// same compares an entry with what was stored and says whether it is present.
func (s *strict) same(what string, at, words uint64) bool {
	stored := s.b.mem.Entries(pagetable.Frame{Bus: at &^ 0xfff})
	if stored == nil {
		s.complain("%s at %#x lies outside memory", what, at)
		return false
	}
	if (s.word(at)|stored[at&0xfff/8])&1 == 0 {
		return false
	}
	for i := range words {
		if got, want := s.word(at+8*i), stored[at&0xfff/8+i]; got != want {
			s.complain("word %d of the %s at %#x is %#x for the unit, and %#x was stored", i, what, at, got, want)
			return false
		}
	}
	return true
}

func covers(address, page uint64) bool {
	mask := address & 0x3f
	return page>>mask == address>>12>>mask
}

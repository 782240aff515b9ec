package model

// A context is a context entry: in legacy mode all that is to know, in scalable
// mode the way to the PASID entries. The root entry that led to it is part of it
// (section 6.2.2).
type context struct {
	binding

	scalable  bool
	pasids    bool   // PASIDE
	devices   bool   // translation requests are allowed
	directory uint64 // PASID directory
	entries   uint64 // of the directory
	ridPASID  uint32
}

// Bits of root and context entries (sections 9.1 to 9.4). All have P and FPD in
// the same place.
const (
	present = 1 << 0
	quiet   = 1 << 1 // FPD

	nextTable = ^uint64(pageSize - 1)
)

// Translation types of a context entry (section 9.3).
const (
	typeUntranslated = 0
	typeAll          = 1
	typePassThrough  = 2
)

// context finds the context entry for a requester: cached, or in memory. In
// caching mode wrong ones are cached too, with domain id 0 (section 6.1).
func (u *Unit) context(source uint16) *context {
	if c := u.caches.contexts[source]; c != nil {
		return c
	}
	var c *context
	switch {
	case u.root.mode == modeLegacy:
		c = u.legacyContext(source)
	case u.root.mode == modeScalable && u.cfg.Scalable:
		c = u.scalableContext(source)
	default:
		return &context{binding: binding{wrong: modeInvalid}}
	}
	if c.wrong == 0 || u.cfg.CachingMode && c.wrong.cached() {
		u.caches.contexts[source] = c
		if c.legacy && c.wrong == 0 {
			u.checkDomain(&c.binding)
		}
	}
	return c
}

// cached says whether the entry is one that caching mode keeps: not present, or
// wrong. One that could not be read is not there to be kept.
func (r reason) cached() bool {
	switch r {
	case rootAccess, contextAccess, scalableRootAccess, scalableContextAccess, directoryAccess, pasidAccess:
		return false
	}
	return true
}

func wrongContext(why reason, silent bool) *context {
	return &context{binding: binding{wrong: why, quiet: silent}}
}

// addressReserved are the bits of a table address beyond the host's width.
func (u *Unit) addressReserved() uint64 { return ^uint64(1<<u.cfg.HostWidth - 1) }

// pair reads two words of a table. Accesses to all structures but paging entries
// snoop as ECAP.C says (section 11.4.3).
func (u *Unit) pair(addr uint64) (lo, hi uint64, ok bool) {
	lo, ok = u.mem.entry(addr, u.cfg.Coherent)
	if ok {
		hi, ok = u.mem.entry(addr+8, u.cfg.Coherent)
	}
	return lo, hi, ok
}

func (u *Unit) legacyContext(source uint16) *context {
	if !u.root.set {
		return wrongContext(rootAccess, false)
	}
	lo, hi, ok := u.pair(u.root.addr + uint64(source>>8)*16)
	switch {
	case !ok:
		return wrongContext(rootAccess, false)
	case lo&present == 0:
		return wrongContext(rootAbsent, false)
	case lo&(0xffe|u.addressReserved()) != 0 || hi != 0:
		return wrongContext(rootReserved, false)
	}
	lo, hi, ok = u.pair(lo&nextTable + uint64(source&0xff)*16)
	silent := lo&quiet != 0
	switch {
	case !ok:
		return wrongContext(contextAccess, false)
	case lo&present == 0:
		return wrongContext(contextAbsent, silent)
	case lo&(0xff0|u.addressReserved()) != 0, hi&^0xff_ff7f != 0, hi>>8>>u.cfg.DomainBits != 0:
		return wrongContext(contextReserved, silent)
	}
	kind, levels := lo>>2&3, int(hi&7)+2
	if kind == 3 || kind == typeAll && !u.cfg.DeviceTLB || kind == typePassThrough && u.cfg.NoPassThrough || !u.cfg.walks(levels) {
		return wrongContext(contextInvalid, silent)
	}
	c := &context{devices: kind == typeAll}
	c.binding = binding{quiet: silent, legacy: true, pasid: noPASID, stage: secondStage, domain: uint16(hi >> 8), levels: levels, root: lo & nextTable, snoop: u.cfg.Coherent}
	if kind == typePassThrough {
		c.stage = passThrough
		if widthOf(levels) != u.cfg.width() {
			u.violation("context entry of %#x passes through with %d levels: AW must be the largest supported (section 9.3)", source, levels)
		}
	}
	c.space = u.caches.space(c.domain, noPASID)
	return c
}

// checkDomain looks for entries in use that share a domain id and must not
// (sections 6.2.2.1 and 6.2.3.1): the caches do not tell their tables apart.
func (u *Unit) checkDomain(b *binding) {
	if b.domain == 0 && u.cfg.CachingMode {
		u.violation("domain id 0 is used in caching mode (section 6.2.2.1)")
	}
	check := func(o *binding) {
		switch {
		case o == b || o.wrong != 0 || o.domain != b.domain:
		case o.stage == secondStage && b.stage == secondStage && (o.root != b.root || o.levels != b.levels):
			u.violation("domain id %d is used with second stages at %#x and %#x (sections 6.2.2.1, 6.2.3.1)", b.domain, o.root, b.root)
		case !b.legacy && (o.stage == secondStage) != (b.stage == secondStage):
			u.violation("domain id %d is used with and without a second stage (section 6.2.3.1)", b.domain)
		case o.stage == firstStage && b.stage == firstStage && o.pasid == b.pasid && (o.root != b.root || o.levels != b.levels):
			u.violation("domain id %d and PASID %d are used with first stages at %#x and %#x (section 6.2.3.1)", b.domain, b.pasid, o.root, b.root)
		}
	}
	for _, c := range u.caches.contexts {
		if c.legacy {
			check(&c.binding)
		}
	}
	for _, o := range u.caches.pasids {
		check(o)
	}
}

// binding finds what applies to a request, in caches or memory.
func (u *Unit) binding(r *request) *binding {
	if r.hasPASID && u.root.mode == modeLegacy {
		return &binding{wrong: legacyPASID}
	}
	c := u.context(r.source)
	if c.wrong == 0 && c.scalable {
		return u.pasidBinding(c, r)
	}
	return &c.binding
}

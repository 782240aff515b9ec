package model

// A stage is the kind of translation that a context or PASID entry asks for.
type stage uint8

const (
	passThrough stage = iota
	secondStage
	firstStage
)

// A binding is what a context entry (legacy mode) or a PASID entry says about
// requests: which translation, through which table, under which tag.
type binding struct {
	wrong  reason // of an entry that is cached in caching mode though it is wrong
	quiet  bool   // FPD: its qualified faults are not recorded
	pasid  uint32 // also of requests without PASID; noPASID in legacy mode
	legacy bool
	stage  stage
	domain uint16
	levels int
	root   uint64
	snoop  bool   // walks of the paging structures do
	marks  bool   // accessed and dirty bits are set
	space  *space // nil for pass-through
}

// reasons are the codes for the ways in which a walk fails.
type walkReasons struct{ root, access, absent, reserved reason }

func (b *binding) reasons(write bool) walkReasons {
	switch {
	case b.legacy:
		return walkReasons{contextInvalid, tableAccess, b.denied(write), entryReserved}
	case b.stage == secondStage:
		return walkReasons{secondRoot, secondAccess, secondAbsent, secondReserved}
	default:
		return walkReasons{firstRoot, firstAccess, firstAbsent, firstReserved}
	}
}

// denied is the reason for a request without permission.
func (b *binding) denied(write bool) reason {
	switch {
	case b.legacy && write:
		return noWrite
	case b.legacy:
		return noRead
	case write:
		return scalableNoWrite
	default:
		return scalableNoRead
	}
}

// beyond checks an IOVA against the width of the table (section
// 3.6 for canonical addresses, 3.7 for second stages).
func (u *Unit) beyond(b *binding, iova uint64) reason {
	if b.stage == firstStage {
		n := widthOf(b.levels) - 1
		if top := int64(iova) >> n; top != 0 && top != -1 {
			return notCanonical
		}
		return 0
	}
	limit, why := widthOf(b.levels), beyondStage // never above MGAW: see Config.Widths
	if b.stage == passThrough {
		limit, why = u.cfg.HostWidth, beyondUnit
	}
	switch {
	case iova>>limit == 0:
		return 0
	case b.legacy:
		return beyondWidth
	default:
		return why
	}
}

// allows checks a request against the permissions of a translation.
func (b *binding) allows(p permission, write bool) reason {
	switch {
	case b.stage == firstStage && p&mayUser == 0:
		return notUser
	case !b.legacy && p&(mayRead|mayWrite) == 0:
		return secondAbsent
	case write && p&mayWrite == 0, !write && p&mayRead == 0:
		return b.denied(write)
	}
	return 0
}

// complaint is the reason for an entry with a defect.
func (r walkReasons) complaint(d defect) reason {
	if d == notPresent {
		return r.absent
	}
	return r.reserved
}

// hit looks a request up in the IOTLB. The requester and the IOVA are enough,
// whatever has become of the entries that led there (section 6.2.7). A write that
// has to set a dirty bit needs a walk.
func (u *Unit) hit(r *request) (leaf, int, bool) {
	q := u.caches.requesters[r.key()]
	if q == nil {
		return leaf{}, 0, false
	}
	l, shift, ok := q.find(r.iova)
	return l, shift, ok && (l.dirty || !r.write || l.perm&mayWrite == 0)
}

// translate finds the bus address for an IOVA that is not in the IOTLB.
func (u *Unit) translate(b *binding, r *request) (uint64, reason) {
	if why := u.beyond(b, r.iova); why != 0 {
		return 0, why
	}
	if b.stage == passThrough {
		return u.finish(b, r, entry{addr: r.iova &^ (pageSize - 1), perm: mayAll}, 1)
	}
	return u.walk(b, r)
}

// output is the address inside a page, if the request may have it.
func (u *Unit) output(r *request, l leaf, shift int) (uint64, reason) {
	if l.wrong != sound {
		return 0, l.by.reasons(r.write).complaint(l.wrong)
	}
	if why := l.by.allows(l.perm, r.write); why != 0 {
		return 0, why
	}
	addr := l.out | r.iova&(1<<shift-1)
	switch {
	case !interruptRange(addr):
		return addr, 0
	case l.by.legacy:
		return 0, outputInterrupt
	default:
		return 0, scalableOutputInterrupt
	}
}

// walk reads the paging structures, from where the paging-structure caches end,
// and caches what it finds (section 6.2.7).
func (u *Unit) walk(b *binding, r *request) (uint64, reason) {
	reasons := b.reasons(r.write)
	at, level := table{b.root, mayAll, sound}, b.levels
	for l := 2; l <= b.levels; l++ {
		if t, ok := b.space[l-2][r.iova>>shiftOf(l)]; ok {
			at, level = t, l-1
			break
		}
	}
	for ; ; level-- {
		if at.wrong != sound {
			return 0, reasons.complaint(at.wrong)
		}
		addr := at.addr + r.iova>>shiftOf(level)&511*8
		e, why := u.load(b, r, addr, level, at.perm)
		switch {
		case why == reasons.access && level == b.levels:
			return 0, reasons.root
		case why != 0:
			return 0, why
		}
		if e.wrong != sound {
			u.cacheWrong(b, r, level, e.wrong)
			return 0, reasons.complaint(e.wrong)
		}
		if e.leaf {
			return u.finish(b, r, e, level)
		}
		at = table{e.addr, e.perm, sound}
		b.space[level-2][r.iova>>shiftOf(level)] = at
	}
}

// finish caches a leaf and checks the request against it. What makes the request
// fault is cached in caching mode only (section 6.2.4.1).
func (u *Unit) finish(b *binding, r *request, e entry, level int) (uint64, reason) {
	l := leaf{out: e.addr, by: b, perm: e.perm, dirty: !b.marks || e.dirty}
	addr, why := u.output(r, l, shiftOf(level))
	if why == 0 || u.cfg.CachingMode && b.stage == secondStage {
		u.caches.requester(r)[level-1][r.iova>>shiftOf(level)] = l
		u.caches.first = u.caches.first || b.stage == firstStage
	}
	return addr, why
}

// cacheWrong keeps an entry that does not translate, in caching mode. First
// stages are exempt (section 6.1).
func (u *Unit) cacheWrong(b *binding, r *request, level int, d defect) {
	switch {
	case !u.cfg.CachingMode || b.stage == firstStage:
	case level == 1:
		u.caches.requester(r)[0][r.iova>>12] = leaf{by: b, wrong: d, dirty: true}
	default:
		b.space[level-2][r.iova>>shiftOf(level)] = table{wrong: d}
	}
}

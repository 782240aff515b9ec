package vtd

import (
	"fmt"
)

// domainTable is what the domain ids stand for.
type domainTable struct {
	used map[uint16]*domainUse
	own  map[uint16]bool // handed out by AllocDomain
	next uint16          // where AllocDomain looks first
}

// A domainUse is a domain id that something is attached to.
type domainUse struct {
	translation translation
	pasids      map[uint32]int // how many devices are attached with each PASID
}

// check refuses a domain id that stands for something else than tr.
func (d *domainTable) check(id uint16, tr translation) error {
	if use := d.used[id]; use != nil && use.translation != tr {
		return fmt.Errorf("%w: root %#x in %v", ErrDomainBusy, use.translation.root, use.translation.kind)
	}
	return nil
}

func (d *domainTable) use(id uint16, pasid uint32, tr translation) {
	use := d.used[id]
	if use == nil {
		use = &domainUse{translation: tr, pasids: make(map[uint32]int)}
		d.used[id] = use
	}
	use.pasids[pasid]++
}

func (d *domainTable) unuse(id uint16, pasid uint32) {
	use := d.used[id]
	if use.pasids[pasid]--; use.pasids[pasid] == 0 {
		delete(use.pasids, pasid)
	}
	if len(use.pasids) == 0 {
		delete(d.used, id)
	}
}

// AllocDomain hands out a domain id that is neither handed out nor in use. 0 is
// never among them: units in caching mode tag with it what is not present
// (sections 6.2.2 and 6.2.3). The caller may as well choose ids by itself. It fails with
// ErrDomainID when there is none left. It does not wait for the unit.
func (u *Unit) AllocDomain() (uint16, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, &OpError{Op: "allocate domain id", Err: ErrClosed}
	}
	d := &u.domains
	for range u.caps.Domains - 1 {
		if d.next++; d.next == 0 || int(d.next) >= u.caps.Domains {
			d.next = 1
		}
		if !d.own[d.next] && d.used[d.next] == nil {
			d.own[d.next] = true
			return d.next, nil
		}
	}
	return 0, &OpError{Op: "allocate domain id", Err: fmt.Errorf("%w: all %d are taken", ErrDomainID, u.caps.Domains-1)}
}

// FreeDomain gives back an id of AllocDomain's. It fails with ErrDomainBusy
// while something is attached to it.
func (u *Unit) FreeDomain(id uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.checkDomain(id)
	switch {
	case err != nil:
	case !u.domains.own[id]:
		err = fmt.Errorf("%w: it was not allocated", ErrDomainID)
	case u.bindings[id] != nil:
		err = fmt.Errorf("%w: close its binding", ErrDomainBusy)
	case u.domains.used[id] != nil:
		err = fmt.Errorf("%w: detach what is attached to it", ErrDomainBusy)
	default:
		delete(u.domains.own, id)
		return nil
	}
	return &OpError{Op: "free", Target: domain(id), Err: err}
}

// checkDomain refuses a domain id that the unit does not have.
func (u *Unit) checkDomain(id uint16) error {
	if u.closed {
		return ErrClosed
	}
	if id == 0 || int(id) >= u.caps.Domains {
		return fmt.Errorf("%w: %d is not in 1 to %d", ErrDomainID, id, u.caps.Domains-1)
	}
	return nil
}

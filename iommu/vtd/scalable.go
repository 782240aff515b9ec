package vtd

import (
	"errors"
	"fmt"

	"gommu/pagetable"
)

// In scalable mode a context entry leads to the device's PASID directory, a
// directory entry to a table of 64 PASID table entries, and each of these says
// how DMA with that PASID is translated (sections 3.4.3 and 9.4 to 9.6). DMA
// without a PASID goes by the PASID that the context entry names in RID_PASID:
// here always 0, the only one that every unit can do.
const (
	noPASID = 0

	pasidsPerTable = 64
	// A directory is one frame here; the largest that there is has 32.
	directoryEntries = 512
	maxPASIDs        = directoryEntries * pasidsPerTable

	scalableDeviceTLB = 1 << 2 // DTE: the device may ask for translations
	scalablePASIDs    = 1 << 3 // PASIDE: DMA with a PASID is let in
	scalableDirectory = 9      // PDTS: the directory has 2^(7+this) entries
)

// Words 0 to 2 of a PASID table entry, which has 8 (section 9.6).
const (
	pasidWidth = 2 // AW, and in the same word:
	pasidKind  = 6 // PGTT
	// the second-stage table's address, bits 63:12

	pasidWalkSnoop = 1 << 23 // PWSNP, in word 1 with the domain id in bits 15:0

	pasidLevels = 2 // FSPM, in word 2 with the first-stage table's address: levels-4

	pasidWords = 8
)

// A pasidSpace is what the scalable context entry of a device leads to.
type pasidSpace struct {
	frame     pagetable.Frame
	directory *[512]uint64
	tables    map[uint32]*pasidTable // by index in the directory
}

// A pasidTable is a table of 64 PASID table entries.
type pasidTable struct {
	frame   pagetable.Frame
	entries *[512]uint64
	used    int // entries that are present
}

// entry is the entry of a PASID in the table that has it.
func (t *pasidTable) entry(pasid uint32) []uint64 {
	return t.entries[pasidWords*(pasid%pasidsPerTable):][:pasidWords]
}

// checkPASID refuses a PASID that AttachPASID does not take.
func (u *Unit) checkPASID(pasid uint32) error {
	switch can := u.caps.Usable(u.opts.Mode); {
	case u.opts.Mode != Scalable:
		return fmt.Errorf("%w: legacy mode: open the unit with Options.Mode Scalable", ErrPASID)
	case can.PASIDs == 0:
		return fmt.Errorf("%w: the unit has none (ECAP %#x)", ErrPASID, u.caps.Ecap)
	case pasid == noPASID || int64(pasid) >= int64(can.PASIDs):
		return fmt.Errorf("%w: it is not in 1 to %#x", ErrPASID, can.PASIDs-1)
	}
	return nil
}

// A way is the tables that lead to a PASID table entry.
type way struct {
	space              *pasidSpace
	table              *pasidTable
	newSpace, newTable bool
	contexts           []pagetable.Frame // the context table, if it is new
}

// wayTo finds the tables that lead to an entry, and takes frames for those that
// are missing: for all or none.
func (u *Unit) wayTo(source uint16, pasid uint32) (way, error) {
	w := way{space: u.spaces[source]}
	var names []string
	if w.newSpace = w.space == nil; w.newSpace {
		names = append(names, "PASID directory")
	} else {
		w.table = w.space.tables[pasid/pasidsPerTable]
	}
	if w.newTable = w.table == nil; w.newTable {
		names = append(names, "PASID table")
	}
	if u.contexts[u.rootWord(source)] == nil {
		names = append(names, "context table")
	}
	frames, err := u.take(names...)
	if err != nil {
		return way{}, err
	}
	if w.newSpace {
		w.space = &pasidSpace{frame: frames[0], directory: u.mem.Entries(frames[0]), tables: make(map[uint32]*pasidTable)}
		frames = frames[1:]
	}
	if w.newTable {
		w.table = &pasidTable{frame: frames[0], entries: u.mem.Entries(frames[0])}
		frames = frames[1:]
	}
	w.contexts = frames
	return w, nil
}

// attachPASID makes a PASID table entry and links the tables that lead to it,
// from below: each is complete before the unit can reach it.
func (u *Unit) attachPASID(source uint16, pasid uint32, domainID uint16, tr translation) error {
	w, err := u.wayTo(source, pasid)
	if err != nil {
		return err
	}
	u.setEntry(orderPASIDEntry, flushPASIDEntry, w.table.entry(pasid), u.pasidWords(domainID, tr))
	w.table.used++
	if w.newTable {
		w.space.tables[pasid/pasidsPerTable] = w.table
		u.setWord(flushDirectoryEntry, w.space.directory[pasid/pasidsPerTable:], w.table.frame.Bus|entryPresent)
	}
	for _, f := range w.contexts {
		u.linkContexts(source, f)
	}
	if w.newSpace {
		u.spaces[source] = w.space
		u.setWord(flushContextEntry, u.contextEntry(source), u.scalableWord(source, w.space))
	}
	if err := u.publishedPASID(source, pasid, domainID, tr, w.newSpace); err != nil {
		return errors.Join(err, u.retirePASIDEntry(source, pasid, domainID, tr.kind))
	}
	return nil
}

// pasidWords are the words of a PASID table entry.
func (u *Unit) pasidWords(domainID uint16, tr translation) []uint64 {
	w := []uint64{entryPresent | uint64(tr.kind)<<pasidKind | tr.code<<pasidWidth, uint64(domainID), 0, 0, 0, 0, 0, 0}
	if u.caps.ScalableSnoops {
		w[1] |= pasidWalkSnoop
	}
	switch tr.kind {
	case throughSecond:
		w[0] |= tr.root
	case throughFirst:
		w[2] = tr.root | (tr.code-2)<<pasidLevels
		// AW is of the second stage and ignored here; a unit that has none reserves
		// it. But QEMU's that has none checks addresses by it, and Linux sets it.
		w[0] = w[0]&^(7<<pasidWidth) | u.caps.widest()<<pasidWidth
	}
	return w
}

// scalableWord is the first word of a scalable context entry. The others are 0:
// RID_PASID is noPASID.
func (u *Unit) scalableWord(source uint16, s *pasidSpace) uint64 {
	low := s.frame.Bus | entryPresent
	if _, ok := u.deviceTLBs[source]; ok {
		low |= scalableDeviceTLB
	}
	if pasids := u.caps.Usable(Scalable).PASIDs; pasids > 0 {
		low |= scalablePASIDs
		for size := 0; 1<<(7+size)*pasidsPerTable < pasids; size++ {
			low += 1 << scalableDirectory
		}
	}
	return low
}

// publishedPASID lets the unit see a PASID table entry that has become present,
// and with it perhaps a context entry. Only a unit in caching mode has cached
// that they were not, tagged with domain id 0 (section 6.2.3). Some versions of
// QEMU compare the id with that of the new entry instead.
func (u *Unit) publishedPASID(source uint16, pasid uint32, domainID uint16, tr translation, newContext bool) error {
	if !u.enabled || !u.caps.CachingMode {
		return u.publishedBuffer()
	}
	p := u.newPlan()
	if newContext {
		p.add(publishContext, request{kind: ofContexts, granularity: selective, source: source})
		p.fence()
	}
	p.add(publishPASID, ofEntry(0, pasid, newContext))
	p.add(publishPASID, ofEntry(domainID, pasid, newContext))
	p.fence()
	p.add(publishIOTLB, ofTranslations(domainID, pasid, tr.kind, newContext))
	return u.run(p)
}

// ofEntry is the invalidation of a PASID table entry: of all in its domain if the
// context entry changes with it (sections 6.5.2.1 and 6.5.3.3, table 28).
func ofEntry(domainID uint16, pasid uint32, context bool) request {
	if context {
		return request{kind: ofPASIDs, granularity: pasidsOfDomain, domainID: domainID}
	}
	return request{kind: ofPASIDs, granularity: ofOnePASID, domainID: domainID, pasid: pasid}
}

// ofTranslations is the invalidation of all that was translated by one PASID
// table entry: by PASID, except that the second stage has no such, and that a
// change of the context entry asks for the whole domain.
func ofTranslations(domainID uint16, pasid uint32, kind translationKind, context bool) request {
	if kind == throughSecond || context {
		return request{kind: ofIOTLB, granularity: byDomain, domainID: domainID}
	}
	return request{kind: ofPASIDIOTLB, granularity: wholePASID, domainID: domainID, pasid: pasid}
}

// retirePASIDEntry takes a PASID table entry away, and the tables that nothing
// is in any more. Their frames go back to the pool when the unit has forgotten
// them, which after an error is later.
func (u *Unit) retirePASIDEntry(source uint16, pasid uint32, domainID uint16, kind translationKind) (err error) {
	table := u.spaces[source].tables[pasid/pasidsPerTable]
	entry := table.entry(pasid)
	u.setWord(flushPASIDGone, entry, 0)
	table.used--
	unlinked, contextGone := u.unlinkEmpty(source, pasid, table)

	inOrder(orderFreeTables, func() {
		err = u.forgetPASIDEntry(entry, source, pasid, domainID, kind, contextGone)
	}, func() {
		u.limbo = append(u.limbo, unlinked...)
		if err == nil {
			err = u.freeLimbo()
		}
	})
	return err
}

// forgetPASIDEntry makes the unit forget a PASID table entry that is not present
// any more, perhaps with its context entry, and then clears the rest of it.
func (u *Unit) forgetPASIDEntry(entry []uint64, source uint16, pasid uint32, domainID uint16, kind translationKind, contextGone bool) (err error) {
	inOrder(orderRetire, func() {
		p := u.newPlan()
		if contextGone {
			p.add(retireContext, request{kind: ofContexts, granularity: selective, domainID: domainID, source: source})
			p.fence()
		}
		p.add(retirePASID, ofEntry(domainID, pasid, contextGone))
		p.fence()
		p.add(retireIOTLB, ofTranslations(domainID, pasid, kind, contextGone))
		err = u.retired(p, place{source, pasid}, domainID)
	}, func() {
		if err == nil {
			clearRest(entry)
		}
	})
	return err
}

// unlinkEmpty takes an empty PASID table out of the directory, and a directory
// without tables out of the context entry.
func (u *Unit) unlinkEmpty(source uint16, pasid uint32, table *pasidTable) (frames []pagetable.Frame, contextGone bool) {
	if table.used > 0 {
		return nil, false
	}
	space := u.spaces[source]
	delete(space.tables, pasid/pasidsPerTable)
	u.setWord(flushDirectoryGone, space.directory[pasid/pasidsPerTable:], 0)
	frames = append(frames, table.frame)
	if len(space.tables) > 0 {
		return frames, false
	}
	delete(u.spaces, source)
	u.setWord(flushContextGone, u.contextEntry(source), 0)
	return append(frames, space.frame), true
}

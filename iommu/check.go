package iommu

import (
	"errors"
	"runtime/debug"
	"sync"

	"gommu/internal/procpin"
)

// A CheckError is a report of Options.Check: something was reused before the
// invalidation that covers it was complete.
type CheckError struct {
	What       string // "map", "reuse of an IOVA", "release of a frame", "unpin"
	IOVA, Size uint64 // of the window that was unmapped
	Unmapped   string // stack of the Unmap
	Reused     string // stack of the reuse
}

func (e *CheckError) Error() string {
	return "iommu: " + e.What + " " + ErrCheck.Error() + "\nunmapped at:\n" + e.Unmapped + "\nreused at:\n" + e.Reused
}

func (e *CheckError) Unwrap() error { return ErrCheck }

// What is reused.
const (
	checkMap   = "map"
	checkIOVA  = "reuse of an IOVA"
	checkFrame = "release of a frame"
	checkUnpin = "unpin"
)

// A ledger is Options.Check. It believes nothing that the domain knows of flushes: it writes down what leaves the table, sits
// between the domain and its units, and strikes out what a unit was told after that and has done. Whatever is reused
// is looked up. A nil ledger does nothing.
type ledger struct {
	mu      sync.Mutex // see lock
	clock   uint64     // counts what is written down
	notes   map[uint64]*note
	units   map[*watched]bool
	reports []*CheckError
}

// lock is for callers who may be pinned, as those are who give something back. They must not park, so whoever has the
// lock is pinned, too, and soon done.
func (l *ledger) lock() {
	if !procpin.Works {
		l.mu.Lock()
		return
	}
	procpin.Pin()
	for !l.mu.TryLock() {
	}
}

func (l *ledger) unlock() {
	l.mu.Unlock()
	if procpin.Works {
		procpin.Unpin()
	}
}

// A note is a window that was unmapped, by its number, or a block whose tables are held no more, by its first IOVA and level.
type note struct {
	first, last uint64
	regions     []uint32
	tables      bool // went out of use with it
	at          uint64
	stack       string
	waits       map[*watched]bool // units that may have it cached
}

const maxReports = 16 // that are kept at a time

func newLedger() *ledger {
	return &ledger{notes: map[uint64]*note{}, units: map[*watched]bool{}}
}

// unmapped writes down what was cleared from the table.
func (l *ledger) unmapped(d *Domain, rec *record, tables bool) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	n := l.write(uint64(rec.win.Number), rec.win.Start, rec.win.Size)
	n.tables = tables
	for r := rec; ; r = &d.records[r.more] {
		n.regions = append(n.regions, regionOf(r.state.Load()))
		if r.more == 0 {
			break
		}
	}
}

// write writes a note down.
func (l *ledger) write(key, first, size uint64) *note {
	l.clock++
	n := &note{first: first, last: first + size - 1, at: l.clock, stack: string(debug.Stack()), waits: map[*watched]bool{}}
	for u := range l.units {
		n.waits[u] = true
	}
	l.notes[key] = n
	return n
}

// heldKey is that of a block of tables.
func heldKey(level int, iova uint64) uint64 { return 1<<63 | iova | uint64(level) }

// unheld writes down a block whose tables went out of use.
func (l *ledger) unheld(level int, iova, size uint64) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	l.write(heldKey(level, iova), iova, size).tables = true
}

// released is told of a block before the frames of its tables are given back.
func (l *ledger) released(level int, iova uint64) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	key := heldKey(level, iova)
	if n := l.notes[key]; n != nil && len(n.waits) > 0 {
		l.found(checkFrame, n)
	}
	delete(l.notes, key)
}

// mapped is told of a window before something is mapped in it.
func (l *ledger) mapped(first, size uint64) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	for _, n := range l.notes {
		if len(n.waits) > 0 && n.first <= first+size-1 && first <= n.last {
			l.found(checkMap, n)
		}
	}
}

// freed is told of a window that is given back, and of the frames of tables that went out of use with it.
func (l *ledger) freed(rec *record, frames bool) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	n := l.notes[uint64(rec.win.Number)]
	if n == nil {
		return
	}
	if len(n.waits) > 0 {
		l.found(checkIOVA, n)
		if frames {
			l.found(checkFrame, n)
		}
		return // what comes next may be a report too
	}
	delete(l.notes, uint64(rec.win.Number))
}

// unpinned is told of a region before its memory is unpinned.
func (l *ledger) unpinned(region uint32) {
	if l == nil {
		return
	}
	l.lock()
	defer l.unlock()
	for _, n := range l.notes {
		for _, id := range n.regions {
			if id == region && len(n.waits) > 0 {
				l.found(checkUnpin, n)
				break
			}
		}
	}
}

func (l *ledger) found(what string, n *note) {
	e := &CheckError{What: what, IOVA: n.first, Size: n.last - n.first + 1, Unmapped: n.stack, Reused: string(debug.Stack())}
	if len(l.reports) < maxReports {
		l.reports = append(l.reports, e)
	}
}

// take returns the reports that nobody was told of, once.
func (l *ledger) take() []*CheckError {
	if l == nil {
		return nil
	}
	l.lock()
	defer l.unlock()
	reports := l.reports
	l.reports = nil
	return reports
}

// tellCheck hands the reports to OnCheck, or returns them.
func (d *Domain) tellCheck() error {
	var errs []error
	for _, e := range d.check.take() {
		if d.opts.OnCheck != nil {
			d.opts.OnCheck(e)
		} else {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// watch puts the ledger before a binding.
func (l *ledger) watch(b Binding) Binding {
	if l == nil {
		return b
	}
	l.lock()
	defer l.unlock()
	w := &watched{Binding: b, l: l}
	l.units[w] = true
	return w
}

// watched is a binding with the ledger before it.
//
//gommu:maysleep Options.Check is for tests
type watched struct {
	Binding
	l     *ledger
	begun []begun
}

// begun is what a unit was told.
type begun struct {
	ticket      Ticket
	first, last uint64
	leavesOnly  bool
	at          uint64 // the ledger's clock before it was told
}

func (w *watched) Begin(iova, size uint64, leavesOnly bool) (Ticket, error) {
	w.l.lock()
	b := begun{first: iova, last: iova + size - 1, leavesOnly: leavesOnly, at: w.l.clock}
	w.l.unlock()
	if size == 0 {
		b.first, b.last, b.leavesOnly = 0, ^uint64(0), false
	}
	t, err := w.Binding.Begin(iova, size, leavesOnly)
	if err == nil {
		b.ticket = t
		w.l.lock()
		w.begun = append(w.begun, b)
		w.l.unlock()
	}
	return t, err
}

func (w *watched) Done(t Ticket) (bool, error) {
	done, err := w.Binding.Done(t)
	if !done || err != nil {
		return done, err
	}
	w.l.lock()
	defer w.l.unlock()
	left := w.begun[:0]
	for _, b := range w.begun {
		if b.ticket > t {
			left = append(left, b)
			continue
		}
		w.strike(b)
	}
	w.begun = left
	return true, nil
}

// strike notes that the unit has done what it was told.
func (w *watched) strike(b begun) {
	for _, n := range w.l.notes {
		if n.at <= b.at && b.first <= n.first && n.last <= b.last && !(n.tables && b.leavesOnly) {
			delete(n.waits, w)
		}
	}
}

// Recover says nothing of what was asked for: a unit that had not failed does nothing. But who is gone has nothing cached.
func (w *watched) Recover() error {
	err := w.Binding.Recover()
	if errors.Is(err, ErrGone) {
		w.l.lock()
		w.strike(begun{last: ^uint64(0), at: w.l.clock})
		w.begun = nil
		w.l.unlock()
	}
	return err
}

// Close is that of the binding, of which nothing is cached any more.
func (w *watched) Close() error {
	err := w.Binding.Close()
	if err == nil {
		w.l.lock()
		w.strike(begun{last: ^uint64(0), at: w.l.clock})
		delete(w.l.units, w)
		w.l.unlock()
	}
	return err
}

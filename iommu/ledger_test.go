package iommu

import (
	"errors"
	"strings"
	"testing"

	"gommu/iommu/iova"
)

// done is a unit that has done what it was told when the test says so.
//
//gommu:maysleep a test's fake
type done struct {
	Binding
	ticket, upTo Ticket
}

func (d *done) Begin(iova, size uint64, leavesOnly bool) (Ticket, error) {
	d.ticket++
	return d.ticket, nil
}
func (d *done) Done(t Ticket) (bool, error) { return t <= d.upTo, nil }
func (d *done) Recover() error              { return nil }
func (d *done) Close() error                { return nil }

// The ledger strikes out what a unit was told of after it was unmapped, as a whole, and has done; all
// else it reports.
func TestLedger(t *testing.T) {
	const start = 0x10000
	for _, c := range []struct {
		name   string
		tables bool
		do     func(u *done, w Binding)
		want   bool // a report
	}{
		{"nothing", false, func(u *done, w Binding) {}, true},
		{"begun", false, func(u *done, w Binding) { w.Begin(0, 0, false); w.Done(1) }, true},
		{"done", false, func(u *done, w Binding) { w.Begin(0, 0, false); u.upTo = 1; w.Done(1) }, false},
		{"done but not asked", false, func(u *done, w Binding) { w.Begin(0, 0, false); u.upTo = 1 }, true},
		{"a range", false, func(u *done, w Binding) { w.Begin(start, 8192, true); u.upTo = 1; w.Done(1) }, false},
		{"a part", false, func(u *done, w Binding) { w.Begin(start, 4096, true); u.upTo = 1; w.Done(1) }, true},
		{"beside", false, func(u *done, w Binding) { w.Begin(start+8192, 8192, true); u.upTo = 1; w.Done(1) }, true},
		{"a later one", false, func(u *done, w Binding) {
			w.Begin(0, 0, false)
			w.Begin(start+8192, 8192, true)
			u.upTo = 2
			w.Done(2)
		}, false},
		{"leaves of tables", true, func(u *done, w Binding) { w.Begin(start, 8192, true); u.upTo = 1; w.Done(1) }, true},
		{"tables", true, func(u *done, w Binding) { w.Begin(start, 8192, false); u.upTo = 1; w.Done(1) }, false},
		{"recovered", true, func(u *done, w Binding) { w.Begin(0, 0, false); w.Recover() }, true},
		{"recovered and done", true, func(u *done, w Binding) { w.Begin(0, 0, false); w.Recover(); u.upTo = 1; w.Done(1) }, false},
		{"closed", true, func(u *done, w Binding) { w.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger()
			u := &done{}
			w := l.watch(u)
			other := l.watch(&done{})
			rec := &record{win: iova.Window{Start: start, Size: 8192, Number: 5}}
			rec.begin(3)
			l.unmapped(&Domain{}, rec, c.tables)
			c.do(u, w)
			other.Close()
			l.mapped(start+4096, 4096)
			l.mapped(start+8192, 4096)
			l.freed(rec, true)
			l.unpinned(3)
			l.unpinned(4)
			var reports error
			for _, e := range l.take() {
				reports = errors.Join(reports, e)
			}
			if !c.want {
				if reports != nil {
					t.Errorf("reported: %v", reports)
				}
				return
			}
			for _, what := range []string{checkMap, checkIOVA, checkFrame, checkUnpin} {
				if reports == nil || strings.Count(reports.Error(), "iommu: "+what+" reused") != 1 {
					t.Errorf("%q was not reported once: %v", what, reports)
				}
			}
			if !errors.Is(reports, ErrCheck) {
				t.Error("the reports are not ErrCheck")
			}
		})
	}
}

// What was told before the Unmap does not count, even if it is done later.
func TestLedgerOrder(t *testing.T) {
	l := newLedger()
	u := &done{}
	w := l.watch(u)
	ticket, _ := w.Begin(0, 0, false)
	rec := &record{win: iova.Window{Start: 0x1000, Size: 4096, Number: 1}}
	l.unmapped(&Domain{}, rec, false)
	u.upTo = ticket
	w.Done(ticket)
	l.freed(rec, false)
	if len(l.take()) == 0 {
		t.Error("a flush that was begun before counts")
	}
}

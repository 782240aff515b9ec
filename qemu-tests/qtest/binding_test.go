//go:build linux

package qtest_test

import (
	"fmt"
	"testing"

	"gommu/iommu"
)

// TestBindings unmaps with flushes that nobody sleeps for: several on their way at
// once where the unit has a queue, around it, and each done in the end.
func TestBindings(t *testing.T) {
	everyMode(t, flushing)
	for _, extra := range []string{"", "caching-mode=on"} {
		t.Run("wide, "+extra, func(t *testing.T) { queueModes(t, extra, flushing) })
	}
}

func flushing(t *testing.T, md mode) {
	r := newRig(t, md)
	tbl := r.table()
	b, err := r.unit.Bind(tbl)
	r.must(err)
	r.must(b.Attach(firstEdu))
	r.enable()
	const iova, pages = uint64(0x40_0000), 4
	r.mapRange(tbl, iova+page*pages, frame(pages), page, both) // the tables stay
	for round := range 20 {
		for i := range pages {
			at := iova + uint64(i)*page
			r.mapRange(tbl, at, frame(i), page, both)
			r.must(b.Publish(at, page))
			if !r.reaches(0, at, frame(i)) {
				t.Fatalf("round %d: page %d is not reached", round, i)
			}
		}
		for i := range pages {
			batch := r.unmap(tbl, iova+uint64(i)*page, page)
			if batch.Tables() != 0 {
				t.Fatal("a table went")
			}
		}
		var tickets []iommu.Ticket
		for i := range pages {
			at, size := iova+uint64(i)*page, uint64(page)
			if round%4 == 3 {
				at, size = 0, 0
			}
			ticket, err := b.Begin(at, size, true)
			for ; err == iommu.ErrBusy; ticket, err = b.Begin(at, size, true) {
				r.must(looked(b, tickets))
			}
			r.must(err)
			tickets = append(tickets, ticket)
		}
		for i, ticket := range tickets {
			for done := false; !done; {
				done, err = b.Done(ticket)
				r.must(err)
			}
			if r.reaches(0, iova+uint64(i)*page, frame(i)) {
				t.Fatalf("round %d: page %d is reached after its flush", round, i)
			}
		}
		if _, _, err := r.unit.Faults(); err != nil {
			t.Fatal(err)
		}
	}
	r.must(b.Detach(firstEdu))
	r.must(b.Close())
	if got := r.unit.Stats(); got.BadDescriptors != 0 {
		t.Errorf("%+v", got)
	}
}

// looked asks whether the last flush is done, which makes room on a unit without
// a queue.
func looked(b iommu.Binding, tickets []iommu.Ticket) error {
	if len(tickets) == 0 {
		return fmt.Errorf("%w: and no flush is on its way", iommu.ErrBusy)
	}
	_, err := b.Done(tickets[len(tickets)-1])
	return err
}

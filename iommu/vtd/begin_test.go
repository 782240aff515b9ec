package vtd_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gommu/iommu"
	"gommu/iommu/vtd"
)

// bindFake binds a table on a bench and attaches devices, each with a TLB.
func bindFake(t *testing.T, u *vtd.Unit, frame uint64, sources ...uint16) *vtd.Binding {
	t.Helper()
	b, err := u.BindTable(fakeTable{firstBus + frame*4096, 48})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		if u.Capabilities().DeviceTLB {
			err = u.SetDeviceTLB(source, &vtd.DeviceTLB{})
		}
		if err := errors.Join(err, b.Attach(source)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// told are the pages that the unit was told to forget.
func told(b *bench) []string {
	return slices.DeleteFunc(slices.Clone(b.log), func(s string) bool { return !strings.HasPrefix(s, "pages") })
}

// TestBeginFull fills the queue several times around: what does not fit is
// refused, and each flush is told once and in order.
func TestBeginFull(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		b := newBench(t)
		b.extra |= extra
		u := b.enabled(t, byQueue)
		d := bindFake(t, u, 1, 0x18)
		most := 127
		if extra != 0 {
			most = 63
		}
		for round := range 20 {
			// From another place in the ring each time.
			for range round % 3 {
				if err := u.InvalidateDomain(9); err != nil {
					t.Fatal(err)
				}
			}
			b.log = nil
			b.stuck["queue"] = true
			var tickets []iommu.Ticket
			var want []string
			for page := uint64(1); ; page++ {
				ticket, err := d.Begin(page<<12, 0x1000, false)
				if err == iommu.ErrBusy {
					break
				}
				if err != nil || len(tickets) > 0 && ticket <= tickets[len(tickets)-1] {
					t.Fatal(ticket, err)
				}
				tickets, want = append(tickets, ticket), append(want, fmt.Sprintf("pages %#x", page<<12))
			}
			if len(tickets) != most {
				t.Fatalf("round %d: %d flushes fit, want %d", round, len(tickets), most)
			}
			for _, ticket := range tickets {
				if done, err := d.Done(ticket); done || err != nil {
					t.Fatal("before the unit did anything: ", done, err)
				}
			}
			b.unstick()
			for _, ticket := range tickets {
				if err := awaited(d, ticket); err != nil {
					t.Fatal(err)
				}
			}
			if got := told(b); !slices.Equal(got, want) {
				t.Fatalf("told %q, want %q", got, want)
			}
		}
	})
}

// TestBeginNumbers goes over the border of 32 bits, which are what the unit
// writes: tickets grow on, and old ones stay done.
func TestBeginNumbers(t *testing.T) {
	for _, start := range []uint64{1<<31 - 40, 1<<32 - 40, 7<<32 - 40} {
		b := newBench(t)
		u := b.open(t, byQueue)
		u.StartAt(start)
		if err := u.Enable(t.Context()); err != nil {
			t.Fatal(err)
		}
		d := bindFake(t, u, 1, 0x18)
		var tickets []iommu.Ticket
		for n := range uint64(100) {
			b.stuck["queue"] = true
			first, err1 := d.Begin(n<<12, 1, true)
			last, err2 := d.Begin(n<<12, 1, true)
			if err := errors.Join(err1, err2); err != nil || uint64(first) <= start || last <= first {
				t.Fatal(first, last, err)
			}
			if done, err := d.Done(first); done || err != nil {
				t.Fatal(done, err)
			}
			tickets = append(tickets, first, last)
			b.unstick()
			for _, ticket := range tickets {
				if done, err := d.Done(ticket); !done || err != nil {
					t.Fatalf("ticket %#x of %#x: %v, %v", ticket, last, done, err)
				}
			}
			if err := u.Invalidate(d.DomainID(), 0x1000, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBeginCovers says how a range is told.
func TestBeginCovers(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable | ecapDT
	u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
	second := bindFake(t, u, 1, 0x18)
	first, err := u.BindTable(stagedTable{fakeTable{firstBus + 2*4096, 48}})
	if err := errors.Join(err, u.AttachPASID(0x18, 9, first.DomainID(), stagedTable{fakeTable{firstBus + 2*4096, 48}})); err != nil {
		t.Fatal(err)
	}
	const all = "pages 0x7ffffffffffff001"
	for _, c := range []struct {
		name       string
		b          *vtd.Binding
		iova, size uint64
		leavesOnly bool
		want       []string
	}{
		{"page", second, 0x5000, 0x1000, true, []string{"iotlb 3 did 1 drain 3", "pages 0x5040", "device sid 0x18 depth 0 pages 0x5000"}},
		{"with tables", second, 0x5000, 1, false, []string{"iotlb 3 did 1 drain 3", "pages 0x5000", "device sid 0x18 depth 0 pages 0x5000"}},
		{"over a border", second, 0x5fff, 2, true, []string{"iotlb 3 did 1 drain 3", "pages 0x4042", "device sid 0x18 depth 0 pages 0x5001"}},
		{"beyond the mask", second, 0, 1 << 39, true, []string{"iotlb 2 did 1 drain 3", "device sid 0x18 depth 0 pages 0x3ffffff001"}},
		{"domain", second, 0, 0, true, []string{"iotlb 2 did 1 drain 3", "device sid 0x18 depth 0 " + all}},
		{"PASID", first, 0x5000, 0x1000, true, []string{"iotlb 3 did 2 pasid 0x9", "pages 0x5040", "device sid 0x18 pasid 0x9 depth 0 pages 0x5000"}},
		{"domain of PASIDs", first, 0, 0, true, []string{"iotlb 2 did 2 drain 3", "device sid 0x18 pasid 0x9 depth 0 pages 0x7ffffffffffff800"}},
	} {
		b.log = nil
		ticket, err := c.b.Begin(c.iova, c.size, c.leavesOnly)
		if err := errors.Join(err, awaited(c.b, ticket)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !slices.Equal(b.log, c.want) {
			t.Errorf("%s: %q, want %q", c.name, b.log, c.want)
		}
	}
}

// TestBeginBusy: while somebody stores something, Begin goes away at once; while
// somebody waits, it need not.
func TestBeginBusy(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, byQueue)
	d := bindFake(t, u, 1, 0x18)
	var inside []error
	b.watch = func() {
		_, err := d.Begin(0, 0, false)
		inside = append(inside, err)
	}
	if err := u.Invalidate(d.DomainID(), 0x1000, 1); err != nil {
		t.Fatal(err)
	}
	b.watch = nil
	if len(inside) == 0 || slices.ContainsFunc(inside, func(err error) bool { return err != iommu.ErrBusy }) {
		t.Errorf("inside of the doorbell: %v", inside)
	}

	b.stuck["queue"] = true
	waiting := make(chan error)
	go func() { waiting <- u.Invalidate(d.DomainID(), 0x2000, 1) }()
	for stored := false; !stored; runtime.Gosched() {
		b.mu.Lock()
		stored = b.tail != b.head
		b.mu.Unlock()
	}
	ticket, err := d.Begin(0x3000, 1, true)
	for err == iommu.ErrBusy {
		ticket, err = d.Begin(0x3000, 1, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waiting:
		t.Fatalf("the unit is stuck, and yet: %v", err)
	default:
	}
	b.unstick()
	if err := errors.Join(<-waiting, awaited(d, ticket)); err != nil {
		t.Error(err)
	}
}

// TestBeginBadDescriptor lets the unit stop at one of three flushes: the one
// before is done, the others are in doubt until Recover.
func TestBeginBadDescriptor(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		for name, finder := range map[string]func(u *vtd.Unit, d *vtd.Binding) error{
			"done":       func(*vtd.Unit, *vtd.Binding) error { return nil },
			"invalidate": func(u *vtd.Unit, d *vtd.Binding) error { return u.Invalidate(d.DomainID(), 0x9000, 1) },
		} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				b.extra |= extra
				u := b.enabled(t, byQueue)
				d := bindFake(t, u, 1, 0x18)
				b.refuses = func(low, high uint64) bool { return low&0xf == 2 && high>>12 == 2 }
				var tickets []iommu.Ticket
				for page := range uint64(3) {
					ticket, err := d.Begin((page+1)<<12, 1, true)
					if err != nil {
						t.Fatal(err)
					}
					tickets = append(tickets, ticket)
				}
				if err := finder(u, d); err != nil {
					t.Fatalf("who waits for something else: %v", err)
				}
				for i, ticket := range tickets {
					if err := awaited(d, ticket); errors.Is(err, iommu.ErrFlush) != (i > 0) || i == 0 && err != nil {
						t.Errorf("flush %d: %v", i, err)
					}
				}
				if _, err := d.Begin(0x1000, 1, true); !errors.Is(err, iommu.ErrFlush) {
					t.Errorf("begin before recovery: %v", err)
				}
				b.log = nil
				if err := d.Recover(); err != nil || !slices.Contains(b.log, "iotlb 1 did 0 drain 3") {
					t.Fatal(err, b.log)
				}
				tickets = append(tickets, 0)
				var err error
				if tickets[3], err = d.Begin(0x4000, 1, true); err != nil {
					t.Fatal(err)
				}
				for i, ticket := range tickets {
					if err := awaited(d, ticket); err != nil {
						t.Errorf("flush %d after recovery: %v", i, err)
					}
				}
			})
		}
	})
}

// TestBeginSilentDevice lets a device not answer while flushes are on their way.
// All that were not done by then are in doubt, whatever the unit confirms later,
// until the device answers or is detached.
func TestBeginSilentDevice(t *testing.T) {
	bothWidths(t, func(t *testing.T, extra uint64) {
		for name, cure := range map[string]func(b *bench, d *vtd.Binding) error{
			"answers":  func(b *bench, d *vtd.Binding) error { b.silent = nil; return nil },
			"detached": func(b *bench, d *vtd.Binding) error { _ = d.Detach(0x20); return nil },
		} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				b.extra |= extra | ecapDT
				u := b.enabled(t, byQueue)
				good, bad := bindFake(t, u, 1, 0x18), bindFake(t, u, 2, 0x20)
				b.silent = map[uint16]bool{0x20: true}
				var tickets []iommu.Ticket
				for i, d := range []*vtd.Binding{good, bad, good, bad} {
					ticket, err := d.Begin(uint64(i+1)<<12, 1, true)
					if err != nil {
						t.Fatal(err)
					}
					tickets = append(tickets, ticket)
				}
				of := []*vtd.Binding{good, bad, good, bad}
				if err := awaited(good, tickets[0]); err != nil {
					t.Error(err)
				}
				for i := range 3 {
					if err := awaited(of[i+1], tickets[i+1]); !errors.Is(err, iommu.ErrFlush) {
						t.Errorf("flush %d: %v", i+1, err)
					}
				}
				err := bad.Recover()
				if named := queueErrors(unjoin(err)); len(named) == 0 || named[0].Source != 0x20 || !errors.Is(err, iommu.ErrFlush) {
					t.Errorf("recover while it is silent: %v", err)
				}
				for i := range tickets {
					if done, err := of[i].Done(tickets[i]); done != (of[i] == good) || !done && !errors.Is(err, iommu.ErrFlush) {
						t.Errorf("flush %d while it is silent: %v, %v", i, done, err)
					}
				}
				if err := errors.Join(good.Recover(), flush(good, 0x1000, 1, true)); err != nil {
					t.Errorf("the other domain: %v", err)
				}
				if _, err := bad.Begin(0x1000, 1, true); !errors.Is(err, iommu.ErrFlush) {
					t.Errorf("begin while it is silent: %v", err)
				}
				if err := errors.Join(cure(b, bad), bad.Recover(), flush(bad, 0x1000, 1, true)); err != nil {
					t.Fatal(err)
				}
				for i := range tickets {
					if err := awaited(of[i], tickets[i]); err != nil {
						t.Errorf("flush %d after recovery: %v", i, err)
					}
				}
			})
		}
	})
}

// unjoin finds what is below the operations.
func unjoin(err error) error {
	var q *vtd.QueueError
	if errors.As(err, &q) {
		return q
	}
	return err
}

// TestBeginUnasked: what a device answered unasked stops some units, and is no
// failure.
func TestBeginUnasked(t *testing.T) {
	b := newBench(t)
	b.lag = 2
	u := b.enabled(t, byQueue)
	d := bindFake(t, u, 1, 0x18)
	before := u.Stats().Completions
	for range 50 {
		b.fault |= 0x20
		if err := flush(d, 0x1000, 1, true); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.Stats().Completions - before; n != 50 {
		t.Errorf("%d unexpected completions are counted", n)
	}
}

// TestBeginGone takes the unit away: flushes fail for good, until the unit is
// closed and uses nothing any more.
func TestBeginGone(t *testing.T) {
	for name, opts := range map[string]vtd.Options{"queue": byQueue, "registers": {Invalidation: vtd.InvalidateByRegisters}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			u := b.enabled(t, opts)
			d := bindFake(t, u, 1, 0x18)
			b.stuck["queue"], b.stuck["IOTLB"] = true, true
			ticket, err := d.Begin(0x1000, 1, true)
			if err != nil {
				t.Fatal(err)
			}
			b.goneAt = b.accesses + 1
			if err := awaited(d, ticket); !errors.Is(err, iommu.ErrFlush) || !errors.Is(err, vtd.ErrGone) {
				t.Error(err)
			}
			if _, err := d.Begin(0x1000, 1, true); !errors.Is(err, vtd.ErrGone) {
				t.Error(err)
			}
			if err := d.Recover(); !errors.Is(err, vtd.ErrGone) {
				t.Error(err)
			}
			if err := errors.Join(u.Close(), awaited(d, ticket)); err != nil {
				t.Errorf("after close: %v", err)
			}
			b.goneAt, b.status = 0, 0
		})
	}
}

// TestBeginByRegisters: one flush at a time, and what the unit refuses is said.
func TestBeginByRegisters(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, vtd.Options{Invalidation: vtd.InvalidateByRegisters})
	d := bindFake(t, u, 1, 0x18)
	b.stuck["IOTLB"] = true
	first, err := d.Begin(0x1000, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Begin(0x2000, 1, true); err != iommu.ErrBusy {
		t.Errorf("a second: %v", err)
	}
	if done, err := d.Done(first); done || err != nil {
		t.Error(done, err)
	}
	b.unstick()
	if err := errors.Join(awaited(d, first), flush(d, 0x2000, 1, true)); err != nil {
		t.Error(err)
	}
	b.refuse = true
	if err := flush(d, 0x3000, 1, true); !errors.Is(err, iommu.ErrFlush) {
		t.Errorf("refused: %v", err)
	}
	if err := d.Recover(); !errors.Is(err, vtd.ErrNotInvalidated) {
		t.Errorf("refused: %v", err)
	}
	b.refuse = false
	if err := errors.Join(d.Recover(), flush(d, 0x3000, 1, true)); err != nil {
		t.Error(err)
	}
}

// TestPublishStuck: a unit that never answers holds up nobody.
func TestPublishStuck(t *testing.T) {
	for name, c := range map[string]struct {
		capability uint64
		opts       vtd.Options
	}{
		"queue":     {capCM, byQueue},
		"registers": {capCM, vtd.Options{Invalidation: vtd.InvalidateByRegisters}},
		"buffer":    {capRWBF, byQueue},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.capability |= c.capability
			u := b.enabled(t, c.opts)
			d := bindFake(t, u, 1, 0x18)
			for _, what := range everythingStuck {
				b.stuck[what] = true
			}
			if err := d.Publish(0x1000, 1); !errors.Is(err, vtd.ErrTimeout) {
				t.Errorf("%v", err)
			}
			b.unstick()
			if err := d.Publish(0x1000, 1); err != nil {
				t.Error(err)
			}
			b.goneAt = b.accesses + 1
			if err := d.Publish(0x1000, 1); !errors.Is(err, vtd.ErrGone) {
				t.Errorf("gone: %v", err)
			}
			b.goneAt, b.status = 0, 0
		})
	}
}

// TestTooMany: a domain takes no more devices with TLBs than a flush can tell.
func TestTooMany(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable | ecapDT
	u := b.enabled(t, byQueue)
	d := bindFake(t, u, 1)
	var err error
	n := 0
	for ; err == nil && n < 256; n++ {
		err = errors.Join(u.SetDeviceTLB(uint16(n), &vtd.DeviceTLB{}), d.Attach(uint16(n)))
	}
	if !errors.Is(err, vtd.ErrTooMany) || n != 125 { // 127 without a range, a fence and a wait: 124
		t.Errorf("attach %d: %v", n, err)
	}
	if err := flush(d, 0x1000, 1, true); err != nil {
		t.Error(err)
	}
}

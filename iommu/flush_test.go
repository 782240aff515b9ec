package iommu_test

import (
	"errors"
	"testing"
	"time"

	"gommu/iommu"
)

// batched is a policy whose bounds no test passes by chance.
func batched(count int) iommu.Options {
	return iommu.Options{Flush: iommu.Flush{Policy: iommu.Batched, Count: count, Bytes: 1 << 40, Deadline: time.Hour}}
}

// Until the flush the device reaches what was unmapped, with its old memory, and nobody gets
// its IOVA; afterwards it does not.
func TestBatched(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, s, batched(1000))
			taken := map[uint64]bool{}
			var gone []iommu.Mapping
			for i := range 100 { // not so many that a Map would find nothing ready and flush
				mem := r.data(i*page, page)
				m := r.mapped(mem, iommu.Bidirectional)
				if taken[m.IOVA()] {
					t.Fatalf("%#x is used again before the flush", m.IOVA())
				}
				taken[m.IOVA()] = true
				r.copies(m, mem, iommu.Bidirectional, "batched")
				want(t, r.d.Unmap(m), nil)
				gone = append(gone, m)
			}
			for _, m := range gone {
				r.reached(m.IOVA()) // the model keeps all it may
			}
			want(t, r.d.Flush(t.Context()), nil)
			for _, m := range gone {
				r.blocked(m.IOVA())
			}
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

// The bounds of the window begin a flush by themselves: a count, bytes, and a deadline.
func TestBounds(t *testing.T) {
	for name, f := range map[string]iommu.Flush{
		"count":    {Policy: iommu.Batched, Count: 32, Bytes: 1 << 40, Deadline: time.Hour},
		"bytes":    {Policy: iommu.Batched, Count: 1 << 20, Bytes: 32 * page, Deadline: time.Hour},
		"deadline": {Policy: iommu.Batched, Count: 1 << 20, Bytes: 1 << 40, Deadline: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: f})
			seen := map[uint64]bool{}
			var first iommu.Mapping
			for i := 0; ; i++ {
				m := r.mapped(r.data(0, page), iommu.Bidirectional)
				r.reached(m.IOVA())
				if i == 0 {
					first = m
				}
				if seen[m.IOVA()] {
					break // flushed: used again
				}
				seen[m.IOVA()] = true
				want(t, r.d.Unmap(m), nil)
				if len(seen) > 10_000 {
					t.Fatal("10000 unmaps were not flushed")
				}
				if name == "deadline" {
					time.Sleep(time.Millisecond)
				}
			}
			if !seen[first.IOVA()] {
				t.Error("first mapping was never unmapped")
			}
			if live := r.d.Live(); len(live) != 1 {
				t.Errorf("%d live mappings, want 1", len(live))
			}
		})
	}
}

// Nothing is used again while the unit has not confirmed, however much is unmapped.
func TestSlowUnit(t *testing.T) {
	r := newRig(t, settings[0], batched(16))
	r.gate.set(func(g *gate) { g.held = true })
	seen := map[uint64]bool{}
	for range 24 { // not so many that Unmap would wait
		m := r.mapped(r.data(0, page), iommu.Bidirectional)
		if seen[m.IOVA()] {
			t.Fatalf("%#x is used again before its flush", m.IOVA())
		}
		seen[m.IOVA()] = true
		want(t, r.d.Unmap(m), nil)
	}
	r.gate.set(func(g *gate) { g.held = false })
	want(t, r.d.Flush(t.Context()), nil)
	if s := r.d.Stats(); s.Pending != 0 {
		t.Errorf("%d are pending after a flush", s.Pending)
	}
}

// A unit that fails makes strict Unmaps say so. The window is out of use until the unit is well again.
func TestFailingUnit(t *testing.T) {
	for _, how := range []string{"begin", "done"} {
		t.Run(how, func(t *testing.T) {
			told := make(chan error, 100)
			r := newRig(t, settings[0], iommu.Options{OnError: func(err error) {
				select {
				case told <- err:
				default:
				}
			}})
			m := r.mapped(r.data(0, page), iommu.Bidirectional)
			r.reached(m.IOVA())
			r.gate.set(func(g *gate) {
				g.stuck = true
				if how == "begin" {
					g.failAt = g.begins + 1
				} else {
					g.doneAt = g.dones + 1
				}
			})
			want(t, r.d.Unmap(m), iommu.ErrFlush)
			want(t, r.d.Unmap(m), iommu.ErrNotMapped)
			r.reached(m.IOVA()) // that is what the error says
			want(t, r.d.Flush(t.Context()), iommu.ErrFlush)
			want(t, r.d.Flush(t.Context()), errBroken)
			if err := <-told; !errors.Is(err, iommu.ErrFlush) {
				t.Errorf("OnError was told %v", err)
			}
			for range 100 {
				n := r.mapped(r.data(0, page), iommu.Bidirectional)
				if n.IOVA() == m.IOVA() {
					t.Fatal("the window is used again")
				}
				if err := r.d.Unmap(n); !errors.Is(err, iommu.ErrFlush) {
					t.Fatal(err)
				}
			}
			r.gate.set(func(g *gate) { g.stuck = false })
			want(t, r.d.Flush(t.Context()), nil)
			r.blocked(m.IOVA())
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

// The worker gets a unit going that failed, and then all is free again.
func TestWorkerRecovers(t *testing.T) {
	o := batched(8)
	o.Flush.Deadline = time.Millisecond
	r := newRig(t, settings[0], o)
	r.gate.set(func(g *gate) { g.failAt = g.begins + 1 })
	for range 100 {
		m, err := r.d.Map(r.data(0, page), iommu.Bidirectional)
		if err == nil {
			err = r.d.Unmap(m)
		}
		if err != nil && !errors.Is(err, iommu.ErrFlush) && !errors.Is(err, iommu.ErrEmpty) {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(rigTimeout); r.d.Stats().Pending != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what was unmapped is pending for ever")
		}
	}
	want(t, r.d.Close(t.Context()), nil)
}

// While a unit is busy calls try again.
func TestBusyUnit(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	m := r.mapped(r.data(0, page), iommu.Bidirectional)
	r.reached(m.IOVA())
	r.gate.set(func(g *gate) { g.busy = 1000 })
	want(t, r.d.Unmap(m), nil)
	r.blocked(m.IOVA())
}

// However short the deadline, there is a worker that keeps it as well as it can.
func TestShortDeadline(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{Flush: iommu.Flush{Policy: iommu.Batched, Deadline: 1}})
	m := r.mapped(r.data(0, page), iommu.Bidirectional)
	want(t, r.d.Unmap(m), nil)
}

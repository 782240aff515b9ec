package iommu

import (
	"context"
	"errors"
	"testing"
	"time"

	"gommu/iommu/iova"
	"gommu/pagetable"
	"gommu/respool"
)

// A call without a shard (MapWait, or a processor that came later) which is inside when Close begins is waited
// for: it cannot slip through between Close's look at the records and its look at the calls.
func TestCloseSeesStrays(t *testing.T) {
	// So many records that a look at all of them takes a while.
	d, data, pool := closable(t, 1<<21)
	r, err := d.Register(t.Context(), data, Bidirectional)
	if err != nil {
		t.Fatal(err)
	}
	// mapWindow, with a rest behind its look at closed.
	w, err := d.space.AllocWait(t.Context(), iova.Request{Size: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	d.strays.Add(1)
	if d.closed.Load() {
		t.Fatal("closed")
	}
	end := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	go func() { end <- d.Close(ctx) }()
	for !d.closed.Load() {
		time.Sleep(time.Microsecond)
	}
	d.grace() // so Close's is over soon, too, and it has begun to look
	time.Sleep(3 * time.Millisecond)
	rec := &d.records[w.Number]
	rec.begin(r.id)
	rec.win = w
	rec.set(kindWaited, Bidirectional, 0)
	if err := d.fill(rec, r, 0, pageSize, Bidirectional); err != nil {
		t.Fatal(err)
	}
	m := d.show(rec, w.Start, pageSize)
	d.strays.Add(-1)
	if err := <-end; !errors.Is(err, ErrMapped) {
		t.Errorf("close with a live mapping: %v", err)
	}
	if d.closed.Load() {
		t.Error("Close was refused, and something has changed: the domain is closed")
	}
	if err := d.Unmap(m); err != nil {
		t.Error(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Error(err)
	}
}

// wholePages are n pages of memory.
func wholePages(n int) []byte {
	mem := make([]byte, (n+1)*pageSize)
	return mem[-addressOf(mem)&pageMask:][:n*pageSize]
}

// An Unmap that has ended its record, and is about to put the window into its processor's cache, is waited for before that is
// closed.
func TestCloseWaitsForPinned(t *testing.T) {
	d, data, pool := closable(t, 64)
	if _, err := d.Register(t.Context(), data, Bidirectional); err != nil {
		t.Fatal(err)
	}
	m, err := d.Map(data[:pageSize], ToDevice)
	if err != nil {
		t.Fatal(err)
	}
	// A strict Unmap up to where the unit has answered.
	rec, err := d.claim(m, 0)
	if err == nil {
		_, err = d.clear(rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	go func() { end <- d.Close(ctx) }()
	for !d.closed.Load() {
		time.Sleep(time.Microsecond)
	}
	time.Sleep(5 * time.Millisecond) // Close waits for the record now
	// done, whose thread the system takes away for a while between two of its stores.
	s := d.pin()
	w := rec.win
	rec.end()
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	err = s.windows.Free(w)
	s.unpin()
	if err != nil {
		t.Errorf("the window cannot be given back: %v", err)
	}
	if err := <-end; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Error(err)
	}
}

// closable is a domain of so many mappings at most, some memory, and its pool of frames.
func closable(t *testing.T, mappings int) (*Domain, []byte, *respool.Pool[pagetable.Frame]) {
	t.Helper()
	const frames = 64
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: 1 << 20, Mem: wholePages(frames)})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := respool.New(t.Context(), mem.Frames(), respool.Options{Name: "frames", Low: 48, High: 64, Max: frames, MaxShare: 1})
	if err != nil {
		t.Fatal(err)
	}
	data := wholePages(4)
	seg, err := NewSegments(pagetable.Segment{Bus: 1 << 30, Mem: data})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), seg, Tables{Frames: pool, Memory: mem, Table: pagetable.Options{Coherent: true}}, Options{MaxMappings: mappings})
	if err != nil {
		t.Fatal(err)
	}
	return d, data, pool
}

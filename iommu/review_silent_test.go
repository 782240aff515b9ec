package iommu_test

import (
	"context"
	"testing"
	"time"

	"gommu/iommu"
)

// While a unit says nothing, and no error either, Flush ends with its context, also when the worker is giving back the
// window of a MapWait, whose tables wait for a flush.
func TestFlushEndsWithContext(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	m, err := r.d.MapWait(t.Context(), r.data(0, page), iommu.Bidirectional, iommu.Place{Fixed: true, IOVA: 1 << 33})
	want(t, err, nil)
	want(t, r.d.Unmap(m), nil) // flushed; the window is left to the worker
	r.gate.set(func(g *gate) { g.held = true })
	time.Sleep(200 * time.Millisecond) // the worker's turn comes every 50
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- r.d.Flush(ctx) }()
	select {
	case err := <-end:
		want(t, err, context.DeadlineExceeded)
	case <-time.After(2 * time.Second):
		t.Error("Flush does not end two seconds after its context")
	}
	r.gate.set(func(g *gate) { g.held = false })
}

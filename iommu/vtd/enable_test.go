package vtd_test

import (
	"errors"
	"testing"

	"gommu/iommu/vtd"
)

// TestEnableAfterDisableFailed: a Disable that was given up may still happen, so
// Enable must not believe that translation is on.
func TestEnableAfterDisableFailed(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, shortly(byQueue))
	b.stuck["TE"] = true
	if err := u.Disable(t.Context()); !errors.Is(err, vtd.ErrTimeout) {
		t.Fatal(err)
	}
	b.unstick()
	b.status &^= 1 << 31 // it has happened
	if err := u.Enable(t.Context()); err != nil || b.status&(1<<31) == 0 {
		t.Errorf("%v, GSTS %#x", err, b.status)
	}
}

// TestFailedEnableKeepsFrames: translation may come on after an Enable and the
// Disable in it have been given up; tables stay until the unit says what it does.
func TestFailedEnableKeepsFrames(t *testing.T) {
	b := newBench(t)
	b.extra |= ecapScalable
	b.capability |= capPLMR
	u := b.open(t, shortly(vtd.Options{Mode: vtd.Scalable}))
	if err := u.Attach(0x18, 1, goodTable); err != nil {
		t.Fatal(err)
	}
	b.watch = func() { // PMEN is written when translation is on
		for _, what := range everythingStuck {
			b.stuck[what] = b.status&(1<<31) != 0
		}
	}
	if err := u.Enable(t.Context()); err == nil {
		t.Fatal("enabled")
	}
	b.watch = nil
	if err := u.Invalidate(1, 0x1000, 1); !errors.Is(err, vtd.ErrUnsettled) {
		t.Errorf("invalidate: %v", err)
	}
	inUse := b.frames.Stats().InUse
	if err := u.Detach(0x18); err == nil {
		t.Error("detached though the unit cannot be told")
	}
	if n := b.frames.Stats().InUse; n != inUse {
		t.Errorf("%d frames are in use, %d before", n, inUse)
	}
}

package vtd_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gommu/iommu/vtd"
)

// TestSilentDetach lets a device keep its TLB when a PASID is detached. While it
// has another, it can use what it kept: so all who want to reuse that must hear of
// it, and nothing new is attached there.
func TestSilentDetach(t *testing.T) {
	const told = "device sid 0x18 pasid 0x9 depth 0 pages 0x7ffffffffffff800"
	first := stagedTable{goodTable}
	attach := func(u *vtd.Unit) error { return u.AttachPASID(0x18, 10, 2, first) }
	enable := func(u *vtd.Unit) error { return u.Enable(t.Context()) }
	for name, c := range map[string]struct {
		do    func(*vtd.Unit) error
		cures bool // the device has nothing left after it
	}{
		"invalidate":        {func(u *vtd.Unit) error { return u.Invalidate(2, 0x1000, 1) }, false},
		"invalidate domain": {func(u *vtd.Unit) error { return u.InvalidateDomain(2) }, false},
		"invalidate all":    {(*vtd.Unit).InvalidateAll, true},
		"attach":            {attach, true},
		"enable":            {enable, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.extra |= ecapScalable | ecapDT
			u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
			if err := errors.Join(u.SetDeviceTLB(0x18, &vtd.DeviceTLB{}), u.Attach(0x18, 1, goodTable), u.AttachPASID(0x18, 9, 2, first)); err != nil {
				t.Fatal(err)
			}
			b.silent = map[uint16]bool{0x18: true}
			if err := u.DetachPASID(0x18, 9); len(queueErrors(err)) == 0 {
				t.Fatal(err)
			}
			if err := u.Invalidate(5, 0x1000, 1); err != nil {
				t.Errorf("another domain: %v", err)
			}
			if name == "enable" {
				if err := u.Disable(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.do(u); len(queueErrors(err)) == 0 {
				t.Errorf("while the device is silent: %v", err)
			}
			b.silent, b.log = nil, nil
			if err := c.do(u); err != nil {
				t.Fatal(err)
			}
			isTold := func(s string) bool { return strings.HasPrefix(s, "device sid 0x18 pasid 0x9 ") }
			at, on := slices.IndexFunc(b.log, isTold), slices.Index(b.log, "TE true")
			if at < 0 || c.cures && b.log[at] != told || name == "enable" && at > on {
				t.Errorf("the device was told at %d, translation on at %d: %q", at, on, b.log)
			}
			b.log = nil
			if err := u.InvalidateAll(); err != nil || slices.Contains(b.log, told) == c.cures {
				t.Errorf("afterwards: %v, %q", err, b.log)
			}
		})
	}
}

// TestStaleInvalidate: after a detach that the unit did not confirm, a flush of
// the domain covers what was detached as well.
func TestStaleInvalidate(t *testing.T) {
	for name, do := range map[string]func(*vtd.Unit) error{
		"range":  func(u *vtd.Unit) error { return u.Invalidate(2, 0x1000, 1) },
		"domain": func(u *vtd.Unit) error { return u.InvalidateDomain(2) },
	} {
		b := newBench(t)
		b.extra |= ecapScalable
		u := b.enabled(t, shortly(vtd.Options{Mode: vtd.Scalable}))
		first := stagedTable{goodTable}
		if err := errors.Join(u.AttachPASID(0x18, 9, 2, first), u.AttachPASID(0x20, 10, 2, first)); err != nil {
			t.Fatal(err)
		}
		b.stuck["queue"] = true
		if err := u.DetachPASID(0x18, 9); !errors.Is(err, vtd.ErrTimeout) {
			t.Fatal(err)
		}
		if err := do(u); !errors.Is(err, vtd.ErrTimeout) {
			t.Errorf("%s: %v", name, err)
		}
		b.unstick()
		b.log = nil
		if err := do(u); err != nil || !slices.Contains(b.log, "iotlb 1 did 0 drain 3") {
			t.Errorf("%s: %v, %q", name, err, b.log)
		}
	}
}

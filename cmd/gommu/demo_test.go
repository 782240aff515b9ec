//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"gommu/internal/held"
	"gommu/qemu-tests/provision"
	"gommu/respool"
)

var errInjected = errors.New("injected")

// qemus are the emulators to test on.
func qemus(t *testing.T) []provision.QEMU {
	t.Helper()
	return provision.Require(t, "qtest", provision.Options{NoKernel: true}).QEMUs
}

// TestDemoQtest runs the demonstration on every QEMU, and again with QEMU gone
// at one request after the other: whatever happens, nothing is left behind.
func TestDemoQtest(t *testing.T) {
	for _, q := range qemus(t) {
		t.Run(q.Version, func(t *testing.T) { testDemoQtest(t, q) })
	}
}

func testDemoQtest(t *testing.T, q provision.QEMU) {
	requests := 0
	run := func(failAt int) *report {
		r := &report{Rung: "qtest"}
		requests = 0
		err := demoQtest(t.Context(), qtestDemo{qemu: q, beforeRequest: func(n int, _ string) error {
			requests = n + 1
			if n == failAt {
				return errInjected
			}
			return nil
		}}, r)
		r.finish(err)
		if failed := failAt >= 0 && failAt < requests; errors.Is(err, errInjected) != failed || r.OK == failed {
			t.Errorf("failing at request %d of %d: ok %t, error %v", failAt, requests, r.OK, err)
		}
		if errors.Is(err, errLeaked) || errors.Is(err, respool.ErrLeaked) {
			t.Errorf("failing at request %d: %v", failAt, err)
		}
		return r
	}
	run(-1) // what the runtime opens for itself and keeps, it has now
	before := held.Now(t)

	r := run(-1)
	checkReport(t, r)
	if r.StaleReached == nil || !*r.StaleReached {
		t.Error("the unmapped page was not reachable before its invalidation: the test of the invalidation proves nothing")
	}
	held.Check(t, before)

	all := requests
	step := all/25 + 1
	for n := 0; n < all; n += step {
		run(n) // near the end it may hold: how often a device is asked whether it is done varies
		if held.Check(t, before); t.Failed() {
			t.Fatalf("failing at request %d of %d", n, all)
		}
	}
}

// checkReport fails unless r says that everything held, with the figures that
// the issue of a demonstration are.
func checkReport(t *testing.T, r *report) {
	t.Helper()
	var out bytes.Buffer
	if err := r.write(&out, true); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatalf("the report is not one JSON object: %v\n%s", err, &out)
	}
	for _, name := range []string{"ok", "rung", "unit", "bytes_verified", "fault", "stale_blocked", "pool"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("the report lacks %q", name)
		}
	}
	f := r.Fault
	if !r.OK || r.Error != "" || !r.StaleBlocked || r.BlockedBytes != 0 || f == nil {
		t.Fatalf("the demonstration did not hold:\n%s", &out)
	}
	if r.BytesVerified != demoCopies*demoBytes {
		t.Errorf("%d bytes verified, want %d", r.BytesVerified, demoCopies*demoBytes)
	}
	if f.Requester != r.Device || f.Reason != 5 || f.Access != "write" || f.Text == "" {
		t.Errorf("fault %+v: want a write by %s blocked for want of write permission (5)", f, r.Device)
	}
	if r.Pool.Gets == 0 || r.Pool.InUse != 0 {
		t.Errorf("pool %+v: want gets, and nothing in use at the end", r.Pool)
	}
	if r.Unit.Version != "0x10" || len(r.Unit.Cap) < 10 || len(r.Unit.Ecap) < 5 {
		t.Errorf("unit %+v: want QEMU's", r.Unit)
	}
}

// A cancelled demonstration ends with the context's error and leaves nothing.
func TestDemoQtestCancelled(t *testing.T) {
	q := qemus(t)[0]
	run := func(at int) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return demoQtest(ctx, qtestDemo{qemu: q, beforeRequest: func(n int, _ string) error {
			if n == at {
				cancel()
			}
			return nil
		}}, &report{})
	}
	run(0)
	before := held.Now(t)
	if err := run(200); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	held.Check(t, before)
}

// A page that is written although it is not mapped is noticed.
func TestWatch(t *testing.T) {
	w := watch{mem: make([]byte, 64)}
	w.changed()
	w.mem[3], w.mem[40] = 1, 1
	if n := w.changed(span{32, 16}); n != 1 {
		t.Errorf("%d bytes changed, want 1: one of two is excepted", n)
	}
	if n := w.changed(); n != 0 {
		t.Errorf("%d bytes changed since the look before, want none", n)
	}
}

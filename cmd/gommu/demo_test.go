package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gommu/qemu-tests/provision"
	"gommu/respool"
)

var errInjected = errors.New("injected")

// qemus are the emulators to test on.
func qemus(t *testing.T) []provision.QEMU {
	t.Helper()
	return provision.Require(t, "qtest", provision.Options{NoKernel: true}).QEMUs
}

// held is what a process holds that a demonstration must give back: open
// files, mappings of files and devices, goroutines.
func held(t *testing.T) []string {
	t.Helper()
	var all []string
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			all = append(all, "fd "+fd.Name()+" "+to)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(f[5], "[") {
			all = append(all, "mapping of "+f[5])
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		// VFIO counts pages that it has pinned as locked.
		if strings.HasPrefix(line, "VmLck") || strings.HasPrefix(line, "VmPin") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return append(all, fmt.Sprintf("%d goroutines", goroutines()))
}

// goroutines counts them once those that have been told to end have ended.
func goroutines() int {
	n := runtime.NumGoroutine()
	for range 100 {
		time.Sleep(time.Millisecond)
		m := runtime.NumGoroutine()
		if m >= n {
			return m
		}
		n = m
	}
	return n
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
		r.finish(time.Now(), err)
		if failed := failAt >= 0 && failAt < requests; errors.Is(err, errInjected) != failed || r.OK == failed {
			t.Errorf("failing at request %d of %d: ok %t, error %v", failAt, requests, r.OK, err)
		}
		if errors.Is(err, errLeaked) || errors.Is(err, respool.ErrLeaked) {
			t.Errorf("failing at request %d: %v", failAt, err)
		}
		return r
	}
	run(-1) // what the runtime opens for itself and keeps, it has now
	before := held(t)

	r := run(-1)
	checkReport(t, r)
	if r.StaleReached == nil || !*r.StaleReached {
		t.Error("the unmapped page was not reachable before its invalidation: the test of the invalidation proves nothing")
	}
	if diff := cmp.Diff(before, held(t)); diff != "" {
		t.Errorf("after a demo that held (-before +after):\n%s", diff)
	}

	all := requests
	step := all/25 + 1
	for n := 0; n < all; n += step {
		run(n) // near the end it may hold: how often a device is asked whether it is done varies
		if diff := cmp.Diff(before, held(t)); diff != "" {
			t.Fatalf("after failing at request %d of %d (-before +after):\n%s", n, all, diff)
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
	before := held(t)
	if err := run(200); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if diff := cmp.Diff(before, held(t)); diff != "" {
		t.Errorf("after a cancelled demo (-before +after):\n%s", diff)
	}
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

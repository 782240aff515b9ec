//go:build linux

package rung_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gommu/internal/held"
	"gommu/iommu"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
	"gommu/qemu-tests/vm"
	"gommu/qemu-tests/vm/guest"
)

func TestMain(m *testing.M) { guest.Main(m) }

// require skips a test whose rung is not there.
func require(t *testing.T, name string) {
	t.Helper()
	switch {
	case name == "qtest":
		provision.Require(t, name, provision.Options{NoKernel: true})
	case name != "model" && !guest.Inside():
		vm.Require(t)
	}
}

// run runs f on a rung: in a guest this very test leads there again.
func run(t *testing.T, name string, o rung.Options, f func(ctx context.Context, m *rung.Machine) error) {
	t.Helper()
	require(t, name)
	var said bytes.Buffer
	o.Output, o.Label = &said, t.Name()
	o.Args = []string{"-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"}
	err := rung.Run(t.Context(), name, o, f)
	if why, ok := errors.AsType[rung.Unavailable](err); ok {
		t.Skip(why)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, &said)
	}
}

// modes are the rungs in the modes that they have.
func modes(t *testing.T, f func(t *testing.T, name string, m rung.Mode)) {
	for _, name := range rung.Names() {
		for _, m := range rung.Modes {
			if m != rung.Legacy && (name == "vfio" || name == "vm") {
				continue // the kernel's tables are what they are; package conformance has all modes in guests
			}
			t.Run(name+"/"+string(m), func(t *testing.T) { f(t, name, m) })
		}
	}
}

// TestBare: without a domain the unit is on and devices reach nothing.
func TestBare(t *testing.T) {
	modes(t, func(t *testing.T, name string, mode rung.Mode) {
		run(t, name, rung.Options{Mode: mode, NoDomain: true, Devices: 2, JumpClock: true}, bare)
	})
}

func bare(ctx context.Context, m *rung.Machine) error {
	if m.Domain != nil || len(m.Devices) != 2 || m.Devices[0].Requester == m.Devices[1].Requester {
		return fmt.Errorf("machine %+v", m)
	}
	if m.Rung == "vfio" {
		info, err := m.Container.Info()
		if err != nil || info.PageSize() != 4096 || m.Unit != nil {
			return fmt.Errorf("container %+v, unit %v, %w", info, m.Unit, err)
		}
		return nil
	}
	d, err := m.Edu()
	if err != nil {
		return err
	}
	if m.Container != nil || !m.Unit.Enabled() {
		return errors.New("the unit is off")
	}
	if err := d.WriteMemory(ctx, 0x5000, 0, 64); err != nil {
		return err
	}
	faults, err := m.Faults()
	if err != nil || len(faults) != 1 || faults[0].Source != m.Requester || faults[0].IOVA != 0x5000 || !faults[0].Write || faults[0].Text == "" {
		return fmt.Errorf("faults %+v, %w", faults, err)
	}
	return d.Close()
}

// TestGuestError: what goes wrong in a guest comes back, and so does what was written.
func TestGuestError(t *testing.T) {
	const label, name = "error", "vm"
	require(t, name)
	var said strings.Builder
	o := rung.Options{NoDomain: true, Output: &said, Label: label, Args: []string{"-test.run=^TestGuestError$"}}
	err := rung.Run(t.Context(), name, o, func(context.Context, *rung.Machine) error {
		fmt.Println("words from", name)
		return rung.Unavailable("for a reason")
	})
	_, ok := errors.AsType[rung.Unavailable](err)
	if g, is := errors.AsType[*rung.GuestError](err); !is || !ok || g.Rung != name || err.Error() != "for a reason" || !strings.Contains(said.String(), "words from vm") {
		t.Errorf("error %v; it wrote %q", err, &said)
	}
	o.Args = []string{"-test.run=^NoSuchTest$"}
	if err := rung.Run(t.Context(), name, o, nil); !errors.Is(err, rung.ErrGuest) || !strings.Contains(err.Error(), "rung.Main") {
		t.Errorf("a program that does not come to Run: %v", err)
	}
}

// TestRefusals: what cannot be.
func TestRefusals(t *testing.T) {
	if err := rung.Run(t.Context(), "tin", rung.Options{}, nil); !errors.Is(err, rung.ErrRung) || !strings.Contains(err.Error(), "model, qtest, vm, vfio") {
		t.Errorf("no such rung: %v", err)
	}
	for _, o := range []rung.Options{{Devices: 3}, {Memory: 4096}, {Tables: -1}, {Mode: "sideways"}} {
		if _, err := rung.Open(t.Context(), "model", o); !errors.Is(err, iommu.ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	t.Setenv("GOMMU_CACHE", t.TempDir())
	t.Setenv("GOMMU_QEMU", "/nowhere")
	if _, err := rung.Open(t.Context(), "qtest", rung.Options{}); err == nil || !strings.Contains(err.Error(), "GOMMU_QEMU") {
		t.Errorf("without QEMU: %v", err)
	}
}

// TestOpenLeaks: a machine of qtest that fails at any request leaves nothing behind.
func TestOpenLeaks(t *testing.T) {
	require(t, "qtest")
	injected := errors.New("injected")
	requests := 0
	open := func(failAt int) error {
		requests = 0
		m, err := rung.Open(t.Context(), "qtest", rung.Options{NoDomain: true, BeforeRequest: func(n int, _ string) error {
			requests = n + 1
			if n == failAt {
				return injected
			}
			return nil
		}})
		if err != nil {
			return err
		}
		return m.Close()
	}
	if err := open(-1); err != nil {
		t.Fatal(err)
	}
	before := held.Now(t)
	for n := 0; n < requests; n += max(1, requests/10) {
		all := requests
		if err := open(n); !errors.Is(err, injected) {
			t.Errorf("failing at request %d of %d: %v", n, all, err)
		}
		requests = all
	}
	held.Check(t, before)
}

//go:build linux

package qtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"gommu/internal/held"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/qtest"
)

// resources is what this process holds. The runtime's poller and the like have to be there.
func resources(t testing.TB) held.State {
	t.Helper()
	m, err := qtest.Start(t.Context(), qtest.Config{QEMU: script(t, answerOnce+"; "+hang)})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	return held.Now(t)
}

// tour brings a machine up, moves bytes, shows a blocked access, and takes
// everything down, whatever fails in between. body is how many requests were
// made when only taking down was left.
func tour(t testing.TB, md mode, started func(*qtest.Machine)) (body int, err error) {
	r := &rig{t: t}
	err = r.tour(md, started)
	if err == nil {
		body = r.m.Requests()
	} else if r.m != nil {
		err = errors.Join(err, r.m.Err()) // why the device or the unit is gone
	}
	return body, errors.Join(err, r.close())
}

func (r *rig) tour(md mode, started func(*qtest.Machine)) error {
	if err := r.setUp(r.t.Context(), md, started); err != nil {
		return err
	}
	tbl, err := pagetable.New(r.mem, r.frames, r.unit.Capabilities().TableOptions())
	if err != nil {
		return err
	}
	var b pagetable.Batch
	r.afterUnit(tbl.Close)
	r.afterUnit(b.Release)
	if err := r.unit.Attach(firstEdu, 1, tbl); err != nil {
		return err
	}
	if err := r.unit.Enable(r.t.Context()); err != nil {
		return err
	}
	if err := tbl.Map(0x1000, frame(1), page, both); err != nil {
		return err
	}
	want := r.random(frame(1), 64)
	if err := r.devices[0].ReadMemory(r.t.Context(), 0x1000, 0, 64); err != nil {
		return err
	}
	if err := r.devices[0].WriteMemory(r.t.Context(), 0x1800, 0, 64); err != nil {
		return err
	}
	if !bytes.Equal(r.bytesAt(frame(1)+0x800, 64), want) {
		return errors.New("bytes went astray")
	}
	if _, err := tbl.Unmap(0x1000, page, &b); err != nil {
		return err
	}
	if err := r.unit.Invalidate(1, 0x1000, page); err != nil {
		return err
	}
	if err := b.Release(); err != nil {
		return err
	}
	if err := r.devices[0].ReadMemory(r.t.Context(), 0x1000, 0, 64); err != nil {
		return err
	}
	if faults, _, err := r.unit.Faults(); err != nil || len(faults) != 1 {
		return fmt.Errorf("faults %v, %w", faults, err)
	}
	return r.unit.Detach(firstEdu)
}

// requests is how many requests a tour makes.
func requests(t testing.TB, md mode) int {
	n := 0
	md.hook = func(i int, _ string) error { n = i + 1; return nil }
	if _, err := tour(t, md, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFailEverywhere fails every request of a tour in turn, in one mode, and
// every few in the others. Then QEMU is killed instead.
func TestFailEverywhere(t *testing.T) {
	errInjected := errors.New("injected")
	first := true
	everyMode(t, func(t *testing.T, md mode) {
		before := resources(t)
		total := requests(t, md)
		step := 1
		if !first || testing.Short() {
			step = 29
		}
		first = false
		for n := 0; n < total; n += step {
			md.hook = func(i int, _ string) error {
				if i == n {
					return errInjected
				}
				return nil
			}
			body, err := tour(t, md, nil)
			if ok := err == nil && body > 0 && body <= n; !ok && !errors.Is(err, errInjected) {
				t.Errorf("request %d of %d: %v", n, total, err)
			}
		}
		for n := 1; n < total; n += 17 * step {
			var m *qtest.Machine
			md.hook = func(i int, _ string) error {
				if i == n {
					m.Kill()
				}
				return nil
			}
			tour(t, md, func(started *qtest.Machine) { m = started }) // may have been done before QEMU died
		}
		held.Check(t, before)
	})
}

// TestTour is the tour without failures.
func TestTour(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		before := resources(t)
		if _, err := tour(t, md, nil); err != nil {
			t.Error(err)
		}
		held.Check(t, before)
	})
}

// TestKilledDuringDMA kills QEMU between the start of a transfer and its end.
func TestKilledDuringDMA(t *testing.T) {
	r := newRig(t, mode{qemu: qemus(t)[0], width: 48, inv: vtd.InvalidateByQueue})
	r.m.Kill()
	eventually(t, "QEMU is gone", func() bool { r.m.Read(0, 4); return r.m.Err() != nil })
	if err := r.devices[0].ReadMemory(context.Background(), 0x1000, 0, 8); err == nil {
		t.Error("a device that is gone moved bytes")
	}
	if err := r.unit.Enable(context.Background()); !errors.Is(err, vtd.ErrGone) {
		t.Errorf("enabling a unit that is gone: %v", err)
	}
}

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gommu/iommu/vtd"
)

// outcomes runs cases in a place.
func outcomes(t *testing.T, p Place, cases ...Case) (all []Result) {
	t.Helper()
	if err := Run(t.Context(), p, cases, func(r Result) { all = append(all, r) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// named are cases of the suite.
func named(names ...string) []Case {
	return slices.DeleteFunc(Cases(), func(c Case) bool { return !slices.Contains(names, c.Name) })
}

// A case ends as what it says first: a skip with a reason, or a fail with all that
// was wrong. After a fail the next case gets a new rig.
func TestOutcomes(t *testing.T) {
	opened := 0
	p := ModelPlaces()[0]
	open := p.Open
	p.Open = func(ctx context.Context, v Variant) (Rig, error) {
		if v.Narrow {
			return nil, Unavailable("wide only")
		}
		opened++
		return open(ctx, v)
	}
	got := outcomes(t, p,
		Case{Name: "skip", run: func(b *bench) { b.skip("because") }},
		Case{Name: "fail", run: func(b *bench) { b.failf("one"); b.failf("two"); b.skip("not now") }},
		Case{Name: "error", run: func(b *bench) { b.must(errors.New("three")) }},
		Case{Name: "leak", run: func(b *bench) { _, err := b.source.Alloc(b.ctx); b.must(err) }},
		Case{Name: "pass", run: func(b *bench) { b.attached(0, 1) }},
		Case{Name: "variant", variant: Variant{Narrow: true}, run: func(b *bench) { b.fatalf("ran") }},
		Case{Name: "mode", modes: []Mode{ScalableFirst}, run: func(b *bench) { b.fatalf("ran") }},
		Case{Name: "needs", needs: InterruptFault, run: func(b *bench) { b.fatalf("ran") }},
	)
	want := []struct {
		outcome Outcome
		why     string
	}{
		{Skip, "because"}, {Fail, "one\ntwo\nnot now"}, {Fail, "three"}, {Fail, "frames did not come back"}, {Pass, ""},
		{Skip, "wide only"}, {Skip, "only in mode scalable-first"}, {Skip, "the model remaps no interrupts"},
	}
	for i, w := range want {
		if r := got[i]; r.Outcome != w.outcome || !strings.Contains(r.Why, w.why) || w.why == "" != (r.Why == "") {
			t.Errorf("%s: %s %q, want %s %q", r.Case, r.Outcome, r.Why, w.outcome, w.why)
		}
	}
	if opened < 4 {
		t.Errorf("%d rigs were opened: one after each fail is wanted", opened)
	}
}

// brokenRig is a rig that breaks one thing.
type brokenRig struct {
	Rig
	registers func(vtd.Registers) vtd.Registers
	devices   func([2]Device) [2]Device
}

func (r brokenRig) Registers() vtd.Registers {
	if r.registers == nil {
		return r.Rig.Registers()
	}
	return r.registers(r.Rig.Registers())
}

func (r brokenRig) Devices() [2]Device {
	if r.devices == nil {
		return r.Rig.Devices()
	}
	return r.devices(r.Rig.Devices())
}

// deafRegisters tell the unit of no invalidation: the wait descriptor is answered
// by nobody.
//
//gommu:maysleep what it wraps may
type deafRegisters struct{ vtd.Registers }

func (r deafRegisters) Write64(off, v uint64) {
	if off == 0x88 && v != 0 { // IQT
		return
	}
	r.Registers.Write64(off, v)
}

// blindRegisters show no faults.
//
//gommu:maysleep what it wraps may
type blindRegisters struct{ vtd.Registers }

func (r blindRegisters) Read64(off uint64) uint64 {
	v := r.Registers.Read64(off)
	if off == 0x208 { // FRCD's upper half, on the model
		v &^= 1 << 63
	}
	return v
}

// stuckDevice does no DMA.
type stuckDevice struct{ Device }

func (stuckDevice) Write(context.Context, uint64, int) error { return nil }

// TestBrokenRigs: what is wrong with a unit or a device is noticed.
func TestBrokenRigs(t *testing.T) {
	for _, tt := range []struct {
		what  string
		rig   brokenRig
		cases []string
	}{
		{"invalidations that never end", brokenRig{registers: func(r vtd.Registers) vtd.Registers { return deafRegisters{r} }}, []string{"unmap/cached"}},
		{"no faults", brokenRig{registers: func(r vtd.Registers) vtd.Registers { return blindRegisters{r} }},
			[]string{"map/permissions", "fault/overflow", "reason/02 context entry not present", "reason/0c superpage in the root"}},
		{"one device for two", brokenRig{devices: func(d [2]Device) [2]Device { return [2]Device{d[0], sameDevice{d[0], d[1].Source()}} }},
			[]string{"domain/two", "domain/detach", "domain/never-attached"}},
		{"a device that does not write", brokenRig{devices: func(d [2]Device) [2]Device { return [2]Device{stuckDevice{d[0]}, d[1]} }},
			[]string{"map/4K", "unmap/cached", "superpage/cut", "leak/unmapped"}},
	} {
		p := ModelPlaces()[0]
		open := p.Open
		p.Open = func(ctx context.Context, v Variant) (Rig, error) {
			r, err := open(ctx, v)
			tt.rig.Rig = r
			return tt.rig, err
		}
		got := outcomes(t, p, named(tt.cases...)...)
		if len(got) != len(tt.cases) {
			t.Fatalf("%s: %d cases ran", tt.what, len(got))
		}
		for _, r := range got {
			if r.Outcome != Fail {
				t.Errorf("%s: %s: %s %s", tt.what, r.Case, r.Outcome, r.Why)
			}
		}
	}
}

// sameDevice is a device under another name.
type sameDevice struct {
	Device
	source uint16
}

func (d sameDevice) Source() uint16 { return d.source }

// Names are unique, and every case has a line for people.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] || c.Name == "" || c.About == "" || strings.ContainsRune(c.Name, '\n') {
			t.Errorf("case %q: its name is there twice, or a word on it is missing", c.Name)
		}
		seen[c.Name] = true
	}
}

func ExampleRun() {
	cases := slices.DeleteFunc(Cases(), func(c Case) bool { return c.Name != "unmap/cached" })
	for _, p := range ModelPlaces() {
		err := Run(context.Background(), p, cases, func(r Result) { fmt.Println(r.Case, r.Mode, r.Outcome) })
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// unmap/cached legacy pass
	// unmap/cached scalable-second pass
	// unmap/cached scalable-first pass
}

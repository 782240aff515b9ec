//go:build mutate

package vtd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// TestMutations leaves out every step of the driver in turn, in each mode that
// has it: a life on some unit must go wrong. Run it with go test -tags mutate.
func TestMutations(t *testing.T) {
	defer vtd.Leave(-1)
	for p, name := range vtd.Points() {
		reached := false
		for _, mode := range []vtd.Mode{vtd.Legacy, vtd.Scalable} {
			t.Run(strings.ReplaceAll(name+", "+mode.String(), " ", "-"), func(t *testing.T) {
				vtd.Leave(p)
				defer vtd.Leave(-1)
				why := notice(t, mode)
				reached = reached || vtd.Reached(p)
				switch {
				case why != "":
					t.Logf("noticed %s", why)
				case vtd.Reached(p):
					t.Errorf("nothing notices that %q is left out", name)
				}
			})
		}
		if !reached {
			t.Errorf("no life comes to %q", name)
		}
	}
	for _, mode := range []vtd.Mode{vtd.Legacy, vtd.Scalable} {
		if why := notice(t, mode); why != "" {
			t.Errorf("with all steps: %s", why)
		}
	}
}

// notice is what goes wrong on the first unit of a mode where something does.
func notice(t *testing.T, mode vtd.Mode) string {
	for _, set := range settings() {
		if set.mode != mode {
			continue
		}
		if wrong := mutated(t, set); len(wrong) > 0 {
			return "with " + set.name + ": " + wrong[0]
		}
	}
	if why := publishing(t, mode); why != "" {
		return why
	}
	return unlinking(t, mode)
}

// unlinking flushes a page whose tables were unlinked, on the model, which
// caches the way to them.
func unlinking(t *testing.T, mode vtd.Mode) string {
	for _, stage := range []pagetable.Stage{pagetable.SecondStage, pagetable.FirstStage} {
		if stage == pagetable.FirstStage && mode == vtd.Legacy {
			continue
		}
		s := bindOn(t, model.Config{Coherent: true}, mode, stage)
		if err := s.remap(0x1000, 1); err != nil {
			return fmt.Sprintf("a page of the %v whose tables were unlinked: %v", stage, err)
		}
	}
	return ""
}

// mutated is what went wrong in a life.
func mutated(t *testing.T, set setting) []string {
	l := newLife(t, set)
	defer vtd.Observe(nil)
	vtd.Observe(func() {
		l.b.mu.Lock()
		defer l.b.mu.Unlock()
		l.s.pump()
	})
	l.live(t, set.mode)
	if err := l.u.Close(); err != nil {
		l.wrong = append(l.wrong, err.Error())
	}
	return slices.Clip(l.wrong)
}

// publishing compares what a unit in caching mode is told of a new entry with
// the specification's list (section 6.5.3.3). That asks for more than what a
// unit can have cached by then, so no life notices all of it.
func publishing(t *testing.T, mode vtd.Mode) string {
	b := newBench(t)
	b.capability |= capCM
	want := []string{"context 3 did 0 sid 0x18", "iotlb 2 did 7 drain 3"}
	if mode == vtd.Scalable {
		b.extra |= ecapScalable
		want = slices.Insert(want, 1, "pasid 0 did 0 pasid 0x0", "pasid 0 did 7 pasid 0x0")
	}
	u := b.enabled(t, vtd.Options{Mode: mode})
	if err := u.Attach(0x18, 7, goodTable); err != nil {
		t.Fatal(err)
	}
	return cmp.Diff(want, b.log)
}

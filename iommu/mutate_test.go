//go:build mutate

package iommu_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"gommu/iommu"
)

// TestMutations leaves out every step in turn: random calls must show it, on some unit with some policy. Run it with go test
// -tags mutate.
func TestMutations(t *testing.T) {
	for s, name := range iommu.Steps() {
		t.Run(name, func(t *testing.T) {
			iommu.Leave(s)
			defer iommu.Leave(-1)
			why := noticed(t)
			switch {
			case why != "":
				t.Logf("noticed %.200s", why)
			case !iommu.Came(s):
				t.Errorf("no call comes to %q", name)
			default:
				t.Errorf("nothing notices that %q is left out", name)
			}
		})
	}
	if why := noticed(t); why != "" {
		t.Errorf("with all steps: %s", why)
	}
}

// noticed is what goes wrong first.
func noticed(t *testing.T) string {
	for seed := range uint64(6) {
		for _, s := range settings {
			for _, p := range policies {
				if why := randomLife(t, s, p.f, seed); why != "" {
					return s.name + " " + p.name + ": " + why
				}
			}
		}
	}
	return ""
}

func randomLife(t *testing.T, s setting, f iommu.Flush, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 3))
	u := newUnit(t, s)
	u.t = &silent{TB: t}
	u.patience = time.Second
	defer u.close()
	m, err := newMachine(u, s, iommu.Options{Flush: f})
	if err != nil {
		return err.Error()
	}
	for i := range 300 {
		m.step(rng.Uint64())
		if f.Deadline < time.Second && i%50 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
		if len(m.wrong) > 0 {
			break
		}
	}
	m.end()
	if len(m.wrong) > 0 {
		return m.wrong[0]
	}
	return ""
}

// silent swallows what a rig finds at its end: after a step was left out it may be anything.
type silent struct{ testing.TB }

func (silent) Errorf(string, ...any) {}
func (silent) Error(...any)          {}

package iommu_test

import (
	"flag"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gommu/internal/procpin"
	"gommu/iommu"
)

// policies are those that random calls are made with.
var policies = []struct {
	name string
	f    iommu.Flush
}{
	{"strict", iommu.Flush{}},
	{"batched", iommu.Flush{Policy: iommu.Batched, Count: 8, Deadline: time.Hour}},
	{"soon", iommu.Flush{Policy: iommu.Batched, Count: 1000, Deadline: time.Millisecond}},
}

// Random calls do what they should, and whatever a device reaches is what it should, on each unit and with
// each policy, also when units fail now and then.
func TestProperty(t *testing.T) {
	if !procpin.Works { // under the race detector a history takes a fifth of a second
		checks := flag.Lookup("rapid.checks")
		was := checks.Value.String()
		if err := checks.Value.Set("8"); err != nil {
			t.Fatal(err)
		}
		defer checks.Value.Set(was)
	}
	for _, s := range settings {
		for _, p := range policies {
			t.Run(s.name+" "+p.name, func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) {
					steps := rapid.SliceOfN(rapid.Uint64(), 1, 120).Draw(rt, "steps")
					scatter := rapid.Bool().Draw(rt, "scatter")
					u := newUnit(t, s)
					defer u.close()
					u.mem.scatter = scatter
					m, err := newMachine(u, s, iommu.Options{Flush: p.f, Guard: scatter})
					if err != nil {
						rt.Fatal(err)
					}
					for _, x := range steps {
						m.step(x)
						if len(m.wrong) > 0 {
							break
						}
					}
					m.end()
					if len(m.wrong) > 0 {
						rt.Fatalf("%q", m.wrong)
					}
				})
			})
		}
	}
}

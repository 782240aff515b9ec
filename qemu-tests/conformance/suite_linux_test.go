package conformance

import (
	"testing"

	"gommu/qemu-tests/provision"
)

func TestQtest(t *testing.T) {
	for _, p := range QtestPlaces(provision.Require(t, "qtest", provision.Options{NoKernel: true}).QEMUs) {
		t.Run(name(p), func(t *testing.T) { run(t, p) })
	}
}

package conformance

import (
	"fmt"
	"testing"
)

func TestModel(t *testing.T) {
	for _, p := range ModelPlaces() {
		t.Run(string(p.Mode), func(t *testing.T) { run(t, p) })
	}
}

// run makes each case a subtest.
func run(t *testing.T, p Place) {
	err := Run(t.Context(), p, Cases(), func(r Result) {
		t.Run(r.Case, func(t *testing.T) {
			switch r.Outcome {
			case Fail:
				t.Error(r.Why)
			case Skip:
				t.Skip(r.Why)
			}
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func name(p Place) string { return fmt.Sprintf("%s/%s", p.QEMU, p.Mode) }

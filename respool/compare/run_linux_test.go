package compare

import (
	"context"
	"testing"
	"time"

	"gommu/internal/held"
)

// Whether a run comes to its end or not, no goroutine is left.
func TestRunLeavesNothing(t *testing.T) {
	tr, err := NewTrace(TraceOptions{Name: "slow", Tasks: 2, Length: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	before := held.Now(t)
	if _, err := Run(t.Context(), tr, Options{Ready: 4}); err != nil {
		t.Fatal(err)
	}
	held.Check(t, before)
	for _, after := range []time.Duration{0, time.Millisecond, 25 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := Run(ctx, tr, Options{Ready: 4})
		cancel()
		if err == nil {
			t.Errorf("ended after %v, and says nothing", after)
		}
		held.Check(t, before)
	}
}

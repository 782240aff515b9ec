package iova

import (
	"testing"

	"gommu/internal/held"
)

// leaves returns a check that this process holds no more than it does now.
func leaves(t *testing.T) (check func()) {
	before := held.Now(t)
	return func() { t.Helper(); held.Check(t, before) }
}

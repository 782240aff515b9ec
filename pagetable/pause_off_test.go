//go:build !race

package pagetable

import "testing"

func letOthersRun(*testing.T) {}

const raceEnabled = false

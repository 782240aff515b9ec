package respool

import "gommu/internal/procpin"

// RaceDetector is for the tests of package respool_test.
const RaceDetector = raceDetector

// Pin keeps the goroutine from being preempted, for the rest of its life.
func Pin() { procpin.Pin() }

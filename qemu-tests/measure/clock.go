package measure

import (
	"slices"
	"time"
)

// epoch is what times are told from: time.Since of it reads the clock once.
var epoch = time.Now()

// now is the time in nanoseconds.
func now() int64 { return int64(time.Since(epoch)) }

// Clock says what reading the clock costs here.
type Clock struct {
	Cost float64 `json:"ns"`    // of a reading, the mean of many in the best of some tries
	Step int64   `json:"step"`  // the smallest difference that it shows, in nanoseconds
	Tail int64   `json:"p9999"` // between two readings with nothing between them
}

// ReadClock measures the clock. It takes some milliseconds.
func ReadClock() Clock {
	c := Clock{Cost: meanReading()}
	tries := make([]int64, 20_000)
	for i := range tries {
		begin := now()
		tries[i] = now() - begin
	}
	slices.Sort(tries)
	c.Tail = tries[len(tries)-1-len(tries)/10_000]
	c.Step = step(tries)
	return c
}

// meanReading is the mean of a reading in a loop, the least of some tries: others
// only add.
func meanReading() float64 {
	const tries, readings = 9, 1000
	best := int64(1) << 62
	for range tries {
		begin := now()
		for range readings {
			now()
		}
		best = min(best, now()-begin)
	}
	return float64(best) / (readings + 1)
}

// step is the smallest difference between sorted values, at least 1.
func step(sorted []int64) int64 {
	least := int64(0)
	for i := 1; i < len(sorted); i++ {
		if d := sorted[i] - sorted[i-1]; d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return max(least, 1)
}

// calibrate is how many rounds of NewLoop take so many nanoseconds.
func calibrate(ns float64) int {
	const rounds = 20_000
	w := loopWorker{rounds: rounds, x: 1}
	best := int64(1) << 62
	for range 5 {
		begin := now()
		w.compute()
		best = min(best, now()-begin)
	}
	return max(1, int(ns*rounds/float64(max(best, 1))))
}

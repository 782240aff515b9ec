package respool

// backOff lets others go ahead after a swap failed for the nth time: it counts, for
// 0.3 µs at first and up to 2.5 µs, and waits for nothing. Without it two processors
// pass the head's cache line to and fro at each try, which costs five times as much as
// what they want to do.
//
//gommu:nosleep
func backOff(n int) {
	if n == 0 {
		return
	}
	for range backOffSteps << min(n-1, maxBackOffShift) {
	}
}

// Steps of about 0.3 ns.
const (
	backOffSteps    = 1024
	maxBackOffShift = 3
)

// askWay asks the next single pushes to let a chain go ahead whose swap failed: its swap
// comes so late after its load that they would overtake it without end. Each pauses once and
// waits for nobody, so a goroutine preempted here costs the others ways pauses and no more.
//
//gommu:nosleep
func (s *stack) askWay(tries int) {
	backOff(tries)
	if tries > 1 {
		s.way.Store(ways)
	}
}

// giveWay pauses where a chain asked for it. Pops need not, for they end where nobody pushes.
//
//gommu:nosleep
func (s *stack) giveWay() {
	if s.way.Load() > 0 {
		s.way.Add(-1)
		backOff(maxBackOffShift + 1)
	}
}

const ways = 4

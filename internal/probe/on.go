//go:build !noprobes

package probe

import "sync/atomic"

// On says whether somebody traces a probe. Only then its function is called, and what
// it is to be told has to be found out.
//
//gommu:nosleep
func On(p Point) bool { return atomic.LoadUint32(&table.words[p]) != Off }

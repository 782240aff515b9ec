package vtd

import (
	"math"
	"sync/atomic"
)

// progress is how far the unit is with what it was told. Submissions have
// numbers, and the unit does them one after the other.
type progress struct {
	number uint64 // of the last submission; of who has the turn

	// confirmed is a number up to which all are done. The unit may be further.
	confirmed atomic.Uint64
	// doubted is the first number from which the unit's word does not count:
	// something that was told may not have been done, though what was told later is. Only who has
	// the turn stores it. It is noDoubt until the unit fails.
	doubted atomic.Uint64
	lost    atomic.Bool // it failed by going away

	_     [64]byte // looks is written by all who wait
	looks atomic.Uint32
}

const noDoubt = math.MaxUint64

// doubt says that submissions from a number on may not have been done. It comes
// before the unit is made to go on: from then on it confirms later ones.
//
//gommu:nosleep
func (p *progress) doubt(from uint64) {
	if from < p.doubted.Load() {
		p.doubted.Store(from)
	}
}

// settle says that nothing which was told is outstanding: it is done, or nothing
// is cached. Who has the turn calls it.
func (p *progress) settle() {
	p.confirmed.Store(p.number) // before doubted: see Unit.done
	p.doubted.Store(noDoubt)
	p.lost.Store(false)
}

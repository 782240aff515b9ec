package respool

import "sync/atomic"

// Stats say how a pool stands and what it has done since New. While calls are
// under way each number is right for some moment during Stats, and Gets, Puts and
// InUse plus Cached are of the same moment; only a Put that the end of a Close overtakes may show
// in them until it is refused. When no call is under way and the worker rests they
// are exact, and Filled + Grown = Free + InUse + Cached + Reserved + Shrunk + Drained and
// Gets - Puts = InUse + Cached. Only what is Cached and what is InUse a cache tells on its
// trips to the pool, so there each may be wrong by its size; after its Flush it is not.
type Stats struct {
	Free       int // elements that are ready
	InUse      int // elements that callers have got and not yet put back
	Cached     int // elements in caches
	Reserved   int // elements in reservations
	Waiting    int // callers of Wait, GetWait and ReserveWait, in line
	LowestFree int // the lowest number free that a Get left behind, at first Filled

	Gets  uint64 // elements that left the pool: to callers, also by reservations, and to caches
	Puts  uint64 // elements that came back
	Empty uint64 // gets, of one or a batch, and reservations answered with ErrEmpty

	Filled  uint64 // elements made by New
	Grown   uint64 // elements added by the worker
	Shrunk  uint64 // elements removed by the worker
	Drained uint64 // elements removed by Close

	SourceErrors uint64 // calls of Source.Alloc by the worker that failed
	FreeErrors   uint64 // elements of Shrunk and Drained that Source.Free failed to dispose of

	// LastError is the error of the last Source.Alloc of the worker, nil if that
	// succeeded: while it is not nil the pool cannot grow and backs off.
	LastError error
}

// workCounters count what the worker and Close do.
type workCounters struct {
	grown, shrunk, drained   atomic.Uint64
	sourceErrors, freeErrors atomic.Uint64
	lastError                atomic.Pointer[error]
}

// Stats returns the present state and counters.
func (p *Pool[T]) Stats() Stats {
	bounced := p.bounced.Load()
	puts, out := p.lent.level()
	cached := max(0, min(int(p.cached.Load()), out)) // told a moment after it is so
	s := Stats{
		Free:         p.ready.depth(),
		InUse:        out - cached,
		Cached:       cached,
		Reserved:     int(p.reserved.Load()),
		Waiting:      int(p.line.waiting.Load()),
		LowestFree:   int(p.lowest.Load()),
		Gets:         puts + uint64(out) - bounced,
		Puts:         puts - bounced,
		Empty:        p.empty.Load(),
		Filled:       p.filled,
		Grown:        p.work.grown.Load(),
		Shrunk:       p.work.shrunk.Load(),
		Drained:      p.work.drained.Load(),
		SourceErrors: p.work.sourceErrors.Load(),
		FreeErrors:   p.work.freeErrors.Load(),
	}
	if err := p.work.lastError.Load(); err != nil {
		s.LastError = *err
	}
	return s
}

// flow is how many elements have left the pool since New, by gets and reservations, and how
// many of them are out now.
func (p *Pool[T]) flow() (gets uint64, out int) {
	puts, inUse := p.lent.level()
	out = inUse + int(p.reserved.Load())
	return puts + uint64(out), out
}

package respool

import "sync/atomic"

// Stats say how a pool stands and what it has done since New. While calls are
// under way each number is right for some moment during Stats, and Free, Gets, Puts and
// InUse plus Cached plus Reserved are of the same moment, but for the elements that the worker
// has in its hands. When no call is under way and the worker rests they
// are exact, and Filled + Grown = Free + InUse + Cached + Reserved + Shrunk + Drained and
// Gets - Puts = InUse + Cached + Reserved. Only what is Cached and what is InUse a cache tells on its
// trips to the pool, so there each may be wrong by its size; after its Flush it is not.
type Stats struct {
	Free       int // elements that are ready
	InUse      int // elements that callers have got and not yet put back
	Cached     int // elements in caches
	Reserved   int // elements in reservations
	Waiting    int // callers of Wait, GetWait, ReserveWait and ReserveAllWait, in line
	LowestFree int // the lowest number free that a Get left behind, at first Filled

	Idle      int   // elements that were free, at every moment, for Options.IdleAfter or up to twice that before the last look
	IdleBytes int64 // what these hold, by Options.ElemSize

	Gets  uint64 // elements that left the pool: to callers, to reservations and to caches
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
	gets, free, out := p.levels()
	reserved := min(max(0, int(p.reserved.Load())), out) // told a moment before or after it is so,
	cached := min(max(0, int(p.cached.Load())), out-reserved)
	s := Stats{
		Free:         free,
		InUse:        out - reserved - cached,
		Cached:       cached,
		Reserved:     reserved,
		Waiting:      int(p.line.all()),
		LowestFree:   int(p.lowest.Load()),
		Gets:         gets,
		Puts:         gets - uint64(out),
		Empty:        p.empty.Load(),
		Filled:       p.filled,
		Grown:        p.work.grown.Load(),
		Shrunk:       p.work.shrunk.Load(),
		Drained:      p.work.drained.Load(),
		SourceErrors: p.work.sourceErrors.Load(),
		FreeErrors:   p.work.freeErrors.Load(),
	}
	s.Idle = min(int(p.view.idle.Load()), s.Free)
	s.IdleBytes = int64(s.Idle) * p.opts.ElemSize
	if err := p.work.lastError.Load(); err != nil {
		s.LastError = *err
	}
	return s
}

// levels is how many elements have left the pool since New, by gets and reservations, and of
// one moment how many are free and how many out.
func (p *Pool[T]) levels() (gets uint64, free, out int) {
	for {
		total, removed := p.total.Load(), p.removed.Load()
		pops, free := p.ready.level()
		if p.total.Load() == total && p.removed.Load() == removed {
			return pops - removed, free, max(0, int(total)-free)
		}
	}
}

// flow is levels without those that are free.
func (p *Pool[T]) flow() (gets uint64, out int) {
	gets, _, out = p.levels()
	return gets, out
}

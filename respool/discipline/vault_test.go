package discipline_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gommu/respool"
	"gommu/respool/discipline"
)

var errRefused = errors.New("the vault refuses")

// A vault is a backing that knows its elements apart, and fails the test when one is freed
// that is not out.
type vault struct {
	t testing.TB

	mu    sync.Mutex
	last  int
	live  map[int]bool // made and not freed
	lost  int          // of live, those whose Free failed
	calls []string     // "try", "alloc", "free"
	fail  func(n int, call string) bool
	gate  chan struct{} // Alloc waits for it, and for its context
	deaf  chan struct{} // Alloc waits for it alone
}

func newVault(t testing.TB) *vault { return &vault{t: t, live: map[int]bool{}} }

func (v *vault) TryAlloc() (int, error) { return v.make("try") }

func (v *vault) Alloc(ctx context.Context) (int, error) {
	v.mu.Lock()
	gate, deaf := v.gate, v.deaf
	v.mu.Unlock()
	if deaf != nil {
		<-deaf
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return v.make("alloc")
}

func (v *vault) make(call string) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, call)
	if v.fail != nil && v.fail(len(v.calls), call) {
		return 0, errRefused
	}
	v.last++
	v.live[v.last] = true
	return v.last, nil
}

func (v *vault) Free(e int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, "free")
	if !v.live[e] {
		v.t.Errorf("element %d is freed, but is not out", e)
	}
	if v.fail != nil && v.fail(len(v.calls), "free") {
		v.lost++
		return errRefused
	}
	delete(v.live, e)
	return nil
}

// setFail says which calls fail: fail gets the number of the call, from 1.
func (v *vault) setFail(fail func(n int, call string) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = fail
}

// allocs fails all allocations, tries those without reclaim.
func allocs(_ int, call string) bool { return call != "free" }
func tries(_ int, call string) bool  { return call == "try" }

// left is how many elements are out of the vault and not lost.
func (v *vault) left() int { v.mu.Lock(); defer v.mu.Unlock(); return len(v.live) - v.lost }

// lostCount is how many elements a Free that failed has lost.
func (v *vault) lostCount() int { v.mu.Lock(); defer v.mu.Unlock(); return v.lost }

// log returns the calls since the last log.
func (v *vault) log() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	calls := v.calls
	v.calls = nil
	return calls
}

// A kind is a discipline under test.
type kind struct {
	name string
	make func(b discipline.Backing[int], n int) (discipline.Discipline[int], error) // with n ready

	waitAsks bool // GetWait calls Alloc itself
	bounded  bool // no more than n can be out
}

var kinds = []kind{
	{name: "pool-first", make: func(b discipline.Backing[int], n int) (discipline.Discipline[int], error) {
		return orNil(discipline.NewPoolFirst(context.Background(), b, respool.Options{Low: n, High: n, Max: 4 * n, OnReport: unheard}))
	}},
	{name: "allocator-first", waitAsks: true, make: func(b discipline.Backing[int], n int) (discipline.Discipline[int], error) {
		return orNil(discipline.NewAllocatorFirst(context.Background(), b, discipline.AllocatorFirstOptions{Reserve: n}))
	}},
	{name: "per-CPU", make: func(b discipline.Backing[int], n int) (discipline.Discipline[int], error) {
		shards := 1
		if n%2 == 0 {
			shards = 2
		}
		return orNil(discipline.NewPerCPU(context.Background(), b, discipline.PerCPUOptions{Shards: shards, Size: n / shards}))
	}},
	{name: "static", bounded: true, make: func(b discipline.Backing[int], n int) (discipline.Discipline[int], error) {
		return orNil(discipline.NewStatic(context.Background(), b, discipline.StaticOptions{Elements: n}))
	}},
}

// unheard takes the reports of a debug build: the tests wait while they hold elements, which is a circle, and
// what else there is to report they also get as errors.
func unheard(respool.Report) {}

// orNil is d, or a nil interface where there is none.
func orNil[D discipline.Discipline[int]](d D, err error) (discipline.Discipline[int], error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// must makes a discipline of n elements over v.
func (k kind) must(t testing.TB, v *vault, n int) discipline.Discipline[int] {
	t.Helper()
	d, err := k.make(v, n)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ended is a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

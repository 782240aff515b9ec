package compare

import (
	"context"
	"fmt"
	"runtime"

	"gommu/respool"
	"gommu/respool/discipline"
)

// A contender is a discipline as it takes part.
type contender struct {
	name   string
	set    string // how it is set up
	create func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error)

	// byTasks says that the allocator is called inside the tasks' calls, always, as against never. It is
	// said and not found out at each call, because to look whose call it is takes longer than
	// most calls of the allocator, and would be in the figures of those who make them. The tests do look.
	byTasks bool
}

// contenders are all disciplines, set up so that each keeps ready elements ready at rest, but for static,
// which has so much that it cannot fail, however late the tasks are.
func contenders(t *Trace, ready int) []contender {
	pool := respool.Options{Min: ready, Low: (ready + 1) / 2, High: ready, Max: 2*t.PeakApart + 4*ready}
	pool.OnReport = func(respool.Report) {} // in debug builds: tasks wait, with patience, while they hold elements
	mempool := discipline.AllocatorFirstOptions{Reserve: ready}
	shards := min(runtime.GOMAXPROCS(0), len(t.Tasks), ready)
	perCPU := discipline.PerCPUOptions{Shards: shards, Size: ready / shards}
	static := discipline.StaticOptions{Elements: max(t.PeakApart, 1)}
	return []contender{
		{
			name: "pool-first",
			set:  fmt.Sprintf("starts with %d, grows when fewer than %d are free until %d are, at most %d in all", pool.Min, pool.Low, pool.High, pool.Max),
			create: func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error) {
				return orNil(discipline.NewPoolFirst(ctx, src, pool))
			},
		},
		{
			name:    "allocator-first",
			byTasks: true,
			set:     fmt.Sprintf("mempool with a reserve of %d", mempool.Reserve),
			create: func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error) {
				return orNil(discipline.NewAllocatorFirst(ctx, src, mempool))
			},
		},
		{
			name: "per-CPU",
			set:  fmt.Sprintf("%d stocks of %d, filled in the background when they fall below %d; tasks share them by turns", perCPU.Shards, perCPU.Size, max(1, perCPU.Size/2)),
			create: func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error) {
				return orNil(discipline.NewPerCPU(ctx, src, perCPU))
			},
		},
		{
			name: "static",
			set:  fmt.Sprintf("%d beforehand: what each task wants at its own peak, known only because the trace is", static.Elements),
			create: func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error) {
				return orNil(discipline.NewStatic(ctx, src, static))
			},
		},
	}
}

// orNil is d, or a nil interface where there is none.
func orNil[D discipline.Discipline[element]](d D, err error) (discipline.Discipline[element], error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// A user is what a task calls: the discipline or, of per-CPU stocks, the one that is the task's.
type user interface {
	Get() (element, error)
	GetWait(ctx context.Context) (element, error)
	Put(element) error
}

func userOf(d discipline.Discipline[element], task int) user {
	if p, ok := d.(*discipline.PerCPU[element]); ok {
		return p.Shard(task)
	}
	return d
}

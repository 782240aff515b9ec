package compare

import (
	"context"
	"errors"
	"testing"
	"time"

	"gommu/respool"
)

// The figures of a run agree with each other and with what each discipline promises.
func TestRun(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			tr, err := NewTrace(TraceOptions{Name: name, Seed: 3, Tasks: 3, Length: 60 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			results, err := Run(t.Context(), tr, Options{Ready: 8})
			if err != nil {
				t.Fatal(err)
			}
			if len(results) != 4 {
				t.Fatalf("%d results", len(results))
			}
			for i := range results {
				checkResult(t, tr, &results[i])
			}
		})
	}
}

func checkResult(t *testing.T, tr *Trace, r *Result) {
	t.Helper()
	fail := func(format string, args ...any) { t.Helper(); t.Errorf(r.Name+": "+format, args...) }
	if got := int(r.Get.Calls); got != tr.Gets-tr.Waits {
		fail("%d gets without sleep, want %d", got, tr.Gets-tr.Waits)
	}
	if got := int(r.GetWait.Calls); got != tr.Waits {
		fail("%d gets with sleep, want %d", got, tr.Waits)
	}
	if got := int(r.Put.Calls); got != tr.Gets-len(r.Failures) {
		fail("%d puts, want as many as gets that did not fail, %d", got, tr.Gets-len(r.Failures))
	}
	if r.Failed(true)+r.Failed(false) != len(r.Failures) {
		fail("%d and %d failures of %d", r.Failed(true), r.Failed(false), len(r.Failures))
	}
	// A call under way is counted, but has not changed how many there are.
	if r.Failed(true) == 0 {
		made := int(r.Beforehand + r.Callers.Try - r.Callers.Refused + r.Callers.Alloc + r.Others.Alloc - r.Callers.Free - r.Others.Free)
		if made < r.End-1 || made > r.End+1 {
			fail("%d elements by the calls, %d at the end", made, r.End)
		}
	}
	if r.End > r.Peak || r.Mean > float64(r.Peak) || r.Peak < r.Samples[0].Elements || r.Samples[0].Elements != int(r.Beforehand) {
		fail("held %d at first, %d at most, %.1f on average, %d at the end", r.Samples[0].Elements, r.Peak, r.Mean, r.End)
	}
	for _, l := range []Latency{r.Get, r.GetWait, r.Put} {
		if l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.P9999 || l.P9999 > l.Max {
			fail("latencies out of order: %+v", l)
		}
	}
	if r.Others.Try != 0 {
		fail("%d calls without reclaim in the background", r.Others.Try)
	}
	switch r.Name {
	case "pool-first", "per-CPU":
		if r.Callers != (Calls{}) {
			fail("tasks called the allocator: %+v", r.Callers)
		}
	case "allocator-first":
		if r.Others != (Calls{}) || int(r.Callers.Try) != tr.Gets {
			fail("calls %+v and %+v, want each get to ask, and nobody else", r.Callers, r.Others)
		}
	case "static":
		if r.Callers != (Calls{}) || r.Others != (Calls{}) || len(r.Failures) > 0 || r.Peak != tr.PeakApart || r.End != r.Peak {
			fail("called, failed or changed: %+v, %+v, %d failures, %d held of %d", r.Callers, r.Others, len(r.Failures), r.End, tr.PeakApart)
		}
	default:
		fail("who is that?")
	}
}

// A run whose context ends says so, and has left nothing behind.
func TestRunEnds(t *testing.T) {
	tr, err := NewTrace(TraceOptions{Name: "pressure", Tasks: 2, Length: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Run(ctx, tr, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestRunBadOptions(t *testing.T) {
	tr, err := NewTrace(TraceOptions{Name: "steady", Tasks: 1, Length: tick})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Ready: -1}, {Ready: 1 << 30}, {Patience: -1}} {
		if _, err := Run(t.Context(), tr, o); !errors.Is(err, ErrBadOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// scripted is a user whose calls return what a list says.
type scripted struct {
	errs []error
	puts []element
	next element
}

var errBroken = errors.New("broken")

func (u *scripted) Get() (element, error) {
	err := u.errs[0]
	u.errs = u.errs[1:]
	if err != nil {
		return 0, err
	}
	u.next++
	return u.next, nil
}

func (u *scripted) GetWait(ctx context.Context) (element, error) {
	if errors.Is(u.errs[0], context.DeadlineExceeded) {
		<-ctx.Done()
	}
	return u.Get()
}

func (u *scripted) Put(e element) error { u.puts = append(u.puts, e); return nil }

// What a get failed to give is not put back; what should not happen ends the task, which puts back what it
// has.
func TestTask(t *testing.T) {
	events := []Event{
		{Call: Get}, {Call: Get}, {Call: GetWait}, {Call: Put, Of: 1}, {Call: Put, Of: 0}, {Call: Get}, {Call: Get},
		{Call: Put, Of: 2}, {Call: Put, Of: 5}, {Call: Put, Of: 6},
	}
	u := &scripted{errs: []error{nil, respool.ErrEmpty, context.DeadlineExceeded, nil, errBroken}}
	task := newTask(events, u, time.Millisecond)
	task.start = time.Now()
	task.run(t.Context())
	if !errors.Is(task.err, errBroken) {
		t.Errorf("%v, want errBroken", task.err)
	}
	if len(u.puts) != 2 || u.puts[0] != 1 || u.puts[1] != 2 {
		t.Errorf("put back %v, want 1 and 2", u.puts)
	}
	if len(task.failures) != 2 || task.failures[0].MaySleep || !task.failures[1].MaySleep {
		t.Errorf("failures %+v, want one of each kind", task.failures)
	}
	if n := task.latency[Get].TotalCount(); n != 4 {
		t.Errorf("%d gets timed, want 4: failed ones too", n)
	}

	u = &scripted{errs: []error{respool.ErrClosed, nil}}
	task = newTask([]Event{{Call: GetWait}, {Call: Get}}, u, time.Minute)
	task.run(t.Context())
	if !errors.Is(task.err, respool.ErrClosed) || len(u.errs) != 1 {
		t.Errorf("%v, %d calls not made; want ErrClosed, which nobody asked for, and no call after it", task.err, len(u.errs))
	}
}

func TestMean(t *testing.T) {
	if m := mean([]Sample{{0, 10}, {1, 20}, {4, 1000}}); m != (10+3*20)/4. {
		t.Errorf("%v", m)
	}
	if m := mean([]Sample{{0, 10}, {0, 30}}); m != 10 {
		t.Errorf("%v for no time", m)
	}
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Verdict is how a way ended.
type Verdict string

// The verdicts.
const (
	Finished  Verdict = "finished"   // every task did all its work, or was refused before it began
	Deadlock  Verdict = "deadlock"   // tasks were left that wait for each other
	Broken    Verdict = "broken"     // something failed in the middle that was counted on
	TimeLimit Verdict = "time limit" // neither; no way expects it
)

// A Result is how one way of a scenario ended.
type Result struct {
	Scenario   string     `json:"scenario"`
	Discipline Discipline `json:"discipline"`
	Way        string     `json:"way"`
	Asked      string     `json:"asked"` // what the thread asked
	Shows      string     `json:"shows"` // what this way shows if it is OK

	Expected Verdict `json:"expected"`
	Got      Verdict `json:"got"`
	OK       bool    `json:"ok"`              // Got is Expected, and everything was given back
	Error    string  `json:"error,omitempty"` // of the first task that failed, or why it is not OK

	Figures   []string   `json:"figures,omitempty"` // what was counted
	Tasks     []Progress `json:"tasks"`
	ElapsedMS int64      `json:"elapsed_ms"`
}

// Progress is what one task did.
type Progress struct {
	Name  string `json:"name"`
	Steps int    `json:"steps"` // done
	Of    int    `json:"of"`    // to do
	State string `json:"state"` // finished, refused, failed, or what it holds and waits for
}

// Done reports whether the task did all its work.
func (p Progress) Done() bool { return p.Steps == p.Of }

// Finished is how many tasks did all their work.
func (r Result) Finished() int {
	n := 0
	for _, p := range r.Tasks {
		if p.Done() {
			n++
		}
	}
	return n
}

// result reads a run that is over.
func (r *run) result(want Verdict) Result {
	res := Result{Expected: want, Got: r.verdict(), Figures: r.figures, Tasks: r.progress}
	if res.Tasks == nil {
		res.Tasks = r.snapshot()
	}
	var errs []string
	for _, err := range []error{r.err, r.lost} {
		if err != nil {
			errs = append(errs, err.Error())
		}
	}
	res.Error = strings.Join(errs, "; ")
	res.OK = res.Got == want && r.lost == nil
	return res
}

func (r *run) verdict() Verdict {
	switch {
	case errors.Is(r.err, context.DeadlineExceeded), errors.Is(r.err, context.Canceled):
		return TimeLimit
	case r.err != nil: // by tasks that were not yet released
		return Broken
	case r.deadlocked:
		return Deadlock
	}
	return Finished
}

// snapshot says how far all tasks are. It is called with the lock held, or when all is over.
func (r *run) snapshot() []Progress {
	list := make([]Progress, 0, len(r.tasks))
	for _, t := range r.tasks {
		list = append(list, Progress{Name: t.name, Steps: t.steps, Of: t.of, State: t.describe()})
	}
	return list
}

// describe is called with the run's lock held.
func (t *task) describe() string {
	switch {
	case t.refusal != "":
		return t.refusal
	case t.ended && t.err != nil:
		return "failed: " + t.err.Error()
	case t.ended:
		return "finished"
	}
	holds := "nothing"
	if len(t.held) > 0 {
		holds = sum(t.held)
	}
	if t.wants == nil {
		return "runs, holds " + holds
	}
	return fmt.Sprintf("holds %s, waits for %s", holds, t.wants)
}

// sum says how much there is of what.
func sum(held []*holding) string {
	var parts []string
	for i, h := range held {
		n, seen := 0, false
		for k, o := range held {
			if o.of == h.of {
				seen = seen || k < i
				n += o.n
			}
		}
		if !seen {
			parts = append(parts, fmt.Sprintf("%d of %s", n, h.of.name))
		}
	}
	return strings.Join(parts, ", ")
}

package compare

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawOptions(t *rapid.T) TraceOptions {
	return TraceOptions{
		Name:   rapid.SampledFrom(Names()).Draw(t, "name"),
		Seed:   rapid.Uint64().Draw(t, "seed"),
		Tasks:  rapid.IntRange(1, 6).Draw(t, "tasks"),
		Length: time.Duration(rapid.IntRange(1, 50).Draw(t, "ms")) * time.Millisecond,
		Events: rapid.SampledFrom([]int{0, 2, 3, 50, 1 << 20}).Draw(t, "events"),
	}
}

// A trace is what it says: in order, each put after its get, each get put back once.
func TestTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		tr, err := NewTrace(o)
		if err != nil {
			t.Fatal(err)
		}
		if len(tr.Tasks) != o.Tasks {
			t.Fatalf("%d tasks, want %d", len(tr.Tasks), o.Tasks)
		}
		events, gets, waits := 0, 0, 0
		for _, task := range tr.Tasks {
			back := map[int]bool{}
			for i, e := range task {
				events++
				if i > 0 && e.At < task[i-1].At || e.At < 0 || e.At > tr.Length {
					t.Fatalf("event %d is at %v, after %v, of %v", i, e.At, task[max(0, i-1)].At, tr.Length)
				}
				switch e.Call {
				case GetWait:
					waits++
					fallthrough
				case Get:
					gets++
				default:
					if e.Of >= i || task[e.Of].Call == Put || back[e.Of] {
						t.Fatalf("event %d puts back what event %d got", i, e.Of)
					}
					back[e.Of] = true
				}
			}
			if 2*len(back) != len(task) {
				t.Fatalf("%d puts of %d events", len(back), len(task))
			}
		}
		if events != tr.Events || gets != tr.Gets || waits != tr.Waits || 2*gets != events {
			t.Fatalf("counted %d events, %d gets, %d waits, but it says %d, %d, %d", events, gets, waits, tr.Events, tr.Gets, tr.Waits)
		}
		if o.Events > 0 && events > o.Events {
			t.Fatalf("%d events, want at most %d", events, o.Events)
		}
		checkPeak(t, tr)
		again, err := NewTrace(o)
		if err != nil || !reflect.DeepEqual(tr, again) {
			t.Fatalf("the same options make another trace (%v)", err)
		}
	})
}

// checkPeak compares Peak, PeakApart and Demand with a count at each time that something happens.
func checkPeak(t *rapid.T, tr *Trace) {
	apart := 0
	outAt := func(tasks [][]Event, at time.Duration) (least, most int) { // with and without the puts at that time
		for _, task := range tasks {
			for _, e := range task {
				switch {
				case e.Call != Put && e.At <= at:
					most++
					least++
				case e.Call == Put && e.At < at:
					most--
					least--
				case e.Call == Put && e.At == at:
					least--
				}
			}
		}
		return least, most
	}
	if tr.Events < 200 { // the count is quadratic
		peak := 0
		for _, task := range tr.Tasks {
			own := 0
			for _, e := range task {
				_, n := outAt(tr.Tasks, e.At)
				peak = max(peak, n)
				_, n = outAt([][]Event{task}, e.At)
				own = max(own, n)
			}
			apart += own
		}
		if peak != tr.Peak || apart != tr.PeakApart {
			t.Fatalf("peaks of %d and %d, but it says %d and %d", peak, apart, tr.Peak, tr.PeakApart)
		}
	}
	demand := tr.Demand(time.Millisecond)
	for i, s := range demand {
		if s.Elements < 0 || s.Elements > tr.Peak || s.At != time.Duration(i)*time.Millisecond {
			t.Fatalf("demand %d is %+v, the peak %d", i, s, tr.Peak)
		}
		if tr.Events < 200 && i < len(demand)-1 {
			if least, _ := outAt(tr.Tasks, s.At-1); i > 0 && s.Elements != least {
				t.Fatalf("demand before %v is %d, want %d", s.At, s.Elements, least)
			}
		}
	}
	if last := demand[len(demand)-1]; last.Elements != 0 || last.At < tr.Length {
		t.Fatalf("the demand ends with %+v", last)
	}
}

// A trace that is cut is the beginning of the whole one.
func TestTraceCut(t *testing.T) {
	o := TraceOptions{Name: "steady", Tasks: 3, Length: 100 * time.Millisecond}
	whole, err := NewTrace(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Events = 100
	cut, err := NewTrace(o)
	if err != nil {
		t.Fatal(err)
	}
	if cut.Gets != 50 || cut.Length >= whole.Length {
		t.Errorf("%d gets in %v", cut.Gets, cut.Length)
	}
	for i, task := range cut.Tasks {
		gets := func(events []Event) (at []time.Duration) {
			for _, e := range events {
				if e.Call != Put {
					at = append(at, e.At)
				}
			}
			return at
		}
		if got := gets(task); !reflect.DeepEqual(got, gets(whole.Tasks[i])[:len(got)]) {
			t.Errorf("task %d does not begin as it did", i)
		}
	}
}

// Another seed is another trace, and about a quarter of the callers may sleep.
func TestTraceSeed(t *testing.T) {
	for _, name := range Names() {
		o := TraceOptions{Name: name, Seed: 1, Tasks: 4, Length: time.Second}
		a, err := NewTrace(o)
		if err != nil {
			t.Fatal(err)
		}
		o.Seed = 2
		b, err := NewTrace(o)
		if err != nil {
			t.Fatal(err)
		}
		if reflect.DeepEqual(a.Tasks, b.Tasks) {
			t.Errorf("%s: seeds 1 and 2 are the same", name)
		}
		if share := float64(a.Waits) / float64(a.Gets); share < 0.2 || share > 0.3 {
			t.Errorf("%s: %.2f of the callers may sleep", name, share)
		}
		s, _ := shapeOf(name)
		if want := s.mean * 4 * 1000; float64(a.Gets) < 0.85*want || float64(a.Gets) > 1.15*want {
			t.Errorf("%s: %d gets, want about %.0f", name, a.Gets, want)
		}
		if About(name) == "" {
			t.Errorf("%s says nothing about itself", name)
		}
	}
}

func TestTraceBadOptions(t *testing.T) {
	good := TraceOptions{Name: "steady", Tasks: 1, Length: time.Second}
	for what, change := range map[string]func(*TraceOptions){
		"name":         func(o *TraceOptions) { o.Name = "calm" },
		"no tasks":     func(o *TraceOptions) { o.Tasks = 0 },
		"many tasks":   func(o *TraceOptions) { o.Tasks = maxTasks + 1 },
		"no length":    func(o *TraceOptions) { o.Length = 0 },
		"one event":    func(o *TraceOptions) { o.Events = 1 },
		"minus events": func(o *TraceOptions) { o.Events = -2 },
		"too long":     func(o *TraceOptions) { o.Length = 1000 * time.Hour },
	} {
		o := good
		change(&o)
		if _, err := NewTrace(o); !errors.Is(err, ErrBadOptions) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := NewTrace(good); err != nil {
		t.Error(err)
	}
	if About("calm") != "" {
		t.Error("there is something about a trace that is not there")
	}
}

// What is put back and what is got at the same time may both be out.
func TestPeakTie(t *testing.T) {
	if n := peak([]change{{2, -1}, {2, 1}, {1, 1}}); n != 2 {
		t.Errorf("peak %d, want 2", n)
	}
}

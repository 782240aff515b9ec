package respool

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Report is what a debug build has to tell. See "Debug builds" in the package's comment.
type Report struct {
	Kind    Kind
	Pool    string        // Options.Name, may be empty
	Element string        // the element, or one of Count; empty where it is not about one
	Count   int           // how many elements it is about; 0 of a cycle and of sections
	Held    time.Duration // how long it has been out, of several the longest
	Detail  string        // what Poisoner.Check said; the pools of a cycle, in order
	Stacks  []Stack
}

// A Kind is what a Report is about.
type Kind uint8

const (
	HeldLong        Kind = iota + 1 // an element is out longer than Options.HoldLimit
	Leaked                          // elements were not put back when Close ended
	WrittenAfterPut                 // an element was written to after it was put
	PutTwice                        // an element was put that had been put already; refused
	PutForeign                      // an element was put that the pool did not hand out; refused
	PoolCycle                       // holders of one pool's elements wait for another's, in a circle
	SleepInside                     // a waiting call inside a section that must not sleep
	WrongEnd                        // such a section was ended twice or by another goroutine
)

var kinds = [...]string{
	HeldLong:        "held longer than HoldLimit",
	Leaked:          "not put back",
	WrittenAfterPut: "written to after it was put",
	PutTwice:        "put twice",
	PutForeign:      "put, but not got from this pool",
	PoolCycle:       "who holds elements waits for more, in a circle",
	SleepInside:     "waiting call in a section that must not sleep",
	WrongEnd:        "section that must not sleep ended twice or by another goroutine",
}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kinds) {
		return "kind " + strconv.Itoa(int(k))
	}
	return kinds[k]
}

// A Stack is where a goroutine was.
type Stack struct {
	What      string // what it did there: "got", "put", "waited for \"frames\""
	Goroutine uint64 // its number, as in the traces of a panic
	Trace     string // two lines for each call, the innermost first, as in the traces of a panic
}

// String is the report as text, a line for what it says and then the stacks.
func (r Report) String() string {
	var b strings.Builder
	b.WriteString("respool")
	if r.Pool != "" {
		b.WriteString(" " + strconv.Quote(r.Pool))
	}
	b.WriteString(": ")
	switch {
	case r.Count > 1 && r.Element != "":
		fmt.Fprintf(&b, "%d elements, one is %s: ", r.Count, r.Element)
	case r.Count > 1:
		fmt.Fprintf(&b, "%d elements: ", r.Count)
	case r.Element != "":
		b.WriteString(r.Element + ": ")
	}
	b.WriteString(r.Kind.String())
	if r.Detail != "" {
		b.WriteString(": " + r.Detail)
	}
	if r.Held > 0 {
		fmt.Fprintf(&b, ", out for %v", r.Held.Round(time.Microsecond))
	}
	for _, s := range r.Stacks {
		fmt.Fprintf(&b, "\n%s by goroutine %d:\n%s", s.What, s.Goroutine, strings.TrimSuffix(s.Trace, "\n"))
	}
	return b.String()
}

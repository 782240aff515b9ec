//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"gommu/iommu/trace"
)

const mostSlow = 10

// A slowCall is a call with the names of the functions that it came from, which are looked up while its process is there.
type slowCall struct {
	trace.Event
	Frames []string `json:"frames,omitempty"`
}

// slowest keeps the slowest call from each place, the slowest first.
type slowest struct {
	list   []slowCall
	wanted func(trace.Source) bool
	names  trace.Symbols
}

// read reads events until ctx ends.
func (s *slowest) read(ctx context.Context, t *trace.Tracer) error {
	for {
		e, err := t.Read(ctx)
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return err
		case e.Time > 0 && s.wanted(e.Source):
			s.add(e)
		}
	}
}

func (s *slowest) add(e trace.Event) {
	same := slices.IndexFunc(s.list, func(f slowCall) bool {
		return f.Operation == e.Operation && f.Process == e.Process && slices.Equal(f.Stack, e.Stack)
	})
	if same >= 0 {
		if s.list[same].Time >= e.Time {
			return
		}
		s.list = slices.Delete(s.list, same, same+1)
	}
	i, _ := slices.BinarySearchFunc(s.list, e.Time, func(a slowCall, t time.Duration) int { return cmp.Compare(t, a.Time) })
	if i == mostSlow {
		return
	}
	call := slowCall{Event: e}
	for _, at := range e.Stack {
		call.Frames = append(call.Frames, s.names.Name(e, at))
	}
	s.list = slices.Insert(s.list, i, call)
	s.list = s.list[:min(len(s.list), mostSlow)]
}

func printSlow(w io.Writer, slow []slowCall) {
	for _, c := range slow {
		fmt.Fprintf(w, "slow: %v%s\n", c.Operation, details(c.Event))
		for _, f := range c.Frames {
			fmt.Fprintf(w, "    %s\n", f)
		}
	}
}

// details are those of a slow call.
func details(e trace.Event) string {
	text := fmt.Sprintf(" took %v, process %d", e.Time, e.Process)
	if e.Operation.OfPool() {
		text += fmt.Sprintf(", pool %d", e.Pool)
	} else {
		text += fmt.Sprintf(", device %v", e.Source)
	}
	if e.Domain != 0 {
		text += fmt.Sprintf(", domain %d", e.Domain)
	}
	if e.Operation.InBytes() {
		text += ", " + bytesText(e.Size)
	}
	if items := e.Operation.Items(); items != "" {
		return text + fmt.Sprintf(", %d %s", e.Items, items)
	}
	text += fmt.Sprintf(", IOVA %#x", e.IOVA)
	if e.Direction != 0 {
		text += fmt.Sprintf(", %v", e.Direction)
	}
	if e.Result != 0 {
		text += ", " + resultName(e.Operation, e.Result)
	}
	return text
}

//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"gommu/iommu/trace"
)

const mostSlow = 10

// slowest keeps the slowest call from each place, the slowest first.
type slowest struct {
	list   []trace.Event
	wanted func(trace.Operation, trace.Source) bool
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
		case e.Time > 0 && s.wanted(e.Operation, e.Source):
			s.add(e)
		}
	}
}

func (s *slowest) add(e trace.Event) {
	same := slices.IndexFunc(s.list, func(f trace.Event) bool {
		return f.Operation == e.Operation && f.Process == e.Process && slices.Equal(f.Stack, e.Stack)
	})
	if same >= 0 {
		if s.list[same].Time >= e.Time {
			return
		}
		s.list = slices.Delete(s.list, same, same+1)
	}
	i, _ := slices.BinarySearchFunc(s.list, e, func(a, b trace.Event) int { return cmp.Compare(b.Time, a.Time) })
	s.list = slices.Insert(s.list, i, e)
	s.list = s.list[:min(len(s.list), mostSlow)]
}

func printSlow(w io.Writer, slow []trace.Event) {
	names := trace.Symbols{}
	for _, e := range slow {
		fmt.Fprintf(w, "slow: %v%s\n", e.Operation, details(e))
		for _, at := range e.Stack {
			fmt.Fprintf(w, "    %s\n", names.Name(e, at))
		}
	}
}

// details are those of a slow call.
func details(e trace.Event) string {
	text := fmt.Sprintf(" took %v, process %d", e.Time, e.Process)
	if e.Operation.OfPool() {
		text += fmt.Sprintf(", pool %d", uint64(e.Source))
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

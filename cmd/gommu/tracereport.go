//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gommu/iommu/trace"
)

// histograms prints one histogram for each operation, or for each of its devices or results.
func (r *tracing) histograms(w io.Writer, s trace.Snapshot) error {
	for _, t := range r.grouped(s) {
		name := fmt.Sprintf("operation = %v", t.Operation)
		if r.devices {
			name += fmt.Sprintf(", %s = %s", sourceKind(t.Operation), sourceName(t))
		}
		if r.results {
			name += fmt.Sprintf(", result = %d", t.Result)
		}
		if !t.Operation.Timed() {
			if _, err := fmt.Fprintf(w, "\n%s: %d%s\n", name, t.Count, sizeOf(t)); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s\n%s", name, histogram(t.Slots)); err != nil {
			return err
		}
	}
	return nil
}

// grouped adds up the tallies that share a histogram.
func (r *tracing) grouped(s trace.Snapshot) []trace.Tally {
	var groups []trace.Tally
	at := map[trace.Tally]int{}
	for _, t := range s.Tallies {
		key := trace.Tally{Operation: t.Operation}
		if r.devices {
			key.Source = t.Source
		}
		if r.results {
			key.Result = t.Result
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, key)
		}
		groups[i].Add(t)
	}
	return groups
}

func sourceKind(o trace.Operation) string {
	switch o {
	case trace.PoolGrow, trace.PoolShrink, trace.PoolEmpty:
		return "pool"
	}
	return "device"
}

func sourceName(t trace.Tally) string {
	if sourceKind(t.Operation) == "pool" {
		return fmt.Sprint(uint64(t.Source))
	}
	return t.Source.String()
}

const stars = 40

// histogram is the text that bcc's tools print.
func histogram(slots [trace.Slots]uint64) string {
	last, most := 0, uint64(0)
	for i, n := range slots {
		if n > 0 {
			last = i
		}
		most = max(most, n)
	}
	width := 10
	if last >= 32 {
		width = 20
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%*s%-*s : count     distribution\n", width-5, "", width+9, "nsecs")
	for i, n := range slots[:last+1] {
		low := uint64(1) << i
		if i == 0 {
			low = 0
		}
		bar := strings.Repeat("*", int(float64(n)/float64(max(most, 1))*stars))
		fmt.Fprintf(&b, "%*d -> %-*d : %-8d |%-*s|\n", width, low, width, uint64(2)<<i-1, n, stars, bar)
	}
	return b.String()
}

// sizeOf is the sum of a tally's sizes, behind a comma.
func sizeOf(t trace.Tally) string {
	switch {
	case t.Operation.InBytes():
		return ", " + bytesText(t.Size)
	case sourceKind(t.Operation) == "pool":
		return fmt.Sprintf(", %d elements", t.Size)
	}
	return ""
}

func bytesText(n uint64) string {
	unit, names := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for len(names) > 1 && unit >= 1024 {
		unit /= 1024
		names = names[1:]
	}
	if names[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", unit, names[0])
}

// totals prints the end: the histograms, unless intervals showed them, who did it, what was slow and what was lost.
func (r *tracing) totals(w io.Writer, s trace.Snapshot, shown bool, slow []trace.Event) error {
	if !shown {
		if err := r.histograms(w, s); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\nTotal of %v", s.At.Sub(s.Opened).Round(time.Millisecond))
	if s.Sample > 1 {
		fmt.Fprintf(w, "; of the programs' calls one in %d was seen", s.Sample)
	}
	fmt.Fprintln(w)
	if err := talkers(w, s); err != nil {
		return err
	}
	printSlow(w, slow)
	_, err := fmt.Fprintf(w, "lost: %d calls, %d events, %d starts, %d misses\n", s.Lost.Tallied, s.Lost.Events, s.Lost.Starts, s.Lost.Misses)
	return err
}

const most = 10 // lines of a table of the greatest

// talkers prints who called most.
func talkers(w io.Writer, s trace.Snapshot) error {
	var groups []trace.Tally
	at := map[trace.Tally]int{}
	for _, t := range s.Tallies {
		key := trace.Tally{Operation: t.Operation, Process: t.Process, Source: t.Source}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, key)
		}
		groups[i].Add(t)
	}
	slices.SortStableFunc(groups, func(a, b trace.Tally) int { return cmp.Compare(b.Count, a.Count) })
	rest := max(0, len(groups)-most)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "operation\tdevice or pool\tprocess\tcalls\tmean\tsize")
	for _, t := range groups[:len(groups)-rest] {
		mean := "-"
		if t.Operation.Timed() {
			mean = fmt.Sprint(t.Time / time.Duration(max(t.Count, 1)))
		}
		fmt.Fprintf(tw, "%v\t%s\t%d %s\t%d\t%s\t%s\n", t.Operation, sourceName(t), t.Process, nameOf(t.Process), t.Count, mean, strings.TrimPrefix(sizeOf(t), ", "))
	}
	if rest > 0 {
		fmt.Fprintf(tw, "and %d more\n", rest)
	}
	return tw.Flush()
}

// nameOf is what a process calls itself, if it still runs.
func nameOf(pid uint32) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

// slowest keeps the slowest call from each place, the slowest first.
type slowest struct{ list []trace.Event }

// read reads events until ctx ends.
func (s *slowest) read(ctx context.Context, t *trace.Tracer) error {
	for {
		e, err := t.Read(ctx)
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return err
		case e.Time > 0:
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
	s.list = s.list[:min(len(s.list), most)]
}

func printSlow(w io.Writer, slow []trace.Event) {
	names := trace.Symbols{}
	for _, e := range slow {
		fmt.Fprintf(w, "slow: %v took %v, device %v, process %d, IOVA %#x, %s\n", e.Operation, e.Time, e.Source, e.Process, e.IOVA, bytesText(e.Size))
		for _, at := range e.Stack {
			fmt.Fprintf(w, "    %s\n", names.Name(e, at))
		}
	}
}

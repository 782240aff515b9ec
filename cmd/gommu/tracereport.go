//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"gommu/iommu/trace"
)

// histograms prints one histogram for each group.
func (r *tracing) histograms(w io.Writer, s trace.Snapshot) error {
	for _, t := range r.group.of(s.Tallies) {
		name := r.group.title(t, s)
		text := fmt.Sprintf("\n%s: %d%s\n", name, t.Count, behindComma(amount(t)))
		if t.Operation.Timed() {
			text = fmt.Sprintf("\n%s\n%s", name, histogram(t.Slots))
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
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

// amount is the sum of a tally's sizes, and of what else its calls were for.
func amount(t trace.Tally) string {
	var parts []string
	if t.Operation.InBytes() {
		parts = append(parts, bytesText(t.Size))
	}
	if items := t.Operation.Items(); items != "" {
		parts = append(parts, fmt.Sprintf("%d %s", t.Items, items))
	}
	return strings.Join(parts, ", ")
}

func behindComma(text string) string {
	if text == "" {
		return ""
	}
	return ", " + text
}

// totals prints the end: the histograms, unless intervals showed them, who did it, what was slow and what was lost.
func (r *tracing) totals(w io.Writer, s trace.Snapshot, shown bool, slow []slowCall) error {
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
	if err := talkers(w, s, 0); err != nil {
		return err
	}
	printSlow(w, slow)
	return printLost(w, s.Lost)
}

func printLost(w io.Writer, l trace.Lost) error {
	_, err := fmt.Fprintf(w, "lost: %d calls, %d events, %d starts, %d misses\n", l.Tallied, l.Events, l.Starts, l.Misses)
	return err
}

const mostTalkers = 10

// talkers prints who called most. If it is known how long they took for it, it prints how often a second.
func talkers(w io.Writer, s trace.Snapshot, during time.Duration) error {
	groups, others := grouping{device: true, process: true}.busiest(s.Tallies, mostTalkers)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "calls"
	if during > 0 {
		head = "calls/s"
	}
	fmt.Fprintf(tw, "operation\tdevice or pool\tprocess\t%s\tmean\tp50\tp99\tsum\n", head)
	for _, t := range groups {
		calls := fmt.Sprint(t.Count)
		if during > 0 {
			calls = fmt.Sprintf("%.0f", float64(t.Count)/during.Seconds())
		}
		times := "-\t-\t-"
		if t.Operation.Timed() {
			times = fmt.Sprintf("%v\t%v\t%v", t.Time/time.Duration(max(t.Count, 1)), rounded(t.Quantile(0.5)), rounded(t.Quantile(0.99)))
		}
		fmt.Fprintf(tw, "%v\t%s\t%s\t%s\t%s\t%s\n", t.Operation, sourceName(t), processName(t.Process, s), calls, times, amount(t))
	}
	if others > 0 {
		fmt.Fprintf(tw, "and %d more\n", others)
	}
	return tw.Flush()
}

// rounded has two digits, which is more than a histogram knows.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d >= 100*unit {
		unit *= 10
	}
	return d.Round(unit)
}

// frame is what --live shows.
func frame(w io.Writer, s trace.Snapshot, during time.Duration) error {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // the cursor to the top left corner, and nothing on the screen
	}
	fmt.Fprintf(w, "%s  the last %v\n", s.At.Format(time.TimeOnly), during.Round(time.Millisecond))
	if err := talkers(w, s, during); err != nil {
		return err
	}
	return printLost(w, s.Lost)
}

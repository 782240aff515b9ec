//go:build linux

package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"gommu/qemu-tests/measure"
)

// benchColumns explains the tables. The verb is what reading the clock costs.
const benchColumns = `p50, mean    of groups of calls (as many as one flush is for, or more), the share of the flush in them; mean: wall time, all included
p99 to max   of single calls; reading the clock, %s, is taken off. A call that is refused because a pool is dry at that moment counts
map, unmap   each by itself: p50 of groups of Maps and then Unmaps, p99.99 of single calls
refused      share of Maps that were answered at once by: dry, try again
allocs       allocations on the Go heap, of a pair
ratio        p50 over that of the peer in the same run
strict       Unmap waits until the unit has forgotten; batched: at most 256 unmaps or 10 ms later; ring: at the end of a burst of 64
premapped    all memory that is registered stays reachable; bounced: copied through such memory, the copies are in the times
empty loop   maps nothing and computes for as long as a Map of 4 KiB: what its tail has, the operating system and Go's scheduler add to any code
gc, storm    beside: a goroutine that makes garbage and collects it; one that drains the same pools and fills them again
`

// benchText prints a report for people.
func benchText(w io.Writer, r *measure.Report) error {
	fmt.Fprintf(w, "rung       %s\nmachine    %s\n\n", r.Rung, r.Machine)
	err := benchTable(w, "ALONE", r.Rows, func(row measure.Row) bool { return row.Threads == 1 && row.Neighbour == measure.Idle })
	if err != nil {
		return err
	}
	if err := benchTable(w, "BESIDE", r.Rows, func(row measure.Row) bool { return row.Neighbour != measure.Idle }); err != nil {
		return err
	}
	if err := benchThreads(w, r.Rows); err != nil {
		return err
	}
	benchHeld(w, r.Held)
	benchTargets(w, r.Targets)
	clock := "?"
	for i, c := range r.Clocks {
		if i == 0 {
			clock = nanoseconds(c.Cost)
		} else {
			clock += " and " + nanoseconds(c.Cost)
		}
	}
	if _, err := fmt.Fprintf(w, benchColumns, clock); err != nil {
		return err
	}
	return benchBusy(w, r.Rows)
}

// isPair says whether a row is of Maps with their Unmaps.
func isPair(r measure.Row) bool { return r.Name == "map+unmap "+r.Shape }

// byShape are the pairs among the rows that are asked for, in the order of the shapes.
func byShape(rows []measure.Row, has func(measure.Row) bool) (all []measure.Row) {
	for _, s := range measure.Shapes() {
		for _, r := range rows {
			if r.Shape == s.Name && isPair(r) && has(r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// half is the row of Maps or of Unmaps that belongs to one of pairs.
func half(rows []measure.Row, pair measure.Row, name string) measure.Row {
	for _, r := range rows {
		if r.Name == name+" "+pair.Shape && r.Way == pair.Way && r.Policy == pair.Policy && r.Threads == pair.Threads && r.Neighbour == pair.Neighbour {
			return r
		}
	}
	return measure.Row{}
}

// benchTable prints some of the rows of one goroutine.
func benchTable(w io.Writer, title string, rows []measure.Row, has func(measure.Row) bool) error {
	pairs := byShape(rows, has)
	if len(pairs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s\t\t\tpair p50\tmean\tp99\tp99.9\tp99.99\tmax\tmap p50\tp99.99\tunmap p50\tp99.99\trefused\tallocs\tratio\t  peer\n", title)
	for _, r := range pairs {
		m, u := half(rows, r, "map"), half(rows, r, "unmap")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%g\t%s\t  %s\n", r.Shape, beside(r), r.Policy,
			nanoseconds(r.P50), nanoseconds(r.Mean), nanoseconds(r.P99), nanoseconds(r.P999), nanoseconds(r.P9999), nanoseconds(r.Max),
			nanoseconds(m.P50), nanoseconds(m.P9999), nanoseconds(u.P50), nanoseconds(u.P9999), percent(r.Refused), r.Allocs, number(r.Ratio), peer(r))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func beside(r measure.Row) string {
	if r.Neighbour != measure.Idle {
		s := fmt.Sprintf("%s | %s", r.Way, r.Neighbour)
		if r.Drained > 0 {
			s += fmt.Sprintf(", dry %d times", r.Drained)
		}
		return s
	}
	return r.Way
}

func peer(r measure.Row) string {
	if r.OwnPeer() {
		return "itself"
	}
	return r.Peer
}

// benchThreads prints how many pairs some goroutines did together, for ways that had several.
func benchThreads(w io.Writer, rows []measure.Row) error {
	crowd := map[string]bool{}
	for _, r := range rows {
		if r.Threads > 1 {
			crowd[r.Way+r.Policy+r.Name] = true
		}
	}
	if len(crowd) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "TOGETHER\t\t\tgoroutines\tpairs/s\tpair p50\tratio\t  peer\n")
	for _, r := range rows {
		if crowd[r.Way+r.Policy+r.Name] && r.Neighbour == measure.Idle {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.0f\t%s\t%s\t  %s\n", r.Shape, r.Way, r.Policy, r.Threads, r.PerSecond, nanoseconds(r.P50), number(r.Ratio), peer(r))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// benchBusy says so if the machine had other things to do: a loop that only computes then takes longer in the
// mean than in the median.
func benchBusy(w io.Writer, rows []measure.Row) error {
	for _, r := range rows {
		if r.Way == measure.LoopName && isPair(r) && r.Threads == 1 && r.Neighbour == measure.Idle && r.Mean > 1.3*r.P50 {
			_, err := fmt.Fprintf(w, "\nThe machine was busy: the empty loop took %s in the mean and %s in the median. Try again at rest.\n", nanoseconds(r.Mean), nanoseconds(r.P50))
			return err
		}
	}
	return nil
}

func benchHeld(w io.Writer, held []measure.Held) {
	for i, h := range held {
		label := "held"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%-10s %s: %s, %d KiB\n", label, h.Way, h.What, h.Bytes>>10)
	}
	if len(held) > 0 {
		fmt.Fprintln(w)
	}
}

func benchTargets(w io.Writer, targets []measure.Target) {
	for i, t := range targets {
		label := "targets"
		if i > 0 {
			label = ""
		}
		met := "missed"
		if t.Met {
			met = "met"
		}
		fmt.Fprintf(w, "%-10s %s: %s, wanted %s: %s\n", label, t.Name, number(t.Got), t.Want, met)
		if t.Note != "" {
			fmt.Fprintf(w, "%-10s %s\n", "", t.Note)
		}
	}
	if len(targets) > 0 {
		fmt.Fprintln(w)
	}
}

// nanoseconds writes a time with three digits, and its unit.
func nanoseconds(ns float64) string {
	switch {
	case ns == 0:
		return "-"
	case ns < 100:
		return strconv.FormatFloat(ns, 'g', 3, 64) + "ns"
	}
	return short(time.Duration(ns)).String()
}

// number writes three digits without an exponent.
func number(x float64) string {
	if x >= 1000 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func percent(x float64) string {
	if x == 0 {
		return "0"
	}
	return number(100*x) + "%"
}

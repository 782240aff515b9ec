//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gommu/iommu/trace"
	"gommu/iommu/vtd"
)

// A grouping says what else than its operation tells one group of calls from another.
type grouping struct{ device, size, result, process bool }

func parseGrouping(by []string) (g grouping, err error) {
	for _, b := range by {
		switch b {
		case "device":
			g.device = true
		case "size":
			g.size = true
		case "result":
			g.result = true
		case "process":
			g.process = true
		default:
			return g, fmt.Errorf("--by %s: it is one or more of device, size, result, process", b)
		}
	}
	return g, nil
}

// of adds up the tallies of a group; the groups come in the order of the tallies.
func (g grouping) of(all []trace.Tally) (groups []trace.Tally) {
	at := map[trace.Tally]int{}
	for _, t := range all {
		key := trace.Tally{Operation: t.Operation}
		if g.device {
			key.Source, key.Pool = t.Source, t.Pool
		}
		if g.size {
			key.Class = t.Class
		}
		if g.result {
			key.Result = t.Result
		}
		if g.process {
			key.Process = t.Process
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

// busiest are the groups of most calls, and how many others there are.
func (g grouping) busiest(all []trace.Tally, most int) (groups []trace.Tally, others int) {
	groups = g.of(all)
	slices.SortStableFunc(groups, func(a, b trace.Tally) int { return cmp.Compare(b.Count, a.Count) })
	others = max(0, len(groups)-most)
	return groups[:len(groups)-others], others
}

// title says which group a tally is.
func (g grouping) title(t trace.Tally, s trace.Snapshot) string {
	parts := []string{fmt.Sprintf("operation = %v", t.Operation)}
	if g.device {
		kind := "device"
		if t.Operation.OfPool() {
			kind = "pool"
		}
		parts = append(parts, kind+" = "+sourceName(t))
	}
	if g.size && t.Operation.InBytes() {
		parts = append(parts, fmt.Sprintf("size = %s -> %s", bytesText(lowest(t.Class)), bytesText(uint64(2)<<t.Class-1)))
	}
	if g.result {
		parts = append(parts, "result = "+resultName(t.Operation, t.Result))
	}
	if g.process {
		parts = append(parts, "process = "+processName(t.Process, s))
	}
	return strings.Join(parts, ", ")
}

// lowest is the smallest size of a class.
func lowest(class uint8) uint64 {
	if class == 0 {
		return 0
	}
	return 1 << class
}

func sourceName(t trace.Tally) string {
	if t.Operation.OfPool() {
		return fmt.Sprint(t.Pool)
	}
	return t.Source.String()
}

// resultName says how calls ended.
func resultName(o trace.Operation, result uint16) string {
	switch {
	case o == trace.Fault, o == trace.KernelFault:
		return vtd.Reason(result).String()
	case result == 0:
		return "done"
	case o.Kernel():
		if name := unix.ErrnoName(unix.Errno(result)); name != "" {
			return name
		}
	case int(result) < len(libraryResults):
		return libraryResults[result]
	}
	return fmt.Sprint(result)
}

var libraryResults = [...]string{1: "dry", 2: "refused", 3: "failed"}

// processName is a process's number and name; process 0 is the kernel.
func processName(pid uint32, s trace.Snapshot) string {
	if pid == 0 {
		return "kernel"
	}
	return fmt.Sprintf("%d %s", pid, s.Commands[pid])
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

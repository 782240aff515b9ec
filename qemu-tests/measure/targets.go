package measure

import "fmt"

// A Target is a figure that is wanted, and what there was.
type Target struct {
	Name string  `json:"name"`
	Want string  `json:"want"` // "<= 0.01"
	Got  float64 `json:"got"`
	Met  bool    `json:"met"`
	Note string  `json:"note,omitempty"` // what else was measured about it
}

// Names of ways that targets are about.
const (
	OwnTables  = "own tables"
	Premapped  = "premapped"
	Bounced    = "bounced"
	VFIO       = "VFIO ioctls"
	MutexList  = "mutex and list"
	TableAlone = "table alone"
	LoopName   = "empty loop"
)

// targets are those that the rows have figures for.
func (all *Report) targets() []Target {
	found := []Target{}
	add := func(t Target, ok bool) {
		if ok {
			found = append(found, t)
		}
	}
	add(all.ratioTarget("4 KiB pair through own tables, batched, over the pair of VFIO ioctls", OwnTables, "batched", 0.01))
	add(all.ratioTarget("4 KiB pair premapped, over the pair of VFIO ioctls", Premapped, "premapped", 0.005))
	found = append(found, all.tailTargets()...)
	add(all.scalingTarget(1, 2, 1.8))
	add(all.scalingTarget(2, 64, 0.9))
	return found
}

// ratioTarget is about a row whose peer are VFIO's ioctls.
func (all *Report) ratioTarget(name, way, policy string, most float64) (Target, bool) {
	r, ok := all.find(way, policy, "map+unmap "+Page.Name, 1, Idle)
	if _, vfio := all.find(VFIO, "ioctl", "map+unmap "+Page.Name, 1, Idle); !ok || !vfio {
		return Target{}, false
	}
	return Target{Name: name, Want: fmt.Sprintf("<= %g", most), Got: r.Ratio, Met: r.Ratio <= most}, true
}

// tailTargets are about Map beside a collector and a storm: as it was measured, and less what a loop that
// only computes has in its tail beside the same.
func (all *Report) tailTargets() []Target {
	r, ok := all.find(OwnTables, "batched", "map "+Page.Name, 1, Everything)
	if !ok || r.P50 == 0 {
		return nil
	}
	target := func(what string, p9999 float64) Target {
		got := p9999 / r.P50
		return Target{Name: "p99.99 of Map of 4 KiB over its median, batched, beside gc+storm" + what, Want: "<= 10", Got: got, Met: got <= 10}
	}
	found := []Target{target("", r.P9999)}
	if l, ok := all.find(LoopName, "", "map "+Page.Name, 1, Everything); ok {
		found[0].Note = fmt.Sprintf("p99.99 of Map %.0f ns; of an empty loop of %.0f ns, %.0f ns", r.P9999, l.P50, l.P9999)
		found = append(found, target(", less what the empty loop has beyond its own median", max(r.P50, r.P9999-(l.P9999-l.P50))))
	}
	return found
}

// scalingTarget is about what many goroutines get done together.
func (all *Report) scalingTarget(few, many int, least float64) (Target, bool) {
	name := "map+unmap " + Page.Name
	a, ok := all.find(OwnTables, "batched", name, few, Idle)
	b, also := all.find(OwnTables, "batched", name, many, Idle)
	if !ok || !also || a.PerSecond == 0 {
		return Target{}, false
	}
	got := b.PerSecond / a.PerSecond
	t := Target{
		Name: fmt.Sprintf("pairs of 4 KiB a second by %d goroutines over those by %d, batched", many, few),
		Want: fmt.Sprintf(">= %g", least), Got: got, Met: got >= least,
	}
	l, ok := all.find(LoopName, "", name, few, Idle)
	m, also := all.find(LoopName, "", name, many, Idle)
	if ok && also && l.PerSecond > 0 {
		t.Note = fmt.Sprintf("an empty loop: %.2f", m.PerSecond/l.PerSecond)
	}
	return t, true
}

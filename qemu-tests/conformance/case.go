package conformance

import "slices"

// A Case is one thing that units and driver have to do.
type Case struct {
	Name  string
	About string // one line for people

	modes   []Mode // none is all
	needs   Feature
	variant Variant
	// ruins says that the case breaks rules that units need not notice, so that
	// what a rig complains about does not count.
	ruins bool
	run   func(*bench)
}

// Cases are all cases, in the order in which they run.
func Cases() []Case {
	return slices.Concat(mappingCases, unmappingCases, superpageCases, domainCases, invalidationCases, cacheCases, faultCases, reasonCases(), interruptCases(), dmaCases)
}

func (c Case) runsIn(m Mode) bool { return len(c.modes) == 0 || slices.Contains(c.modes, m) }

func modeNames(all []Mode) []string {
	var names []string
	for _, m := range all {
		names = append(names, string(m))
	}
	return names
}

package conformance

import "slices"

// Variants are the variants that cases want, the zero Variant first.
func Variants(cases []Case) []Variant {
	all := []Variant{{}}
	for _, c := range cases {
		if !slices.Contains(all, c.variant) {
			all = append(all, c.variant)
		}
	}
	return all
}

// CasesFor are those of the cases that want a variant and, if modes are given, can be
// shown in one of these, for rungs whose unit is what it is.
func CasesFor(cases []Case, v Variant, modes ...Mode) []Case {
	return slices.DeleteFunc(slices.Clone(cases), func(c Case) bool {
		return c.variant != v || len(modes) > 0 && !slices.ContainsFunc(modes, c.runsIn)
	})
}

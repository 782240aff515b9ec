//go:build mutate

package iommu

// Steps are the names of all steps.
func Steps() []string { return stepNames[:] }

// Leave leaves out a step from now on, or none if it is -1.
func Leave(s int) {
	left.Store(int32(s) + 1)
	for i := range came {
		came[i].Store(false)
	}
}

// Came says whether a domain came to a step since then.
func Came(s int) bool { return came[s].Load() }

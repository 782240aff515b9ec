//go:build amd64 && !race

package pagetable

// put stores v with one 8-byte store. What was stored before it is seen before
// it. A call that is not inlined costs less than one of assembly, and the compiler can
// neither split its store nor leave it out.
//
//go:noinline
func put(p *uint64, v uint64) { *p = v }

package trace

// argumentAt is where in struct pt_regs the registers lie in which Go passes integers:
// AX, BX, CX, DI, SI, R8, R9, R10, R11.
var argumentAt = [9]int16{80, 40, 88, 112, 104, 72, 64, 56, 48}

// At a function's first instruction the return address is where SP points to.
const (
	callerAt      = 152
	returnOnStack = true
)

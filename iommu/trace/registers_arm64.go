package trace

// argumentAt is where in struct user_pt_regs the registers lie in which Go passes integers: R0 to R8.
var argumentAt = [9]int16{0, 8, 16, 24, 32, 40, 48, 56, 64}

// At a function's first instruction the return address is in R30.
const (
	callerAt      = 240
	returnOnStack = false
)

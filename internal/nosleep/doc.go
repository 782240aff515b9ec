// Package nosleep is a go/analysis analyzer for functions that must not sleep. cmd/nosleepvet runs it, by itself
// or as a tool of go vet.
//
// # Directives
//
//	//gommu:nosleep
//
// in the comment of a function or a method: it parks no goroutine, makes no system call, allocates nothing on the
// heap, takes no lock. A function without a body (assembly, or linked to another by name) is believed. In the
// comment of a method in an interface, of a field that holds a function, or of a type of functions: what is
// called through it keeps the same promise, so it may be called, and whatever is put there is checked.
//
//	//gommu:refusal
//
// in the comment of a function that makes the error of a call that the caller got wrong: it may allocate, and
// must not do anything else of what is refused. A nosleep function may call it only as a result of a return
// statement: return 0, refuse(op, n). What is computed for that call may allocate too, and so may what is
// computed for panic. Errors of the ordinary run are ready-made values.
//
//	//gommu:maysleep REASON
//
// in the comment of a type: it may become an interface whose methods are nosleep though its own are not, as a
// test's fake, or a register window that is a socket.
//
//	//gommu:trust REASON
//
// at the end of a line, or on a line before it: what is found there is right. It is for that line and for the
// simple statement that begins or ends on it. A trust that nothing needs is reported. The flag -trusts lists them
// all, with marked functions that have no body and types that are maysleep.
//
// # What is refused
//
//   - sending, receiving, closing, range over a channel, select, go
//   - package sync, but for sync/atomic; time.Sleep, runtime.Gosched; system calls; print
//   - maps: reading, writing, range, delete, clear
//   - make, append (it may grow), joining strings and converting them to slices and back, defer in a loop
//   - variables whose address outlives the call, and values of literals, closures and interfaces that do
//   - a conversion from an interface to another one at run time: it may take a lock to make the table of methods
//   - calls through interfaces, type parameters, fields, variables that are not marked
//   - a loop without a body that waits for others, and one that nothing leaves. Whether other loops end soon is
//     not looked at; a compare-and-swap that is tried again is the usual one
//   - calls of functions that do any of this
//
// Not looked at: stacks that grow, faults of pages, preemption, panics of the runtime, package initialization.
// Code that a constant of this build leaves out (if debugging {}) is not looked at either; files are those of the
// build's tags.
//
// # Functions that are not marked
//
// A function without a mark may be called if its source passes all checks, and those that it calls do: three
// lines need no mark. That holds for other packages too, the standard library's among them, through facts;
// messages have the chain of calls. Functions that call each other in a circle pass if none of them does
// anything. Packages sync, reflect and runtime do not pass whatever their source says, and what has no Go body
// does only if it is in the table in standard.go, which has the reason for each entry. So a change in a package
// far below can break a promise; the next run tells.
//
// A function may call a parameter: then it is whoever calls it, and is checked, that answers for what he hands
// over: a literal or function that passes, a parameter of his own, or something marked. That includes what a
// marked field of a variable holds that does not outlive the call. A variable of functions that is only ever
// assigned known ones may be called.
//
// # Interfaces
//
// Where a type becomes an interface with marked methods, by assignment, argument, return, conversion or as a
// type argument, in any function, its methods have to be marked (to pass is not enough: who changes the
// method has to see what is promised), or the type has to be maysleep. From an interface that does not promise the
// same, and by a type assertion, this cannot be known: it needs a trust.
//
// # What outlives a call
//
// go/analysis has no escape analysis, so here is a rough one (escape.go). It follows a pointer through the
// function, the literals in it and, by a summary for each parameter, the functions that it calls. Storing
// it in a variable that stays is followed; anywhere else, or handing it to what is called through an interface or
// a value, counts as keeping it. Values that one variable holds at different times count as one, and what is
// declared in a loop must not leave its turn, because the compiler sees it so. What it lets pass the compiler
// keeps on the stack, as TestCompiler asks the compiler itself; what it refuses may still be on the stack,
// thanks to inlining: iterators that return a function are the usual case. testing.AllocsPerRun is the other net.
package nosleep

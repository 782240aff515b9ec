// Package probe is where the library can be watched from outside: a few empty
// functions that it calls while somebody traces it, and a word for each that
// says whether somebody does.
//
// The kernel counts up the word of a probe while an uprobe is attached to its
// function (the reference counter of perf_event_open(2), RefCtrOffset), and down
// when it is detached, also if the tracer dies. So an untraced call costs one
// load and one branch, and nothing has to be told to the program.
//
// A tracer finds both without symbols, so in stripped programs too: the
// functions by their names in the Go symbol table (.gopclntab), the words by the Mark in
// front of them (section .noptrdata).
//
// # The interface to tracers
//
// What is here is read by programs of other versions, so it is frozen: a probe's
// number, name and arguments do not change. New probes are added at the end, and new arguments
// behind the old ones, with a new Version. Arguments are uint64 only, at most nine, so that Go passes all of
// them in registers (on amd64 AX, BX, CX, DI, SI, R8, R9, R10, R11; on arm64 R0 to R8).
//
// All functions may be called at once, and none sleeps.
package probe

// Package guest is the inside of a virtual machine of package vm: what runs as
// PID 1, and what its programs may ask.
//
// A program that can be the /init of a guest calls [Init] first thing in main; a
// test package calls [Main] in TestMain:
//
//	func TestMain(m *testing.M) { guest.Main(m) }
//
// In a guest the first process of the program mounts the file systems, loads the
// modules that were asked for, and runs the program once more as its child with
// the arguments and the environment that the host gave. When the child ends, by
// itself, by a panic or by the time limit, the first process sends its output,
// files and exit code to the host and switches the machine off. Anywhere else
// both functions just run the program.
//
// Init and Main do not return. [Inside] and [SkipUnlessInside] block on nothing
// and are safe to call from several goroutines.
package guest

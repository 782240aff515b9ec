package nosleep

import (
	"go/types"
	"strings"
)

// An entry is the judgement of functions whose source does not show what they do, or should not be asked.
type entry struct {
	pkg, name string // a name may end in *; methods are "T.M"
	refused   bool   // otherwise it never sleeps
	allocates bool
	leaks     []leak // by parameter, the last one for the rest; none leak if it is nil
	why       string // it is good; or, of a refused one, what it does
}

// table is the reviewed list. The first entry that fits counts. What is not here is judged by its source.
var table = []entry{
	{pkg: "sync/atomic", name: "Value.*", refused: true, why: "waits for another goroutine's first store"},
	{pkg: "sync/atomic", name: "Load*", leaks: []leak{contentOut}, why: "one instruction"},
	{pkg: "sync/atomic", name: "Store*", leaks: []leak{0, leakSelf}, why: "one instruction"},
	{pkg: "sync/atomic", name: "Swap*", leaks: []leak{contentOut, leakSelf}, why: "one instruction, or a loop of two"},
	{pkg: "sync/atomic", name: "CompareAndSwap*", leaks: []leak{0, 0, leakSelf}, why: "one instruction, or a loop of two"},
	{pkg: "sync/atomic", name: "Add*", why: "one instruction, or a loop of two"},
	{pkg: "sync/atomic", name: "And*", why: "one instruction, or a loop of two"},
	{pkg: "sync/atomic", name: "Or*", why: "one instruction, or a loop of two"},

	{pkg: "sync", name: "*", refused: true, why: "waits for other goroutines, or makes them wait"},
	{pkg: "internal/sync", name: "*", refused: true, why: "waits for other goroutines, or makes them wait"},
	{pkg: "time", name: "Sleep", refused: true, why: "sleeps"},
	{pkg: "runtime", name: "KeepAlive", why: "no instruction at all"},
	{pkg: "runtime", name: "Gosched", refused: true, why: "lets other goroutines run first"},
	{pkg: "runtime", name: "*", refused: true, why: "belongs to the scheduler or the collector"},
	{pkg: "internal/runtime/*", name: "*", refused: true, why: "belongs to the scheduler or the collector"},
	{pkg: "syscall", name: "Errno.Is", refused: true, why: "compares with errors by their values in interfaces"},
	{pkg: "syscall", name: "*yscall*", refused: true, why: "makes a system call"},
	{pkg: "reflect", name: "*", refused: true, why: "allocates and takes locks for types that it has not seen yet"},

	{pkg: "math", name: "arch*", why: "arithmetic in assembly"},
	{pkg: "internal/bytealg", name: "*", why: "one pass over its arguments in assembly"},

	{pkg: "fmt", name: "Errorf", allocates: true, leaks: []leak{leakContent}, why: "makes a text"},
	{pkg: "fmt", name: "Sprint*", allocates: true, leaks: []leak{leakContent}, why: "makes a text"},
}

// listed is the entry of a function.
func listed(obj *types.Func) (entry, bool) {
	if obj == nil || obj.Pkg() == nil {
		return entry{}, false
	}
	path, name := obj.Pkg().Path(), key(obj.Origin())
	for _, e := range table {
		if fits(e.pkg, path) && fits(e.name, name) {
			return e, true
		}
	}
	return entry{}, false
}

func fits(pattern, name string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if middle, ok := strings.CutSuffix(after, "*"); ok {
		return strings.HasPrefix(name, before) && strings.Contains(name[len(before):], middle)
	}
	return strings.HasPrefix(name, before)
}

// unknown says why a function of another package is not known.
func unknown(obj *types.Func) string {
	switch p := obj.Pkg().Path(); {
	case p == "os", p == "net", strings.HasPrefix(p, "os/"), strings.HasPrefix(p, "net/"), p == "golang.org/x/sys/unix", p == "syscall":
		return "may make system calls"
	}
	return "is neither marked nosleep nor known to be"
}

func remedyUnknown(obj *types.Func) string {
	if p := obj.Pkg().Path(); !strings.Contains(p, ".") && !strings.HasPrefix(p, "gommu") {
		return remedyWait
	}
	return "mark it //gommu:nosleep, or " + remedyWait
}

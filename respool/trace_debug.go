//go:build debug

package respool

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// callers are the innermost calls of a goroutine. Equal ones are the same place.
type callers [24]uintptr

// A trace is where a goroutine was.
type trace struct {
	goroutine uint64
	callers   callers
}

// here is the trace of the calling goroutine.
func here() trace {
	t := trace{goroutine: goroutine()}
	runtime.Callers(2, t.callers[:])
	return t
}

// goroutine is the number of the calling goroutine. The runtime tells it only as text.
func goroutine() uint64 {
	var text [40]byte
	n := runtime.Stack(text[:], false)
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(text[:n], []byte("goroutine ")), []byte(" "))
	id, _ := strconv.ParseUint(string(digits), 10, 64)
	return id
}

func (t trace) stack(what string) Stack {
	return Stack{What: what, Goroutine: t.goroutine, Trace: t.callers.String()}
}

// String leaves out the calls inside the debug build's own files.
func (c callers) String() string {
	n := 0
	for n < len(c) && c[n] != 0 {
		n++
	}
	var b strings.Builder
	frames := runtime.CallersFrames(c[:n])
	for more := n > 0; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if f.Function == "" || f.Function == "runtime.goexit" || strings.HasSuffix(f.File, "_debug.go") && strings.Contains(f.Function, "/respool.") {
			continue
		}
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
	}
	return b.String()
}

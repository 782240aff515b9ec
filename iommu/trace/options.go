package trace

import (
	"fmt"
	"math/bits"
	"time"
)

// Options say what to watch. At least one of PID, Binary and Kernel is set, and not both PID and Binary.
type Options struct {
	// PID is a running process whose library calls are watched.
	PID int
	// Binary is the file of a program. All its processes are watched, those that start later too.
	Binary string
	// Kernel is whether to watch what the kernel does: the functions and events from KernelMap on. With PID
	// only what it does for that process, as seen in the kernel's own process numbers.
	Kernel bool

	// Sample lets one in so many of the library's calls be seen, at random: a power of 2 up to 32768; 0 is 1.
	// It is decided in the process, so all tracers of a process share the rarest of their rates.
	// Counts are of the calls seen. The kernel's calls are all seen.
	Sample int

	// SlowerThan makes an event of each timed call that took at least that long; 0 of none.
	SlowerThan time.Duration

	Buffer int // of events, in bytes; rounded up to a power of 2 of at least a page; 0 is 256 KiB
	Cells  int // how many tallies there can be; 0 is 4096
	Stacks int // how many different stacks of slow calls are kept; 0 is 1024
}

const (
	maxSample     = 1 << 15
	defaultBuffer = 256 << 10
	defaultCells  = 4096
	defaultStacks = 1024
	maxBuffer     = 1 << 30
	maxEntries    = 1 << 24
)

// resolve checks the options and fills in what is not set.
func (o Options) resolve() (Options, error) {
	bad := func(format string, args ...any) (Options, error) {
		return o, fmt.Errorf("%w: %s", ErrBadOptions, fmt.Sprintf(format, args...))
	}
	if o.Sample == 0 {
		o.Sample = 1
	}
	switch {
	case o.PID == 0 && o.Binary == "" && !o.Kernel:
		return bad("nothing to watch: name a process, a program's file, or the kernel")
	case o.PID != 0 && o.Binary != "":
		return bad("a process and a program's file: the process alone says which program")
	case o.PID < 0:
		return bad("process %d", o.PID)
	case o.Sample < 1 || o.Sample > maxSample || bits.OnesCount(uint(o.Sample)) != 1:
		return bad("one in %d calls: use a power of 2 up to %d", o.Sample, maxSample)
	case o.SlowerThan < 0:
		return bad("slower than %v", o.SlowerThan)
	case o.Buffer < 0 || o.Buffer > maxBuffer:
		return bad("a buffer of %d bytes: use at most %d", o.Buffer, maxBuffer)
	case o.Cells < 0 || o.Cells > maxEntries || o.Stacks < 0 || o.Stacks > maxEntries:
		return bad("%d cells, %d stacks: use at most %d", o.Cells, o.Stacks, maxEntries)
	}
	o.Buffer = or(o.Buffer, defaultBuffer)
	o.Cells = or(o.Cells, defaultCells)
	o.Stacks = or(o.Stacks, defaultStacks)
	return o, nil
}

func or(n, without int) int {
	if n == 0 {
		return without
	}
	return n
}

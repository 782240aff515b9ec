//go:build amd64 || arm64

package trace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"gommu/internal/probe"
)

// A Tracer watches. Make one with Open.
type Tracer struct {
	opts    Options
	opened  time.Time
	cells   *ebpf.Map
	lost    *ebpf.Map
	stacks  *ebpf.Map
	ring    *ebpf.Map
	names   *ebpf.Map // of processes
	zero    *ebpf.Map // a tally of nothing, to make others of
	starts  *ebpf.Map // of the kernel's calls; nil without Options.Kernel
	reader  *ringbuf.Reader
	exits   []*ebpf.Program // may miss calls
	missing []Missing

	mu      sync.RWMutex
	links   []link.Link // closed first
	rates   []link.Link // then, so that no call is seen at another rate
	closers []io.Closer // in the order of opening
	closed  bool
}

// Open attaches to what the options name. It takes some milliseconds, with Options.Kernel up to seconds. If it fails, nothing is
// left attached.
//
// Without the rights it is ErrPermission, on kernels that lack something that all of it needs ErrKernel. Where the kernel
// only lacks some of what Options.Kernel asks for, Snapshot names that as missing.
func Open(opts Options) (*Tracer, error) {
	opts, err := opts.resolve()
	if err != nil {
		return nil, failure("open", "", err)
	}
	t := &Tracer{opts: opts}
	if err := t.open(); err != nil {
		if e := t.Close(); e != nil {
			err = errors.Join(err, e)
		}
		return nil, failure("open", t.subject(), err)
	}
	t.opened = time.Now()
	return t, nil
}

// subject is what the tracer watches, for errors.
func (t *Tracer) subject() string {
	switch {
	case t.opts.PID != 0:
		return fmt.Sprintf("process %d", t.opts.PID)
	case t.opts.Binary != "":
		return t.opts.Binary
	}
	return "the kernel"
}

func (t *Tracer) open() error {
	path, err := t.program()
	if err != nil {
		return err
	}
	var found map[probe.Point]site
	if path != "" {
		if found, err = sites(path); err != nil {
			return err
		}
	}
	if err := t.openMaps(); err != nil {
		return err
	}
	if path != "" {
		if err := t.attachOwn(path, found); err != nil {
			return err
		}
	}
	if t.opts.Kernel {
		return t.attachKernel()
	}
	return nil
}

// program is the path of the program to watch, "" if there is none.
func (t *Tracer) program() (string, error) {
	if t.opts.PID == 0 {
		return t.opts.Binary, nil
	}
	path := fmt.Sprintf("/proc/%d/exe", t.opts.PID)
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %w", ErrNoProcess, err)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: it is another user's: %s: %w", ErrPermission, capabilities, err)
	case err != nil:
		return "", err
	}
	return path, f.Close()
}

func (t *Tracer) openMaps() (err error) {
	size := max(os.Getpagesize(), 1<<bits.Len(uint(t.opts.Buffer-1)))
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
		need string
	}{
		{&t.cells, ebpf.MapSpec{Name: "gommu_cells", Type: ebpf.PerCPUHash, KeySize: cellSize, ValueSize: tallySize, MaxEntries: uint32(t.opts.Cells)}, "Linux 4.6"},
		{&t.lost, ebpf.MapSpec{Name: "gommu_lost", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: losses}, "Linux 4.6"},
		{&t.stacks, ebpf.MapSpec{Name: "gommu_stacks", Type: ebpf.StackTrace, KeySize: 4, ValueSize: 8 * stackDepth, MaxEntries: uint32(t.opts.Stacks)}, "CONFIG_PERF_EVENTS=y"},
		{&t.names, ebpf.MapSpec{Name: "gommu_names", Type: ebpf.LRUHash, KeySize: 4, ValueSize: nameSize, MaxEntries: defaultCells}, "Linux 4.10"},
		{&t.zero, ebpf.MapSpec{Name: "gommu_zero", Type: ebpf.Array, KeySize: 4, ValueSize: tallySize, MaxEntries: 1}, "Linux 4.6"},
		{&t.ring, ebpf.MapSpec{Name: "gommu_events", Type: ebpf.RingBuf, MaxEntries: uint32(size)}, "Linux 5.8"},
	} {
		if *m.to, err = ebpf.NewMap(&m.spec); err != nil {
			return explained(err, m.need)
		}
		t.closers = append(t.closers, *m.to)
	}
	if t.reader, err = ringbuf.NewReader(t.ring); err != nil {
		return err
	}
	t.closers = append(t.closers, t.reader)
	return nil
}

const stackDepth = 32

func (t *Tracer) newProgram(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, explained(err, "CONFIG_BPF_EVENTS=y")
	}
	t.closers = append(t.closers, p)
	return p, nil
}

// attachOwn attaches to the probes of a program, and before that to the bits of the rate, so that no call is seen at
// another one.
func (t *Tracer) attachOwn(path string, found map[probe.Point]site) error {
	file, err := link.OpenExecutable(path)
	if err != nil {
		return err
	}
	idle, err := t.idleProgram()
	if err != nil {
		return err
	}
	shift := bits.TrailingZeros(uint(t.opts.Sample))
	for i := range 4 {
		if shift>>i&1 != 0 {
			if err := t.attachProbe(file, found, probe.SampleBit0+probe.Point(i), idle); err != nil {
				return err
			}
		}
	}
	for p := range probe.SampleBit0 {
		if _, ok := found[p]; !ok {
			continue // the program does not use that part of the library
		}
		program, err := t.ownProgram(own[p])
		if err != nil {
			return err
		}
		if err := t.attachProbe(file, found, p, program); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tracer) attachProbe(file *link.Executable, found map[probe.Point]site, p probe.Point, program *ebpf.Program) error {
	s, ok := found[p]
	if !ok {
		return fmt.Errorf("%w: no %s: it never samples", ErrNoProbes, functions[p])
	}
	// Links of this kind, unlike those of perf events, can be closed all at once, each of which takes the kernel
	// a tenth of a second, and they know processes, not threads.
	l, err := file.UprobeMulti(nil, program, &link.UprobeMultiOptions{
		Addresses: []uint64{s.address}, RefCtrOffsets: []uint64{s.counter}, PID: uint32(t.opts.PID),
	})
	switch {
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("%w: it has just ended: %w", ErrNoProcess, err)
	case err != nil:
		return fmt.Errorf("attach to %s: %w", s.function, explained(err, "CONFIG_UPROBE_EVENTS=y and Linux 6.6"))
	}
	if p >= probe.SampleBit0 {
		t.rates = append(t.rates, l)
	} else {
		t.links = append(t.links, l)
	}
	return nil
}

// Snapshot reads the counts. Calls that end meanwhile may be in some and not in others.
func (t *Tracer) Snapshot() (Snapshot, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return Snapshot{}, failure("snapshot", "", ErrClosed)
	}
	s := Snapshot{Opened: t.opened, Sample: t.opts.Sample, Missing: t.missing}
	var c cell
	var each []tally
	all := t.cells.Iterate()
	for all.Next(&c, &each) {
		s.Tallies = append(s.Tallies, sum(c, each))
	}
	if err := all.Err(); err != nil {
		return Snapshot{}, failure("snapshot", "", err)
	}
	sortTallies(s.Tallies)
	err := t.readNames(&s)
	if err == nil {
		err = t.readLost(&s)
	}
	if err != nil {
		return Snapshot{}, failure("snapshot", "", err)
	}
	s.At = time.Now()
	return s, nil
}

func (t *Tracer) readNames(s *Snapshot) error {
	s.Commands = map[uint32]string{}
	var pid uint32
	var name [nameSize]byte
	all := t.names.Iterate()
	for all.Next(&pid, &name) {
		s.Commands[pid] = unix.ByteSliceToString(name[:])
	}
	return all.Err()
}

func (t *Tracer) readLost(s *Snapshot) error {
	var lost [losses]uint64
	for i := range lost {
		var each []uint64
		if err := t.lost.Lookup(uint32(i), &each); err != nil {
			return err
		}
		for _, n := range each {
			lost[i] += n
		}
	}
	s.Lost = Lost{Tallied: lost[lostCells], Events: lost[lostEvents], Starts: lost[lostCalls]}
	for _, p := range t.exits {
		stats, err := p.Stats()
		if err != nil {
			return err
		}
		s.Lost.Misses += stats.RecursionMisses
	}
	return nil
}

// sum adds up what the processors counted in a cell.
func sum(c cell, each []tally) Tally {
	t := Tally{Operation: Operation(c.Operation), Result: c.Result, Class: uint8(c.Class), Process: c.Process}
	t.Source, t.Pool = subject(t.Operation, c.Source)
	for _, one := range each {
		t.Count += one[callsWord]
		t.Time += time.Duration(one[timeWord])
		t.Size += one[bytesWord]
		t.Items += one[itemsWord]
		for k, n := range one[heads:] {
			t.Slots[k] += n
		}
	}
	return t
}

// Read returns the next event, and waits for one until ctx ends or Close is called. While there are events it returns them even
// if ctx has ended; so a ctx that has ended reads what there is without waiting.
func (t *Tracer) Read(ctx context.Context) (Event, error) {
	defer context.AfterFunc(ctx, func() { _ = t.reader.Flush() })()
	for {
		record, err := t.reader.Read()
		switch {
		case err == nil:
			return t.event(record.RawSample)
		case errors.Is(err, ringbuf.ErrFlushed):
			if ctx.Err() != nil {
				return Event{}, failure("read", "", ctx.Err())
			} // else it was an earlier Read's
		case errors.Is(err, os.ErrClosed):
			return Event{}, failure("read", "", ErrClosed)
		default:
			return Event{}, failure("read", "", err)
		}
	}
}

func (t *Tracer) event(raw []byte) (Event, error) {
	var n note
	if _, err := binary.Decode(raw, binary.NativeEndian, &n); err != nil {
		return Event{}, failure("read", "", err)
	}
	e := n.event()
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.Stack < 0 || t.closed {
		return e, nil
	}
	var stack [stackDepth]uint64
	if err := t.stacks.Lookup(uint32(n.Stack), &stack); err != nil {
		return e, nil // another call's stack has taken its place: the event is worth telling without
	}
	rest := stack[:]
	if !e.Operation.Kernel() {
		rest = rest[1:] // without the probe itself, in whose place the caller is
		if rest[0] == n.Caller {
			rest = rest[1:] // kernels from 6.11 on see that the function has just begun
		}
	}
	for _, at := range rest {
		if at != 0 {
			e.Stack = append(e.Stack, at)
		}
	}
	return e, nil
}

// Close detaches. Calls after the first do nothing.
func (t *Tracer) Close() error {
	if t.reader != nil {
		_ = t.reader.Close() // wakes a Read; closed again below, which does nothing
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	errs := []error{detach(t.links), detach(t.rates)}
	for _, c := range slices.Backward(t.closers) {
		errs = append(errs, c.Close())
	}
	t.links, t.rates, t.closers = nil, nil, nil
	if err := errors.Join(errs...); err != nil {
		return failure("close", "", err)
	}
	return nil
}

// detach closes links all at once: the kernel waits for all processors in each.
func detach(links []link.Link) error {
	errs := make([]error, len(links))
	var all sync.WaitGroup
	for i, l := range links {
		all.Go(func() { errs[i] = l.Close() })
	}
	all.Wait()
	return errors.Join(errs...)
}

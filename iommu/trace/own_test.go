//go:build linux && (amd64 || arm64)

package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"gommu/internal/held"
	"gommu/internal/probe"
	"gommu/iommu"
	"gommu/iommu/vtd"
)

// checkCalls compares what was counted with the victim's command "calls n", given times times.
func checkCalls(t *testing.T, s Snapshot, n, times uint64) {
	t.Helper()
	for o, factor := range map[Operation]uint64{Map: 1, Unmap: 2} {
		var want Tally
		devices := map[Source]uint64{}
		classes := map[uint8]uint64{}
		for i := range n {
			want.Count += times
			want.Time += time.Duration(i * factor * times)
			want.Size += 4096 << (i % 4) * times
			want.Slots[min(max(0, logarithm(i*factor)), Slots-1)] += times
			devices[Source(0x10+i%2*8)] += times
			classes[uint8(12+i%4)] += times
		}
		want.Operation = o
		if got := s.Of(o); got != want {
			t.Errorf("%v: counted %+v\nwant %+v", o, got, want)
		}
		for d, n := range devices {
			if got := s.Total(func(t Tally) bool { return t.Operation == o && t.Source == d }).Count; got != n {
				t.Errorf("%v of device %v: %d, want %d", o, d, got, n)
			}
		}
		for c, n := range classes {
			if got := s.Total(func(t Tally) bool { return t.Operation == o && t.Class == c }).Count; got != n {
				t.Errorf("%v of class %v: %d, want %d", o, c, got, n)
			}
		}
	}
	if got, want := s.Of(Fault).Count, (n+99)/100*times; got != want {
		t.Errorf("%d faults, want %d", got, want)
	}
	for _, l := range s.Tallies {
		if want := uint16(l.Operation/Fault) * 5; l.Result != want { // a fault's is its reason
			t.Errorf("%v with result %d, want %d", l.Operation, l.Result, want)
		}
	}
	if s.Lost != (Lost{}) {
		t.Errorf("lost: %+v", s.Lost)
	}
}

// logarithm is what a program computes, by another way.
func logarithm(v uint64) (n int) {
	for ; v > 1; v /= 2 {
		n++
	}
	return n
}

func TestProcess(t *testing.T) {
	path := program(t)
	v, other := start(t, path), start(t, path)
	if on := v.tell(t, "calls 10"); on != 0 {
		t.Fatalf("probes %b are on and nobody traces", on)
	}
	tr := opened(t, Options{PID: v.Process.Pid, Buffer: 1 << 20})
	if on := v.tell(t, "calls 5000"); on != linked {
		t.Errorf("probes %b are on, want %b", on, linked)
	}
	if on := other.tell(t, "calls 1000"); on != 0 {
		t.Errorf("probes %b are on in another process of the program", on)
	}
	checkCalls(t, snapshot(t, tr), 5000, 1)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if on := v.tell(t, "calls 10"); on != 0 {
		t.Errorf("probes %b are on after Close", on)
	}
	if _, err := tr.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("snapshot of a closed tracer: %v", err)
	}
	if _, err := tr.Read(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("read of a closed tracer: %v", err)
	}
	v.end(t)
}

func TestProgram(t *testing.T) {
	path := program(t)
	before := start(t, path)
	tr := opened(t, Options{Binary: path})
	after := start(t, path)
	before.tell(t, "calls 3000")
	after.tell(t, "calls 3000")
	after.end(t)
	s := snapshot(t, tr)
	checkCalls(t, s, 3000, 2)
	processes := map[uint32]uint64{}
	for _, l := range s.Tallies {
		if l.Operation == Map {
			processes[l.Process] += l.Count
		}
	}
	if len(processes) != 2 {
		t.Errorf("counts by process: %v", processes)
	}
	before.tell(t, "calls 100")
	checkCalls(t, snapshot(t, tr).Since(s), 100, 1)
}

func TestEvents(t *testing.T) {
	v := start(t, program(t))
	tr := opened(t, Options{PID: v.Process.Pid, SlowerThan: 1990 * time.Nanosecond})
	v.tell(t, "calls 1000") // the slowest are the unmaps from 995 on
	done, cancel := context.WithCancel(t.Context())
	cancel()
	faults, slow := 0, 0
	names := &Symbols{}
	for {
		e, err := tr.Read(done)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i := e.IOVA >> 12
		if e.Domain != 1+i%2 || e.Source != Source(0x10+i%2*8) || e.Thread == 0 || e.At <= 0 {
			t.Errorf("event %+v", e)
		}
		switch e.Operation {
		case Fault:
			faults++
			want := vtd.Fault{Reason: 5, Source: uint16(e.Source), IOVA: e.IOVA, Write: true, HasPASID: true, PASID: 7}
			if e.Result != 5 || e.Fault == nil || *e.Fault != want || e.Skipped || i%100 != 0 {
				t.Errorf("fault %+v", e)
			}
		case Unmap:
			slow++
			if e.Time != time.Duration(2*i) || e.Time < 1990 || e.Size != 4096<<(i%4) || len(e.Stack) < 3 || e.Direction != iommu.Bidirectional {
				t.Errorf("slow call %+v", e)
				break
			}
			if first, second := names.Name(e, e.Stack[0]), names.Name(e, e.Stack[1]); !strings.HasPrefix(first, "main.call ") || !strings.HasPrefix(second, "main.calls.func1 ") {
				t.Errorf("called by %s, %s", first, second)
			}
		default:
			t.Errorf("event %+v", e)
		}
	}
	if faults != 10 || slow != 5 {
		t.Errorf("%d faults, %d slow calls; want 10 and 5", faults, slow)
	}
}

// TestOverload makes more events than there is room for, and more kinds of calls.
func TestOverload(t *testing.T) {
	const calls = 3000
	v := start(t, program(t))
	tr := opened(t, Options{PID: v.Process.Pid, SlowerThan: 1, Buffer: 4096, Cells: 3})
	v.tell(t, fmt.Sprintf("calls %d", calls))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	read := uint64(0)
	for {
		if _, err := tr.Read(done); err != nil {
			break
		}
		read++
	}
	s := snapshot(t, tr)
	// All but the maps and unmaps number 0, which took no time, and the faults.
	if want := uint64(2*(calls-1) + calls/100); read+s.Lost.Events != want || read == 0 || s.Lost.Events == 0 {
		t.Errorf("%d events read, %d lost; want %d in all", read, s.Lost.Events, want)
	}
	counted := s.Total(nil).Count
	if want := uint64(2*calls + calls/100); counted+s.Lost.Tallied != want || counted == 0 || s.Lost.Tallied == 0 {
		t.Errorf("%d calls counted, %d lost; want %d in all", counted, s.Lost.Tallied, want)
	}
}

func TestSample(t *testing.T) {
	const calls = 1 << 14
	v := start(t, program(t))
	tr := opened(t, Options{PID: v.Process.Pid, Sample: 8})
	v.tell(t, fmt.Sprintf("calls %d", calls))
	s := snapshot(t, tr)
	// Ten standard deviations to each side.
	if n := s.Of(Map).Count; n < 1625 || n > 2471 || s.Sample != 8 {
		t.Errorf("%d of %d calls at a rate of 1/8", n, calls)
	}
	if n := s.Of(Fault).Count; n != calls/100+1 {
		t.Errorf("%d faults: they are not sampled", n)
	}
}

// TestKilled kills the traced process; what it did is still counted, and nothing of it stays.
func TestKilled(t *testing.T) {
	path := program(t)
	v := start(t, path)
	tr := opened(t, Options{PID: v.Process.Pid})
	v.tell(t, "calls 1000")
	v.tell(t, "load")
	if err := v.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.Wait()
	if n := snapshot(t, tr).Of(Map).Count; n < 1000 {
		t.Errorf("%d maps, at least 1000 were made", n)
	}
	programs, maps, links := inKernel(t, tr)
	if len(programs) < 3 || len(maps) < 5 || len(links) < 3 {
		t.Errorf("programs %v, maps %v, links %v", programs, maps, links)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	gone(t, "program", programs, func(id uint32) (io.Closer, error) { return ebpf.NewProgramFromID(ebpf.ProgramID(id)) })
	gone(t, "map", maps, func(id uint32) (io.Closer, error) { return ebpf.NewMapFromID(ebpf.MapID(id)) })
	gone(t, "link", links, func(id uint32) (io.Closer, error) { return link.NewFromID(link.ID(id)) })
	if on := start(t, path).tell(t, "calls 1"); on != 0 {
		t.Errorf("probes %b are on in a new process", on)
	}
}

// inKernel is the numbers of what a tracer has in the kernel.
func inKernel(t *testing.T, tr *Tracer) (programs, maps, links []uint32) {
	t.Helper()
	for _, c := range tr.closers {
		switch c := c.(type) {
		case *ebpf.Program:
			info, err := c.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			programs = append(programs, uint32(id))
		case *ebpf.Map:
			info, err := c.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			maps = append(maps, uint32(id))
		}
	}
	for _, l := range slices.Concat(tr.links, tr.rates) {
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, uint32(info.ID))
	}
	return programs, maps, links
}

// gone waits until nothing has these numbers any more: the kernel takes a moment.
func gone(t *testing.T, what string, ids []uint32, open func(id uint32) (io.Closer, error)) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, id := range ids {
		for {
			x, err := open(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err == nil {
				_ = x.Close()
			}
			if time.Now().After(deadline) {
				t.Errorf("%s %d is still there: %v", what, id, err)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestPush: on amd64 the probes' functions begin with what the kernel carries out itself (see package probe, entered). If a compiler
// makes it otherwise, a traced call costs five times as much.
func TestPush(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64's kernel does so")
	}
	path := program(t)
	all, err := sites(path)
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if b := code[s.address]; b != 0x55 { // PUSH RBP
			t.Errorf("%s begins with %#x", s.function, b)
		}
	}
}

// TestCycles attaches and detaches a hundred times under load, four tracers at a time.
func TestCycles(t *testing.T) {
	v := start(t, program(t))
	warm := opened(t, Options{PID: v.Process.Pid}) // what the runtime and the libraries open once
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	v.tell(t, "load")
	before := held.Now(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 25 {
				if err := cycle(Options{PID: v.Process.Pid, Sample: 1 << (i % 4), SlowerThan: time.Duration(i%2) * 500}); err != nil {
					t.Errorf("cycle %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if on := v.tell(t, "on"); on != 0 {
		t.Errorf("probes %b are on after the last", on)
	}
	held.Check(t, before)
	v.end(t)
}

func cycle(o Options) error {
	tr, err := Open(o)
	if err != nil {
		return err
	}
	_, err = tr.Snapshot()
	return errors.Join(err, tr.Close())
}

// TestOpenFailNth lets the process have one open file more each time: Open fails at one step after the other, says why, and leaves nothing.
func TestOpenFailNth(t *testing.T) {
	v := start(t, program(t))
	opts := Options{PID: v.Process.Pid, Sample: 8}
	if err := opened(t, opts).Close(); err != nil {
		t.Fatal(err)
	}
	before := held.Now(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	failed := 0
	for few.Cur = 3; ; few.Cur++ {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		tr, err := Open(opts)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
			break
		}
		if failed++; !errors.Is(err, unix.EMFILE) {
			t.Errorf("with %d files: %v", few.Cur, err)
		}
		held.Check(t, before)
	}
	if on := v.tell(t, "on"); on != 0 || failed < 10 {
		t.Errorf("after %d failures probes %b are on", failed, on)
	}
	v.end(t)
}

func TestReadWaits(t *testing.T) {
	v := start(t, program(t))
	tr := opened(t, Options{PID: v.Process.Pid})
	got := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a hang is a failure
	defer cancel()
	read := func() { _, err := tr.Read(ctx); got <- err }
	go read()
	v.tell(t, "calls 1")
	if err := <-got; err != nil {
		t.Error(err)
	}
	go read()
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("read during Close: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	none := start(t, program(t))
	pid := none.Process.Pid
	none.end(t)
	for _, c := range []struct {
		name  string
		o     Options
		cause error
		says  string
	}{
		{"nothing", Options{}, ErrBadOptions, "name a process"},
		{"both", Options{PID: 1, Binary: "x"}, ErrBadOptions, "the process alone"},
		{"rate", Options{PID: 1, Sample: 3}, ErrBadOptions, "power of 2"},
		{"no process", Options{PID: pid}, ErrNoProcess, fmt.Sprint(pid)},
		{"no file", Options{Binary: "/nowhere"}, os.ErrNotExist, "/nowhere"},
		{"no program", Options{Binary: "own_test.go"}, ErrProgram, "own_test.go"},
		{"not Go's", Options{Binary: "/bin/sh"}, ErrNoProbes, "imports gommu"},
	} {
		tr, err := Open(c.o)
		if tr != nil {
			_ = tr.Close()
		}
		var e *Error
		if !errors.Is(err, c.cause) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %v that says %q", c.name, err, c.cause, c.says)
		}
	}
	if err := typesKnown("/nowhere"); !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), "CONFIG_DEBUG_INFO_BTF") {
		t.Errorf("without BTF: %v", err)
	}
}

// BenchmarkAttached is what a traced call costs its caller, and one of which one in 16 is seen.
func BenchmarkAttached(b *testing.B) {
	for _, sample := range []int{1, 16} {
		b.Run(fmt.Sprintf("sample=%d", sample), func(b *testing.B) {
			tr, err := Open(Options{PID: os.Getpid(), Sample: sample})
			if err != nil {
				b.Skip(err)
			}
			defer tr.Close()
			for i := uint64(0); b.Loop(); i++ {
				if probe.On(probe.Map) && probe.Sampled() {
					probe.CallMap(1, 0x10, i<<12, 4096, 3, probe.Done, i)
				}
			}
		})
	}
}

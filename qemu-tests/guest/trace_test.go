//go:build linux

package guest

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gommu/internal/held"
	"gommu/internal/probe"
	"gommu/iommu/trace"
	"gommu/qemu-tests/vm/guest"
	"gommu/vfio"
)

func traced(t *testing.T, o trace.Options) *trace.Tracer {
	t.Helper()
	tr, err := trace.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func counted(t *testing.T, tr *trace.Tracer) trace.Snapshot {
	t.Helper()
	s, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if s.Lost != (trace.Lost{}) {
		t.Errorf("lost: %+v", s.Lost)
	}
	for _, l := range s.Tallies {
		sum := uint64(0)
		for _, n := range l.Slots {
			sum += n
		}
		if l.Operation.Timed() && sum != l.Count {
			t.Errorf("%v: %d calls, %d in the histogram", l.Operation, l.Count, sum)
		}
	}
	return s
}

// with is the calls of an operation with a result.
func with(s trace.Snapshot, o trace.Operation, result unix.Errno) trace.Tally {
	return s.Total(func(l trace.Tally) bool { return l.Operation == o && l.Result == uint16(result) })
}

// TestTraceVFIO counts ioctls of VFIO and what the kernel does for them.
func TestTraceVFIO(t *testing.T) {
	guest.SkipUnlessInside(t)
	if err := traced(t, trace.Options{Kernel: true}).Close(); err != nil { // what is opened once
		t.Fatal(err)
	}
	c := opened(t).Container()
	mem := pages(t, 4)
	tr := traced(t, trace.Options{Kernel: true, PID: os.Getpid()})
	const maps, overlaps, small = 1500, 20, 500
	bytes := uint64(0)
	for i := range uint64(maps) {
		size := 4096 << (i / small)
		if err := c.MapDMA(i<<16, mem[:size], vfio.DMARead|vfio.DMAWrite); err != nil {
			t.Fatal(err)
		}
		bytes += uint64(size)
	}
	for i := range uint64(overlaps) {
		if err := c.MapDMA(i<<16, mem[:4096], vfio.DMARead); !errors.Is(err, vfio.ErrOverlap) {
			t.Fatal(err)
		}
	}
	for i := range uint64(maps) {
		if err := c.UnmapDMA(i<<16, 4096<<(i/small)); err != nil {
			t.Fatal(err)
		}
	}
	s := counted(t, tr)
	for _, m := range s.Missing {
		t.Errorf("missing: %+v", m)
	}
	for _, o := range []trace.Operation{trace.VFIOMap, trace.VFIOUnmap} {
		l := with(s, o, 0)
		if l.Count != maps || l.Size != bytes || l.Time == 0 {
			t.Errorf("%v: %d calls of %d bytes; want %d of %d", o, l.Count, l.Size, maps, bytes)
		}
		for class := uint8(12); class < 15; class++ {
			n := s.Total(func(l trace.Tally) bool { return l.Operation == o && l.Result == 0 && l.Class == class }).Count
			if n != small {
				t.Errorf("%v of 2^%d bytes: %d, want %d", o, class, n, small)
			}
		}
	}
	if n := with(s, trace.VFIOMap, unix.EEXIST).Count; n != overlaps {
		t.Errorf("%d overlaps, want %d", n, overlaps)
	}
	if l := with(s, trace.KernelMap, 0); l.Size != bytes || l.Count < maps {
		t.Errorf("iommu_map: %d calls of %d bytes; want %d bytes", l.Count, l.Size, bytes)
	}
	if l := s.Of(trace.EventMap); l.Size != bytes || l.Count != s.Of(trace.KernelMap).Count {
		t.Errorf("iommu:map: %d of %d bytes; want %d bytes", l.Count, l.Size, bytes)
	}
	if n := s.Of(trace.KernelUnmap).Count + s.Of(trace.KernelUnmapFast).Count; n < maps || n != s.Of(trace.EventUnmap).Count {
		t.Errorf("%d unmaps, %d events iommu:unmap; at least %d", n, s.Of(trace.EventUnmap).Count, maps)
	}
	if n := s.Of(trace.EventSubmit).Count; n < maps {
		t.Errorf("%d invalidations submitted for %d unmaps", n, maps)
	}
	if n := s.Of(trace.EventFlushRange).Count; n < maps {
		t.Errorf("%d flushes of ranges for %d unmaps", n, maps)
	}
	for _, o := range []trace.Operation{trace.KernelMap, trace.KernelUnmap, trace.KernelUnmapFast, trace.EventMap, trace.EventUnmap, trace.EventSubmit, trace.EventFlushRange, trace.EventFlushAbsent, trace.EventFlushAll, trace.VFIOMap, trace.VFIOUnmap} {
		l := s.Of(o)
		t.Logf("%-40v %6d calls %10d bytes %v", o, l.Count, l.Size, l.Time)
	}
}

// TestTraceOwn counts the calls of this very program's probes, for two devices.
func TestTraceOwn(t *testing.T) {
	guest.SkipUnlessInside(t)
	if err := traced(t, trace.Options{PID: os.Getpid()}).Close(); err != nil {
		t.Fatal(err)
	}
	before := held.Now(t)
	tr := traced(t, trace.Options{PID: os.Getpid()})
	const calls = 3000
	for i := range uint64(calls) {
		if !probe.On(probe.Map) || !probe.On(probe.Unmap) {
			t.Fatal("a probe is off")
		}
		probe.CallMap(1, 0x18+i%3/2*0x10, i<<12, 4096, 3, probe.Done, i)
		if i%2 == 0 {
			probe.CallUnmap(1, 0x18, i<<12, 4096, 3, probe.Done, i)
		}
	}
	s := counted(t, tr)
	for source, want := range map[trace.Source]uint64{0x18: calls / 3 * 2, 0x28: calls / 3} {
		if n := s.Total(func(l trace.Tally) bool { return l.Operation == trace.Map && l.Source == source }).Count; n != want {
			t.Errorf("%d maps for %v, want %d", n, source, want)
		}
	}
	if n := s.Of(trace.Unmap).Count; n != calls/2 {
		t.Errorf("%d unmaps, want %d", n, calls/2)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if probe.On(probe.Map) {
		t.Error("the probe stays on")
	}
	held.Check(t, before)
}

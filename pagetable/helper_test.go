package pagetable

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"gommu/respool"
)

const (
	kib4 = 4 << 10
	mib2 = 2 << 20
	gib1 = 1 << 30
)

// slab returns n zeroed frames of memory, aligned.
func slab(n int) []byte {
	b := make([]byte, (n+1)*FrameSize)
	skip := -address(b) & (FrameSize - 1)
	return b[skip : skip+n*FrameSize]
}

// rig is a pool of a fixed number of frames and the memory that they are in.
type rig struct {
	raw  []byte
	bus  uint64 // of raw[0]
	mem  *Memory
	src  *FrameSource
	pool *respool.Pool[Frame]
}

// newRig makes a rig of n frames. Its cleanup fails the test if a frame is
// still out, or not zero.
func newRig(t testing.TB, n int) *rig {
	t.Helper()
	r := makeRig(t, n)
	t.Cleanup(func() { r.close(t) })
	return r
}

// makeRig is newRig without the cleanup.
func makeRig(t testing.TB, n int) *rig {
	t.Helper()
	r := &rig{raw: slab(n), bus: 0x7_1234_5000}
	var err error
	if r.mem, err = NewMemory(Segment{Bus: r.bus, Mem: r.raw}); err != nil {
		t.Fatal(err)
	}
	r.src = r.mem.Frames()
	r.pool, err = respool.New(context.Background(), r.src, respool.Options{Min: n, Max: n, Low: n, High: n, IdleAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) close(t testing.TB) {
	t.Helper()
	if n := r.pool.Stats().InUse; n != 0 {
		t.Errorf("%d frames are still out", n)
		return
	}
	for i, b := range r.raw {
		if b != 0 {
			t.Errorf("frame %#x is back in the pool, with %#x at byte %d", r.bus+uint64(i&^(FrameSize-1)), b, i%FrameSize)
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.pool.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := r.src.Outstanding(); n != 0 {
		t.Errorf("%d frames lost", n)
	}
}

// table makes a table that is closed before its rig is.
func (r *rig) table(t testing.TB, opts Options) *Table {
	t.Helper()
	tbl, err := New(r.mem, r.pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tbl.Close(); err != nil {
			t.Error(err)
		}
	})
	return tbl
}

// drain takes frames until left are ready, and returns a function that puts
// them back.
func (r *rig) drain(t testing.TB, left int) (refill func()) {
	t.Helper()
	var taken []Frame
	for r.pool.Stats().Free > left {
		f, err := r.pool.Get()
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
	return func() {
		for _, f := range taken {
			if err := r.pool.Put(f); err != nil {
				t.Error(err)
			}
		}
	}
}

// walker reads what tbl has in memory.
func (r *rig) walker(tbl *Table) *walker {
	return r.walkerAt(tbl.Root(), tbl.Levels(), tbl.Stage() == FirstStage)
}

func (r *rig) walkerAt(root Frame, levels int, first bool) *walker {
	return &walker{bytes: r.raw, bus: r.bus, root: root.Bus, levels: levels, first: first}
}

// mustUnmap unmaps and releases.
func mustUnmap(t testing.TB, tbl *Table, iova, size uint64) uint64 {
	t.Helper()
	var b Batch
	n, err := tbl.Unmap(iova, size, &b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
	return n
}

func mustMap(t testing.TB, tbl *Table, iova, bus, size uint64, prot Prot) {
	t.Helper()
	if err := tbl.Map(iova, bus, size, prot); err != nil {
		t.Fatal(err)
	}
}

// isErr says that err is an OpError that wraps want.
func isErr(err, want error) bool {
	var oe *OpError
	return errors.Is(err, want) && errors.As(err, &oe)
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

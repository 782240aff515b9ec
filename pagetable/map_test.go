package pagetable

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/respool"
)

// Linux's regression case: 14 x 2 MiB up to a multiple of 1 GiB, 3 x 1 GiB, and
// 3 x 2 MiB after it.
func TestMapMixedSizes(t *testing.T) {
	const first, end = 0x3fe400000, 0x4c0600000
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, first, first, end-first, Read|Write)
	var got []uint64
	at := uint64(first)
	for l := range tbl.All() {
		if l.IOVA != at || l.Bus != at {
			t.Fatalf("%+v, want a leaf at %#x", l, at)
		}
		at += l.Size
		got = append(got, l.Size)
	}
	want := slices.Concat(slices.Repeat([]uint64{mib2}, 14), slices.Repeat([]uint64{gib1}, 3), slices.Repeat([]uint64{mib2}, 3))
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	hw, _, err := r.walker(tbl).scan()
	if err != nil || len(hw) != 20 {
		t.Errorf("the unit finds %d leaves, %v", len(hw), err)
	}
	if n := mustUnmap(t, tbl, first, end-first); n != end-first {
		t.Errorf("unmapped %#x", n)
	}
}

// Linux's other one: the IOVA is a multiple of 512 KiB only, the memory of
// 4 KiB; nothing larger than a page fits until both agree, which is never.
func TestMapPageSizeBoundary(t *testing.T) {
	const iova, bus, size = 0xfef80000, 0x208b95d000, 0x80000 + gib1
	r := newRig(t, 520)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, iova, bus, size, Read)
	n := uint64(0)
	for l := range tbl.All() {
		if want := (Leaf{iova + n*kib4, bus + n*kib4, kib4, Read}); l != want {
			t.Fatalf("%+v, want %+v", l, want)
		}
		n++
	}
	if n != size/kib4 {
		t.Errorf("%d leaves", n)
	}
	mustUnmap(t, tbl, iova, size)
}

// Every size of leaf at the first and the last place of the space.
func TestMapEnds(t *testing.T) {
	for _, width := range []int{39, 48} {
		for _, size := range []uint64{kib4, mib2, gib1} {
			r := newRig(t, 8)
			tbl := r.table(t, Options{AddressWidth: width})
			if tbl.AddressWidth() != width || tbl.Levels() != (width-12)/9 {
				t.Errorf("%d bits, %d levels", tbl.AddressWidth(), tbl.Levels())
			}
			end := uint64(1) << width
			mustMap(t, tbl, 0, 1<<52-size, size, Write)
			mustMap(t, tbl, end-size, 0, size, Read)
			got := slices.Collect(tbl.All())
			want := []Leaf{{0, 1<<52 - size, size, Write}, {end - size, 0, size, Read}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if hw, _, err := r.walker(tbl).scan(); err != nil || len(hw) != 2 {
				t.Errorf("the unit finds %v, %v", hw, err)
			}
			if n := mustUnmap(t, tbl, 0, end); n != 2*size {
				t.Errorf("unmapped %#x", n)
			}
		}
	}
}

// All of the space in one call, onto the last bus addresses: every table full.
func TestMapWholeSpace(t *testing.T) {
	for width, tables := range map[int]int{39: 1, 48: 1 + 512} {
		r := newRig(t, tables)
		tbl := r.table(t, Options{AddressWidth: width})
		size := uint64(1) << width
		mustMap(t, tbl, 0, 1<<52-size, size, Read)
		want := Stats{Leaves1G: int(size / gib1), Tables: tables}
		if s := tbl.Stats(); s != want || s.Bytes() != size {
			t.Errorf("%+v, want %+v", s, want)
		}
		leaves, _, err := r.walker(tbl).scan()
		if err != nil || len(leaves) != want.Leaves1G {
			t.Errorf("the unit finds %d leaves, %v", len(leaves), err)
		}
		if l, ok := tbl.Lookup(size - 1); !ok || l != (Leaf{size - gib1, 1<<52 - gib1, gib1, Read}) {
			t.Errorf("the last byte: %+v, %v", l, ok)
		}
		if n := mustUnmap(t, tbl, 0, size); n != size {
			t.Errorf("unmapped %#x", n)
		}
	}
}

func TestMapRefuses(t *testing.T) {
	const rw = Read | Write
	r := newRig(t, 16)
	tbl := r.table(t, Options{AddressWidth: 39})
	mustMap(t, tbl, gib1, gib1, gib1, rw)
	mustMap(t, tbl, mib2, 0, kib4, rw)
	for _, c := range []struct {
		name            string
		iova, bus, size uint64
		prot            Prot
		want            error
		at              uint64
		text            string
	}{
		{"zero", kib4, 0, 0, rw, ErrZeroSize, 0, "pagetable: map iova 0x1000 bus 0x0 size 0x0: size is zero"},
		{"iova", 1, 0, kib4, rw, ErrMisaligned, 0, "pagetable: map iova 0x1 bus 0x0 size 0x1000: not a multiple of 4096"},
		{"bus", 0, 8, kib4, rw, ErrMisaligned, 0, ""},
		{"size", 0, 0, kib4 + 4, rw, ErrMisaligned, 0, ""},
		{"no prot", 0, 0, kib4, 0, ErrProt, 0, ""},
		{"unknown prot", 0, 0, kib4, 4 | Read, ErrProt, 0, ""},
		{"beyond", 1 << 39, 0, kib4, rw, ErrRange, 0, ""},
		{"ends beyond", 1<<39 - kib4, 0, 2 * kib4, rw, ErrRange, 0, ""},
		{"wraps", 1<<64 - kib4, 0, 2 * kib4, rw, ErrRange, 0, ""},
		{"wraps to itself", kib4, 0, 1<<64 - kib4, rw, ErrRange, 0, ""},
		{"bus beyond", 0, 1 << 52, kib4, rw, ErrBusRange, 0, ""},
		{"bus ends beyond", 0, 1<<52 - kib4, 2 * kib4, rw, ErrBusRange, 0, ""},
		{"bus wraps", 0, 1<<64 - kib4, 2 * kib4, rw, ErrBusRange, 0, ""},
		{"same leaf", mib2, kib4, kib4, Read, ErrOverlap, mib2, "pagetable: map iova 0x200000 bus 0x1000 size 0x1000: already mapped at iova 0x200000"},
		{"inside superpage", gib1 + mib2, 0, kib4, rw, ErrOverlap, gib1 + mib2, ""},
		{"superpage over page", mib2, mib2, mib2, rw, ErrOverlap, mib2, ""},
		{"gigabyte over page", 0, 0, gib1, rw, ErrOverlap, mib2, ""},
		{"runs into", gib1 - kib4, 0, 2 * kib4, rw, ErrOverlap, gib1, ""},
		{"comes out", 2*gib1 - kib4, 0, 2 * kib4, rw, ErrOverlap, 2*gib1 - kib4, ""},
		{"all", 0, 0, 1 << 39, rw, ErrOverlap, mib2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, free := slices.Clone(r.raw), r.pool.Stats().Free
			err := tbl.Map(c.iova, c.bus, c.size, c.prot)
			want := &OpError{Op: "map", IOVA: c.iova, Bus: c.bus, Size: c.size, At: c.at, Err: c.want}
			var got *OpError
			if !errors.As(err, &got) || *got != *want {
				t.Errorf("%v, want %v", err, want)
			}
			if c.text != "" && err.Error() != c.text {
				t.Errorf("%q", err)
			}
			if !slices.Equal(before, r.raw) || r.pool.Stats().Free != free {
				t.Error("something changed")
			}
		})
	}
	mustUnmap(t, tbl, 0, 1<<39)
}

// For every N: the pool has N frames less than are needed; Map fails and
// everything is as before.
func TestMapFailNth(t *testing.T) {
	for _, opts := range allOptions {
		for _, req := range []struct{ iova, bus, size uint64 }{
			{gib1, 0, kib4},
			{gib1 - kib4, kib4, 2*kib4 + mib2},
			{mib2 - kib4, 0x208b95d000, 9 * mib2},
			{gib1 - 2*mib2, gib1 - 2*mib2, gib1 + 3*mib2 + kib4},
			{64*gib1 - mib2, 64*gib1 - mib2, 2 * mib2},
		} {
			t.Run(opts.name(), func(t *testing.T) {
				r := newRig(t, 32)
				m := newModel(t, r, opts)
				m.doMap(3*mib2, 0, kib4, Read)
				if opts.No2M && req.size > gib1 {
					req.size -= gib1
				}
				need := m.tables(m.leaves, m.split(req.iova, req.bus, req.size, Read)) - m.tables(m.leaves)
				for n := range need {
					refill := r.drain(t, n)
					m.doMap(req.iova, req.bus, req.size, Read) // fails, as the model knows
					if len(m.leaves) != 1 {
						t.Fatalf("mapped with %d of %d frames", n, need)
					}
					refill()
				}
				refill := r.drain(t, need)
				m.doMap(req.iova, req.bus, req.size, Read)
				refill()
				m.check()
				m.finish()
			})
		}
	}
}

// A dry pool's error is the pool's, and costs nothing.
func TestMapDryPool(t *testing.T) {
	r := newRig(t, 3)
	tbl := r.table(t, Options{})
	if err := tbl.Map(0, 0, kib4, Read); !isErr(err, respool.ErrEmpty) {
		t.Errorf("%v", err)
	}
	if n := testing.AllocsPerRun(100, func() { tbl.Map(0, 0, kib4, Read) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMapNoAllocs(t *testing.T) {
	for _, opts := range allOptions {
		r := newRig(t, 600)
		tbl := r.table(t, opts)
		var b Batch
		for _, size := range []uint64{kib4, 3 * mib2, gib1} {
			n := testing.AllocsPerRun(10, func() {
				if err := tbl.Map(0, 0, size, Read); err != nil {
					t.Fatal(err)
				}
				if _, ok := tbl.Lookup(size - 1); !ok {
					t.Fatal("not mapped")
				}
				if _, err := tbl.Unmap(0, size, &b); err != nil {
					t.Fatal(err)
				}
				b.Range()
				if err := b.Release(); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%s size %#x: %v allocations", opts.name(), size, n)
			}
		}
	}
}

// Every cache line that is touched is flushed once, not once per entry.
func TestMapFlushesLinesOnce(t *testing.T) {
	r := newRig(t, 8)
	m := newModel(t, r, Options{})
	m.check() // the root is in memory
	m.doMap(0, 0, kib4, Read)
	count := func(what string, want int, f func()) {
		t.Helper()
		before := m.shadow.lines
		f()
		if n := m.shadow.lines - before; n != want {
			t.Errorf("%s flushes %d lines, want %d", what, n, want)
		}
		m.check()
	}
	count("one page", 1, func() { m.doMap(kib4, kib4, kib4, Read) })
	count("8 pages in one line", 1, func() { m.doMap(8*kib4, kib4, 8*kib4, Read) })
	count("8 pages in two lines", 2, func() { m.doMap(20*kib4, kib4, 8*kib4, Read) })
	count("256 pages", 32, func() { m.doMap(256*kib4, kib4, 256*kib4, Read) })
	count("a table with its link", 64+1, func() { m.doMap(mib2, kib4, mib2, Read) })
	count("256 pages away", 32, func() { m.doUnmap(256*kib4, 256*kib4) })
	count("a table away", 1, func() { m.doUnmap(mib2, mib2) })
	count("nothing", 0, func() { m.doUnmap(2*mib2, mib2) })
	m.doUnmap(0, gib1)
	m.finish()
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t, 1)
	for _, c := range []struct {
		mem  *Memory
		pool *respool.Pool[Frame]
		opts Options
	}{
		{nil, r.pool, Options{}}, {r.mem, nil, Options{}},
		{r.mem, r.pool, Options{AddressWidth: 30}}, {r.mem, r.pool, Options{Stage: FirstStage, AddressWidth: 39}}, {r.mem, r.pool, Options{Stage: 2}}, {r.mem, r.pool, Options{AddressWidth: -1}},
	} {
		if _, err := New(c.mem, c.pool, c.opts); !isErr(err, ErrOptions) {
			t.Errorf("%+v: %v", c.opts, err)
		}
	}
	refill := r.drain(t, 0)
	if _, err := New(r.mem, r.pool, Options{}); !isErr(err, respool.ErrEmpty) {
		t.Errorf("dry pool: %v", err)
	}
	refill()
}

// A frame that the pool has from elsewhere is refused and given back.
func TestForeignFrame(t *testing.T) {
	r, other := newRig(t, 4), newRig(t, 1)
	mem, err := NewMemory(Segment{Bus: 1 << 40, Mem: other.raw})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(mem, r.pool, Options{}); !isErr(err, ErrForeignFrame) {
		t.Errorf("New: %v", err)
	}
	tbl := r.table(t, Options{})
	ctx := context.Background()
	elsewhere, err := respool.New(ctx, mem.Frames(), respool.Options{Min: 1, Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	tbl.frames = elsewhere
	if err := tbl.Map(0, 0, kib4, Read); !isErr(err, ErrForeignFrame) {
		t.Errorf("Map: %v", err)
	}
	tbl.frames = r.pool
	if err := elsewhere.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := r.pool.Stats().InUse; n != 1 {
		t.Errorf("%d frames in use, want the root", n)
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, 0, 0, kib4, Read)
	mustMap(t, tbl, mib2, 0, mib2, Read)
	var b Batch
	if _, err := tbl.Unmap(mib2, mib2, &b); err != nil {
		t.Fatal(err)
	}
	if err := tbl.Close(); err != nil {
		t.Fatal(err)
	}
	if n := r.pool.Stats().InUse; n != b.Tables() {
		t.Errorf("%d frames in use, %d of them in the batch", n, b.Tables())
	}
	if err := tbl.Map(0, 0, kib4, Read); !isErr(err, ErrClosed) {
		t.Errorf("Map: %v", err)
	}
	if _, err := tbl.Unmap(0, kib4, &b); !isErr(err, ErrClosed) {
		t.Errorf("Unmap: %v", err)
	}
	if _, ok := tbl.Lookup(0); ok {
		t.Error("Lookup finds something")
	}
	if tbl.Stats() != (Stats{}) || len(slices.Collect(tbl.All())) != 0 || tbl.Dump(errWriter{}) == nil {
		t.Error("a closed table holds something")
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
}

// A pool that was closed takes nothing back at first: Close and Release keep
// the frames, and give them when they are called again.
func TestPoolRefusesFrames(t *testing.T) {
	r := makeRig(t, 8)
	tbl, err := New(r.mem, r.pool, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustMap(t, tbl, 0, 0, kib4, Read)
	mustMap(t, tbl, gib1, 0, kib4, Read)
	var b Batch
	if _, err := tbl.Unmap(gib1, kib4, &b); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.pool.Close(ended); err == nil {
		t.Fatal("the pool closed with frames out")
	}
	if err := b.Release(); !isErr(err, respool.ErrClosed) {
		t.Errorf("Release: %v", err)
	}
	if err := tbl.Close(); !isErr(err, respool.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	done := make(chan error)
	go func() { done <- r.pool.Close(context.Background()) }()
	for b.Release() != nil || tbl.Close() != nil {
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.close(t)
}

//go:build linux

package guest

import (
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"gommu/vfio"
)

func pages(t *testing.T, n int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, n*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem
}

func TestVFIOInfo(t *testing.T) {
	c := opened(t).Container()
	i, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("page sizes %#x, ranges %v, entries %d", i.PageSizes, i.Ranges, i.Entries)
	if i.PageSize() != 4096 || i.Entries <= 0 {
		t.Errorf("%+v", i)
	}
	// The interrupt range is reserved on x86; the unit of vm's machines is 48 bits wide.
	wanted := []vfio.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<48 - 1}}
	if !slices.Equal(i.Ranges, wanted) {
		t.Errorf("ranges %v, want %v", i.Ranges, wanted)
	}
	mem := pages(t, 1)
	if err := c.MapDMA(0, mem, vfio.DMARead); err != nil {
		t.Fatal(err)
	}
	if j, err := c.Info(); err != nil || j.Entries != i.Entries-1 {
		t.Errorf("%d entries after a mapping, %d before, %v", j.Entries, i.Entries, err)
	}
}

func TestVFIOMapErrors(t *testing.T) {
	c := opened(t).Container()
	mem := pages(t, 4)
	if err := c.MapDMA(0x10000, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
		t.Fatal(err)
	}
	for _, iova := range []uint64{0xf000, 0x10000, 0x12000} {
		err := c.MapDMA(iova, mem[:8192], vfio.DMARead)
		want(t, "overlap", err, vfio.ErrOverlap, fmt.Sprintf("%#x", iova))
		want(t, "overlap", err, unix.EEXIST)
	}
	want(t, "interrupt range", c.MapDMA(0xfee00000, mem, vfio.DMARead), vfio.ErrOutsideIOVA)
	want(t, "too wide", c.MapDMA(1<<48, mem, vfio.DMARead), vfio.ErrOutsideIOVA, "0xffffffffffff")
	want(t, "empty", c.MapDMA(0x20000, nil, vfio.DMARead), vfio.ErrBadRange)
	want(t, "misaligned", c.MapDMA(0x20800, mem, vfio.DMARead), vfio.ErrMisaligned)
	want(t, "no rights", c.MapDMA(0x20000, mem, 0), vfio.ErrBadProt)

	readOnly, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(readOnly)
	want(t, "memory that cannot be written", c.MapDMA(0x20000, readOnly, vfio.DMAWrite), unix.EFAULT, "writable")
	if err := c.MapDMA(0x20000, readOnly, vfio.DMARead); err != nil {
		t.Errorf("the same for reading: %v", err)
	}

	want(t, "cut at the start", c.UnmapDMA(0x10000, 0x1000), vfio.ErrBisect)
	want(t, "cut at the end", c.UnmapDMA(0xf000, 0x2000), vfio.ErrBisect)
	want(t, "nothing mapped", c.UnmapDMA(0x40000, 0x1000), vfio.ErrNotMapped)
	want(t, "short", c.UnmapDMA(0x10000, 0x8000), vfio.ErrShortUnmap, "0x4000")
	if n, err := c.UnmapAll(); err != nil || n != 4096 {
		t.Errorf("unmap all: %d bytes, %v", n, err)
	}
}

// TestVFIOMapRandom maps and unmaps at random and compares every outcome with a plain list of what is mapped.
func TestVFIOMapRandom(t *testing.T) {
	c := opened(t).Container()
	mem := pages(t, 8)
	rnd := mrand.New(mrand.NewPCG(1, 2))
	type span struct{ first, n int } // in pages
	var mapped []span
	bases := []uint64{0, 0xfee00000 - 32<<12, 1<<48 - 32<<12} // 32 pages each, the last ones up to a limit
	for step := range 1500 {
		base := bases[rnd.IntN(len(bases))]
		s := span{int(base>>12) + rnd.IntN(24), 1 + rnd.IntN(8)}
		iova, size := uint64(s.first)<<12, uint64(s.n)<<12
		if rnd.IntN(2) == 0 {
			var expect error
			for _, m := range mapped {
				if s.first < m.first+m.n && m.first < s.first+s.n {
					expect = vfio.ErrOverlap
				}
			}
			if err := c.MapDMA(iova, mem[:size], vfio.DMARead); !errors.Is(err, expect) {
				t.Fatalf("step %d: map %v: %v; want %v", step, s, err, expect)
			}
			if expect == nil {
				mapped = append(mapped, s)
			}
			continue
		}
		inside, cut := 0, false
		for _, m := range mapped {
			if s.first >= m.first+m.n || m.first >= s.first+s.n {
				continue
			}
			cut = cut || m.first < s.first || m.first+m.n > s.first+s.n
			inside += m.n
		}
		var expect error
		switch {
		case cut:
			expect = vfio.ErrBisect
		case inside == 0:
			expect = vfio.ErrNotMapped
		case inside < s.n:
			expect = vfio.ErrShortUnmap
		}
		if err := c.UnmapDMA(iova, size); !errors.Is(err, expect) {
			t.Fatalf("step %d: unmap %v: %v; want %v", step, s, err, expect)
		}
		if !cut {
			mapped = slices.DeleteFunc(mapped, func(m span) bool { return m.first >= s.first && m.first+m.n <= s.first+s.n })
		}
	}
	var left uint64
	for _, m := range mapped {
		left += uint64(m.n) << 12
	}
	if n, err := c.UnmapAll(); err != nil || n != left {
		t.Errorf("unmap all: %#x bytes, %v; want %#x", n, err, left)
	}
}

func TestVFIOEntryLimit(t *testing.T) {
	i := bound(t)
	const param = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
	former, err := os.ReadFile(param)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(param, []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(param, former, 0); err != nil {
			t.Error(err)
		}
	}()
	d, err := vfio.Open(i.Address, vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, mem := d.Container(), pages(t, 1)
	for n := range uint64(3) {
		if info, err := c.Info(); err != nil || info.Entries != int(3-n) {
			t.Errorf("%d entries, %v; want %d", info.Entries, err, 3-n)
		}
		if err := c.MapDMA(n<<12, mem, vfio.DMARead); err != nil {
			t.Fatal(err)
		}
	}
	err = c.MapDMA(3<<12, mem, vfio.DMARead)
	want(t, "fourth of three", err, vfio.ErrEntryLimit, "dma_entry_limit")
	want(t, "fourth of three", err, unix.ENOSPC)
	if err := errors.Join(c.UnmapDMA(0, 4096), c.MapDMA(3<<12, mem, vfio.DMARead)); err != nil {
		t.Errorf("an entry that came back: %v", err)
	}
}

// without runs f on a thread that lacks a capability. The thread ends with it.
func without(t *testing.T, capability int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&head, &data[0])
		data[capability/32].Effective &^= 1 << (capability % 32)
		if err == nil {
			err = unix.Capset(&head, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestVFIOMemlock(t *testing.T) {
	c := opened(t).Container()
	var former unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &former); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: former.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &former)
	mem := pages(t, 64)
	for i := range mem {
		mem[i] = 1 // pages of their own, not the zero page: that one is not counted
	}
	without(t, unix.CAP_IPC_LOCK, func() {
		if err := c.MapDMA(0, mem[:32<<10], vfio.DMARead); err != nil {
			t.Errorf("half of the limit: %v", err)
		}
		err := c.MapDMA(1<<20, mem, vfio.DMARead)
		want(t, "over the limit", err, vfio.ErrMemlock, "32 KiB are locked of a limit of 64 KiB", "256 KiB more", "ulimit -l")
		want(t, "over the limit", err, unix.ENOMEM)
	})
	want(t, "what failed left nothing", c.UnmapDMA(1<<20, uint64(len(mem))), vfio.ErrNotMapped)
}

func TestVFIOPermission(t *testing.T) {
	i := bound(t)
	node := fmt.Sprintf("/dev/vfio/%d", i.Group)
	if err := os.Chmod(node, 0); err != nil {
		t.Fatal(err)
	}
	without(t, unix.CAP_DAC_OVERRIDE, func() {
		_, err := vfio.Open(i.Address, vfio.Options{})
		want(t, "a node that others own", err, vfio.ErrPermission, "chown "+node)
	})
}

package vfio

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pages is memory that may be mapped, gone when the test ends.
func pages(t testing.TB, n int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, n*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

func TestMapUnmap(t *testing.T) {
	k, c, _ := attached(t)
	mem := pages(t, 4)
	if err := c.MapDMA(0x10000, mem[:8192], DMARead); err != nil {
		t.Fatal(err)
	}
	if err := c.MapDMA(0x12000, mem[8192:], DMARead|DMAWrite); err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info(); err != nil || i.Entries != 6 {
		t.Errorf("%d entries left, %v; want 6", i.Entries, err)
	}
	if err := c.UnmapDMA(0x10000, 0x4000); err != nil { // both at once
		t.Error(err)
	}
	if i, err := c.Info(); err != nil || i.Entries != 8 || k.locked != 0 {
		t.Errorf("%d entries left, %d bytes locked, %v", i.Entries, k.locked, err)
	}
	if err := errors.Join(c.MapDMA(0, mem[:4096], DMAWrite), c.MapDMA(1<<47, mem[4096:], DMAWrite)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.UnmapAll(); err != nil || n != 4*4096 {
		t.Errorf("UnmapAll: %d bytes, %v", n, err)
	}
	if n, err := c.UnmapAll(); err != nil || n != 0 {
		t.Errorf("UnmapAll of nothing: %d bytes, %v", n, err)
	}
}

func TestMapErrors(t *testing.T) {
	k, c, _ := attached(t)
	mem := pages(t, 300)
	page := mem[:4096]
	n := k.n
	tests := []struct {
		name string
		iova uint64
		mem  []byte
		prot Prot
		want error
		text string
	}{
		{"empty", 0, nil, DMARead, ErrBadRange, "empty"},
		{"past the end", 1<<64 - 4096, mem[:8192], DMARead, ErrBadRange, "iova 0xfffffffffffff000 size 0x2000"},
		{"iova misaligned", 0x800, page, DMARead, ErrMisaligned, "0x1000"},
		{"size misaligned", 0, mem[:4095], DMARead, ErrMisaligned, "0x1000"},
		{"memory misaligned", 0, mem[8 : 8+4096], DMARead, ErrMisaligned, "unix.Mmap"},
		{"no rights", 0, page, 0, ErrBadProt, ""},
		{"unknown rights", 0, page, 4 | DMARead, ErrBadProt, "0x5"},
		{"interrupt range", 0xfee00000, page, DMARead, ErrOutsideIOVA, "0x0-0xfedfffff, 0xfef00000-0xffffffffffff"},
		{"over a hole", 0xfedff000, mem[:8192], DMARead, ErrOutsideIOVA, ""},
		{"too wide", 1 << 48, page, DMARead, ErrOutsideIOVA, ""},
		{"last page", 1<<64 - 4096, page, DMARead, ErrOutsideIOVA, ""},
	}
	for _, tt := range tests {
		expect(t, tt.name, c.MapDMA(tt.iova, tt.mem, tt.prot), tt.want, tt.text)
	}
	if k.n != n {
		t.Error("bad mappings reached the kernel")
	}
	if err := c.MapDMA(0x10000, mem[:8192], DMARead); err != nil {
		t.Fatal(err)
	}
	for _, iova := range []uint64{0x10000, 0x11000, 0xf000} {
		err := c.MapDMA(iova, mem[:8192], DMARead)
		expect(t, "overlap", err, ErrOverlap, "size 0x2000")
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("the errno is lost: %v", err)
		}
	}
	err := c.MapDMA(0x100000, mem, DMARead)
	expect(t, "locked memory", err, ErrMemlock, "8 KiB are locked of a limit of 1024 KiB", "1200 KiB more", "ulimit -l")
	if !errors.Is(err, unix.ENOMEM) {
		t.Errorf("the errno is lost: %v", err)
	}
	k.failAt, k.fail = k.n+2, unix.EACCES // the limit cannot be read either
	expect(t, "locked memory, limit unknown", c.MapDMA(0x100000, mem, DMARead), ErrMemlock, "1200 KiB", "could not be read")
	limit := k.lockLimit
	k.lockLimit, k.failAt, k.fail = unix.RLIM_INFINITY, k.n+1, unix.ENOMEM
	err = c.MapDMA(0x100000, page, DMARead)
	k.lockLimit = limit
	if expect(t, "no limit", err, unix.ENOMEM, "out of memory"); errors.Is(err, ErrMemlock) {
		t.Errorf("%v, without a limit", err)
	}
	for i := range uint64(7) {
		if err := c.MapDMA(0x100000+i<<12, page, DMARead); err != nil {
			t.Fatal(err)
		}
	}
	err = c.MapDMA(0x200000, page, DMARead)
	expect(t, "entries", err, ErrEntryLimit, "dma_entry_limit")
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the errno is lost: %v", err)
	}
	for _, e := range []syscall.Errno{unix.EFAULT, unix.EPERM} {
		k.failAt, k.fail = k.n+1, e
		expect(t, "other", c.MapDMA(0x200000, page, DMARead), e)
	}
}

func TestUnmapErrors(t *testing.T) {
	k, c, _ := attached(t)
	mem := pages(t, 4)
	if err := c.MapDMA(0x10000, mem, DMARead); err != nil {
		t.Fatal(err)
	}
	n := k.n
	expect(t, "empty", c.UnmapDMA(0x10000, 0), ErrBadRange)
	expect(t, "past the end", c.UnmapDMA(1<<64-4096, 8192), ErrBadRange)
	expect(t, "misaligned", c.UnmapDMA(0x10000, 100), ErrMisaligned)
	if k.n != n {
		t.Error("bad ranges reached the kernel")
	}
	for _, r := range [][2]uint64{{0x10000, 0x1000}, {0x13000, 0x1000}, {0x11000, 0x1000}, {0xf000, 0x2000}} {
		expect(t, "cut", c.UnmapDMA(r[0], r[1]), ErrBisect)
	}
	expect(t, "nothing there", c.UnmapDMA(0x20000, 0x1000), ErrNotMapped, "iova 0x20000 size 0x1000")
	expect(t, "more than there is", c.UnmapDMA(0xf000, 0x6000), ErrShortUnmap, "0x4000")
	expect(t, "again", c.UnmapDMA(0xf000, 0x6000), ErrNotMapped)
	if err := c.MapDMA(0x10000, mem, DMARead); err != nil {
		t.Fatal(err)
	}
	k.shortUnmap = true
	expect(t, "kernel unmaps half", c.UnmapDMA(0x10000, 0x4000), ErrShortUnmap, "0x2000")
}

func TestUnmapAllUnsupported(t *testing.T) {
	k, opts := setUp(t)
	k.unmapAll = 0
	d, err := Open(edu, opts)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Container().UnmapAll()
	expect(t, "old kernel", err, ErrUnsupported)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	k.checkEmpty()
}

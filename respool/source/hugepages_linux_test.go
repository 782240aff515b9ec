package source

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gommu/respool"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

func openHuge(t fataler, p *probe, o HugePagesOptions) *HugePages {
	t.Helper()
	m, err := newHugePages(o, p.system())
	if err != nil {
		t.Fatalf("newHugePages: %v", err)
	}
	return m
}

// freeHugePages is how many hugepages of size bytes nobody uses.
func freeHugePages(t *testing.T, size int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/free_hugepages", size>>10))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// On hugepages: each is mapped as one, carved, and given back.
func TestHugePages(t *testing.T) {
	for _, size := range []int{2 * mib, gib} {
		t.Run(fmt.Sprintf("%dMiB", size/mib), func(t *testing.T) {
			had := freeHugePages(t, size)
			if had < 2 {
				t.Skipf("%d free hugepages of %d MiB and 2 are needed: as root, echo 4 > /sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", had, size/mib, size>>10)
			}
			noLeak(t)
			m := openHuge(t, &probe{}, HugePagesOptions{PageSize: size, Size: size / 2})
			var bs []Block
			for i := range 3 {
				b := alloc(t, m)
				mem := m.Bytes(b)
				if at := address(mem); at%uintptr(len(mem)) != 0 || len(mem) != size/2 {
					t.Errorf("block of %#x bytes at %#x", len(mem), at)
				}
				if got := smaps(t, "KernelPageSize", address(mem)); got != size>>10 {
					t.Errorf("the kernel uses pages of %d kB", got)
				}
				paint(t, mem[:mib], byte(i+1))
				bs = append(bs, b)
			}
			if s := m.Stats(); s != (MemoryStats{Out: 3, Mapped: 2 * size}) {
				t.Errorf("three halves: %+v", s)
			}
			if n := freeHugePages(t, size); n != had-2 {
				t.Errorf("%d hugepages free, were %d", n, had)
			}
			for i, b := range bs {
				painted(t, m.Bytes(b)[:mib], byte(i+1))
			}
			free(t, m, bs...)
			end(t, m)
			if n := freeHugePages(t, size); n != had {
				t.Errorf("%d hugepages free at the end, were %d", n, had)
			}
		})
	}
}

var smapsHead = regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) `)

// smaps returns what the kernel says of the mapping at an address, in kB.
func smaps(t *testing.T, field string, at uintptr) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range smapsHead.FindAllSubmatchIndex(b, -1) {
		lo, _ := strconv.ParseUint(string(b[m[2]:m[3]]), 16, 64)
		hi, _ := strconv.ParseUint(string(b[m[4]:m[5]]), 16, 64)
		if lo <= uint64(at) && uint64(at) < hi {
			n, _ := strconv.Atoi(string(regexp.MustCompile(`(?m)^` + field + `: +(\d+) kB`).FindSubmatch(b[m[0]:])[1]))
			return n
		}
	}
	t.Fatalf("no mapping at %#x", at)
	return 0
}

// Where no hugepage is free the error says what to do, and keeps the errno.
func TestHugePagesNone(t *testing.T) {
	for _, c := range []struct {
		size  int
		errno syscall.Errno
		says  string
	}{
		{2 * mib, syscall.ENOMEM, "echo N > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"},
		{gib, syscall.ENOMEM, "echo N > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages, or at boot, before memory is in pieces: hugepagesz=1024M hugepages=N"},
		{16 * mib, syscall.EINVAL, "/sys/kernel/mm/hugepages lists"},
	} {
		noLeak(t)
		p := &probe{fail: func(int, string) error { return c.errno }}
		m := openHuge(t, p, HugePagesOptions{PageSize: c.size})
		_, err := m.Alloc(ctx)
		if !errors.Is(err, ErrNoHugePages) || !errors.Is(err, ErrNoMemory) || !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d MiB, %v: %v", c.size/mib, c.errno, err)
		}
		end(t, m)
	}
}

// The kernel itself says what TestHugePagesNone makes a probe say.
func TestHugePagesNoneReserved(t *testing.T) {
	noLeak(t)
	for _, c := range []struct {
		size  int
		errno syscall.Errno
	}{{2 * mib, syscall.ENOMEM}, {128 * mib, syscall.EINVAL}} {
		if n := freeHugePages(t, c.size); n != 0 {
			t.Skipf("%d hugepages of %d MiB are free and none may be: as root, echo 0 > /sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", n, c.size/mib, c.size>>10)
		}
		m, err := NewHugePages(HugePagesOptions{PageSize: c.size})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Alloc(ctx); !errors.Is(err, ErrNoHugePages) || !errors.Is(err, c.errno) {
			t.Errorf("%d MiB: %v", c.size/mib, err)
		}
		end(t, m)
	}
}

// noHuge is a kernel without hugepages.
func noHuge(p *probe) system {
	s := p.system()
	mmap := s.mmap
	s.mmap = func(n, flags int) ([]byte, error) {
		if flags&mapHugeTLB != 0 {
			return nil, syscall.ENOMEM
		}
		return mmap(n, flags)
	}
	return s
}

// Ordinary memory in the place of hugepages is aligned and carved as they are.
func TestHugePagesFallback(t *testing.T) {
	noLeak(t)
	p := &probe{}
	m, err := newHugePages(HugePagesOptions{Size: mib / 2, Limit: 4 * mib, Fallback: true}, noHuge(p))
	if err != nil {
		t.Fatal(err)
	}
	var bs []Block
	for i := range 8 {
		b := alloc(t, m)
		mem := m.Bytes(b)
		if at := address(mem); at%(mib/2) != 0 || at/(2*mib) != (at+uintptr(len(mem))-1)/(2*mib) {
			t.Errorf("block at %#x", at)
		}
		paint(t, mem, byte(i+1))
		bs = append(bs, b)
	}
	if s := m.Stats(); s != (MemoryStats{Out: 8, Mapped: 4 * mib, Ordinary: 4 * mib}) {
		t.Errorf("%+v", s)
	}
	if _, err := m.Alloc(ctx); !errors.Is(err, ErrNoMemory) || errors.Is(err, ErrNoHugePages) {
		t.Errorf("above the limit: %v", err)
	}
	for i, b := range bs {
		painted(t, m.Bytes(b), byte(i+1))
	}
	free(t, m, bs...)
	end(t, m)
}

// A kernel without transparent hugepages refuses the advice, which is no error.
func TestHugePagesAdviceRefused(t *testing.T) {
	noLeak(t)
	p := &probe{}
	s := noHuge(p)
	madvise := s.madvise
	var advice []int
	s.madvise = func(b []byte, a int) error {
		advice = append(advice, a)
		if a == syscall.MADV_HUGEPAGE {
			return syscall.EINVAL
		}
		return madvise(b, a)
	}
	m, err := newHugePages(HugePagesOptions{Fallback: true}, s)
	if err != nil {
		t.Fatal(err)
	}
	free(t, m, alloc(t, m))
	if fmt.Sprint(advice) != fmt.Sprint([]int{syscall.MADV_HUGEPAGE, madvPopulateWrite}) {
		t.Errorf("asked for advice %v", advice)
	}
	end(t, m)
}

// The flags name the size; populating that fails gives the hugepage back and is told.
func TestHugePagesFlags(t *testing.T) {
	for size, want := range map[int]int{2 * mib: 21 << 26, gib: 30 << 26} {
		p := &probe{fail: func(int, string) error { return syscall.ENOMEM }}
		m := openHuge(t, p, HugePagesOptions{PageSize: size})
		if _, err := m.Alloc(ctx); err == nil {
			t.Fatal("no error")
		}
		if got := p.flags[0]; got != want|mapHugeTLB|syscall.MAP_PRIVATE|syscall.MAP_ANON {
			t.Errorf("%d MiB: flags %#x", size/mib, got)
		}
	}

	noLeak(t)
	p := &probe{}
	s := p.system()
	s.mmap = func(n, flags int) ([]byte, error) { return kernel.mmap(n, syscall.MAP_SHARED|syscall.MAP_ANON) }
	s.madvise = func([]byte, int) error { return syscall.EFAULT }
	m, err := newHugePages(HugePagesOptions{}, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Alloc(ctx); !errors.Is(err, ErrNoHugePages) || !errors.Is(err, syscall.EFAULT) || !strings.Contains(err.Error(), "hugetlb cgroup") {
		t.Errorf("a hugepage that cannot be touched: %v", err)
	}
	end(t, m)
}

func TestHugePagesFailNth(t *testing.T) {
	failEach(t, func(p *probe) memory {
		m, err := newHugePages(HugePagesOptions{Size: mib, Fallback: true}, noHuge(p))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, 3, map[string]bool{"munmap": true, "advise": true})
}

func TestHugePagesClose(t *testing.T) {
	noLeak(t)
	m, err := newHugePages(HugePagesOptions{Fallback: true}, noHuge(&probe{}))
	if err != nil {
		t.Fatal(err)
	}
	b := alloc(t, m)
	if err := m.Close(); !errors.Is(err, ErrInUse) {
		t.Errorf("Close: %v", err)
	}
	paint(t, m.Bytes(b), 1) // still mapped
	free(t, m, b)
	end(t, m)
	end(t, m)
}

func TestHugePagesBadOptions(t *testing.T) {
	large := gib
	for _, o := range []HugePagesOptions{
		{Size: 3 * mib}, {Size: 4 * mib}, {Size: 32}, {Size: -2 * mib}, {PageSize: 3 * mib}, {PageSize: -mib}, {PageSize: 4096}, {PageSize: 2 * large},
		{Limit: -1}, {Limit: mib}, {PageSize: gib, Limit: 2 * mib},
	} {
		if m, err := NewHugePages(o); m != nil || !errors.Is(err, ErrBadOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Fallback maps twice the hugepage, which has to fit into an int.
func TestHugePagesFallbackFits(t *testing.T) {
	_, err := NewHugePages(HugePagesOptions{PageSize: gib, Fallback: true})
	if fits := math.MaxInt/gib >= 2; fits && err != nil || !fits && !errors.Is(err, ErrBadOptions) {
		t.Error(err)
	}
	if _, err := NewHugePages(HugePagesOptions{PageSize: gib}); err != nil {
		t.Error(err)
	}
}

func TestHugePagesPool(t *testing.T) {
	noLeak(t)
	m, err := newHugePages(HugePagesOptions{Size: 64 << 10, Fallback: true}, noHuge(&probe{}))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := respool.New(ctx, m, respool.Options{Low: 33, Max: 64})
	if err != nil {
		t.Fatal(err)
	}
	b, err := pool.Get()
	if err != nil {
		t.Fatal(err)
	}
	paint(t, m.Bytes(b), 1)
	if err := pool.Put(b); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Fatal(err)
	}
	end(t, m)
}

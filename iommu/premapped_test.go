package iommu_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gommu/iommu"
)

const both = iommu.Bidirectional

func TestPremapped(t *testing.T) {
	p := newPre(t, iommu.Options{Name: "pre"})
	if !p.d.Premapped() {
		t.Error("not premapped")
	}
	mem := p.alloc(3 * slab)
	part := mem[slab-3*page:][:slab+2*page] // does not start on 2 MiB
	r := p.register(part, both)
	a, b := part[5*page+100:][:300], part[:page]
	m, whole := p.domap(a, iommu.ToDevice), p.domap(part, both)
	if (m.IOVA()-address(a))%slab != 0 || m.Size() != 300 {
		t.Errorf("%#x is mapped at %#x, %#x bytes", address(a), m.IOVA(), m.Size())
	}
	if m.IOVA()-whole.IOVA() != 5*page+100 {
		t.Errorf("%#x and %#x", m.IOVA(), whole.IOVA())
	}
	copy(a, "to the device")
	got := make([]byte, 300)
	ok(t, p.k.dma(m.IOVA(), got, false), p.k.dma(whole.IOVA(), []byte("from it"), true))
	if !bytes.Equal(got, a) || !bytes.HasPrefix(b, []byte("from it")) {
		t.Error("the device moved other data")
	}
	if live := p.d.Live(); len(live) != 2 {
		t.Errorf("live: %v", live)
	}
	refused(t, "close of what is mapped", r.Close(), iommu.ErrMapped)
	ok(t, p.d.Unmap(m))
	refused(t, "unmap twice", p.d.Unmap(m), iommu.ErrNotMapped)
	if err := r.Close(); !errors.Is(err, iommu.ErrMapped) || !strings.Contains(err.Error(), "0x202000 bytes") {
		t.Errorf("close of what is mapped: %v", err)
	}
	ok(t, p.d.Unmap(whole), p.k.dma(m.IOVA(), got, false)) // it stays in reach
	off, err := r.Map(page, 20, iommu.FromDevice)
	ok(t, err)
	if off.IOVA() != whole.IOVA()+page {
		t.Errorf("%#x", off.IOVA())
	}
	ok(t, p.d.Unmap(off), r.Close(), r.Close())
	if err := p.k.dma(m.IOVA(), got, false); !errors.Is(err, errFault) {
		t.Errorf("after the region was closed: %v", err)
	}
}

// A small region needs no 2 MiB of IOVA space, and gets no less than it asked for.
func TestPremappedSmall(t *testing.T) {
	p := newPre(t, iommu.Options{Guard: true, Random: true})
	mem := p.alloc(slab)
	var maps []iommu.Mapping
	for i := range 64 {
		p.register(mem[i*2*page:][:page], both)
		maps = append(maps, p.domap(mem[i*2*page:][:page], both))
	}
	slices.SortFunc(maps, func(a, b iommu.Mapping) int { return int(int64(a.IOVA() - b.IOVA())) })
	for i, m := range maps {
		if err := p.k.dma(m.IOVA()+page, []byte{0}, true); !errors.Is(err, errFault) {
			t.Errorf("the page behind mapping %d: %v", i, err)
		}
		ok(t, p.d.Unmap(m))
	}
}

func TestPremappedErrors(t *testing.T) {
	ctx := context.Background()
	p := newPre(t, iommu.Options{Name: "pre", Bounce: iommu.Bounce{Off: true}})
	mem := p.alloc(slab)
	reg := func(mem []byte, dir iommu.Direction) error {
		_, err := p.d.Register(ctx, mem, dir)
		return err
	}
	read, write := mem[:4*page], mem[8*page:12*page]
	r := p.register(read, iommu.ToDevice)
	p.register(write, iommu.FromDevice)
	used := p.k.used()
	for _, x := range []struct {
		what string
		err  error
		want error
	}{
		{"nothing", reg(nil, both), iommu.ErrZeroSize},
		{"half a page", reg(mem[page:page+100], both), iommu.ErrRange},
		{"between pages", reg(mem[4*page+1:5*page+1], both), iommu.ErrRange},
		{"no direction", reg(mem[4*page:5*page], 0), iommu.ErrDirection},
		{"what is no direction", reg(mem[4*page:5*page], 4), iommu.ErrDirection},
		{"the same again", reg(read, both), iommu.ErrRegistered},
		{"around", reg(mem[:slab], both), iommu.ErrRegistered},
		{"its end", reg(mem[3*page:5*page], both), iommu.ErrRegistered},
		{"its start", reg(mem[7*page:9*page], both), iommu.ErrRegistered},
		{"inside", reg(mem[page:2*page], both), iommu.ErrRegistered},
		{"foreign memory", reg(pages(1), both), iommu.ErrMemory},
	} {
		refused(t, "register "+x.what, x.err, x.want)
	}
	_, err := p.d.RegisterBus(ctx, 1<<40, page, both)
	refused(t, "bus range", err, iommu.ErrUnsupported)
	if p.k.used() != used {
		t.Error("what was refused is mapped")
	}

	domap := func(mem []byte, dir iommu.Direction) error {
		_, err := p.d.Map(mem, dir)
		return err
	}
	rmap := func(off, n uint64, dir iommu.Direction) error {
		_, err := r.Map(off, n, dir)
		return err
	}
	for _, x := range []struct {
		what string
		err  error
		want error
	}{
		{"nothing", domap(nil, both), iommu.ErrZeroSize},
		{"an empty slice", domap(read[:0], both), iommu.ErrZeroSize},
		{"unregistered memory", domap(mem[5*page:6*page], both), iommu.ErrNotRegistered},
		{"over the end", domap(mem[4*page-1:4*page+1], iommu.ToDevice), iommu.ErrNotRegistered},
		{"over the start", domap(mem[8*page-1:8*page+1], iommu.FromDevice), iommu.ErrNotRegistered},
		{"no direction", domap(read, 0), iommu.ErrDirection},
		{"what is no direction", domap(read, 7), iommu.ErrDirection},
		{"writing what is read", domap(read, both), iommu.ErrDirection},
		{"reading what is written", domap(write, iommu.ToDevice), iommu.ErrDirection},
		{"zero of a region", rmap(0, 0, iommu.ToDevice), iommu.ErrZeroSize},
		{"behind a region", rmap(4*page, 1, iommu.ToDevice), iommu.ErrRange},
		{"over a region", rmap(page, 3*page+1, iommu.ToDevice), iommu.ErrRange},
		{"more than there is", rmap(1, math.MaxUint64, iommu.ToDevice), iommu.ErrRange},
		{"wrong direction of a region", rmap(1, 1, both), iommu.ErrDirection},
	} {
		refused(t, "map "+x.what, x.err, x.want)
	}
	m := p.domap(read[page:2*page], iommu.ToDevice)
	for _, x := range []struct {
		what string
		err  error
		want error
	}{
		{"cpu, of what the device reads", p.d.SyncForCPU(m, 0, page), iommu.ErrDirection},
		{"zero", p.d.SyncForDevice(m, 0, 0), iommu.ErrZeroSize},
		{"behind", p.d.SyncForDevice(m, page, 1), iommu.ErrRange},
		{"over the end", p.d.SyncForDevice(m, 1, page), iommu.ErrRange},
		{"wrapping", p.d.SyncForDevice(m, 1, math.MaxUint64), iommu.ErrRange},
		{"the zero mapping", p.d.SyncForDevice(iommu.Mapping{}, 0, 1), iommu.ErrNotMapped},
	} {
		refused(t, "sync for "+x.what, x.err, x.want)
	}
	ok(t, p.d.SyncForDevice(m, 0, page), p.d.Unmap(m))
	refused(t, "sync after unmap", p.d.SyncForDevice(m, 0, 1), iommu.ErrNotMapped)
	other := newPre(t, iommu.Options{})
	refused(t, "unmap of another domain's", other.d.Unmap(m), iommu.ErrNotMapped)
	refused(t, "unmap of the zero mapping", p.d.Unmap(iommu.Mapping{}), iommu.ErrNotMapped)
	ok(t, r.Close())
	refused(t, "map of a closed region", rmap(0, page, iommu.ToDevice), iommu.ErrNotRegistered)

	ok(t, p.d.Close(ctx))
	refused(t, "map after close", domap(write, iommu.FromDevice), iommu.ErrClosed)
	refused(t, "register after close", reg(read, both), iommu.ErrClosed)
	_, err = p.d.Alloc(ctx, page, both, iommu.Place{})
	refused(t, "alloc after close", err, iommu.ErrClosed)
	_, err = p.d.MapWait(ctx, write, both, iommu.Place{})
	refused(t, "map, waiting, after close", err, iommu.ErrClosed)
	refused(t, "unmap after close", p.d.Unmap(m), iommu.ErrNotMapped)
}

func TestNewPremappedErrors(t *testing.T) {
	ctx := context.Background()
	p := newFakes(t)
	for _, x := range []struct {
		what string
		mem  iommu.Memory
		k    iommu.Mapper
		opts iommu.Options
		want error
	}{
		{"no memory", nil, p.k, iommu.Options{}, iommu.ErrOptions},
		{"no mapper", p.mem, nil, iommu.Options{}, iommu.ErrOptions},
		{"bounce buffers below zero", p.mem, p.k, iommu.Options{Bounce: iommu.Bounce{Max: -1}}, iommu.ErrOptions},
		{"too many bounce buffers", p.mem, p.k, iommu.Options{Bounce: iommu.Bounce{Max: 1 << 20}}, iommu.ErrOptions},
	} {
		_, err := iommu.NewPremapped(ctx, x.mem, x.k, x.opts)
		refused(t, x.what, err, x.want)
		p.empty()
	}
	p.k.limits.Page = 100
	_, err := iommu.NewPremapped(ctx, p.mem, p.k, iommu.Options{})
	refused(t, "odd pages", err, iommu.ErrUnsupported)
	p.empty()
}

// TestPremappedMask: nothing is handed out above the mask, or where it is reserved.
func TestPremappedMask(t *testing.T) {
	ctx := context.Background()
	const mask = 1<<24 - 1
	p := newPre(t, iommu.Options{Mask: mask, Reserved: []iommu.IOVARange{{Start: 8 << 20, Last: 12<<20 - 1}}, Bounce: iommu.Bounce{Max: 1}})
	refused(t, "device below the mask", p.d.Attach(iommu.Device{Source: 1, Mask: mask >> 1}), iommu.ErrMask)
	ok(t, p.d.Attach(iommu.Device{Source: 2, Mask: mask}))
	var last error
	for range 8 {
		mem := p.alloc(slab)
		if _, last = p.d.Register(ctx, mem, both); last != nil {
			break
		}
		m := p.domap(mem, both)
		if end := m.IOVA() + slab - 1; end > mask || end >= 8<<20 && m.IOVA() < 12<<20 {
			t.Errorf("%#x to %#x", m.IOVA(), end)
		}
		ok(t, p.d.Unmap(m))
	}
	if last == nil {
		t.Error("more than 16 MiB below the mask")
	}
	_, err := p.d.Alloc(ctx, page, both, iommu.Place{IOVA: 1 << 24, Fixed: true})
	refused(t, "above the mask", err, iommu.ErrMask)
}

// TestPremappedFailNth fails each call of the kernel and of the memory in turn: whatever fails, nothing is lost.
func TestPremappedFailNth(t *testing.T) {
	calls := premappedScenario(t, 0)
	if calls < 20 {
		t.Fatalf("the scenario makes %d calls", calls)
	}
	for n := 1; n <= calls; n++ {
		premappedScenario(t, n)
	}
}

// premappedScenario does a bit of everything, with call nth failing, and returns how many calls there are.
func premappedScenario(t *testing.T, nth int) int {
	t.Helper()
	ctx := context.Background()
	p := newFakes(t)
	f := p.mem.failer
	f.at = nth
	var told atomic.Int32
	d, err := iommu.NewPremapped(ctx, p.mem, p.k, iommu.Options{
		MaxMappings: 64, Bounce: iommu.Bounce{Low: 1, High: 1, Max: 1}, OnError: func(error) { told.Add(1) },
	})
	if err != nil {
		if !errors.Is(err, errInjected) {
			t.Fatalf("call %d: %v", nth, err)
		}
		p.empty()
		return f.calls()
	}
	p.d = d
	failed := 0
	try := func(what string, err error) bool {
		t.Helper()
		if err == nil {
			return true
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("call %d fails: %s: %v", nth, what, err)
		}
		failed++
		return false
	}
	mem := p.alloc(slab)
	if r, err := d.Register(ctx, mem[:slab/2], both); try("register", err) {
		m := p.domap(mem[:page], both)
		ok(t, d.Unmap(m))
		if !try("close region", r.Close()) {
			// It is foreign memory now.
			m := p.domap(mem[:page], both)
			ok(t, d.Unmap(m))
			ok(t, r.Close())
		}
	}
	if b, err := d.Alloc(ctx, 3*page+1, both, iommu.Place{}); try("alloc", err) {
		if !try("free", d.Free(b)) {
			ok(t, d.Free(b))
		}
	}
	if m, err := d.MapWait(ctx, mem[slab/2+10:][:page], both, iommu.Place{}); try("map, waiting", err) {
		ok(t, d.Unmap(m))
		if !try("flush", d.Flush(ctx)) {
			ok(t, d.Flush(ctx))
		}
	}
	m := p.domap(mem[slab/2:][:page], both) // bounced
	ok(t, d.Unmap(m))
	calls := f.calls()
	if !try("close", d.Close(ctx)) {
		ok(t, d.Close(ctx))
	}
	if nth != 0 && nth <= calls && failed == 0 && told.Load() == 0 {
		t.Errorf("call %d failed and nobody was told", nth)
	}
	p.empty()
	return f.calls()
}

// TestPremappedBudget: early warnings, a refusal before the kernel's, and the kernel's own.
func TestPremappedBudget(t *testing.T) {
	ctx := context.Background()
	p := newFakes(t)
	p.k.limits.Entries = 40
	var mu sync.Mutex
	var told []int
	d, err := iommu.NewPremapped(ctx, p.mem, p.k, iommu.Options{Bounce: iommu.Bounce{Off: true}, OnBudget: func(used, limit int) {
		mu.Lock()
		defer mu.Unlock()
		if limit != 40 {
			t.Errorf("limit %d", limit)
		}
		told = append(told, used)
	}})
	ok(t, err)
	p.d = d
	defer p.close()
	mem := p.alloc(slab)
	var regions []*iommu.Region
	seen := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(told) >= n }
	}
	wants := map[int]int{32: 1, 34: 2, 36: 3, 38: 4, 40: 5} // 80 % and each 5 % more
	for i := range 40 {
		regions = append(regions, p.register(mem[i*2*page:][:page], both))
		if n := wants[i+1]; n != 0 {
			eventually(t, "a warning", seen(n))
		}
	}
	mu.Lock()
	if !slices.Equal(told, []int{32, 34, 36, 38, 40}) {
		t.Errorf("told at %v", told)
	}
	mu.Unlock()
	_, err = d.Register(ctx, mem[100*page:101*page], both)
	refused(t, "one more", err, iommu.ErrBudget)
	if !strings.Contains(err.Error(), "dma_entry_limit") || errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	for _, r := range regions[30:] {
		ok(t, r.Close())
	}
	p.k.most = 30
	_, err = d.Register(ctx, mem[100*page:101*page], both)
	refused(t, "the kernel's refusal", err, iommu.ErrBudget)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("errno lost: %v", err)
	}
	p.k.most = 0
	// What was used less meanwhile is warned about again.
	time.Sleep(200 * time.Millisecond)
	for i := range 2 {
		regions[30+i] = p.register(mem[(30+i)*2*page:][:page], both)
	}
	eventually(t, "a warning again", seen(6))
}

// eventually waits for what a worker is about to do.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

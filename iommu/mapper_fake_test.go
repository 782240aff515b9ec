package iommu_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"gommu/iommu"
	"gommu/pagetable"
)

const slab = 2 << 20

// A fakeMapper is a strict kernel with a device behind it, which reaches what is mapped and nothing else.
type fakeMapper struct {
	mu     sync.Mutex
	maps   map[uint64]fakeMap
	limits iommu.MapperLimits
	most   int  // mappings, 0 for no limit
	stuck  bool // nothing can be unmapped

	*failer
}

type fakeMap struct {
	mem  []byte
	prot pagetable.Prot
}

// A failer fails one call of those that it is told of.
type failer struct {
	mu sync.Mutex
	n  int // calls so far
	at int // which one fails, counted from 1; 0 for none
}

var errInjected = errors.New("injected")

func (f *failer) call() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.n == f.at {
		return errInjected
	}
	return nil
}

func (f *failer) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func newFakeMapper() *fakeMapper {
	return &fakeMapper{maps: map[uint64]fakeMap{}, limits: iommu.MapperLimits{
		Ranges: []iommu.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<48 - 1}}, Page: page, Entries: 100,
	}}
}

func (k *fakeMapper) Limits() (iommu.MapperLimits, error) { return k.limits, k.call() }

func (k *fakeMapper) MapDMA(iova uint64, mem []byte, prot pagetable.Prot) error {
	if err := k.call(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	size, last := uint64(len(mem)), iova+uint64(len(mem))-1
	in := false
	for _, r := range k.limits.Ranges {
		in = in || iova >= r.Start && last <= r.Last
	}
	if size == 0 || (iova|size|address(mem))%page != 0 || last < iova || !in || prot == 0 || prot > 3 {
		return fmt.Errorf("%#x bytes at %#x, %v: %w", size, iova, prot, syscall.EINVAL)
	}
	for at, m := range k.maps {
		if iova < at+uint64(len(m.mem)) && at <= last {
			return syscall.EEXIST
		}
	}
	if k.most != 0 && len(k.maps) >= k.most {
		return syscall.ENOSPC
	}
	k.maps[iova] = fakeMap{mem, prot}
	return nil
}

func (k *fakeMapper) UnmapDMA(iova, size uint64) error {
	if err := k.call(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stuck {
		return errInjected
	}
	if m, ok := k.maps[iova]; !ok || uint64(len(m.mem)) != size {
		return fmt.Errorf("unmap of %#x bytes at %#x, where %#x are mapped: %w", size, iova, len(m.mem), syscall.EINVAL)
	}
	delete(k.maps, iova)
	return nil
}

func (k *fakeMapper) stick(stuck bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stuck = stuck
}

func (k *fakeMapper) used() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.maps)
}

var errFault = errors.New("fault")

// dma is what the device does: it writes buf to iova, or reads it from there.
func (k *fakeMapper) dma(iova uint64, buf []byte, write bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for at, m := range k.maps {
		if off := iova - at; off < uint64(len(m.mem)) {
			if uint64(len(buf)) > uint64(len(m.mem))-off {
				return fmt.Errorf("%w: %#x bytes at %#x run over the end", errFault, len(buf), iova)
			}
			if write && m.prot&pagetable.Write == 0 || !write && m.prot&pagetable.Read == 0 {
				return fmt.Errorf("%w: %v at %#x", errFault, m.prot, iova)
			}
			if write {
				copy(m.mem[off:], buf)
			} else {
				copy(buf, m.mem[off:])
			}
			return nil
		}
	}
	return fmt.Errorf("%w: nothing at %#x", errFault, iova)
}

// A fakeMemory fails calls of the memory behind it.
type fakeMemory struct {
	*iommu.Segments
	*failer
}

func (m *fakeMemory) Alloc(ctx context.Context, size int) ([]byte, error) {
	if err := m.call(); err != nil {
		return nil, err
	}
	return m.Segments.Alloc(ctx, size)
}

func (m *fakeMemory) Free(mem []byte) error {
	if err := m.call(); err != nil {
		return err
	}
	return m.Segments.Free(mem)
}

func (m *fakeMemory) Pin(mem []byte) ([]pagetable.Extent, error) {
	if err := m.call(); err != nil {
		return nil, err
	}
	return m.Segments.Pin(mem)
}

func (m *fakeMemory) Unpin(mem []byte) error {
	if err := m.call(); err != nil {
		return err
	}
	return m.Segments.Unpin(mem)
}

// A pre is a premapped domain over fakes.
type pre struct {
	t   testing.TB
	k   *fakeMapper
	mem *fakeMemory
	ram []byte   // all of mem
	out [][]byte // of alloc
	d   *iommu.Domain
}

func address(mem []byte) uint64 { return uint64(reflect.ValueOf(mem).Pointer()) }

func wordAddress(words []uint64) uint64 { return uint64(reflect.ValueOf(words).Pointer()) }

// shared is memory that tests take turns in: it is large and takes time to clear.
var shared = sync.OnceValue(func() []byte { return pages(64 << 20 / page) })

func newFakes(t testing.TB) *pre {
	t.Helper()
	all := shared()
	skip := int(-address(all) & (slab - 1))
	ram := all[skip : len(all)-(slab-skip)]
	s, err := iommu.NewSegments(pagetable.Segment{Bus: 1 << 32, Mem: ram})
	if err != nil {
		t.Fatal(err)
	}
	f := &failer{}
	p := &pre{t: t, k: newFakeMapper(), mem: &fakeMemory{s, f}, ram: ram}
	p.k.failer = f
	return p
}

func newPre(t testing.TB, opts iommu.Options) *pre {
	t.Helper()
	p := newFakes(t)
	if opts.MaxMappings == 0 {
		opts.MaxMappings = 1024
	}
	d, err := iommu.NewPremapped(t.Context(), p.mem, p.k, opts)
	if err != nil {
		t.Fatal(err)
	}
	p.d = d
	t.Cleanup(p.close)
	return p
}

// close closes the domain, which has to be possible, and looks for leaks.
func (p *pre) close() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 2 {
		if err := p.d.Close(ctx); err != nil {
			p.t.Errorf("close: %v", err)
			if err := p.d.CloseForced(ctx); err != nil {
				p.t.Errorf("close, forced: %v", err)
			}
		}
	}
	p.empty()
}

// empty fails the test if something of the kernel or of the memory is still held.
func (p *pre) empty() {
	p.t.Helper()
	for _, mem := range p.out {
		if err := p.mem.Segments.Free(mem); err != nil {
			p.t.Error(err)
		}
	}
	p.out = nil
	if n := p.k.used(); n != 0 {
		p.t.Errorf("%d mappings of the kernel left", n)
	}
	if out, pinned := p.mem.InUse(); out != 0 || pinned != 0 {
		p.t.Errorf("%d bytes out, %d runs pinned", out, pinned)
	}
}

// alloc is memory that is not registered, of the fakes.
func (p *pre) alloc(size int) []byte {
	p.t.Helper()
	mem, err := p.mem.Segments.Alloc(context.Background(), size)
	if err != nil {
		p.t.Fatal(err)
	}
	p.out = append(p.out, mem)
	return mem
}

func (p *pre) register(mem []byte, dir iommu.Direction) *iommu.Region {
	p.t.Helper()
	r, err := p.d.Register(context.Background(), mem, dir)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *pre) domap(mem []byte, dir iommu.Direction) iommu.Mapping {
	p.t.Helper()
	m, err := p.d.Map(mem, dir)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// ok fails the test at the first error.
func ok(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// refused checks that an error is an OpError of this cause.
func refused(t testing.TB, what string, err, cause error) {
	t.Helper()
	var op *iommu.OpError
	if !errors.Is(err, cause) || !errors.As(err, &op) {
		t.Errorf("%s: %v; want an OpError of %q", what, err, cause)
	}
}

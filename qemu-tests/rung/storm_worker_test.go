//go:build linux

package rung_test

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"gommu/iommu"
	"gommu/iommu/iova"
	"gommu/respool"
	"gommu/vfio/edu"
)

// A worker has memory of its own: a part for the device to read and one for it to write.
type worker struct {
	*storm
	rnd      *rand.Rand
	ring     *iommu.Ring
	from, to []byte // registered
	bounce   bool
	sources  []window
	targets  []window
}

// A window is a live mapping.
type window struct {
	m      iommu.Mapping
	mem    []byte
	pieces []iommu.Piece
	ring   bool
}

const (
	workerMemory = 1 << 20
	maxLive      = 40
)

func (s *storm) work(ctx context.Context, rnd *rand.Rand, k stormKind) (err error) {
	mem, err := s.m.Memory.Alloc(ctx, workerMemory)
	if err != nil {
		return err
	}
	region, err := s.m.Domain.Register(ctx, mem, iommu.Bidirectional)
	if err != nil {
		return err
	}
	w := &worker{storm: s, rnd: rnd, from: mem[:workerMemory/2], to: mem[workerMemory/2:], bounce: k.domain.Bounce.On}
	if err := w.openRing(ctx); err != nil {
		return err
	}
	for err == nil && s.going() {
		err = w.step(ctx)
		s.ops.Add(1)
	}
	for _, l := range []*[]window{&w.sources, &w.targets} {
		for len(*l) > 0 {
			err = errors.Join(err, w.unmap(l, 0))
		}
	}
	return errors.Join(err, w.ring.Close(), region.Close(), s.m.Memory.Free(mem))
}

// openRing gets a ring, which in a drought takes some tries.
func (w *worker) openRing(ctx context.Context) (err error) {
	for range 1000 {
		if w.ring, err = w.m.Domain.NewRing(ctx, iommu.RingOptions{Size: 1 << 20, Burst: 16}); err == nil || !isDry(err) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func isDry(err error) bool {
	return errors.Is(err, iommu.ErrEmpty) || errors.Is(err, respool.ErrEmpty) || errors.Is(err, iova.ErrNumbers)
}

// step does one thing.
func (w *worker) step(ctx context.Context) error {
	list, dir, mem := &w.sources, iommu.ToDevice, w.from
	if w.rnd.IntN(2) == 0 {
		list, dir, mem = &w.targets, iommu.FromDevice, w.to
	}
	if w.rnd.IntN(8) == 0 {
		dir = iommu.Bidirectional
	}
	switch n := w.rnd.IntN(100); {
	case n < 35 && len(*list) < maxLive:
		return w.unlessDry(w.mapSome(list, dir, mem))
	case n < 60 && len(*list) > 0:
		return w.unmap(list, w.rnd.IntN(len(*list)))
	case n < 65 && len(*list) > 4:
		return w.unmapBatch(list)
	case n < 70:
		return w.patient(w.ring.Flush())
	case n < 73:
		return w.unlessDry(w.abandoned(ctx))
	case n < 74:
		return w.unlessDry(w.buffer(ctx))
	case n < 75:
		return w.m.Domain.Flush(ctx)
	default:
		return w.copy(ctx)
	}
}

// unlessDry passes errors on, but for that a pool is dry.
func (w *worker) unlessDry(err error) error {
	if isDry(err) {
		w.empty.Add(1)
		return nil
	}
	return err
}

// slice is a part of mem at random, mostly small.
func (w *worker) slice(mem []byte, most int) []byte {
	n := 1 + w.rnd.IntN(most)
	off := w.rnd.IntN(len(mem) - n)
	return mem[off:][:n:n]
}

// mapSome maps one thing in one of the ways.
func (w *worker) mapSome(list *[]window, dir iommu.Direction, mem []byte) error {
	x := window{mem: w.slice(mem, 20000)}
	var err error
	switch n := w.rnd.IntN(10); {
	case n < 2:
		x.ring = true
		x.m, err = w.ring.Map(x.mem, dir)
	case n < 4:
		return w.mapList(list, dir, mem)
	case n < 5:
		return w.mapBatch(list, dir, mem)
	case n < 6 && w.bounce:
		x.mem = make([]byte, 1+w.rnd.IntN(6000))
		x.m, err = w.m.Domain.Map(x.mem, dir)
	default:
		x.m, err = w.m.Domain.Map(x.mem, dir)
	}
	if err != nil {
		return err
	}
	*list = append(*list, x)
	return nil
}

// mapList maps pages that are scattered; what is copied is their first piece.
func (w *worker) mapList(list *[]window, dir iommu.Direction, mem []byte) error {
	var sg [][]byte
	for range 1 + w.rnd.IntN(8) {
		page := w.rnd.IntN(len(mem)/4096) * 4096
		sg = append(sg, mem[page:][:4096])
	}
	out := make([]iommu.Piece, 2*len(sg))
	m, n, err := w.m.Domain.MapSG(sg, dir, iommu.ListLimits{MaxPiece: 4096}, out)
	if err != nil {
		return err
	}
	if n != len(sg) {
		return fmt.Errorf("%d pages in a list are %d pieces of a page", len(sg), n)
	}
	i := w.rnd.IntN(n)
	*list = append(*list, window{m: m, mem: sg[i], pieces: out[i : i+1]})
	return nil
}

func (w *worker) mapBatch(list *[]window, dir iommu.Direction, mem []byte) error {
	all := make([][]byte, 1+w.rnd.IntN(6))
	for i := range all {
		all[i] = w.slice(mem, 8000)
	}
	out := make([]iommu.Mapping, len(all))
	if err := w.m.Domain.MapBatch(all, dir, out); err != nil {
		return err
	}
	for i, m := range out {
		*list = append(*list, window{m: m, mem: all[i]})
	}
	return nil
}

// unmap ends window i, and checks that it is ended.
func (w *worker) unmap(list *[]window, i int) error {
	x := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	if x.ring {
		return w.patient(w.ring.Unmap(x.m))
	}
	if err := w.patient(w.m.Domain.Unmap(x.m)); err != nil {
		return err
	}
	if err := w.m.Domain.Unmap(x.m); !errors.Is(err, iommu.ErrNotMapped) {
		return fmt.Errorf("unmapped twice: %w", err)
	}
	return nil
}

func (w *worker) unmapBatch(list *[]window) error {
	var all []iommu.Mapping
	*list = slices.DeleteFunc(*list, func(x window) bool {
		if x.ring || w.rnd.IntN(2) == 0 {
			return false
		}
		all = append(all, x.m)
		return true
	})
	return w.patient(w.m.Domain.UnmapBatch(all))
}

// iova is where the device reaches the window's memory.
func (x window) iova() uint64 {
	if len(x.pieces) > 0 {
		return x.pieces[0].IOVA
	}
	return x.m.IOVA()
}

// copy has a device copy random bytes from one window to another.
func (w *worker) copy(ctx context.Context) error {
	if len(w.sources) == 0 || len(w.targets) == 0 {
		return nil
	}
	from, to := w.sources[w.rnd.IntN(len(w.sources))], w.targets[w.rnd.IntN(len(w.targets))]
	n := 1 + w.rnd.IntN(min(len(from.mem), len(to.mem), 2000))
	a, b := w.rnd.IntN(len(from.mem)-n+1), w.rnd.IntN(len(to.mem)-n+1)
	crand.Read(from.mem[a:][:n])
	want := bytes.Clone(to.mem)
	copy(want[b:], from.mem[a:][:n])
	if len(from.pieces) == 0 && !from.ring {
		if err := w.m.Domain.SyncForDevice(from.m, uint64(a), uint64(n)); err != nil {
			return err
		}
	}
	d := &w.devices[w.rnd.IntN(2)]
	d.Lock()
	err := d.ReadMemory(ctx, from.iova()+uint64(a), 0, n)
	if err == nil {
		err = d.WriteMemory(ctx, to.iova()+uint64(b), 0, n)
	}
	d.Unlock()
	if err == nil && len(to.pieces) == 0 && !to.ring {
		err = w.m.Domain.SyncForCPU(to.m, uint64(b), uint64(n))
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(to.mem, want) {
		faults, ferr := w.m.Faults()
		return fmt.Errorf("%d bytes from iova %#x to %#x did not arrive, or others did (faults %v, %v)", n, from.iova()+uint64(a), to.iova()+uint64(b), faults, ferr)
	}
	w.copies.Add(1)
	return nil
}

// abandoned unmaps a window while a device writes to it: once the unmap is flushed, nothing arrives any more. A
// ring's IOVAs are nobody else's, so what the device still writes goes nowhere.
func (w *worker) abandoned(ctx context.Context) error {
	mem := w.to[:8192]
	m, err := w.ring.Map(mem, iommu.FromDevice)
	if err != nil {
		return err
	}
	d := &w.devices[w.rnd.IntN(2)]
	d.Lock()
	defer d.Unlock()
	for i := range mem {
		mem[i] ^= 0x55
	}
	at, done := m.IOVA()+uint64(w.rnd.IntN(4096)), make(chan error, 1)
	go func() { done <- d.WriteMemory(ctx, at, 0, edu.MaxTransfer) }()
	for range w.rnd.IntN(2000) {
		_ = w.broken.Load() // some time passes
	}
	err = w.patient(w.ring.Unmap(m))
	flushed := w.ring.Flush()
	for tries := 0; errors.Is(flushed, iommu.ErrFlush) && tries < 1000; tries++ {
		_ = w.m.Domain.Flush(ctx) // which may sleep, and gets a unit going that was slow
		w.slow.Add(1)
		flushed = w.ring.Flush()
	}
	if err := errors.Join(err, flushed); err != nil {
		return errors.Join(err, <-done)
	}
	after := bytes.Clone(mem)
	if err := <-done; err != nil {
		return err
	}
	if !bytes.Equal(mem, after) {
		return fmt.Errorf("a transfer to iova %#x that was under way went on after Unmap and Flush", m.IOVA())
	}
	w.inFlight.Add(1)
	return nil
}

// buffer allocates memory for long and frees it at once.
func (w *worker) buffer(ctx context.Context) error {
	b, err := w.m.Domain.Alloc(ctx, (1+w.rnd.IntN(4))*4096, iommu.Bidirectional, iommu.Place{Align: 16384})
	if err != nil {
		return err
	}
	if b.IOVA()%16384 != 0 {
		return fmt.Errorf("a buffer at iova %#x", b.IOVA())
	}
	return w.m.Domain.Free(b)
}

package conformance

import (
	"bytes"
	"fmt"

	"gommu/pagetable"
)

var superpageCases = []Case{
	{Name: "superpage/unmap", About: "a superpage is reached until the invalidation, whatever part of it was used", run: superpageUnmap},
	{Name: "superpage/cut", About: "a page is taken out of the middle of a superpage, and the rest stays", run: superpageCut},
	{Name: "superpage/cut-1G", About: "a page is taken out of the middle of a 1 GiB leaf, and the rest stays", run: superpageCut1G},
	{Name: "superpage/protect", About: "a part of a superpage becomes read-only, and the rest stays", run: superpageProtect},
	{Name: "superpage/merge", About: "512 adjacent pages become a superpage", run: superpageMerge},
	{Name: "superpage/under-dma", About: "a device uses a superpage all the time while it is cut and merged, and notices nothing", run: superpageUnderDMA},
}

// superpage is a table with data memory mapped as a superpage, and where.
func superpage(b *bench) (*pagetable.Table, uint64) {
	t := b.attached(0, 1)
	iova := top(t) &^ (size2M - 1)
	b.mapRange(t, 1, iova, b.data.Bus, size2M, both)
	if l, ok := t.Lookup(iova); !ok || l.Size != size2M {
		b.skip("the unit has no superpages")
	}
	return t, iova
}

func superpageUnmap(b *bench) {
	t, iova := superpage(b)
	b.expect(0, iova+3*page, b.bus(3), true, "mapped")
	b.expect(0, iova+500*page, b.bus(500), true, "mapped")
	batch := b.unmap(t, iova, size2M)
	b.expect(0, iova+3*page, b.bus(3), true, "unmapped and not invalidated")
	b.must(b.unit.Flush(1, batch))
	for _, n := range []int{0, 3, 500, 511} {
		at := iova + uint64(n)*page
		b.expect(0, at, b.bus(n), false, "invalidated")
		b.faults(b.absent(0, at, true))
	}
}

func superpageCut(b *bench) {
	t, iova := superpage(b)
	b.expect(0, iova+200*page, b.bus(200), true, "mapped")
	b.must(b.unit.Flush(1, b.unmap(t, iova+200*page, page)))
	b.expect(0, iova+200*page, b.bus(200), false, "taken out")
	b.faults(b.absent(0, iova+200*page, true))
	for _, n := range []int{0, 199, 201, 511} {
		b.expect(0, iova+uint64(n)*page, b.bus(n), true, "beside it")
	}
	b.copies(0, iova, b.bus(0), iova+300*page, b.bus(300), MaxTransfer)
}

func superpageCut1G(b *bench) {
	t := b.attached(0, 1)
	bus := b.data.Bus &^ (size1G - 1)
	iova := top(t)&^(size1G-1) + b.data.Bus - bus // of data page 0
	b.mapRange(t, 1, iova-(b.data.Bus-bus), bus, size1G, both)
	if l, ok := t.Lookup(iova); !ok || l.Size != size1G {
		b.skip("the unit has no 1 GiB leaves")
	}
	b.expect(0, iova+100*page, b.bus(100), true, "mapped")
	b.must(b.unit.Flush(1, b.unmap(t, iova+100*page, page)))
	b.expect(0, iova+100*page, b.bus(100), false, "taken out")
	b.faults(b.absent(0, iova+100*page, true))
	for _, n := range []int{0, 99, 101, 511} {
		b.expect(0, iova+uint64(n)*page, b.bus(n), true, "beside it")
	}
	if s := t.Stats(); s.Leaves1G != 0 || s.Leaves2M != 511 || s.Leaves4K != 511 {
		b.failf("the table holds %+v", s)
	}
	b.noFaults()
}

func superpageProtect(b *bench) {
	t, iova := superpage(b)
	b.expect(0, iova+100*page, b.bus(100), true, "mapped")
	var batch pagetable.Batch
	n, err := t.Protect(iova+64*page, 64*page, pagetable.Read, &batch)
	b.must(err)
	if n != 64*page {
		b.failf("%#x bytes were changed", n)
	}
	b.must(b.unit.Flush(1, &batch))
	for _, n := range []int{64, 100, 127} {
		b.expect(0, iova+uint64(n)*page, b.bus(n), false, "read-only")
		b.faults(b.denied(0, iova+uint64(n)*page, true))
	}
	b.copies(0, iova+100*page, b.bus(100), iova+128*page, b.bus(128), 1000)
	b.copies(0, iova+100*page, b.bus(100), iova+63*page, b.bus(63), 1000)
}

func superpageMerge(b *bench) {
	t := b.attached(0, 1)
	iova := top(t) &^ (size2M - 1)
	for n := range 512 {
		b.must(t.Map(iova+uint64(n)*page, b.bus(n), page, both))
	}
	b.must(b.unit.Publish(1, iova, size2M))
	b.expect(0, iova+100*page, b.bus(100), true, "as pages")
	b.merge(t, iova)
	for _, n := range []int{0, 100, 511} {
		b.expect(0, iova+uint64(n)*page, b.bus(n), true, "as a superpage")
	}
	b.noFaults()
	b.must(b.unit.Flush(1, b.unmap(t, iova, size2M)))
	b.expect(0, iova+100*page, b.bus(100), false, "unmapped")
	b.faults(b.absent(0, iova+100*page, true))
}

// merge makes a superpage at iova.
func (b *bench) merge(t *pagetable.Table, iova uint64) {
	var batch pagetable.Batch
	n, err := t.Merge(iova, size2M, &batch)
	b.must(err)
	if l, ok := t.Lookup(iova); n == 0 && ok && l.Size == page {
		b.must(batch.Release())
		b.skip("the unit has no superpages")
	}
	if l, _ := t.Lookup(iova); n != 1 || l.Size != size2M {
		b.fatalf("%d tables were merged, and the leaf is %+v", n, l)
	}
	b.must(b.unit.Flush(1, &batch))
}

// superpageUnderDMA lets device 1 copy within the superpage while a page of it that
// device 0 uses goes and comes back. What faults are recorded are device 0's.
func superpageUnderDMA(b *bench) {
	t, iova := superpage(b)
	b.attach(1, 1, t)
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.keepCopying(done, iova, 10, 300) }()
	defer func() {
		close(done)
		if err := <-ended; err != nil {
			b.failf("%v", err)
		}
		b.noFaults()
	}()
	for i := range b.rounds(25) {
		n := 100 + i
		at := iova + uint64(n)*page
		b.must(b.unit.Flush(1, b.unmap(t, at, page)))
		b.expect(0, at, b.bus(n), false, "cut out")
		b.faults(b.absent(0, at, true))
		b.mapPage(t, 1, at, n)
		b.expect(0, at, b.bus(n), true, "mapped again")
		b.merge(t, iova)
		b.expect(0, at, b.bus(n), true, "merged")
		b.noFaults()
	}
}

// keepCopying has device 1 copy from data page n to m, which lie in the superpage
// at iova, until done.
func (b *bench) keepCopying(done <-chan struct{}, iova uint64, n, m int) error {
	for i := 0; ; i++ {
		select {
		case <-done:
			return nil
		default:
		}
		want := b.random(b.bus(n), 256)
		if err := b.dev[1].Read(b.ctx, iova+uint64(n)*page, 256); err != nil {
			return err
		}
		if err := b.dev[1].Write(b.ctx, iova+uint64(m)*page, 256); err != nil {
			return err
		}
		if !bytes.Equal(b.at(b.bus(m), 256), want) {
			return fmt.Errorf("copy %d within the superpage did not arrive", i)
		}
	}
}

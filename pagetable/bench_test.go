package pagetable

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// What Linux's generic_pt is measured with (shared/peers/generic-pt.sh): calls
// on hot tables that a neighbour keeps in place, and calls that make and free
// their tables each time ("+table").
func BenchmarkMapUnmap(b *testing.B) {
	for _, coherent := range []bool{true, false} {
		for _, c := range benchCases {
			b.Run(fmt.Sprintf("coherent=%v/%s/n=%d", coherent, c.name, c.n), func(b *testing.B) {
				r := newRig(b, 600)
				tbl := r.table(b, Options{Coherent: coherent})
				mustMap(b, tbl, 1<<40, 0, kib4, Read)         // keeps the top
				mustMap(b, tbl, 600*gib1-kib4, 0, kib4, Read) // not the tables measured
				c.run(b, tbl, 0)
				mustUnmap(b, tbl, 0, 1<<48)
			})
		}
	}
}

// Pages come and go in a table that is held.
func BenchmarkHeld(b *testing.B) {
	for _, coherent := range []bool{true, false} {
		for _, n := range []uint64{1, 8, 64, 256, 512} {
			b.Run(fmt.Sprintf("coherent=%v/n=%d", coherent, n), func(b *testing.B) {
				r := newRig(b, 16)
				tbl := r.table(b, Options{Coherent: coherent})
				if err := tbl.Hold(0, mib2, 0); err != nil {
					b.Fatal(err)
				}
				benchCalls(b, tbl, 0, gib1+kib4, n*kib4, max(1, 256/n))
			})
		}
	}
}

// Two goroutines do the same in one table, in ranges of 512 GiB each that
// share only its root, or ("shared") in one page of it.
func BenchmarkTwo(b *testing.B) {
	for _, c := range benchCases {
		for _, shared := range []bool{false, true} {
			if shared && (c.leaf*c.n >= mib2/2 || !c.neighbor) {
				continue
			}
			b.Run(fmt.Sprintf("shared=%v/%s/n=%d", shared, c.name, c.n), func(b *testing.B) {
				r := newRig(b, 1200)
				tbl := r.table(b, Options{Coherent: true})
				apart := uint64(512 * gib1)
				if shared {
					apart = mib2 / 2
					c.neighbor = false
					mustMap(b, tbl, mib2-kib4, 0, kib4, Read)
				}
				var wg sync.WaitGroup
				n := b.N
				for i := range uint64(2) {
					wg.Go(func() { c.work(b, tbl, i*apart, n, shared) })
				}
				wg.Wait()
				mustUnmap(b, tbl, 0, 1<<48)
			})
		}
	}
}

// Single pages of a gigabyte, one in each 2 MiB, so each with a table of its
// own, in an order that is not the IOVAs'.
func BenchmarkScattered(b *testing.B) {
	r := newRig(b, 600)
	tbl := r.table(b, Options{Coherent: true})
	var batch Batch
	for b.Loop() {
		for i := range uint64(512) {
			if err := tbl.Map(i*263%512*mib2, i*kib4, kib4, Read); err != nil {
				b.Fatal(err)
			}
		}
		for i := range uint64(512) {
			if _, err := tbl.Unmap(i*263%512*mib2, kib4, &batch); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Release(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/page")
}

// benchCase is n leaves in a call.
type benchCase struct {
	name     string
	leaf, n  uint64
	neighbor bool
}

var benchCases = []benchCase{
	{"4K", kib4, 1, true}, {"4K", kib4, 8, true}, {"4K", kib4, 64, true}, {"4K", kib4, 256, true}, {"4K", kib4, 511, true},
	{"4K+table", kib4, 1, false}, {"4K+table", kib4, 512, false}, {"4K+tables", kib4, 262144, false},
	{"2M", mib2, 1, true}, {"2M", mib2, 8, true}, {"2M", mib2, 64, true}, {"2M", mib2, 256, true}, {"2M+table", mib2, 512, false},
	{"1G", gib1, 1, true}, {"1G", gib1, 8, true}, {"1G", gib1, 64, true},
}

func (c benchCase) bus() uint64 {
	if c.leaf == kib4 {
		return gib1 + kib4 // no superpages
	}
	return gib1
}

func (c benchCase) run(b *testing.B, tbl *Table, base uint64) {
	if c.neighbor {
		mustMap(b, tbl, base+512*c.leaf-c.leaf, 0, c.leaf, Read)
	}
	calls := uint64(1) // the table is made and freed by each
	if c.neighbor {
		calls = max(1, 256/c.n)
	}
	benchCalls(b, tbl, base, c.bus(), c.leaf*c.n, calls)
}

// work is a goroutine's part of BenchmarkTwo.
func (c benchCase) work(b *testing.B, tbl *Table, base uint64, times int, shared bool) {
	if c.neighbor && !shared {
		mustMap(b, tbl, base+512*c.leaf-c.leaf, 0, c.leaf, Read)
	}
	var batch Batch
	for range times {
		if err := tbl.Map(base, c.bus(), c.leaf*c.n, Read|Write); err != nil {
			b.Error(err)
			return
		}
		if _, err := tbl.Unmap(base, c.leaf*c.n, &batch); err != nil {
			b.Error(err)
			return
		}
		if err := batch.Release(); err != nil {
			b.Error(err)
			return
		}
	}
}

// benchCalls maps ranges one after the other, then unmaps them, then releases
// the batch, and reports the time of one call of each. The clock is read once
// for several calls.
func benchCalls(b *testing.B, tbl *Table, base, bus, size, calls uint64) {
	b.ReportAllocs()
	var batch Batch
	var mapping, unmapping, releasing time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range calls {
			if err := tbl.Map(base+i*size, bus+i*size, size, Read|Write); err != nil {
				b.Fatal(err)
			}
		}
		mapped := time.Now()
		for i := range calls {
			if _, err := tbl.Unmap(base+i*size, size, &batch); err != nil {
				b.Fatal(err)
			}
		}
		unmapped := time.Now()
		if err := batch.Release(); err != nil {
			b.Fatal(err)
		}
		mapping += mapped.Sub(start)
		unmapping += unmapped.Sub(mapped)
		releasing += time.Since(unmapped)
	}
	total := float64(b.N) * float64(calls)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(mapping)/total, "map-ns")
	b.ReportMetric(float64(unmapping)/total, "unmap-ns")
	b.ReportMetric(float64(releasing)/float64(b.N), "release-ns")
}

func BenchmarkLookup(b *testing.B) {
	r := newRig(b, 8)
	tbl := r.table(b, Options{Coherent: true})
	mustMap(b, tbl, 0, kib4, 256*kib4, Read)
	iova := uint64(0)
	for b.Loop() {
		if _, ok := tbl.Lookup(iova); !ok {
			b.Fatal("not mapped")
		}
		iova = (iova + kib4) & (256*kib4 - 1)
	}
	mustUnmap(b, tbl, 0, 256*kib4)
}

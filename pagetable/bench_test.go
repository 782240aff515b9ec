package pagetable

import (
	"fmt"
	"testing"
	"time"
)

// What Linux's generic_pt is measured with (shared/peers/generic-pt.sh): calls
// on hot tables that a neighbour keeps in place, and calls that make and free
// their tables each time.
func BenchmarkMapUnmap(b *testing.B) {
	for _, coherent := range []bool{true, false} {
		for _, c := range []struct {
			name     string
			leaf, n  uint64
			neighbor bool
		}{
			{"4K", kib4, 1, true}, {"4K", kib4, 8, true}, {"4K", kib4, 256, true}, {"4K", kib4, 511, true},
			{"4K+table", kib4, 512, false}, {"4K+tables", kib4, 262144, false},
			{"2M", mib2, 1, true}, {"2M", mib2, 256, true},
		} {
			b.Run(fmt.Sprintf("coherent=%v/%s/n=%d", coherent, c.name, c.n), func(b *testing.B) {
				r := newRig(b, 600)
				tbl := r.table(b, Options{Coherent: coherent})
				bus := uint64(gib1)
				if c.leaf == kib4 {
					bus += kib4 // no superpages
				}
				if c.neighbor {
					mustMap(b, tbl, 512*c.leaf-c.leaf, 0, c.leaf, Read)
				}
				mustMap(b, tbl, 1<<40, 0, kib4, Read)         // keeps the top
				mustMap(b, tbl, 600*gib1-kib4, 0, kib4, Read) // not the tables measured
				benchCalls(b, tbl, bus, c.leaf*c.n, c.n)
				mustUnmap(b, tbl, 0, 1<<48)
			})
		}
	}
}

// benchCalls maps ranges one after the other, then unmaps them, then releases
// the batch, and reports the time of one call of each. The clock is read once
// for as many calls as make 256 entries.
func benchCalls(b *testing.B, tbl *Table, bus, size, n uint64) {
	b.ReportAllocs()
	calls := max(1, 256/n)
	var batch Batch
	var mapping, unmapping, releasing time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range calls {
			if err := tbl.Map(i*size, bus+i*size, size, Read|Write); err != nil {
				b.Fatal(err)
			}
		}
		mapped := time.Now()
		for i := range calls {
			if _, err := tbl.Unmap(i*size, size, &batch); err != nil {
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

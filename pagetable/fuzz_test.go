package pagetable

import (
	"encoding/binary"
	"io"
	"testing"
)

// FuzzTable reads bytes as calls on a table and compares with the model. The
// first byte picks the options and the number of frames; then each call takes
// five.
func FuzzTable(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		opts := allOptions[int(in[0])%len(allOptions)]
		r := newRig(t, 1+int(in[0]>>3))
		m := newModel(t, r, opts)
		in = in[1:min(len(in), 1+5*64)]
		for ; len(in) >= 5; in = in[5:] {
			fuzzCall(m, [5]byte(in))
			m.check()
		}
		m.finish()
	})
}

// fuzzCall makes one call: what to do, where, how far from there in pages, how
// large, and to which memory.
func fuzzCall(m *model, in [5]byte) {
	at := m.bases()
	iova := at[int(in[1])%len(at)] + uint64(in[2])*kib4
	pages := sizes[int(in[3])%len(sizes)]
	bus := uint64(in[4]>>4) << 48
	if in[4]&1 != 0 && !m.opts.No2M {
		bus += iova % gib1 // superpages fit
	} else {
		bus += uint64(in[4]) * kib4
		pages = min(pages, mostPages)
	}
	size := pages * kib4
	switch in[0] % 11 {
	default:
		m.doMap(iova, bus, size, Prot(1+in[4]>>1&3))
	case 4, 5:
		m.doUnmap(iova, size)
	case 6:
		m.doUnmap(iova&^(gib1-1), uint64(in[3])*mib2)
	case 8:
		m.doProtect(iova, size, Prot(1+in[4]>>1&3))
	case 9:
		if at := iova &^ (gib1 - 1); m.inSpace(at, gib1) {
			m.doMerge(at, gib1)
		}
	case 10:
		m.doMapExtents(iova, []Extent{{bus, size}, {bus + size, kib4}, {uint64(in[4]) * kib4, size % (mostPages * kib4)}}, Prot(1+in[4]>>1&3))
	case 7:
		if in[1] < 0xf0 {
			m.doRelease()
			break
		}
		m.doMap(iova+uint64(in[2]), bus+uint64(in[3]), size+uint64(in[4]), Prot(in[4]))
	}
}

// FuzzHostileTables writes words over a table's memory, as a device that may
// write there could, and then makes every call: walks end and nothing panics.
// What the calls return is not looked at.
func FuzzHostileTables(f *testing.F) {
	le := binary.LittleEndian
	self := func(format byte, frame uint64) []byte { // a link from a table to one of the tables
		in := []byte{format, 0, 0, 0}
		return le.AppendUint64(in, 0x7_1234_5000+frame*kib4|0x27)
	}
	f.Add(self(0, 0))
	f.Add(self(4, 1))
	f.Add(append(self(3, 2), self(0, 3)[1:]...))
	f.Add(append([]byte{1, 1, 0, 0}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		r := makeRig(t, 24)
		opts := formats[int(in[0])%len(formats)]
		opts.Coherent = in[0]&0x80 == 0
		tbl, err := New(r.mem, r.pool, opts)
		if err != nil {
			t.Fatal(err)
		}
		base := lastIOVA(tbl) - 4*gib1 + 1
		mustMap(t, tbl, base+mib2-kib4, kib4, 2*kib4, Read)
		mustMap(t, tbl, base+gib1, gib1, gib1+mib2, Read|Write)
		for in = in[1:]; len(in) >= 11; in = in[11:] {
			frame := uint64(in[0]) % 24
			r.mem.Entries(Frame{r.bus + frame*kib4})[le.Uint16(in[1:])%512] = le.Uint64(in[3:])
		}
		everyCall(tbl, base)
		_ = tbl.Close()
	})
}

// everyCall makes all calls of a table around base.
func everyCall(tbl *Table, base uint64) {
	var b Batch
	look := func() {
		tbl.Stats()
		_ = tbl.Dump(io.Discard)
		_ = tbl.WriteSVG(io.Discard)
		n := 0
		for range tbl.All() {
			if n++; n == 10000 {
				break
			}
		}
	}
	look()
	for _, iova := range []uint64{base, base + mib2, base + mib2 - kib4, base + gib1, base + gib1 + kib4, base + 2*gib1 + mib2, 0} {
		for _, size := range []uint64{kib4, 3 * kib4, mib2, gib1} {
			tbl.Lookup(iova)
			_ = tbl.Map(iova, 0, size, Read)
			_ = tbl.MapExtents(iova, []Extent{{0, size}, {0, kib4}}, Read)
			_, _ = tbl.Protect(iova, size, Read|Write, &b)
			_ = tbl.Harvest(iova, size, true, &b, func(Access) {})
			_, _ = tbl.Merge(iova, size, &b)
			_, _ = tbl.Unmap(iova, size, &b)
		}
	}
	_ = b.Release()
	look()
}

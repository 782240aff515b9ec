package pagetable

import "testing"

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

package pagetable

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"gommu/respool"
)

// The memory that an IOVA may be mapped to in these tests: itself, in one of
// 16 places far apart. So whoever looks at the table knows what is impossible,
// and ranges can become superpages.
const placeShift = 46

func somewhere(rng *rand.Rand, iova uint64) uint64 {
	return iova&(1<<placeShift-1) | rng.Uint64N(16)<<placeShift
}

func possible(l Leaf) bool { return (l.IOVA^l.Bus)&(1<<placeShift-1) == 0 }

// mapper is one goroutine with ranges of its own and an oracle of their pages.
type mapper struct {
	t      *testing.T
	tbl    *Table
	rng    *rand.Rand
	owned  []Extent // IOVA ranges; Bus is the IOVA
	pages  map[uint64]page
	holds  map[uint64]int // by the first IOVA of a table of pages
	batch  Batch
	dry    int // calls that failed for want of frames
	marked int // calls that met a mark
}

func (m *mapper) stage() Stage { return m.tbl.Stage() }

// pick is a range within what the mapper owns, most of them small.
func (m *mapper) pick() (iova, size uint64) {
	x := m.owned[m.rng.IntN(len(m.owned))]
	if m.rng.IntN(8) == 0 {
		return x.Bus, x.Size
	}
	pages := x.Size / kib4
	first := m.rng.Uint64N(pages)
	n := 1 + m.rng.Uint64N(min(pages-first, 1<<m.rng.Uint64N(12)))
	return x.Bus + first*kib4, n * kib4
}

func (m *mapper) prot() Prot {
	if m.stage() == FirstStage || m.rng.IntN(2) == 0 {
		return Read | Prot(m.rng.IntN(2))<<1
	}
	return Write
}

// step makes one call and compares.
func (m *mapper) step() {
	iova, size := m.pick()
	switch m.rng.IntN(18) {
	case 16:
		m.hold()
	case 17:
		m.unhold()
	case 0, 1, 2, 3, 4:
		m.doMap(iova, size)
	case 5, 6, 7, 8, 9:
		n, err := m.tbl.Unmap(iova, size, &m.batch)
		if m.failed(err) {
			return
		}
		if want := m.each(iova, size, func(at uint64, _ page) { delete(m.pages, at) }); n != want {
			m.t.Errorf("unmap %#x size %#x: %#x bytes, want %#x", iova, size, n, want)
		}
	case 10, 11:
		prot := m.prot()
		n, err := m.tbl.Protect(iova, size, prot, &m.batch)
		if m.failed(err) {
			return
		}
		if want := m.each(iova, size, func(at uint64, p page) { m.pages[at] = page{p.bus, prot} }); n != want {
			m.t.Errorf("protect %#x size %#x: %#x bytes, want %#x", iova, size, n, want)
		}
	case 12:
		if _, err := m.tbl.Merge(iova, size, &m.batch); err != nil {
			m.t.Error(err)
		}
	case 13:
		err := m.tbl.Harvest(iova, size, m.rng.IntN(2) == 0, &m.batch, func(a Access) {
			if !possible(a.Leaf) {
				m.t.Errorf("harvested %+v", a)
			}
		})
		if err != nil {
			m.t.Error(err)
		}
	default:
		m.look(iova)
		m.look(iova + size - kib4)
	}
	if m.rng.IntN(8) == 0 {
		m.release()
	}
}

func (m *mapper) doMap(iova, size uint64) {
	bus, prot := somewhere(m.rng, iova), m.prot()
	var err error
	if half := size / 2 &^ (kib4 - 1); half > 0 && m.rng.IntN(4) == 0 {
		err = m.tbl.MapExtents(iova, []Extent{{bus, half}, {bus + half, size - half}}, prot)
	} else {
		err = m.tbl.Map(iova, bus, size, prot)
	}
	if taken := m.each(iova, size, func(uint64, page) {}); taken > 0 {
		if !isErr(err, ErrOverlap) && !(m.tbl.marks && isErr(err, ErrMarked)) {
			m.t.Errorf("map %#x size %#x: %v, want %v", iova, size, err, ErrOverlap)
		}
		return
	}
	if m.failed(err) {
		return
	}
	for off := uint64(0); off < size; off += kib4 {
		m.pages[iova+off] = page{bus + off, prot}
	}
}

// hold holds a table that is the mapper's alone, if there is one.
func (m *mapper) hold() {
	x := m.owned[m.rng.IntN(len(m.owned))]
	at := (x.Bus + mib2 - 1) &^ (mib2 - 1)
	if at+mib2 > x.Bus+x.Size {
		return
	}
	l, ok := m.tbl.Lookup(at)
	err := m.tbl.Hold(at, mib2, 0)
	if super := ok && l.Size > kib4; super || isErr(err, ErrOverlap) {
		if !super || !isErr(err, ErrOverlap) {
			m.t.Errorf("hold %#x: %v where %+v is mapped", at, err, l)
		}
		return
	}
	if !m.failed(err) {
		m.holds[at]++
	}
}

// unhold takes a hold away.
func (m *mapper) unhold() {
	for at := range m.holds {
		if err := m.tbl.Unhold(at, mib2, 0, &m.batch); err != nil {
			m.t.Error(err)
		}
		if m.holds[at]--; m.holds[at] == 0 {
			delete(m.holds, at)
		}
		return
	}
}

// failed says that the pool was dry, or that there is a mark in the way, the mapper's own or in an entry
// that others share.
func (m *mapper) failed(err error) bool {
	if m.tbl.marks && isErr(err, ErrMarked) {
		m.marked++
		m.release()
		return true
	}
	if err != nil && !isErr(err, respool.ErrEmpty) {
		m.t.Error(err)
	}
	if err != nil {
		m.dry++
	}
	return err != nil
}

// each calls f for the mapped pages and returns their size.
func (m *mapper) each(iova, size uint64, f func(uint64, page)) (bytes uint64) {
	for at := iova; at-iova < size; at += kib4 {
		if p, ok := m.pages[at]; ok {
			bytes += kib4
			f(at, p)
		}
	}
	return bytes
}

func (m *mapper) look(iova uint64) {
	p, mapped := m.pages[iova]
	l, ok := m.tbl.Lookup(iova)
	if ok != mapped || ok && (l.Bus+iova-l.IOVA != p.bus || l.Prot != p.prot) {
		m.t.Errorf("Lookup(%#x) = %+v, %v, want %+v, %v", iova, l, ok, p, mapped)
	}
}

// release invalidates what the batch says.
func (m *mapper) release() {
	if first, last, ok := m.batch.Range(); ok {
		if err := m.tbl.Unmark(first, last-first+1); err != nil {
			m.t.Error(err)
		}
	}
	if err := m.batch.Release(); err != nil {
		m.t.Error(err)
	}
}

func (m *mapper) lookAll() {
	for _, x := range m.owned {
		for at := x.Bus; at-x.Bus < x.Size; at += kib4 {
			m.look(at)
		}
	}
}

// stripes deals window out in turn, in runs of the given numbers of pages.
func stripes(mappers []*mapper, at, window uint64, pages ...uint64) {
	for i := 0; window > 0; i++ {
		n := min(pages[i%len(pages)]*kib4, window)
		m := mappers[i%len(mappers)]
		m.owned = append(m.owned, Extent{at, n})
		at, window = at+n, window-n
	}
}

// stress lets goroutines work on ranges that share tables and superpages.
func stress(t *testing.T, opts Options, goroutines, frames, steps int) {
	r := newRig(t, frames)
	tbl, other := r.table(t, opts), r.table(t, Options{Coherent: true})
	base := uint64(0)
	if opts.Stage == FirstStage {
		base = 1<<64 - 4*gib1
	}
	mappers := make([]*mapper, goroutines)
	for i := range mappers {
		mappers[i] = &mapper{t: t, tbl: tbl, rng: rand.New(rand.NewPCG(uint64(i), uint64(frames))), pages: map[uint64]page{}, holds: map[uint64]int{}}
	}
	stripes(mappers, base, mib2, 1, 3, 16, 7)                    // within one table
	stripes(mappers, base+gib1-3*mib2, 6*mib2, 100, 512, 700, 1) // across them
	stripes(mappers, base+2*gib1, 4*mib2, 512)                   // a table each
	stripes(mappers, base+3*gib1-mib2, 2*mib2, 333)

	var wg, watching sync.WaitGroup
	var stop atomic.Bool
	watch(t, tbl, &watching, &stop)
	for _, m := range mappers {
		wg.Go(func() {
			for i := 0; i < steps && !t.Failed(); i++ {
				m.step()
			}
			m.lookAll()
		})
	}
	wg.Go(func() { // gives frames another life
		rng := rand.New(rand.NewPCG(1, 1))
		for i := 0; i < steps && !t.Failed(); i++ {
			iova := base & (1<<40 - 1) &^ (gib1 - 1)
			if other.Map(iova, 0xbad000, 8*kib4, Read) == nil {
				if rng.IntN(2) == 0 {
					other.Map(iova+mib2, 0xbad000, mib2, Read)
				}
				mustUnmap(t, other, iova, gib1)
			}
		}
	})
	wg.Wait()
	stop.Store(true)
	watching.Wait()
	settle(t, r, tbl, mappers)
}

// watch looks at the table until stop.
func watch(t *testing.T, tbl *Table, wg *sync.WaitGroup, stop *atomic.Bool) {
	wg.Go(func() {
		for !stop.Load() {
			last, first := uint64(0), true
			for l := range tbl.All() {
				if !possible(l) || !first && l.IOVA <= last {
					t.Errorf("All has %+v after %#x", l, last)
					return
				}
				last, first = l.IOVA+(l.Size-1), false
				if l, ok := tbl.Lookup(l.IOVA); ok && !possible(l) {
					t.Errorf("Lookup finds %+v", l)
				}
			}
			tbl.Stats()
		}
	})
}

// settle compares the table with all oracles, unmaps everything and looks for
// what is left.
func settle(t *testing.T, r *rig, tbl *Table, mappers []*mapper) {
	pages, dry, marked := 0, 0, 0
	for _, m := range mappers {
		pages += len(m.pages)
		dry += m.dry
		marked += m.marked
		m.lookAll()
		for len(m.holds) > 0 {
			m.unhold()
		}
		m.release()
	}
	w := r.walker(tbl)
	w.marked = true
	if tbl.marks {
		w.marks = map[entryID]uint64{}
	}
	leaves, tables, err := w.scan()
	n := uint64(0)
	for _, l := range leaves {
		n += l.size / kib4
	}
	s := tbl.Stats()
	if err != nil || n != uint64(pages) || s.Bytes() != n*kib4 || s.Tables != len(tables) {
		t.Errorf("the unit finds %d pages in %d tables, %v; want %d; Stats has %+v", n, len(tables), err, pages, s)
	}
	if want := len(tables) + 1; r.pool.Stats().InUse != want { // the other table's root
		var b Batch
		tbl.adopt(&b)
		if b.Tables() == 0 || b.Release() != nil || r.pool.Stats().InUse != want {
			t.Errorf("%d frames in use, want %d", r.pool.Stats().InUse, want)
		}
	}
	t.Logf("%d pages, %d calls met a dry pool, %d a mark", pages, dry, marked)
	if tbl.marks && marked == 0 {
		t.Error("no call met a mark")
	}
	lower := uint64(1) << tbl.high
	mustUnmap(t, tbl, 0, lower)
	if tbl.Stage() == FirstStage {
		mustUnmap(t, tbl, -lower, lower)
	}
	if s := tbl.Stats(); s != (Stats{Tables: 1}) || r.pool.Stats().InUse != 2 {
		t.Errorf("left: %+v, %d frames in use", s, r.pool.Stats().InUse)
	}
	for _, iova := range []uint64{0, -lower} {
		if err := tbl.Unmark(iova, lower); err != nil && (iova == 0 || tbl.Stage() == FirstStage) {
			t.Error(err)
		}
	}
	if inUse(r.mem.Entries(tbl.Root())[:]) {
		t.Error("marks are left")
	}
}

var steps = flag.Int("steps", 1_000_000, "calls of TestStress, in all")

// A million calls over all formats, in four goroutines. Under the race
// detector it is fewer, and others run at every step where that matters.
func TestStress(t *testing.T) {
	letOthersRun(t)
	n := *steps
	if raceEnabled {
		n /= 20
	}
	for _, opts := range append(slices.Clip(allOptions), Options{Marks: true}, Options{Stage: FirstStage, Coherent: true, Marks: true}) {
		for _, frames := range []int{14, 400} {
			t.Run(fmt.Sprintf("%s/frames=%d", opts.name(), frames), func(t *testing.T) {
				const goroutines = 4
				stress(t, opts, goroutines, frames, n/(2*len(allOptions)*goroutines))
			})
		}
	}
}

package vtd_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gommu/iommu"
	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// A setting is one kind of unit that lives are run on.
type setting struct {
	name       string
	mode       vtd.Mode
	inv        vtd.InvalidationMode
	capability uint64 // bits to add
	extra      uint64
	lag        int
}

const (
	ecapCoherent = 1 << 0
	ecapScalable = 1<<43 | 1<<46 | 1<<47 | 1<<40 | 14<<35 // SMTS SSTS FSTS PASID of 15 bits
)

func settings() (all []setting) {
	for _, s := range []setting{
		{name: "legacy queue", inv: vtd.InvalidateByQueue},
		{name: "legacy registers", inv: vtd.InvalidateByRegisters},
		{name: "legacy wide", inv: vtd.InvalidateByQueue, extra: ecapScalable},
		{name: "scalable", mode: vtd.Scalable, extra: ecapScalable},
	} {
		for _, c := range []setting{
			{name: "plain"}, {name: "coherent", extra: ecapCoherent}, {name: "caching", capability: capCM},
			{name: "buffered", capability: capRWBF}, {name: "buffered coherent", capability: capRWBF, extra: ecapCoherent},
			{name: "slow", lag: 3},
			{name: "device TLBs", extra: ecapDT},
			{name: "caching slow", lag: 3, capability: capCM},
		} {
			v := s
			v.name += ", " + c.name
			v.capability, v.extra, v.lag = c.capability, s.extra|c.extra, c.lag
			all = append(all, v)
		}
	}
	return all
}

// A life is a driver at work on a strict unit, with what should be true.
type life struct {
	b    *bench
	s    *strict
	u    *vtd.Unit
	want map[actor]vtd.Table // what is attached
	// While something is detached: its entry, and how many frames are in use.
	entry []uint64
	inUse int
	// What went wrong, for people.
	wrong []string
}

func newLife(t testing.TB, set setting) *life {
	b := newBench(t)
	b.quiet = true
	b.capability |= set.capability
	b.extra |= set.extra
	b.lag = set.lag
	l := &life{b: b, want: map[actor]vtd.Table{}}
	l.s = newStrict(b, actor{0x18, 0}, actor{0x20, 0}, actor{0x118, 0}, actor{0x98, 0}, actor{0x18, 1}, actor{0x18, 100}, actor{0x20, 1})
	var err error
	b.watch = l.retiring
	opts := vtd.Options{Mode: set.mode, Invalidation: set.inv, Timeout: 20 * time.Second}
	if l.u, err = vtd.OpenWithWriteBack(b, b.mem, b.frames, opts, l.s.writeBack); err != nil {
		t.Fatal(err)
	}
	return l
}

// step runs one call and compares what devices reach with what they should.
func (l *life) step(name string, err error) {
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %v", name, err))
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if !l.u.Enabled() {
		return
	}
	l.s.pump()
	l.s.consistent()
	for _, c := range l.s.complaints {
		l.wrong = append(l.wrong, name+": "+c)
	}
	l.s.complaints = nil
	for _, a := range l.s.actors {
		for _, page := range strictPages {
			want := uint64(0)
			switch t := l.want[a]; {
			case t == nil:
			case t == vtd.PassThrough:
				want = 1
			case l.s.mapped[t.Root().Bus][page]:
				want = t.Root().Bus
			}
			if got := l.s.reach(a, page); got != want {
				l.wrong = append(l.wrong, fmt.Sprintf("%s: %+v reaches page %#x through %#x, want %#x", name, a, page, got, want))
			}
		}
	}
}

func (l *life) attach(a actor, id uint16, t vtd.Table) {
	if l.s.mapped[t.Root().Bus] == nil {
		l.s.mapped[t.Root().Bus] = map[uint64]bool{}
	}
	err := error(nil)
	if a.pasid != 0 {
		err = l.u.AttachPASID(a.source, a.pasid, id, t)
	} else {
		err = l.u.Attach(a.source, id, t)
	}
	l.want[a] = t
	l.step(fmt.Sprintf("attach %+v", a), err)
}

// retiring is called before each invalidation: of an entry that was detached all
// but P must be there, and no frame may have gone back.
func (l *life) retiring() {
	if l.entry == nil {
		return
	}
	if !slices.ContainsFunc(l.entry[1:], func(w uint64) bool { return w != 0 }) {
		l.wrong = append(l.wrong, "the rest of an entry is gone before the unit was told")
	}
	if n := l.b.frames.Stats().InUse; n != l.inUse {
		l.wrong = append(l.wrong, fmt.Sprintf("%d frames are in use before the unit was told, %d after", l.inUse, n))
	}
}

// entryOf finds the entry of an actor by walking memory.
func (l *life) entryOf(a actor) []uint64 {
	table := func(bus uint64) *[512]uint64 { return l.b.mem.Entries(pagetable.Frame{Bus: bus &^ 0xfff}) }
	root := table(l.b.rtaddr)
	if l.b.rtaddr>>10&3 == 0 {
		return table(root[a.source>>8*2])[2*(a.source&0xff):][:2]
	}
	directory := table(table(root[a.source>>7])[4*(a.source&0x7f)])
	return table(directory[a.pasid/64])[8*(a.pasid%64):][:8]
}

func (l *life) detach(a actor) {
	delete(l.want, a)
	if l.u.Enabled() {
		l.entry, l.inUse = l.entryOf(a), l.b.frames.Stats().InUse
		defer func() { l.entry = nil }()
	}
	err := error(nil)
	if a.pasid != 0 {
		err = l.u.DetachPASID(a.source, a.pasid)
	} else {
		err = l.u.Detach(a.source)
	}
	l.step(fmt.Sprintf("detach %+v", a), err)
}

func (l *life) mapPage(id uint16, t vtd.Table, page uint64) {
	l.s.mapped[t.Root().Bus][page] = true
	l.step("map", l.u.Publish(id, page<<12, 1))
}

func (l *life) unmapPages(ranges []vtd.Range, tables ...vtd.Table) {
	for i, t := range tables {
		for p := range ranges[i].Size {
			delete(l.s.mapped[t.Root().Bus], ranges[i].IOVA>>12+p>>12)
		}
	}
	l.step("unmap", l.u.InvalidateRanges(ranges...))
}

// succeed gives a domain id that was used for one table to another.
func (l *life) succeed(a actor, id uint16, old, new vtd.Table) {
	l.attach(a, id, old)
	l.mapPage(id, old, 0x10)
	l.detach(a)
	delete(l.s.mapped[new.Root().Bus], 0x10)
	l.attach(a, id, new)
	l.detach(a)
}

// stagedTable is a fake table of the first stage.
type stagedTable struct{ fakeTable }

func (stagedTable) Stage() pagetable.Stage { return pagetable.FirstStage }

// live goes through a unit's life.
func (l *life) live(t testing.TB, mode vtd.Mode) {
	one, two := fakeTable{l.root(0), 48}, fakeTable{l.root(1), 39}
	if l.u.Capabilities().DeviceTLB && l.u.Queued() {
		l.step("device TLBs", errors.Join(l.u.SetDeviceTLB(0x18, &vtd.DeviceTLB{}), l.u.SetDeviceTLB(0x118, &vtd.DeviceTLB{})))
	}
	l.attach(actor{0x18, 0}, 1, one)
	l.step("enable", l.u.Enable(t.Context()))
	l.mapPage(1, one, 0x10)
	l.attach(actor{0x20, 0}, 2, two)
	l.mapPage(2, two, 0x10)
	l.mapPage(2, two, 0x200)
	l.attach(actor{0x118, 0}, 1, one)
	l.unmapPages([]vtd.Range{{Domain: 1, IOVA: 0x10_000, Size: 0x2000}, {Domain: 2, IOVA: 0x200_000, Size: 1}}, one, two)
	if mode == vtd.Scalable {
		l.livePASIDs(two)
	}
	l.attach(actor{0x98, 0}, 9, vtd.PassThrough)
	l.mapPage(1, one, 0x11)
	l.detach(actor{0x18, 0})
	l.attach(actor{0x18, 0}, 2, two)
	l.detach(actor{0x20, 0})
	delete(l.s.mapped[two.root], 0x10)
	l.step("invalidate domain", l.u.InvalidateDomain(2))
	if mode == vtd.Scalable {
		l.attach(actor{0x18, 1}, 3, stagedTable{fakeTable{l.root(2), 48}})
		l.mapPage(3, fakeTable{l.root(2), 48}, 0x11)
	}
	l.step("disable", l.u.Disable(t.Context()))
	clear(l.s.devices) // who disables translation has told the devices
	l.s.mapped[one.root][0x200] = true
	l.detach(actor{0x98, 0})
	if mode == vtd.Scalable {
		l.detach(actor{0x18, 1})
		l.attach(actor{0x18, 1}, 4, stagedTable{fakeTable{l.root(3), 48}})
	}
	l.attach(actor{0x20, 0}, 9, one) // with another domain id
	l.step("enable", l.u.Enable(t.Context()))
	l.detach(actor{0x118, 0})
	l.detach(actor{0x20, 0})
	l.detach(actor{0x18, 0})
	l.succeed(actor{0x98, 0}, 20, one, two)
	if mode == vtd.Scalable {
		l.detach(actor{0x18, 1})
		l.succeed(actor{0x98, 0}, 21, stagedTable{one}, stagedTable{fakeTable{l.root(2), 48}})
	}
	l.liveFlushes(t, fakeTable{l.root(4), 48}, actor{0x18, 0}, actor{0x20, 0})
	if mode == vtd.Scalable {
		l.liveFlushes(t, stagedTable{fakeTable{l.root(5), 48}}, actor{0x18, 1}, actor{0x18, 0}, actor{0x18, 100})
	}
	l.step("close", l.u.Close())
}

// liveFlushes begins flushes of a table that some devices have, two at once
// where the unit lets it.
func (l *life) liveFlushes(t testing.TB, table vtd.Table, actors ...actor) {
	b, err := l.u.BindTable(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range actors {
		l.attach(a, b.DomainID(), table)
	}
	mapped := l.s.mapped[table.Root().Bus]
	for _, page := range strictPages {
		mapped[page] = true
		l.step("publish", b.Publish(page<<12, 1))
	}
	first, err1 := l.unmapLater(b, mapped, 0x10)
	second, err2 := l.unmapLater(b, mapped, 0x11)
	for err2 == iommu.ErrBusy {
		if _, err := b.Done(first); err != nil {
			t.Fatal(err)
		}
		second, err2 = b.Begin(0x11_000, 0x1000, false)
	}
	err = errors.Join(err1, err2, awaited(b, first))
	l.gone(actors, 0x10)
	l.step("second flush", errors.Join(err, awaited(b, second)))
	delete(mapped, 0x200)
	third, err := b.Begin(0, 0, false)
	l.step("flush of a domain", errors.Join(err, awaited(b, third)))
	for _, a := range actors {
		l.detach(a)
	}
	l.step("close binding", b.Close())
}

func (l *life) unmapLater(b *vtd.Binding, mapped map[uint64]bool, page uint64) (iommu.Ticket, error) {
	delete(mapped, page)
	return b.Begin(page<<12, 0x1000, page == 0x10)
}

// awaited waits for a flush, unless the unit takes far longer than it may.
func awaited(b iommu.Binding, ticket iommu.Ticket) error {
	for range 100 * vtd.Looks {
		if done, err := b.Done(ticket); done || err != nil {
			return err
		}
	}
	return errNever
}

var errNever = errors.New("the flush is never done")

// gone says what is wrong if somebody still reaches a page.
func (l *life) gone(actors []actor, page uint64) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	for _, a := range actors {
		if root := l.s.reach(a, page); root != 0 {
			l.wrong = append(l.wrong, fmt.Sprintf("after its flush %+v reaches page %#x through %#x", a, page, root))
		}
	}
}

func (l *life) livePASIDs(second fakeTable) {
	first := stagedTable{fakeTable{l.root(2), 48}}
	l.attach(actor{0x18, 1}, 3, first)
	l.mapPage(3, first, 0x10)
	l.attach(actor{0x18, 100}, 2, second)
	l.attach(actor{0x20, 1}, 3, first)
	l.mapPage(3, first, 0x11)
	l.mapPage(2, second, 0x11)
	l.unmapPages([]vtd.Range{{Domain: 3, IOVA: 0x10_000, Size: 0x1000, LeavesOnly: true}}, first)
	l.detach(actor{0x18, 1})
	l.attach(actor{0x18, 1}, 4, vtd.PassThrough)
	l.detach(actor{0x18, 1})
	l.attach(actor{0x18, 1}, 5, stagedTable{fakeTable{l.root(3), 48}})
	l.mapPage(5, fakeTable{l.root(3), 48}, 0x10)
	l.detach(actor{0x18, 1})
	l.detach(actor{0x18, 100})
	l.detach(actor{0x20, 1})
}

// root is the bus address of something that serves as a table's root: any frame will do.
func (l *life) root(i uint64) uint64 { return firstBus + i*4096 }

// TestLives goes through a life on every kind of unit.
func TestLives(t *testing.T) {
	for _, set := range settings() {
		t.Run(strings.ReplaceAll(set.name, " ", "-"), func(t *testing.T) {
			l := newLife(t, set)
			l.live(t, set.mode)
			for _, w := range l.wrong {
				t.Error(w)
			}
			if err := errors.Join(l.u.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

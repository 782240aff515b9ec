package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"gommu/iommu"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// A bench is a rig with a driver on it, for one case.
type bench struct {
	ctx    context.Context
	mode   Mode
	rig    Rig
	traits Traits
	mem    *pagetable.Memory
	source *pagetable.FrameSource
	frames *respool.Pool[pagetable.Frame]
	unit   *vtd.Unit
	tables []*pagetable.Table
	data   pagetable.Segment
	dev    [2]Device
	pokes  []func()        // undo what was written by hand
	room   *iommu.Segments // of the rig, once a case wants it
	ends   []func() error
	errs   []error
}

const (
	page = pagetable.FrameSize
	both = pagetable.Read | pagetable.Write

	size2M = 2 << 20
	size1G = 1 << 30
)

// stop ends a case from within; perform catches it.
type stop struct{ err error }

func newBench(ctx context.Context, rig Rig, m Mode) (*bench, error) {
	b := &bench{ctx: ctx, mode: m, rig: rig, traits: rig.Traits(), data: rig.Data(), dev: rig.Devices()}
	var err error
	if b.mem, err = pagetable.NewMemory(rig.Tables()...); err != nil {
		return nil, err
	}
	b.source = b.mem.Frames()
	if b.frames, err = respool.New(ctx, b.source, respool.Options{Name: "frames", Low: 64}); err != nil {
		return nil, err
	}
	if err := b.open(rig.Registers(), vtd.Options{}); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// open opens the unit in the bench's mode, after closing the one that is open.
func (b *bench) open(regs vtd.Registers, opts vtd.Options) error {
	if b.unit != nil {
		if err := b.unit.Close(); err != nil {
			return err
		}
	}
	opts.Mode = b.mode.Unit()
	u, err := vtd.Open(regs, b.mem, b.frames, opts)
	if err != nil {
		return err
	}
	b.unit = u
	return nil
}

// perform runs the case and says what was wrong.
func (b *bench) perform(c Case) (err error) {
	noted := len(violations(b.rig))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			if why, ok := p.err.(Unavailable); ok && len(b.errs) == 0 {
				err = why
				return
			}
			b.errs = append(b.errs, p.err)
		default:
			panic(p)
		}
		err = errors.Join(b.errs...)
		if all := violations(b.rig); err == nil && !c.ruins && len(all) > noted {
			err = fmt.Errorf("the unit objects: %s", all[noted:])
		}
	}()
	c.run(b)
	return nil
}

// violations are what the rig's unit objects to, if it tells.
func violations(r Rig) []string {
	if v, ok := r.(interface{ Violations() []string }); ok {
		return v.Violations()
	}
	return nil
}

// close gives everything back. What does not come back is an error.
func (b *bench) close() error {
	var errs []error
	b.undo()
	for _, f := range slices.Backward(b.ends) {
		errs = append(errs, f())
	}
	wait := 10 * time.Second
	if b.unit != nil {
		if err := b.unit.Close(); err != nil {
			errs, wait = append(errs, err), 0 // it keeps its frames
		}
	}
	for _, t := range b.tables {
		errs = append(errs, t.Close())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), wait)
	defer cancel()
	errs = append(errs, b.frames.Close(ctx))
	if n := b.source.Outstanding(); n != 0 {
		errs = append(errs, fmt.Errorf("%d frames did not come back", n))
	}
	return errors.Join(errs...)
}

// later has close call f, before what was given to it earlier.
func (b *bench) later(f func() error) { b.ends = append(b.ends, f) }

// failf notes that something is wrong; the case goes on.
func (b *bench) failf(format string, args ...any) {
	if len(b.errs) < 5 {
		b.errs = append(b.errs, fmt.Errorf(format, args...))
	}
}

// fatalf ends the case.
func (b *bench) fatalf(format string, args ...any) { panic(stop{fmt.Errorf(format, args...)}) }

// skip ends the case without a verdict.
func (b *bench) skip(format string, args ...any) {
	panic(stop{Unavailable(fmt.Sprintf(format, args...))})
}

func (b *bench) must(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// table makes an empty table as the unit wants it; change may change that.
func (b *bench) table(change ...func(*pagetable.Options)) *pagetable.Table {
	opts, err := b.unit.TableOptions(b.mode.Stage())
	b.must(err)
	for _, f := range change {
		f(&opts)
	}
	t, err := pagetable.New(b.mem, b.frames, opts)
	b.must(err)
	b.tables = append(b.tables, t)
	return t
}

// attached is a table that device i has, with translation on.
func (b *bench) attached(i int, domain uint16, change ...func(*pagetable.Options)) *pagetable.Table {
	t := b.table(change...)
	b.attach(i, domain, t)
	b.enable()
	return t
}

func (b *bench) attach(i int, domain uint16, t vtd.Table) {
	b.must(b.unit.Attach(b.dev[i].Source(), domain, t))
}

func (b *bench) detach(i int) { b.must(b.unit.Detach(b.dev[i].Source())) }
func (b *bench) enable()      { b.must(b.unit.Enable(b.ctx)) }

// mapPage maps data page n, and lets the unit see it.
func (b *bench) mapPage(t *pagetable.Table, domain uint16, iova uint64, n int) {
	b.mapRange(t, domain, iova, b.bus(n), page, both)
}

func (b *bench) mapRange(t *pagetable.Table, domain uint16, iova, bus, size uint64, prot pagetable.Prot) {
	b.must(t.Map(iova, bus, size, prot))
	b.must(b.unit.Publish(domain, iova, size))
}

// unmap takes a range out of the table without telling the unit.
func (b *bench) unmap(t *pagetable.Table, iova, size uint64) *pagetable.Batch {
	var batch pagetable.Batch
	n, err := t.Unmap(iova, size, &batch)
	b.must(err)
	if n != size {
		b.fatalf("unmap removed %#x of %#x bytes at %#x", n, size, iova)
	}
	return &batch
}

// bus is the bus address of data page n, of which there are 512.
func (b *bench) bus(n int) uint64 { return b.data.Bus + uint64(n)*page }

// at is n bytes of data memory.
func (b *bench) at(bus uint64, n int) []byte { return b.data.Mem[bus-b.data.Bus:][:n] }

// random fills n bytes of data memory, none of them zero, and returns a copy.
func (b *bench) random(bus uint64, n int) []byte {
	mem := b.at(bus, n)
	rand.Read(mem)
	for i := range mem {
		mem[i] |= 1
	}
	return bytes.Clone(mem)
}

func (b *bench) read(i int, iova uint64, n int)  { b.must(b.dev[i].Read(b.ctx, iova, n)) }
func (b *bench) write(i int, iova uint64, n int) { b.must(b.dev[i].Write(b.ctx, iova, n)) }

const probe = 64 // bytes of a transfer that is to show where it goes

// reaches says whether a write of device i to iova changes memory at bus. The
// fault records that this may make are left.
func (b *bench) reaches(i int, iova, bus uint64) bool {
	return b.reachesBy(func() { b.write(i, iova, probe) }, bus)
}

func (b *bench) reachesBy(write func(), bus uint64) bool {
	before := b.random(bus, probe)
	write()
	return !bytes.Equal(b.at(bus, probe), before)
}

// expect checks whether device i reaches bus through iova.
func (b *bench) expect(i int, iova, bus uint64, want bool, when string) {
	if got := b.reaches(i, iova, bus); got != want {
		b.failf("%s: device %d reaches %#x through iova %#x: %t, want %t", when, i, bus, iova, got, want)
	}
}

// copies checks that device i moves n random bytes between IOVAs that lead to
// the given places, and nothing beside them.
func (b *bench) copies(i int, from, fromBus, to, toBus uint64, n int) {
	want := b.random(fromBus, n)
	b.random(toBus, n)
	b.read(i, from, n)
	b.write(i, to, n)
	if !bytes.Equal(b.at(toBus, n), want) {
		b.failf("%d bytes from iova %#x to %#x did not arrive", n, from, to)
	}
	b.noFaults()
}

// holdsZeros checks that the first n bytes that device i read are zeros, by
// having it write them through iova, which leads to bus.
func (b *bench) holdsZeros(i int, iova, bus uint64, n int, what string) {
	b.random(bus, n)
	b.write(i, iova, n)
	if got := b.at(bus, n); !bytes.Equal(got, make([]byte, n)) {
		b.failf("%s: the device has bytes that it was not allowed to read: % x …", what, got[:min(n, 16)])
	}
}

// A blocked is what is compared of a fault: units differ in whether DMA without
// a PASID is reported with the PASID that stands for it.
type blocked struct {
	reason vtd.Reason // by the specification
	dev    int
	iova   uint64
	write  bool
}

// recorded is the fault as this unit records it.
func (b *bench) recorded(f blocked) vtd.Fault {
	r, why := f.reason, ""
	if b.traits.Record != nil {
		r, why = b.traits.Record(f.reason, f.write)
	}
	if why != "" {
		b.skip("%s", why)
	}
	return vtd.Fault{Reason: r, Source: b.dev[f.dev].Source(), IOVA: f.iova &^ (page - 1), Write: f.write}
}

// faults checks what the unit has recorded since the last call.
func (b *bench) faults(want ...blocked) {
	var expected []vtd.Fault
	for _, f := range want {
		expected = append(expected, b.recorded(f))
	}
	b.faultsAre(expected)
}

// faultsAre is faults for those who know what the unit records.
func (b *bench) faultsAre(want []vtd.Fault) {
	got, lost := b.drain()
	if lost {
		b.failf("the unit lost faults")
	}
	b.sameFaults(got, want)
}

func (b *bench) sameFaults(got, want []vtd.Fault) {
	for i := range got {
		got[i] = vtd.Fault{Reason: got[i].Reason, Source: got[i].Source, IOVA: got[i].IOVA, Write: got[i].Write}
	}
	if !slices.Equal(got, want) {
		b.failf("faults recorded %v, want %v", got, want)
	}
}

func (b *bench) noFaults() { b.faults() }

// drain takes what the unit has recorded.
func (b *bench) drain() ([]vtd.Fault, bool) {
	f, lost, err := b.unit.Faults()
	b.must(err)
	return f, lost
}

// absent is the fault of an access to an IOVA that is not mapped, or for which
// the entries above a leaf forbid it.
func (b *bench) absent(i int, iova uint64, write bool) blocked {
	r := vtd.ReasonNoRead
	switch {
	case b.mode == ScalableFirst:
		r = 0x71
	case b.mode == ScalableSecond:
		r = 0x79
	case write:
		r = vtd.ReasonNoWrite
	}
	return blocked{r, i, iova, write}
}

// denied is the fault of an access that a leaf forbids.
func (b *bench) denied(i int, iova uint64, write bool) blocked {
	f := b.absent(i, iova, write)
	if b.mode != Legacy {
		f.reason = 0x86
		if write {
			f.reason = 0x85
		}
	}
	return f
}

// top is an IOVA in the last GiB but one of the table's lower half or whole, so
// that every level counts.
func top(t *pagetable.Table) uint64 {
	width := t.AddressWidth()
	if t.Stage() == pagetable.FirstStage {
		width--
	}
	return 1<<width - 2*size1G + 0x123_4000
}

// rounds is how often to do something that does n transfers each time.
func (b *bench) rounds(want int) int {
	if b.traits.SlowDMA {
		return min(want, 3)
	}
	return want
}

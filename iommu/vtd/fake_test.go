package vtd_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// CAP and ECAP of QEMU's unit, 48 bits, and bits to add.
const (
	qemuCap  = 0x00d2008c222f0606
	qemuEcap = 0x00f00f4a

	capRWBF = 1 << 4
	capPLMR = 1 << 5
	capCM   = 1 << 7
	capPSI  = 1 << 39
	ecapQI  = 1 << 1
)

// A fakeUnit is a register file that obeys, unless told not to. It walks no
// tables; QEMU is for that.
//
//gommu:maysleep it locks and keeps a log
type fakeUnit struct {
	mu  sync.Mutex
	mem *pagetable.Memory
	lag int // how often the driver looks before the queue runs
	due int

	version           uint32
	capability, extra uint64 // CAP, ECAP
	status            uint32 // GSTS
	told              uint32 // GCMD as written last
	fault             uint32 // FSTS
	pmen              uint32
	event             [4]uint32 // FECTL and up
	rtaddr            uint64
	queue, head, tail uint64
	record            uint64 // IQERCD
	context, iotlb    uint64 // CCMD, IOTLB
	address           uint64 // IVA
	records           map[int][2]uint64

	stuck    map[string]bool // what never completes
	refuse   bool            // invalidations through registers are not performed
	badType  uint64          // a descriptor type that stops the queue, with:
	badFault uint32
	refuses  func(low, high uint64) bool // descriptors that the queue stops at
	silent   map[uint16]bool             // devices that do not answer invalidations of their TLBs
	accesses int
	stickAt  int // number of the access from which nothing is finished
	goneAt   int // number of the access from which all reads are ones; 0 is never

	strict *strict // what it has cached, if that is modelled
	late   func()  // what is in front of a wait without a fence, and its status write

	lenient bool // accesses to registers and descriptors that there are not are no mistake
	quiet   bool
	log     []string // what the driver did, in order
	watch   func()   // called before each line of the log
}

func newFake() *fakeUnit {
	return &fakeUnit{version: 0x10, capability: qemuCap, extra: qemuEcap, stuck: map[string]bool{}, records: map[int][2]uint64{}}
}

func (f *fakeUnit) note(format string, args ...any) {
	if f.watch != nil {
		f.watch()
	}
	if !f.quiet {
		f.log = append(f.log, fmt.Sprintf(format, args...))
	}
}

// mistake is something that no driver does on an honest unit.
func (f *fakeUnit) mistake(format string, args ...any) {
	if !f.lenient {
		panic(fmt.Sprintf(format, args...))
	}
}

// access counts, and says whether the unit is still there.
func (f *fakeUnit) access() bool {
	if f.accesses++; f.accesses == f.stickAt {
		for _, what := range everythingStuck {
			f.stuck[what] = true
		}
	}
	if f.due > 0 {
		if f.due--; f.due == 0 {
			f.run()
		}
	}
	f.finishLate()
	f.strict.pump()
	return f.goneAt == 0 || f.accesses < f.goneAt
}

func (f *fakeUnit) Read32(off uint64) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.access() {
		return ^uint32(0)
	}
	switch off {
	case 0x00:
		return f.version
	case 0x1c:
		return f.status
	case 0x34:
		fault := f.fault
		if len(f.records) > 0 {
			fault |= 2
		}
		return fault
	case 0x64:
		return f.pmen
	}
	f.mistake("4-byte read of register %#x", off)
	return 0
}

func (f *fakeUnit) Read64(off uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.access() {
		return ^uint64(0)
	}
	switch off {
	case 0x08:
		return f.capability
	case 0x10:
		return f.extra
	case 0x28:
		return f.context
	case 0x20:
		return f.rtaddr
	case 0x80:
		return f.head * f.descriptor()
	case 0x88:
		return f.tail * f.descriptor()
	case 0x90:
		return f.queue
	case 0xb0:
		return f.record
	case 0xf8:
		return f.iotlb
	}
	if i, half := int(off-0x220)/16, off>>3&1; off >= 0x220 && i < 256 {
		return f.records[i][half]
	}
	f.mistake("8-byte read of register %#x", off)
	return 0
}

func (f *fakeUnit) Write32(off uint64, v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.access() {
		return
	}
	switch off {
	case 0x18:
		f.command(v)
	case 0x34:
		f.note("clear faults %#x", v&f.fault)
		f.fault &^= v & 0x71
	case 0x38, 0x3c, 0x40, 0x44:
		f.note("event %#x %#x", off, v)
		f.event[(off-0x38)/4] = v
	case 0x64:
		f.note("PMEN %#x", v)
		f.pmen = v & (1 << 31)
		if v&(1<<31) != 0 || f.stuck["PMEN"] {
			f.pmen |= 1
		}
	default:
		if i := int(off-0x220) / 16; off >= 0x220 && i < 256 && off&0xf == 0xc && v == 1<<31 {
			f.note("clear record %d", i)
			delete(f.records, i)
			return
		}
		f.mistake("4-byte write of register %#x", off)
	}
}

// command is GCMD: one bit may change.
func (f *fakeUnit) command(v uint32) {
	f.told = v
	for _, c := range []struct {
		bit  uint32
		name string
	}{{1 << 31, "TE"}, {1 << 26, "QIE"}, {1 << 30, "SRTP"}, {1 << 27, "WBF"}} {
		on, was := v&c.bit != 0, f.status&c.bit != 0
		if c.name == "SRTP" || c.name == "WBF" {
			if !on {
				continue
			}
			was = false
		}
		if on == was {
			continue
		}
		f.note("%s %v", c.name, on)
		switch c.name {
		case "WBF":
			f.strict.drain()
		case "QIE":
			f.due = 0
		}
		switch {
		case f.stuck[c.name] && c.name == "WBF":
			f.status |= c.bit
		case f.stuck[c.name], c.name == "WBF":
		case on:
			f.status |= c.bit
		default:
			f.status &^= c.bit
		}
		if c.name == "QIE" && !f.stuck["QIE"] {
			f.head = 0
		}
	}
}

func (f *fakeUnit) Write64(off uint64, v uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.access() {
		return
	}
	switch off {
	case 0x20:
		f.note("RTADDR %d", v>>10&3)
		f.rtaddr = v
	case 0x28:
		f.note("context %d did %d sid %#x", v>>61&3, v&0xffff, v>>16&0xffff)
		if f.strict != nil && !f.stuck["CCMD"] && !f.refuse {
			f.strict.contexts(v>>61&3, uint16(v>>16))
		}
		f.context = f.performed("CCMD", v, 61, 59)
	case 0x88:
		f.tail = v / f.descriptor()
		if f.due = f.lag; f.lag == 0 {
			f.run()
		}
	case 0x90:
		f.note("IQA")
		f.queue = v
	case 0xf0:
		f.address = v
	case 0xf8:
		g := v >> 60 & 3
		f.note("iotlb %d did %d drain %d", g, v>>32&0xffff, v>>48&3)
		if g == 3 {
			f.note("pages %#x", f.address)
		}
		if f.strict != nil && !f.stuck["IOTLB"] && !f.refuse {
			f.strict.iotlb(g, uint16(v>>32), f.address)
		}
		f.iotlb = f.performed("IOTLB", v, 60, 57)
	default:
		f.mistake("8-byte write of register %#x", off)
	}
}

// performed is a command register after the command v.
func (f *fakeUnit) performed(name string, v uint64, asked, done int) uint64 {
	switch {
	case f.stuck[name]:
		return v
	case f.refuse:
		return v &^ (1 << 63)
	default:
		return v&^(1<<63) | v>>asked&3<<done
	}
}

// descriptor is the size of one in bytes.
func (f *fakeUnit) descriptor() uint64 {
	if f.queue>>11&1 != 0 {
		return 32
	}
	return 16
}

// run is the queue.
func (f *fakeUnit) run() {
	if f.status&(1<<26) == 0 || f.stuck["queue"] {
		return
	}
	size := f.descriptor()
	if f.lenient && (f.mem.Entries(pagetable.Frame{Bus: f.queue &^ 0xfff}) == nil || f.tail >= 4096/size || f.head >= 4096/size) {
		return
	}
	ring, length := f.mem.Entries(pagetable.Frame{Bus: f.queue &^ 0xfff}), 4096/size
	var group []func() // what may be done in any order
	flush := func() {
		for i := len(group) - 1; i >= 0; i-- {
			group[i]()
			f.strict.pump()
		}
		group = nil
	}
	defer flush()
	for f.head != f.tail && f.fault&0x70 == 0 {
		d := ring[f.head*size/8:][:size/8]
		low, high := d[0], d[1]
		if f.stops(low) {
			return
		}
		if f.refuses != nil && f.refuses(low, high) {
			f.fault |= 0x10
			f.record = 3
			return
		}
		if source, ok := f.silentDevice(low); ok {
			f.timeOut(source, ring[:], size)
			return
		}
		if size == 32 && d[2]|d[3] != 0 {
			f.mistake("reserved words %#x of a descriptor are set", d[2]|d[3])
		}
		if low&0xf == 5 && low&(1<<6) == 0 && f.late == nil && f.strict != nil {
			f.postpone(group, low, high)
			group = nil
		} else if low&0xf == 5 {
			flush()
			f.complete(low, high)
		} else {
			do := f.invalidation(low, high)
			if f.strict != nil {
				group = append(group, do)
			}
		}
		f.head = (f.head + 1) % length
	}
}

// complete is the status write of a wait.
func (f *fakeUnit) complete(low, high uint64) {
	if e := f.mem.Entries(pagetable.Frame{Bus: high &^ 0xfff}); e != nil || !f.lenient {
		atomic.StoreUint64(&e[high&0xfff/8], low>>32)
	}
}

func (f *fakeUnit) postpone(group []func(), low, high uint64) {
	f.late = func() {
		for i := len(group) - 1; i >= 0; i-- {
			group[i]()
			f.strict.pump()
		}
		f.complete(low, high)
	}
}

// finishLate does what a wait without a fence let others overtake.
func (f *fakeUnit) finishLate() {
	if do := f.late; do != nil {
		f.late = nil
		do()
	}
}

// stops says whether the queue stops at a descriptor, once.
func (f *fakeUnit) stops(low uint64) bool {
	if f.badType == 0 || low&0xf != f.badType {
		return false
	}
	length := 4096 / f.descriptor()
	f.fault |= f.badFault
	switch f.badFault {
	case 0x10: // only a bad descriptor holds the head
	case 0x40: // and a time-out also ends the waits that were fetched
		f.head = (f.head + 2) % length
	default:
		f.head = (f.head + 1) % length
	}
	f.badType = 0
	return true
}

// silentDevice says whether a descriptor is for the TLB of a device that does not
// answer.
func (f *fakeUnit) silentDevice(low uint64) (uint16, bool) {
	source := uint16(low >> 32)
	if low&0xf == 8 {
		source = uint16(low >> 16)
	}
	return source, (low&0xf == 3 || low&0xf == 8) && f.silent[source]
}

// timeOut is a device that does not answer: what follows up to a wait is fetched
// and comes to nothing.
func (f *fakeUnit) timeOut(source uint16, ring []uint64, size uint64) {
	f.fault |= 0x40
	f.record = uint64(source) << 32
	for f.head != f.tail {
		wait := ring[f.head*size/8]&0xf == 5
		f.head = (f.head + 1) % (4096 / size)
		if wait {
			return
		}
	}
}

// invalidation is what a descriptor does.
func (f *fakeUnit) invalidation(low, high uint64) func() {
	g, did := low>>4&3, uint16(low>>16)
	if f.quiet && f.strict == nil {
		return nil // and allocate nothing
	}
	pages := func() {
		if g == 3 {
			f.note("pages %#x", high)
		}
	}
	switch low & 0xf {
	case 1:
		f.note("context %d did %d sid %#x", g, did, low>>32&0xffff)
		return func() { f.strict.contexts(g, uint16(low>>32)) }
	case 2:
		f.note("iotlb %d did %d drain %d", g, did, low>>6&3)
		pages()
		return func() { f.strict.iotlb(g, did, high) }
	case 3:
		f.note("device sid %#x depth %d pages %#x", low>>32&0xffff, low>>16&0x1f, high)
		return func() { f.strict.deviceTLB(actor{uint16(low >> 32), 0}, high, 1) }
	case 8:
		f.note("device sid %#x pasid %#x depth %d pages %#x", low>>16&0xffff, low>>32&0xfffff, low>>4&0x1f, high)
		return func() { f.strict.deviceTLB(actor{uint16(low >> 16), uint32(low >> 32 & 0xfffff)}, high, 1<<11) }
	case 4:
		f.note("interrupts %d index %d mask %d", low>>4&1, low>>32&0xffff, low>>27&0x1f)
		return func() {}
	case 6:
		f.note("iotlb %d did %d pasid %#x", g, did, low>>32&0xfffff)
		pages()
		return func() { f.strict.pasidIOTLB(g, did, uint32(low>>32&0xfffff), high) }
	case 7:
		f.note("pasid %d did %d pasid %#x", g, did, low>>32&0xfffff)
		return func() { f.strict.pasids(g, did, uint32(low>>32&0xfffff)) }
	}
	f.mistake("descriptor %#x", low)
	return func() {}
}

// unstick lets the unit go on and finish what it was told.
func (f *fakeUnit) unstick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.stuck)
	f.context = f.performed("", f.context, 61, 59)
	f.iotlb = f.performed("", f.iotlb, 60, 57)
	f.status &^= 1 << 27
	f.run()
}

// A bench is a fake unit with memory and a pool of 16 frames.
type bench struct {
	*fakeUnit
	source *pagetable.FrameSource
	frames *respool.Pool[pagetable.Frame]
	held   []pagetable.Frame
}

const (
	poolFrames = 16
	firstBus   = 0x10_0000 // bus address of the first
)

func newBench(t testing.TB) *bench {
	t.Helper()
	const bus = firstBus
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: bus, Mem: pages(poolFrames)})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{fakeUnit: newFake(), source: mem.Frames()}
	b.mem = mem
	opts := respool.Options{Low: poolFrames, High: poolFrames, Max: poolFrames}
	if b.frames, err = respool.New(t.Context(), b.source, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range b.held {
			b.frames.Put(f)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := b.frames.Close(ctx); err != nil {
			t.Error(err)
		}
		for i := range uint64(poolFrames) {
			if e := mem.Entries(pagetable.Frame{Bus: bus + i*pagetable.FrameSize}); *e != [512]uint64{} {
				t.Errorf("frame %d came back with something in it", i)
			}
		}
		if n := b.source.Outstanding(); n != 0 {
			t.Errorf("%d frames did not come back", n)
		}
	})
	return b
}

// leave takes frames away until n are left.
func (b *bench) leave(t testing.TB, n int) {
	t.Helper()
	for b.frames.Stats().Free > n {
		f, err := b.frames.Get()
		if err != nil {
			t.Fatal(err)
		}
		b.held = append(b.held, f)
	}
}

func (b *bench) open(t testing.TB, opts vtd.Options) *vtd.Unit {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = time.Minute // only turns a hang into a failure
	}
	u, err := vtd.Open(b, b.mem, b.frames, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.unstick()
		if err := u.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return u
}

// shortly makes the driver give up soon, for units that are stuck.
func shortly(opts vtd.Options) vtd.Options {
	opts.Timeout = 5 * time.Millisecond
	return opts
}

func (b *bench) enabled(t testing.TB, opts vtd.Options) *vtd.Unit {
	t.Helper()
	u := b.open(t, opts)
	if err := u.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.log = nil
	return u
}

// fakeTable is a table that need not make sense.
type fakeTable struct {
	root  uint64
	width int
}

func (f fakeTable) Root() pagetable.Frame { return pagetable.Frame{Bus: f.root} }
func (f fakeTable) AddressWidth() int     { return f.width }
func (fakeTable) Stage() pagetable.Stage  { return pagetable.SecondStage }

var goodTable = fakeTable{0x10_0000, 48}

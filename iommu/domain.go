package iommu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/iommu/iova"
	"gommu/pagetable"
	"gommu/respool"
)

// A Domain is one I/O address space, shared by the devices that are attached. The package comment says
// which of its methods sleep. Make one with New or NewPremapped, and close it.
type Domain struct {
	opts    Options
	mem     Memory
	table   *pagetable.Table // nil if premapped
	frames  *respool.Pool[pagetable.Frame]
	space   *iova.Space    // nil if premapped
	always  pagetable.Prot // what every leaf has
	top     uint64         // the highest IOVA that is handed out
	salt    uint32         // added to generations, so that another domain's mappings are not taken for this one's
	records []record
	quick   bool // premapped, and nothing is to be flushed: see quick.go
	owned   int  // of the records, so many are the shards' own
	shards  []shard
	extra   *respool.Pool[uint32] // numbers of records without a window
	slots   *respool.Pool[uint32] // of batches
	batches []pagetable.Batch
	errs    hotErrors
	check   *ledger // nil without Options.Check
	subject subject

	regions regionTable
	rings   atomic.Pointer[[]*Ring] // by number less 1; nil where one was closed
	closed  atomic.Bool
	_       [cacheline.Size]byte

	flusher flusher
	strays  atomic.Int32  // calls inside that have no shard
	strayed atomic.Uint32 // what these have unmapped since the worker's last look, linked by record.next
	late    atomic.Uint32 // records of windows that somebody who may sleep gives back

	premapped *premapped  // nil with tables
	bounce    *bouncer    // nil without bounce buffers
	reaping   sync.Mutex  // of who closes regions for others
	reapable  atomic.Bool // there are such

	holds  sync.Mutex
	unheld map[unheld]*pagetable.Batch

	sweeper sweeper
	stop    context.CancelFunc
	stopped chan struct{}

	life    sync.Mutex // of Attach, Detach, Close
	devices []Device
	gone    bool
}

// hotErrors are what calls that do not sleep answer in the ordinary run, made beforehand.
type hotErrors struct {
	closed, flush, mapFlush, gone error
}

const (
	defaultMappings = 1 << 16
	maxMappings     = 1 << 22
	extraOfTables   = 1 << 12 // records for lists that lie in several regions
	batchSlots      = 1 << 10 // unmaps of 2 MiB and more that wait for a flush, or are live
)

// domains counts those that were made.
var domains atomic.Uint32

// New returns an empty domain whose tables this process writes. It blocks.
func New(ctx context.Context, mem Memory, t Tables, opts Options) (*Domain, error) {
	d, err := newDomain(mem, opts)
	if err == nil {
		err = d.open(ctx, t)
	}
	if err != nil {
		return nil, &OpError{Op: opNew, Domain: opts.Name, Err: err}
	}
	return d, nil
}

// newDomain is what both kinds of domains have.
func newDomain(mem Memory, opts Options) (*Domain, error) {
	opts, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	if mem == nil {
		return nil, fmt.Errorf("%w: memory must be given", ErrOptions)
	}
	number := domains.Add(1)
	d := &Domain{opts: opts, mem: mem, salt: number * 0x9e3779b9, stopped: make(chan struct{})}
	d.subject.number = uint64(number)
	d.subject.attached(nil)
	d.flusher.subject = &d.subject
	d.rings.Store(new([]*Ring))
	d.regions.init()
	if opts.Check {
		d.check = newLedger()
	}
	d.flusher.bindings.Store(new([]*bound))
	name := opts.Name
	d.errs = hotErrors{
		closed:   &OpError{Op: opMap, Domain: name, Err: ErrClosed},
		flush:    &OpError{Op: opUnmap, Domain: name, Err: ErrFlush},
		gone:     &OpError{Op: opMapSG, Domain: name, Err: ErrNotRegistered},
		mapFlush: &OpError{Op: opMap, Domain: name, Err: ErrFlush},
	}
	return d, nil
}

// open makes the parts of a domain with tables.
func (d *Domain) open(ctx context.Context, t Tables) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release(context.WithoutCancel(ctx)))
		}
	}()
	if t.Frames == nil || t.Memory == nil {
		return fmt.Errorf("%w: the memory and the pool of frames must be given", ErrOptions)
	}
	if d.table, err = pagetable.New(t.Memory, t.Frames, t.Table); err != nil {
		return err
	}
	d.frames, d.unheld = t.Frames, map[unheld]*pagetable.Batch{}
	width := d.table.AddressWidth()
	if d.table.Stage() == pagetable.FirstStage {
		d.always = pagetable.Read
		width--
	}
	d.top = min(d.opts.Mask, 1<<width-1)
	if err := d.openSpace(ctx); err != nil {
		return err
	}
	if err := d.start(ctx, d.windows(), extraOfTables); err != nil || !d.opts.Bounce.On {
		return err
	}
	return d.openBounce(ctx)
}

// openSpace makes the windows.
func (d *Domain) openSpace(ctx context.Context) (err error) {
	o := iova.Options{
		Name: d.opts.Name, Ranges: []iova.Range{{Start: pageSize, Last: d.top}}, MaxWindows: d.windows(),
		Guard: d.opts.Guard, Random: d.opts.Random, Prepare: d.hold, Retire: d.unhold,
	}
	for _, r := range d.opts.Reserved {
		o.Reserved = append(o.Reserved, iova.Range(r))
	}
	if d.opts.Flush.Policy == Batched {
		for k := range smallClasses {
			o.Stock[k].Low = min(waitingStock*d.opts.Flush.Count, d.opts.MaxMappings/8) + 1
		}
	}
	if d.space, err = iova.New(ctx, o); errors.Is(err, iova.ErrBadOptions) {
		err = fmt.Errorf("%w: Mask, Reserved or MaxMappings: %w", ErrOptions, err)
	}
	return err
}

// Windows that wait for a flush are not there for others, so of the smallest classes more are kept ready, as many
// as some processors can have waiting.
const (
	smallClasses = 5 // up to 64 KiB
	waitingStock = 4 // in Flush.Counts
)

// windows is how many windows there may be: the mappings, and what the pools and processors keep ready.
func (d *Domain) windows() int { return 2 * d.opts.MaxMappings }

// start makes the records, of which the first so many have windows, the shards and the worker.
func (d *Domain) start(ctx context.Context, windows, extra int) (err error) {
	d.records = make([]record, 1+windows+extra)
	if d.extra, err = respool.New(ctx, &counter{next: uint32(windows)}, fixed(d.opts.Name+" records", extra)); err != nil {
		return err
	}
	slots := min(d.opts.MaxMappings, batchSlots)
	d.batches = make([]pagetable.Batch, slots)
	if d.slots, err = respool.New(ctx, &counter{next: ^uint32(0)}, fixed(d.opts.Name+" batches", slots)); err != nil {
		return err
	}
	d.newShards()
	d.sweeper = sweeper{turn: make(chan struct{}, 1), seen: make([]uint64, len(d.shards))}
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	go d.work(ctx)
	return nil
}

// A counter is a source of numbers, from the one after next on.
type counter struct {
	mu   sync.Mutex
	next uint32
}

func (c *counter) Alloc(context.Context) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return c.next, nil
}

func (c *counter) Free(uint32) error { return nil }

// fixed are the options of a pool that has n elements for good.
func fixed(name string, n int) respool.Options {
	return respool.Options{Name: name, Min: n, Low: 1, High: 1, Max: n}
}

// Premapped says what the domain isolates: false, and a device reaches what is
// mapped at this moment (and, within the window of Flush, what was); true, and it reaches all
// that is registered, in the direction that it was registered for.
func (d *Domain) Premapped() bool { return d.table == nil }

// Live lists the live mappings, for reports. It may be called at any time: a mapping that
// comes or goes meanwhile is in the list or not.
func (d *Domain) Live() []Mapping {
	var all []Mapping
	for i := range d.records {
		if m, ok := d.live(uint32(i)); ok {
			all = append(all, m)
		}
	}
	return all
}

// live is the mapping of a record, if it is live. What was read of it belongs together if the state
// has not changed: the swap is for the order, on processors where loads have none.
func (d *Domain) live(n uint32) (Mapping, bool) {
	r := &d.records[n]
	s := r.state.Load()
	if phaseOf(s) != phaseLive {
		return Mapping{}, false
	}
	m := Mapping{iova: r.iova.get(), size: r.size.get(), number: n, generation: uint32(s>>generationShift) + d.salt}
	return m, r.state.CompareAndSwap(s, s)
}

// census counts the records that are not free, of a region or, with region 0, of all.
func (d *Domain) census(region uint32) (live, mapping, unmapping int) {
	for i := range d.records {
		s := d.records[i].state.Load()
		if region != 0 && regionOf(s) != region {
			continue
		}
		switch phaseOf(s) {
		case phaseLive:
			live++
		case phaseMapping:
			mapping++
		case phaseUnmapping:
			unmapping++
		}
	}
	return live, mapping, unmapping
}

// grace returns when all that were pinned when it was called are so no more: a pinned goroutine
// does not let the world stop.
func (d *Domain) grace() {
	if len(d.shards) == 0 {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for i := range d.shards {
		d.shards[i].guard.pass()
	}
}

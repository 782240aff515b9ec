package iova

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"gommu/respool"
)

// A Range is I/O virtual addresses from Start to Last, both included.
type Range struct{ Start, Last uint64 }

// interrupts is where a write is an interrupt and is not translated: never a window.
var interrupts = Range{0xfee00000, 0xfeefffff}

// Defaults.
const (
	defaultWindows = 1 << 16
	defaultCache   = 64
)

// defaultRange is what every VT-d unit can walk, in either stage, less the lowest MiB.
var defaultRange = Range{1 << 20, 1<<39 - 1}

// A Stock says how many windows of a class are kept, as the fields of the same names in
// respool.Options. A zero field takes its default.
type Stock struct {
	// Low is the number ready that the class is kept at, High the number up to which it is filled.
	Low, High int

	// Max is how many of the class exist at most. respool.None is a class without windows: a request
	// for its size gets one of the next class that has some.
	Max int
}

// Options configure a Space. The zero Options are a space of 39 bits without hooks.
type Options struct {
	// Name stands in errors.
	Name string

	// Ranges are the usable addresses, as a unit's width or a kernel's list gives them; they may overlap. What is
	// no whole page of 4096 bytes is left out. Default 1 MiB to 2^39-1, which every unit can walk in either stage.
	Ranges []Range

	// Reserved are taken out of Ranges: RMRRs, windows of bridges. Page 0 and 0xfee00000 to 0xfeefffff, where
	// writes are interrupts, always are.
	Reserved []Range

	// Below is the highest address and one that is handed out: 1<<32 for a device that has 32 address lines. 0 is no limit.
	Below uint64

	// MaxWindows bounds the windows that exist at a time, those that are ready and those in caches and rings among them,
	// and so their numbers. Each takes 64 bytes. Default 65536; at most 8388608.
	MaxWindows int

	// Guard leaves a page behind each window that is never part of one, so that a device that runs over the end
	// of its window faults. A request for n bytes then takes the class of n bytes and a page: 4 KiB
	// take 8 KiB, of which Window.Size does not count the last page.
	Guard bool

	// Random puts chunks and large windows at random places and hands out the windows of a chunk
	// in a random order, from Seed, or from the system's randomness if that is 0. It makes
	// addresses harder to guess, no more: addresses are used again soon and their lowest bits are those of
	// their class. Chunks that lie far apart need a directory each.
	Random bool
	Seed   uint64

	// Prepare is called before a block is first used by windows smaller than it: blocks of 2 MiB are level 0, those of 1 GiB level 1,
	// both aligned to their size. A block that a single window covers from end to end is not prepared, since
	// a superpage may map it. So with Prepare building and holding the leaf table (level 0) and
	// the directory of leaf tables (level 1) of the block, a Map in a window smaller than 2 MiB finds all tables in place.
	// Of the block, what is reserved or not in Ranges is never handed out.
	//
	// Retire is called when no window is left in a block for which Prepare returned nil. Nothing of the
	// block is handed out before it has returned nil; after an error it is called again later, and by Close.
	//
	// Both may sleep. They are called from New, Close, the pools' workers, AllocWait, FreeWait, NewRing and
	// Ring.Close, for different blocks at once; for one block in turns. Prepare of a level 0 block comes after that of its
	// area, Retire before. They must not call the Space.
	Prepare func(ctx context.Context, level int, iova, size uint64) error
	Retire  func(level int, iova, size uint64) error

	// Stock is how much is kept of each class. By default it is the more the smaller the class is, 256 windows of 4 KiB
	// and one of 16 MiB and more, and no more than a 256th of the space or a 64th of MaxWindows for each class; classes
	// of which fewer than 64 fit into the space have no windows, AllocWait serves these.
	Stock [Classes]Stock

	// IdleAfter and MinAge say how soon windows that nobody needs go back to the range they are from, as in
	// respool.Options. Defaults 1 s and 10 s.
	IdleAfter, MinAge time.Duration
}

// usable is the free space to start with, in order.
func (o *Options) usable() ([]run, error) {
	ranges := o.Ranges
	if ranges == nil {
		ranges = []Range{defaultRange}
	}
	var runs []run
	for _, r := range slices.Concat(ranges, o.Reserved) {
		if r.Last < r.Start {
			return nil, fmt.Errorf("%w: range %#x to %#x ends before it begins", ErrBadOptions, r.Start, r.Last)
		}
	}
	below := uint64(math.MaxUint64)>>pageBits + 1
	if o.Below != 0 {
		below = o.Below >> pageBits
	}
	for _, r := range ranges {
		whole := run{r.Start>>pageBits + min(r.Start&(PageSize-1), 1), min((r.Last>>pageBits)+(r.Last&(PageSize-1)+1)>>pageBits, below)}
		if whole.from = max(whole.from, 1); whole.from < whole.to {
			runs = append(runs, whole)
		}
	}
	runs = merged(runs)
	for _, r := range append(slices.Clone(o.Reserved), interrupts) {
		runs = without(runs, run{r.Start >> pageBits, r.Last>>pageBits + 1})
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("%w: Ranges less what is reserved and what is not below %#x leave no page", ErrBadOptions, o.Below)
	}
	return runs, nil
}

// merged is runs in order, with those that overlap or touch made one.
func merged(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.from, b.from) })
	var all []run
	for _, r := range runs {
		if k := len(all) - 1; k >= 0 && r.from <= all[k].to {
			all[k].to = max(all[k].to, r.to)
			continue
		}
		all = append(all, r)
	}
	return all
}

// without is runs less what is in r.
func without(runs []run, r run) []run {
	var left []run
	for _, have := range runs {
		for _, part := range []run{{have.from, min(have.to, r.from)}, {max(have.from, r.to), have.to}} {
			if part.from < part.to {
				left = append(left, part)
			}
		}
	}
	return left
}

// check replaces what is not set by defaults, in a space of so many pages.
func (o *Options) check(pages uint64) error {
	if o.MaxWindows < 0 || o.MaxWindows > maxWindows {
		return fmt.Errorf("%w: MaxWindows is %d: use 1 to %d, or leave it zero for the default", ErrBadOptions, o.MaxWindows, maxWindows)
	}
	if o.MaxWindows == 0 {
		o.MaxWindows = defaultWindows
	}
	if (o.Prepare == nil) != (o.Retire == nil) {
		return fmt.Errorf("%w: Prepare and Retire go together: set both or none", ErrBadOptions)
	}
	for k := range o.Stock {
		o.stock(k, pages)
	}
	return nil
}

// low is how many windows of each class are kept by default.
var low = [Classes]int{256, 128, 64, 64, 64, 32, 16, 8, 4, 4, 2, 2, 1, 1, 1, 1, 1, 1, 1}

// stock sets the defaults of class k.
func (o *Options) stock(k int, pages uint64) {
	st, fit := &o.Stock[k], int(min(pages>>k, maxWindows))
	smallest := 0
	if o.Guard {
		smallest = 1 // nothing is left of 4 KiB
	}
	if k < smallest || *st == (Stock{}) && fit < 64 && k > smallest {
		*st = Stock{Max: respool.None}
	}
	if st.Max == respool.None {
		return
	}
	if st.Max == 0 {
		st.Max = max(min(o.MaxWindows, max(64, o.MaxWindows>>share(k-smallest)), fit), st.Low, st.High, 1)
	}
	if st.Low == 0 {
		st.Low = max(1, min(low[k-smallest], fit/256, o.MaxWindows/64, st.Max))
		if st.High > 0 {
			st.Low = min(st.Low, st.High)
		}
	}
	if st.High == 0 {
		st.High = max(min(2*st.Low, st.Max), st.Low)
	}
}

// share is by how many powers of two fewer windows of the kth class in use there may be than of the first.
func share(k int) int {
	switch {
	case k == 0:
		return 0
	case k < 5:
		return 2
	case k < chunkClass:
		return 3
	default:
		return k - chunkClass + 4
	}
}

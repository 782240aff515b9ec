package respool

import (
	"fmt"
	"time"
)

// maxElements is the largest Max: what fits into a stack's slot number beside the blanks.
const maxElements = 1<<indexBits - 1 - maxStocks*stockSize

const (
	defaultMax         = 1024
	defaultLow         = 16
	defaultMinInterval = 500 * time.Microsecond
	defaultMaxInterval = 10 * time.Millisecond
	defaultIdleAfter   = time.Second
	defaultMaxBackoff  = time.Second
	firstBackoff       = 10 * time.Millisecond

	defaultMaxShare = 0.05
	agesPerIdle     = 10 // MinAge in IdleAfters
	restsPerLook    = 10 // RestInterval in MaxIntervals

	restAfter = time.Second // without a Get, the worker rests
)

// None as Options.Max is a pool that never has anything.
const None = -1

// Options configure a Pool. A zero field takes its default, which yields to the
// fields that are set: the zero Options are a pool of 16 to 32 ready elements and
// 1024 in all. Numbers count elements.
type Options struct {
	// Name stands in errors.
	Name string

	// Min is how many elements the pool keeps for good, free and in use together:
	// it never shrinks below. Default 0.
	Min int

	// Low is the number free that the worker does not let the pool fall below, as far as it can tell
	// ahead and the source can give: what is to cover a surge until the worker sees it. New starts
	// with Low or Min elements, whichever is more. Default 16, but not above a
	// quarter of Max or of High, rounded up; and OrdinaryMark more, as far as these allow.
	Low int

	// High is the number free up to which the worker grows the pool, ahead of what goes out, and down to
	// which it shrinks; bursts that find the pool empty although High were free raise it
	// above, by Step each. Default twice Low, but not above Max.
	High int

	// Max bounds the elements that exist at a time, free and in use together.
	// A slot is allocated for each beforehand, the element's size and 12 bytes, and up to 63
	// more for each processor. Default 1024 or, if more, four times the largest number that is
	// set, but no more than MaxBytes and MaxShare allow; at most 16 million. None is a
	// pool of size zero: Get says ErrEmpty, a reservation of anything is refused. Then Min, Low,
	// High, Step and the marks must be 0.
	Max int

	// OrdinaryMark and AtomicMark are how many elements requests of these classes leave free,
	// see As: what lies below AtomicMark is for critical requests only. Low is above
	// OrdinaryMark, which is not below AtomicMark. Default 0: all may take the last one.
	OrdinaryMark, AtomicMark int

	// MaxBytes and MaxShare bound the memory that the elements hold: in bytes, and as a share of
	// this machine's memory, or of the control group's if that is limited to less. Max elements of
	// ElemSize bytes have to fit into both, or New refuses with ErrLimit. The share is that of one
	// pool: divide it where there are several. Where the size of the memory is unknown, which is
	// everywhere but on Linux, MaxShare has no effect. Default no MaxBytes, and a MaxShare of 0.05.
	MaxBytes int64
	MaxShare float64

	// ElemSize is how many bytes an element holds. Default what the source says, if it is a Sizer,
	// otherwise the size of T, which says nothing about what T points to.
	ElemSize int64

	// Step is how many elements the worker adds before it looks at the level again,
	// and the fewest that it frees at a time. Default a quarter of High minus Low,
	// but at least 1.
	Step int

	// MinInterval and MaxInterval bound the time between two looks of the worker:
	// how soon it sees a surge, and what an idle pool costs. Default 500 µs and
	// 10 ms.
	MinInterval, MaxInterval time.Duration

	// RestInterval is the time between two looks at a pool that nobody got anything from for a second,
	// with High or more free. What is taken during it Low, or what is free, has to cover.
	// Default ten times MaxInterval.
	RestInterval time.Duration

	// IdleAfter is how long more than High must stay free before the worker frees
	// some. Default 1 s.
	IdleAfter time.Duration

	// MinAge is how long the worker frees nothing after it has made an element: so whatever the load
	// does, an element lives at least that long. Default ten times IdleAfter.
	MinAge time.Duration

	// MaxBackoff bounds the time between two tries of a source that fails.
	// Default 1 s.
	MaxBackoff time.Duration

	// OnSourceError is called after each Alloc of the worker that failed, OnReturned when something is
	// ready again after somebody was answered ErrEmpty: once, however many were, and again
	// for each answer that comes later. Both run on the worker's goroutine, which does nothing else meanwhile,
	// so they must not wait; OnReturned may call Get. They must not call Close of this pool, which would wait
	// for them until its context ends; let another goroutine do so. A panic in them ends the process.
	OnSourceError func(error)
	OnReturned    func()

	// HoldLimit and OnReport are for debug builds (see there); others do not look at them.
	//
	// HoldLimit is how long an element may be out before that is reported, once, while it
	// is out. Default no limit.
	HoldLimit time.Duration

	// OnReport is told what a debug build notices. It is called from whatever goroutine
	// noticed it, several at once, and while that is inside a call of the pool: it must not
	// wait for the pool. Without it Close returns the first 16 reports in its
	// error, but for refused puts, which their callers know of.
	OnReport func(Report)
}

// resolve checks what is set and replaces what is not by its default, on a machine with so many bytes of
// memory, 0 if that is not known.
func (o Options) resolve(memory int64) (Options, error) {
	if o.Max == None {
		return o.resolveNone()
	}
	if o.MaxShare < 0 || o.MaxShare > 1 || o.MaxShare != o.MaxShare {
		return o, fmt.Errorf("%w: MaxShare (%v) is no share: use more than 0, up to 1, or leave it zero for the default", ErrBadOptions, o.MaxShare)
	}
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"Min", int64(o.Min)}, {"Low", int64(o.Low)}, {"High", int64(o.High)}, {"Max", int64(o.Max)}, {"Step", int64(o.Step)},
		{"OrdinaryMark", int64(o.OrdinaryMark)}, {"AtomicMark", int64(o.AtomicMark)},
		{"MinInterval", int64(o.MinInterval)}, {"MaxInterval", int64(o.MaxInterval)},
		{"RestInterval", int64(o.RestInterval)},
		{"IdleAfter", int64(o.IdleAfter)}, {"MinAge", int64(o.MinAge)}, {"MaxBackoff", int64(o.MaxBackoff)},
		{"MaxBytes", o.MaxBytes}, {"ElemSize", o.ElemSize},
		{"HoldLimit", int64(o.HoldLimit)},
	} {
		if v.value < 0 {
			return o, fmt.Errorf("%w: %s is negative (%d): leave it zero for the default", ErrBadOptions, v.name, v.value)
		}
	}
	if n := max(o.Min, o.Low, o.High, o.Max, o.Step, o.OrdinaryMark); n > maxElements {
		return o, fmt.Errorf("%w: %d elements are more than a pool can hold: use at most %d, or several pools", ErrBadOptions, n, maxElements)
	}
	if o.MaxShare == 0 {
		o.MaxShare = defaultMaxShare
	}
	if err := o.limit(memory); err != nil {
		return o, err
	}
	o.setMarks()
	o.setTimes()
	return o, o.check()
}

// resolveNone is resolve for a pool of size zero.
func (o Options) resolveNone() (Options, error) {
	if o.Min != 0 || o.Low != 0 || o.High != 0 || o.Step != 0 || o.OrdinaryMark != 0 || o.AtomicMark != 0 {
		return o, fmt.Errorf("%w: Max is None: leave Min, Low, High, Step and the marks zero", ErrBadOptions)
	}
	o.Max = 0
	one := o
	one.Max, one.MaxBytes = 1, 0
	one, err := one.resolve(0)
	if err != nil {
		return o, err
	}
	one.Min, one.Low, one.High, one.Max, one.Step = 0, 0, 0, 0, 1
	one.MaxBytes = o.MaxBytes
	return one, nil
}

func (o *Options) setMarks() {
	if o.Max == 0 {
		o.Max = o.defaultMax()
	}
	if o.Low == 0 {
		most := o.Max
		if o.High != 0 {
			most = min(most, o.High)
		}
		o.Low = min(defaultLow, (most+3)/4)
		if o.OrdinaryMark > 0 {
			o.Low = min(o.Low+o.OrdinaryMark, most)
		}
	}
	if o.High == 0 {
		o.High = min(2*o.Low, max(o.Max, o.Low))
	}
	if o.Step == 0 {
		o.Step = max(1, (o.High-o.Low)/4)
	}
}

// defaultMax is Max where only the other numbers say something about it.
func (o *Options) defaultMax() int {
	return min(max(defaultMax, 4*max(o.Min, o.Low, o.High, o.Step, o.OrdinaryMark)), maxElements)
}

func (o *Options) setTimes() {
	if o.MinInterval == 0 {
		o.MinInterval = defaultMinInterval
		for _, above := range []time.Duration{o.MaxInterval, o.RestInterval} {
			if above != 0 {
				o.MinInterval = min(o.MinInterval, above)
			}
		}
	}
	if o.MaxInterval == 0 {
		o.MaxInterval = defaultMaxInterval
		if o.RestInterval != 0 {
			o.MaxInterval = min(o.MaxInterval, o.RestInterval)
		}
		o.MaxInterval = max(o.MaxInterval, o.MinInterval)
	}
	if o.RestInterval == 0 {
		o.RestInterval = restsPerLook * o.MaxInterval
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = defaultIdleAfter
	}
	if o.MinAge == 0 {
		o.MinAge = agesPerIdle * o.IdleAfter
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = defaultMaxBackoff
	}
}

func (o *Options) check() error {
	above := func(a string, x any, b string, y any) error {
		return fmt.Errorf("%w: %s (%v) is above %s (%v): lower %s or raise %s", ErrBadOptions, a, x, b, y, a, b)
	}
	switch {
	case o.Min > o.Max:
		return above("Min", o.Min, "Max", o.Max)
	case o.Low > o.Max:
		return above("Low", o.Low, "Max", o.Max)
	case o.High > o.Max:
		return above("High", o.High, "Max", o.Max)
	case o.Low > o.High:
		return above("Low", o.Low, "High", o.High)
	case o.OrdinaryMark > 0 && o.OrdinaryMark >= o.Low:
		return fmt.Errorf("%w: OrdinaryMark (%d) is not below Low (%d), where the worker would leave ordinary requests without: raise Low", ErrBadOptions, o.OrdinaryMark, o.Low)
	case o.AtomicMark > o.OrdinaryMark:
		return above("AtomicMark", o.AtomicMark, "OrdinaryMark", o.OrdinaryMark)
	case o.Step > o.Max:
		return above("Step", o.Step, "Max", o.Max)
	case o.MinInterval > o.MaxInterval:
		return above("MinInterval", o.MinInterval, "MaxInterval", o.MaxInterval)
	case o.MaxInterval > o.RestInterval:
		return above("MaxInterval", o.MaxInterval, "RestInterval", o.RestInterval)
	}
	return nil
}

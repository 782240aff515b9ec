package source

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Faults are what a Faulty does to one of its two methods. Calls are numbered from 1 in
// the order in which they begin. A call first waits for its delay, then for what blocks it, and then is
// refused or failed, or reaches the source. The zero Faults do nothing.
//
// The methods may be called at any time, also while calls are under way, and do not block.
type Faults struct {
	mu      sync.Mutex
	calls   int
	failed  int
	waiting int
	fails   []failure
	delay   time.Duration
	until   time.Time // calls are refused
	refusal error     // of them
	gates   []chan struct{}
}

// A failure is the error of the calls first to last.
type failure struct {
	first, last int
	err         error
}

// FaultStats count calls.
type FaultStats struct {
	Calls   int // begun so far
	Failed  int // failed or refused; not those whose context ended
	Waiting int // delayed or blocked now
}

// FailNth fails call n with err, or with ErrInjected if err is nil. The next call is
// Stats().Calls+1.
func (f *Faults) FailNth(n int, err error) { f.FailRange(n, n, err) }

// FailRange fails the calls first to last with err, or with ErrInjected if err is nil.
// Ranges add up; where they overlap the first one given decides.
func (f *Faults) FailRange(first, last int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = append(f.fails, failure{first, last, orInjected(err)})
}

// Refuse fails the calls that come through in the next d with err, or with ErrInjected if
// err is nil. It replaces what an earlier Refuse said.
func (f *Faults) Refuse(d time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Now().Add(d)
	f.refusal = orInjected(err)
}

// Delay makes the calls that begin from now on take d longer. Zero ends it.
func (f *Faults) Delay(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.delay = d }

// Block stops calls before they reach the source until release is called, which may be
// done more than once, or until their context ends. While several Blocks hold, calls
// wait for the last of them.
func (f *Faults) Block() (release func()) {
	gate := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gates = append(f.gates, gate)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if i := slices.Index(f.gates, gate); i >= 0 {
			f.gates = slices.Delete(f.gates, i, i+1)
			close(gate)
		}
	}
}

// Clear ends all faults: what is blocked goes on, what is delayed still ends its delay.
// The counts stay.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, gate := range f.gates {
		close(gate)
	}
	f.gates, f.fails, f.delay, f.until = nil, nil, 0, time.Time{}
}

// Stats returns the counts.
func (f *Faults) Stats() FaultStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FaultStats{Calls: f.calls, Failed: f.failed, Waiting: f.waiting}
}

func orInjected(err error) error {
	if err == nil {
		return ErrInjected
	}
	return err
}

// meet counts a call, lets it wait, and says how it fails.
func (f *Faults) meet(ctx context.Context) error {
	n, delay := f.begin()
	defer f.end()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := sleep(ctx, delay); err != nil {
		return err
	}
	for gate := f.gate(); gate != nil; gate = f.gate() {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.verdict(n)
}

func (f *Faults) begin() (n int, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.waiting++
	return f.calls, f.delay
}

func (f *Faults) end() { f.mu.Lock(); defer f.mu.Unlock(); f.waiting-- }

// gate returns what a call has to wait for now, or nil.
func (f *Faults) gate() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.gates) == 0 {
		return nil
	}
	return f.gates[0]
}

// verdict says how call n fails, or nil.
func (f *Faults) verdict(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.until) {
		f.failed++
		return f.refusal
	}
	for _, r := range f.fails {
		if r.first <= n && n <= r.last {
			f.failed++
			return r.err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package scenario

import (
	"errors"
	"fmt"
	"time"

	"gommu/respool"
)

// Andrew Morton, quoted by Tejun Heo, 27 December 2011: "implement percpu mempool".
func outpaced() Scenario {
	const asked = "Andrew Morton, 2011: if allocations outpace the thread that refills the pool, all one can do is to wait for it, with locks held. " +
		"Does anybody see that coming, and what of those who must not fail?"
	return Scenario{Name: "outpaced", Asked: asked, ways: []way{
		{PoolFirst, "a reservation, and the forecast", Finished,
			"Forecast says that the pool will run dry while elements are left, no draw from the reservation fails while it is dry, and the worker refills it afterwards.",
			outpacedPool},
		{AllocatorFirst, "the reserve is everybody's", Broken,
			"The burst eats the reserve as if it were memory; nothing is told before the first failure, and the one for whom the reserve was made fails too.",
			outpacedMempool},
	}}
}

const (
	paceStart    = 128 // pages that are ready
	paceReserved = 16  // for the one who must not fail
	paceMax      = 1024
	paceSlow     = 10 // ticks that the source takes for a page, and the burst for as many
	paceFailures = 20 // after which the burst ends
	paceBack     = 32 // pages that are ready again after it
)

// horizon is what a forecast has to be within to be a warning.
const horizon = 5 * time.Second

var errNoWarning = errors.New("the pool was empty and that was not forecast")

// A pace is what the tasks share.
type pace struct {
	s         *stock
	forecast  func() respool.Forecast // nil: there is none
	used, dry *event                  // the first use of the reserve, and the first failure

	// The burst's.
	taken          int // before the first failure
	warnedAt, left int // what was taken and what was left at the first warning
	failed         int // refused
}

func outpacedPool(r *run) error {
	m := r.memory(paceMax)
	s, err := r.openPool(m, respool.Options{Name: "pages", Min: paceStart, Low: paceStart, High: paceStart, Max: paceMax})
	if err != nil {
		return err
	}
	m.slow.Store(paceSlow)
	reserved, err := s.pool.Reserve(paceReserved)
	if err != nil {
		return err
	}
	p := &pace{s: s, forecast: s.pool.Forecast, used: r.event("the first use"), dry: r.event("the first failure")}
	h := &holding{of: s.count, n: paceReserved, back: reserved.Return}
	p.play(r, func(t *task) error {
		t.adopt(h)
		return p.critical(t, func() error { return use(reserved, paceReserved) })
	})
	return nil
}

func outpacedMempool(r *run) error {
	m := r.memory(paceMax)
	s, err := r.open(AllocatorFirst, m, "pages", paceStart)
	if err != nil {
		return err
	}
	m.slow.Store(paceSlow)
	p := &pace{s: s, used: r.event("the first use"), dry: r.event("the first failure")}
	p.play(r, func(t *task) error {
		return p.critical(t, func() error {
			for range paceReserved {
				if _, err := t.get(s); err != nil {
					return err
				}
			}
			return t.putAll()
		})
	})
	return nil
}

func (p *pace) play(r *run, critical func(*task) error) {
	r.start("burst", 2, p.burst)
	r.start("critical task", 2, critical)
	r.wait()
	if p.forecast != nil {
		r.figure("warned after %d pages, with %d left; first failure after %d pages", p.warnedAt, p.left, p.taken)
	} else {
		r.figure("first failure after %d pages, no warning", p.taken)
	}
}

// burst takes pages faster than the source gives them, until it was refused often enough. Then
// it waits for the worker to make up for that.
func (p *pace) burst(t *task) error {
	if err := t.await(p.used); err != nil {
		return err
	}
	if err := p.calm(t, paceStart); err != nil { // the worker knows the source by then
		return err
	}
	for p.failed < paceFailures {
		if err := p.take(t); err != nil {
			return err
		}
		if err := sleep(t.r.ctx, 1); err != nil {
			return err
		}
	}
	t.step()
	if err := p.recover(t); err != nil {
		return err
	}
	if _, err := t.get(p.s); err != nil {
		return err
	}
	t.step()
	return nil
}

// take looks at the forecast and takes a page.
func (p *pace) take(t *task) error {
	if free, soon := p.warning(); p.left == 0 && soon {
		p.warnedAt, p.left = p.taken, free
	}
	_, err := t.get(p.s)
	if err == nil && p.failed == 0 {
		p.taken++
	}
	if !errors.Is(err, respool.ErrEmpty) {
		return err
	}
	if p.failed++; p.failed == 1 {
		p.dry.happen()
	}
	if p.forecast != nil && p.left == 0 {
		return errNoWarning
	}
	return nil
}

// critical uses what was reserved for it before the burst and while the pool is empty.
func (p *pace) critical(t *task, work func() error) error {
	err := work()
	p.used.happen()
	if err != nil {
		return err
	}
	t.step()
	if err := t.await(p.dry); err != nil {
		return err
	}
	if err := work(); err != nil {
		return fmt.Errorf("in the declared reserve: %w", err)
	}
	t.step()
	return nil
}

// recover waits until the worker has refilled the pool and there is no warning. A mempool is refilled
// only by what is put back.
func (p *pace) recover(t *task) error {
	if p.forecast == nil {
		return t.putAll()
	}
	return p.calm(t, paceBack)
}

// warning says how many pages are ready, and whether the pool is forecast to run dry soon.
func (p *pace) warning() (free int, soon bool) {
	if p.forecast == nil {
		return 0, false
	}
	f := p.forecast()
	return f.Free, f.Dry && f.DryIn < horizon
}

// calm returns when there is no warning and so many pages are ready, if there is a forecast.
func (p *pace) calm(t *task, ready int) error {
	for p.forecast != nil {
		if free, soon := p.warning(); free >= ready && !soon {
			break
		}
		if err := sleep(t.r.ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

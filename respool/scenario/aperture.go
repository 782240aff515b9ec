package scenario

import (
	"errors"
	"fmt"
	"runtime"

	"gommu/respool"
)

// Andi Kleen, 8 June 2007: "[Intel-IOMMU 02/10] Library routine for pre-allocat pool handling".
func aperture() Scenario {
	const asked = "Andi Kleen, 2007: the easy way out is to preallocate a static aperture fully. How much memory is that, and what if " +
		"it is too small?"
	return Scenario{Name: "aperture", Asked: asked, ways: []way{
		{PoolFirst, "all is allocated beforehand", Finished,
			"The cost is known, and bounded, before the first get; the source is not asked again; and what does not fit is told at once.",
			func(r *run) error { return aperturePlay(r, PoolFirst) }},
		{AllocatorFirst, "all is in the reserve", Broken,
			"The same pages in a mempool's reserve: it asks the allocator at every get all the same, on the caller's path.",
			func(r *run) error { return aperturePlay(r, AllocatorFirst) }},
	}}
}

const (
	windowPages = 256 // tables for 512 MiB of 4 KiB mappings
	mappers     = 8
	mapperShare = windowPages / mappers // of each mapper
	mappings    = 200                   // that each makes
)

var (
	errAsked = errors.New("the source was asked after everything was allocated")
	errCost  = errors.New("the cost is not what was told")
)

// aperturePlay lets all mappers together use up to all pages, and then one of them one too many.
func aperturePlay(r *run, under Discipline) error {
	const told = windowPages * pageSize
	r.figure("told beforehand: %d pages, %d bytes", windowPages, told)
	m := r.memory(windowPages)
	s, err := r.openWindow(under, m)
	if err != nil {
		return err
	}
	if n := m.bytes(); n != told {
		return fmt.Errorf("%w: %d bytes instead of %d", errCost, n, told)
	}
	before := m.calls.Load()
	var all []*task
	for i := range mappers {
		all = append(all, r.start(fmt.Sprintf("mapper %d", i), mappings, func(t *task) error { return mapper(t, s) }))
	}
	r.start("one too many", windowPages, func(t *task) error {
		for _, o := range all {
			if err := t.await(o.over); err != nil {
				return err
			}
		}
		return overflow(t, s)
	})
	r.wait()
	n := m.calls.Load() - before
	r.figure("the source was asked %d times after that", n)
	if n > 0 {
		return fmt.Errorf("%w: %d times", errAsked, n)
	}
	return nil
}

// openWindow preallocates everything. A pool also refuses, by its options alone, what would cost more.
func (r *run) openWindow(under Discipline, m *memory) (*stock, error) {
	if under != PoolFirst {
		return r.open(under, m, "aperture", windowPages)
	}
	o := respool.Options{Name: "aperture", MaxBytes: windowPages * pageSize}
	o.Min, o.High, o.Max = windowPages+1, windowPages+1, windowPages+1
	if _, err := r.openPool(m, o); !errors.Is(err, respool.ErrLimit) {
		return nil, fmt.Errorf("one page above the limit: %w: %w", errGranted, err)
	}
	r.figure("a page more than %d bytes allow was refused at set-up, after %d calls of the source", o.MaxBytes, m.calls.Load())
	o.Min, o.High, o.Max = windowPages, windowPages, windowPages
	return r.openPool(m, o)
}

// mapper makes mappings of up to its share, without waiting.
func mapper(t *task, s *stock) error {
	for k := range mappings {
		for range 1 + k%mapperShare {
			if _, err := t.get(s); err != nil {
				return err
			}
		}
		runtime.Gosched()
		if err := t.putAll(); err != nil {
			return err
		}
		t.step()
	}
	return nil
}

// overflow takes everything, and one more.
func overflow(t *task, s *stock) error {
	for range windowPages {
		if _, err := t.get(s); err != nil {
			return err
		}
		t.step()
	}
	_, err := t.get(s)
	if err == nil {
		return errGranted
	}
	if !errors.Is(err, respool.ErrEmpty) {
		return err
	}
	return t.putAll()
}

//go:build debug

package respool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What lies apart, and what is out for too long or for ever.

// A reservationNote is who added to a reservation last, and what it has.
type reservationNote struct {
	trace
	n int
}

// A cacheNote is the last trip of a cache, and what it had then.
type cacheNote struct {
	trace
	n int
}

// setAside notes how many elements r has.
func (l *ledger[T]) setAside(r *Reservation[T]) {
	at := here()
	l.mu.Lock()
	defer l.mu.Unlock()
	note := l.reserved[r]
	if note == nil {
		note = &reservationNote{}
		l.reserved[r] = note
	}
	l.node.hold(note.goroutine, -note.n)
	if r.n > note.n {
		note.trace = at
	}
	if note.n = r.n; note.n == 0 {
		delete(l.reserved, r)
	}
	l.node.hold(note.goroutine, note.n)
}

// stocks notes how many elements c has.
func (l *ledger[T]) stocks(c *Cache[T]) {
	at := here()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.n == 0 {
		delete(l.caches, c)
		return
	}
	l.caches[c] = cacheNote{at, c.n}
}

// arm sees to it that who holds longer than HoldLimit is noticed.
func (l *ledger[T]) arm() {
	if l.opts.HoldLimit > 0 && l.timer == nil && !l.over {
		l.timer = time.AfterFunc(l.opts.HoldLimit, l.look)
	}
}

// look reports holders over the limit.
func (l *ledger[T]) look() {
	for _, r := range l.overdue(time.Now()) {
		l.report(r)
	}
}

// overdue tells whom to report, once each, and sets the time of the next look.
func (l *ledger[T]) overdue(now time.Time) (reports []Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if l.over {
		return nil
	}
	next := time.Duration(-1)
	for k, a := range l.accounts {
		for _, h := range a.out {
			switch left := l.opts.HoldLimit - now.Sub(h.at); {
			case h.told || k == key(alike{}): // who has put back what, nobody knows
			case left <= 0:
				h.told = true
				reports = append(reports, h.report(HeldLong, l.opts.Name, k, now))
			case next < 0 || left < next:
				next = left
			}
		}
	}
	if next >= 0 {
		l.timer = time.AfterFunc(next, l.look)
	}
	return reports
}

func (h *holding) report(kind Kind, pool string, k key, now time.Time) Report {
	return Report{Kind: kind, Pool: pool, Element: elementText(k), Count: 1, Held: now.Sub(h.at), Stacks: []Stack{h.stack(h.how)}}
}

const (
	maxPlaces = 16 // bounds the reports of one leak
	maxKept   = 16 // bounds the reports in an error
)

// A getter is where elements were got that are out.
type getter struct {
	how     string
	callers callers
}

// leaks reports what is out, the places where most was got first.
func (l *ledger[T]) leaks() {
	reports := l.places(time.Now())
	slices.SortFunc(reports, func(a, b Report) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.Held, a.Held))
	})
	if n := len(reports); n > maxPlaces {
		rest := Report{Kind: Leaked, Pool: l.opts.Name, Detail: fmt.Sprintf("got at %d more places", n-maxPlaces)}
		for _, r := range reports[maxPlaces:] {
			rest.Count += r.Count
		}
		reports = append(reports[:maxPlaces], rest)
	}
	for _, r := range reports {
		l.report(r)
	}
}

// places has a report for each place where something was got that is out.
func (l *ledger[T]) places(now time.Time) (reports []Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := map[getter]int{}
	add := func(how string, t trace, r Report) {
		i, known := at[getter{how, t.callers}]
		if !known {
			at[getter{how, t.callers}] = len(reports)
			reports = append(reports, r)
			return
		}
		reports[i].Count += r.Count
		reports[i].Held = max(reports[i].Held, r.Held)
	}
	for k, a := range l.accounts {
		for _, h := range a.out {
			add(h.how, h.trace, h.report(Leaked, l.opts.Name, k, now))
		}
	}
	for _, r := range l.reserved {
		add("reserved", r.trace, Report{Kind: Leaked, Pool: l.opts.Name, Count: r.n, Detail: "in a reservation", Stacks: []Stack{r.stack("reserved")}})
	}
	for _, c := range l.caches {
		add("cached", c.trace, Report{Kind: Leaked, Pool: l.opts.Name, Count: c.n, Detail: "in a cache", Stacks: []Stack{c.stack("last trip to the pool")}})
	}
	return reports
}

// report calls OnReport, or keeps r for Close.
func (l *ledger[T]) report(r Report) {
	if l.opts.OnReport != nil {
		l.opts.OnReport(r)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == maxKept {
		l.lost++
		return
	}
	l.kept = append(l.kept, r)
}

// closed ends the ledger at the end of a Close that leaves out elements out.
func (l *ledger[T]) closed(out int) {
	if out > 0 {
		l.leaks()
	}
	l.node.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// unheard is an error of the reports that were kept, nil if there are none.
func (l *ledger[T]) unheard() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return nil
	}
	var text strings.Builder
	for _, r := range l.kept {
		text.WriteString("\n" + r.String())
	}
	if l.lost > 0 {
		fmt.Fprintf(&text, "\nand %d more reports", l.lost)
	}
	l.kept, l.lost = nil, 0
	return fmt.Errorf("%w:%s", ErrReported, text.String())
}

package measure

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gommu/iommu"
)

var errInjected = errors.New("injected")

// A fake is a way whose workers check what is done with them.
type fake struct {
	burst   int
	dryEach int // every so many Maps is refused
	dry     bool
	room    int // Maps at a time by all workers; 0 is no bound
	fail    func(call string, n int) error

	mu       sync.Mutex
	calls    map[string]int
	mapped   int
	most     int // mapped at a time
	open     int
	opened   int
	wrong    []string
	deepest  int // unmaps without a flush
	allocate bool
	pairer   bool // workers are Pairers
}

var kept any

func (f *fake) call(name string) (n int, err error) {
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	n = f.calls[name]
	f.calls[name]++
	if f.fail != nil {
		err = f.fail(name, n)
	}
	return n, err
}

func (f *fake) Worker(_ context.Context, _ Shape, _, slots int) (Worker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("worker"); err != nil {
		return nil, err
	}
	f.open++
	f.opened++
	w := &fakeWorker{f: f, full: make([]bool, slots)}
	if f.pairer {
		return fakePairer{w}, nil
	}
	return w, nil
}

// A fakePairer makes pairs by itself.
type fakePairer struct{ *fakeWorker }

func (w fakePairer) Pairs(n int) (int, error) {
	for i := range n {
		if err := w.Map(i % len(w.full)); err != nil {
			return i, err
		}
		if err := w.Unmap(i % len(w.full)); err != nil {
			return i, err
		}
	}
	return n, nil
}

type fakeWorker struct {
	f       *fake
	full    []bool
	waiting int // unmaps since the last flush
}

func (w *fakeWorker) Map(slot int) error {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.allocate {
		kept = new([64]byte)
	}
	n, err := f.call("map")
	if err != nil {
		return err
	}
	if f.dry || f.dryEach > 0 && n%f.dryEach == f.dryEach-1 || f.room > 0 && f.mapped >= f.room {
		return iommu.ErrEmpty
	}
	if w.full[slot] {
		f.wrong = append(f.wrong, fmt.Sprintf("slot %d is full", slot))
	}
	w.full[slot] = true
	f.mapped++
	f.most = max(f.most, f.mapped)
	return nil
}

func (w *fakeWorker) Unmap(slot int) error {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("unmap"); err != nil {
		return err
	}
	if !w.full[slot] {
		f.wrong = append(f.wrong, fmt.Sprintf("slot %d is empty", slot))
	}
	w.full[slot] = false
	f.mapped--
	w.waiting++
	f.deepest = max(f.deepest, w.waiting)
	return nil
}

func (w *fakeWorker) Flush() error {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	_, err := w.f.call("flush")
	w.waiting = 0
	return err
}

func (w *fakeWorker) Close() error {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.f.open--
	_, err := w.f.call("close")
	return err
}

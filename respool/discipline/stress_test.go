package discipline_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gommu/respool"
	"gommu/respool/discipline"
)

// TestStress has tasks get and put as fast as they can while the source fails by turns, and closes the
// discipline in the middle. No element is in two hands, and none is lost.
func TestStress(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			v := newVault(t)
			var calls atomic.Int64
			v.setFail(func(_ int, call string) bool { return call != "free" && calls.Add(1)%100 >= 98 })
			d, err := k.make(v, 16)
			if err != nil {
				t.Fatal(err)
			}
			s := &stress{t: t, d: d, wait: time.Millisecond}
			const tasks = 6
			var wg sync.WaitGroup
			for i := range tasks {
				wg.Go(func() { s.run(rand.New(rand.NewPCG(1, uint64(i)))) })
			}
			for s.turns.Load() < 10_000 && !t.Failed() {
				time.Sleep(time.Millisecond)
				s.held.Store(int64(d.Held()))
			}
			if err := d.Close(ended()); err != nil && !errors.Is(err, respool.ErrLeaked) && !errors.Is(err, respool.ErrSourceBusy) {
				t.Error(err)
			}
			wg.Wait()
			closeWith(t, d, v, s.kept...)
		})
	}
}

type stress struct {
	t     *testing.T
	d     discipline.Discipline[int]
	wait  time.Duration // at most, in GetWait
	turns atomic.Int64
	held  atomic.Int64
	owned sync.Map // elements that are in a hand

	mu   sync.Mutex
	kept []int // when the discipline was closed
}

// run gets and puts until the discipline is closed.
func (s *stress) run(rng *rand.Rand) {
	var own []int
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kept = append(s.kept, own...)
	}()
	for {
		s.turns.Add(1)
		if len(own) > 0 && rng.IntN(8) < len(own) {
			e := own[len(own)-1]
			s.owned.Delete(e)
			if err := s.d.Put(e); err != nil {
				if !errors.Is(err, respool.ErrClosed) {
					s.t.Error(err)
				}
				return
			}
			own = own[:len(own)-1]
			continue
		}
		e, err := s.get(rng.IntN(4) == 0)
		switch {
		case err == nil:
			if _, twice := s.owned.LoadOrStore(e, true); twice {
				s.t.Errorf("element %d is in two hands", e)
				return
			}
			own = append(own, e)
		case errors.Is(err, respool.ErrClosed):
			return
		case !errors.Is(err, respool.ErrEmpty) && !errors.Is(err, context.DeadlineExceeded):
			s.t.Error(err)
			return
		}
	}
}

func (s *stress) get(mayWait bool) (int, error) {
	if !mayWait {
		return s.d.Get()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.wait)
	defer cancel()
	return s.d.GetWait(ctx)
}

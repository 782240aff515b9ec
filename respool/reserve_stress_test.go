package respool

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A reserver takes atoms of two pools in every way there is, hands reservations to its
// neighbours and gets some from them.
type reserver struct {
	t     *testing.T
	id    int32
	ps    []*Pool[*atom]
	rs    []*Reservation[*atom]
	held  []*atom
	of    []int // which pool each of held is of
	inbox []chan *Reservation[*atom]
	own   []*Reservation[*atom] // one of each pool
	drawn *int64
}

// refused says whether err is none, and reports it if it is not one that may be.
func (u *reserver) refused(err error) bool {
	if err != nil && !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
		u.t.Error(err)
	}
	return err != nil
}

func (u *reserver) hold(k int, a *atom) {
	if !a.holder.CompareAndSwap(0, u.id) || a.freed.Load() {
		u.t.Error("got an atom that is held or was freed")
	}
	u.held, u.of = append(u.held, a), append(u.of, k)
}

func (u *reserver) keep(r *Reservation[*atom], err error) {
	if !u.refused(err) {
		u.rs = append(u.rs, r)
	}
}

func (u *reserver) poolOf(r *Reservation[*atom]) int {
	if r.p == u.ps[0] {
		return 0
	}
	return 1
}

func (u *reserver) draw(r *Reservation[*atom]) {
	for r.Len() > 0 && rand.IntN(3) != 0 {
		a, err := r.Get()
		if err != nil {
			u.t.Errorf("%v, %d are left", err, r.Len())
			return
		}
		*u.drawn++
		u.hold(u.poolOf(r), a)
	}
}

// put gives the last atom that it holds back, to a reservation if it has one.
func (u *reserver) put() {
	n := len(u.held) - 1
	a, k := u.held[n], u.of[n]
	u.held, u.of = u.held[:n], u.of[:n]
	if !a.holder.CompareAndSwap(u.id, 0) {
		u.t.Error("a held atom was handed to somebody else")
	}
	for _, r := range u.rs {
		if r.p == u.ps[k] && rand.IntN(2) == 0 {
			if err := r.Put(a); err != nil {
				u.t.Error(err)
			}
			return
		}
	}
	if err := u.ps[k].Put(a); err != nil {
		u.t.Error(err)
	}
}

func (u *reserver) step() {
	k, n := rand.IntN(2), 1+rand.IntN(3)
	p := u.ps[k]
	switch rand.IntN(9) {
	case 0:
		a, err := p.Get()
		if !u.refused(err) {
			u.hold(k, a)
		}
	case 1:
		u.keep(p.Reserve(n))
	case 2:
		u.refused(ReserveAll(u.own[1].Need(n), u.own[0].Need(n)))
	case 3:
		u.wait(k, n)
	case 4:
		select {
		case r := <-u.inbox[u.id-1]:
			u.rs = append(u.rs, r)
		default:
		}
	}
	if len(u.rs) > 0 {
		u.use(rand.IntN(len(u.rs)))
	}
	for _, r := range u.own {
		u.draw(r)
	}
	for len(u.held) > 4 {
		u.put()
	}
}

// wait gives back all it has, and then waits a little.
func (u *reserver) wait(k, n int) {
	u.giveAll()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
	defer cancel()
	switch rand.IntN(4) {
	case 0:
		u.keep(u.ps[k].ReserveWait(ctx, n))
	case 1:
		u.refused(ReserveAllWait(ctx, u.own[k].Need(n), u.own[1-k].Need(1)))
	case 2:
		u.refused(u.ps[k].Wait(ctx))
	default:
		a, err := u.ps[k].GetWait(ctx)
		if !u.refused(err) {
			u.hold(k, a)
		}
	}
}

// use draws from the reservation, splits it, hands it over or returns it.
func (u *reserver) use(at int) {
	r := u.rs[at]
	drop := func() { u.rs = append(u.rs[:at], u.rs[at+1:]...) }
	switch rand.IntN(4) {
	case 0:
		u.draw(r)
	case 1:
		if r.Len() > 0 {
			u.keep(r.Split(rand.IntN(r.Len())))
		}
	case 2:
		select {
		case u.inbox[rand.IntN(len(u.inbox))] <- r:
			drop()
		default:
		}
	default:
		if err := r.Return(); err != nil {
			u.t.Error(err)
		}
		drop()
	}
}

func (u *reserver) giveAll() {
	for len(u.held) > 0 {
		u.put()
	}
	for _, r := range append(u.rs, u.own...) {
		if err := r.Return(); err != nil {
			u.t.Error(err)
		}
	}
	u.rs = nil
}

func TestReserveStress(t *testing.T) {
	for name, early := range map[string]bool{"": false, "closed early": true} {
		t.Run(name, func(t *testing.T) { reserveStress(t, early) })
	}
}

func reserveStress(t *testing.T, early bool) {
	const users = 6
	rounds := 20_000
	if testing.Short() || debugging {
		rounds /= 10
	}
	o := Options{
		Low: 3, High: 6, Max: 12, MinInterval: 10 * time.Microsecond, MaxInterval: 50 * time.Microsecond,
		IdleAfter: 100 * time.Microsecond, MaxBackoff: 100 * time.Microsecond,
	}
	srcs := []*atoms{{t: t}, {t: t}}
	var ps []*Pool[*atom]
	for len(ps) < 2 {
		p, err := New(t.Context(), srcs[len(ps)], holdAndWait(t, o))
		if err == nil {
			ps = append(ps, p)
		}
	}
	var inbox []chan *Reservation[*atom]
	for range users {
		inbox = append(inbox, make(chan *Reservation[*atom], 2))
	}
	var wg sync.WaitGroup
	drawn := make([]int64, users)
	left := make(chan struct{})
	for id := range int32(users) {
		wg.Go(func() {
			u := &reserver{t: t, id: id + 1, ps: ps, inbox: inbox, drawn: &drawn[id]}
			for _, p := range ps {
				u.own = append(u.own, &Reservation[*atom]{p: p})
			}
			for n := range rounds {
				u.step()
				if n%64 == 0 {
					runtime.Gosched()
				}
				if id == 0 && n == rounds/4 {
					close(left)
				}
			}
			u.giveAll()
		})
	}
	<-left
	done := make(chan error, 2)
	finish := func() {
		for _, p := range ps {
			go func() { done <- p.Close(context.Background()) }()
		}
	}
	if early {
		finish()
	}
	wg.Wait()
	for _, box := range inbox { // what nobody collected
		for len(box) > 0 {
			if err := (<-box).Return(); err != nil {
				t.Error(err)
			}
		}
	}
	if !early {
		finish()
	}
	for range ps {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for i, p := range ps {
		s := p.Stats()
		if m, f := srcs[i].made.Load(), srcs[i].freed.Load(); m != f || s.Reserved != 0 || s.InUse != 0 || s.Waiting != 0 {
			t.Errorf("%d atoms made, %d freed: %+v", m, f, s)
		}
		checkSum(t, p)
		t.Logf("%+v", s)
	}
	t.Logf("%d drawn by the first", drawn[0])
}

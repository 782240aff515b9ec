package respool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"gommu/respool"
)

// A soaker makes calls of all kinds to two pools.
type soaker struct {
	t     *testing.T
	id    int32
	ps    []*respool.Pool[*thing]
	cs    []*respool.Cache[*thing]
	held  [][]*thing
	inbox []chan parcel
	buf   []*thing
	rand  *rand.Rand
	calls int
	fail  *atomic.Bool
}

// A parcel is a reservation that one hands to another.
type parcel struct {
	pool int
	r    *respool.Reservation[*thing]
}

// may says whether err is none, and reports it if it is not one of those that may be.
func (u *soaker) may(err error, allowed ...error) bool {
	if err == nil {
		return true
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return false
		}
	}
	if !u.fail.Swap(true) {
		u.t.Error(err)
	}
	return false
}

func (u *soaker) hold(k int, xs ...*thing) {
	for _, x := range xs {
		if x.holder != 0 || x.gone {
			u.wrong("got a thing that is held or was freed")
		}
		x.holder = u.id
	}
	u.held[k] = append(u.held[k], xs...)
}

func (u *soaker) wrong(what string) {
	if !u.fail.Swap(true) {
		u.t.Error(what)
	}
}

// drop takes n things off the soaker's list, to be put. They stay valid until the next hold.
func (u *soaker) drop(k, n int) []*thing {
	at := len(u.held[k]) - n
	xs := u.held[k][at:]
	u.held[k] = u.held[k][:at]
	for _, x := range xs {
		if x.holder != u.id {
			u.wrong("a held thing was handed to somebody else")
		}
		x.holder = 0
	}
	return xs
}

// as is pool k for requests of any class.
func (u *soaker) as(k int) respool.Access[*thing] {
	return u.ps[k].As(respool.Class(u.rand.IntN(3)))
}

// take gets n things one by one, or fewer.
func (u *soaker) take(k, n int, get func() (*thing, error)) {
	for range n {
		x, err := get()
		u.calls++
		if !u.may(err, respool.ErrEmpty) {
			return
		}
		u.hold(k, x)
	}
}

// give puts n things one by one, or all there are.
func (u *soaker) give(k, n int, put func(*thing) error) {
	for _, x := range u.drop(k, min(n, len(u.held[k]))) {
		u.calls++
		u.may(put(x))
	}
}

func (u *soaker) takeBatch(k, n int, get func([]*thing) error) {
	u.calls++
	if u.may(get(u.buf[:n]), respool.ErrEmpty) {
		u.hold(k, u.buf[:n]...)
	}
}

func (u *soaker) giveBatch(k, n int, put func([]*thing) error) {
	u.calls++
	u.may(put(u.drop(k, min(n, len(u.held[k])))))
}

// use draws from a reservation, puts into it, splits it, hands a part on, and returns the rest.
func (u *soaker) use(k int, r *respool.Reservation[*thing]) {
	for r.Len() > 0 && u.rand.IntN(4) != 0 {
		x, err := r.Get()
		u.calls++
		u.may(err)
		u.hold(k, x)
	}
	if u.rand.IntN(4) == 0 {
		u.give(k, 3, r.Put)
	}
	if n := r.Len(); n > 0 && u.rand.IntN(4) == 0 {
		u.calls++
		if part, err := r.Split(u.rand.IntN(n + 1)); u.may(err) {
			select {
			case u.inbox[u.rand.IntN(len(u.inbox))] <- parcel{k, part}:
			default:
				u.calls++
				u.may(part.Return())
			}
		}
	}
	if u.rand.IntN(8) == 0 {
		u.calls++
		u.may(r.Add(2), respool.ErrEmpty)
	}
	u.calls++
	u.may(r.Return())
}

func (u *soaker) reserve(k int) {
	u.calls++
	if u.rand.IntN(2) == 0 {
		if r, err := u.as(k).Reserve(1 + u.rand.IntN(8)); u.may(err, respool.ErrEmpty) {
			u.use(k, r)
		}
		return
	}
	r0, err0 := u.ps[0].Reserve(0)
	r1, err1 := u.ps[1].Reserve(0)
	if u.may(errors.Join(err0, err1)) && u.may(respool.ReserveAll(r1.Need(2), r0.Need(3)), respool.ErrEmpty) {
		u.use(0, r0)
		u.use(1, r1)
	}
}

// wait gives back all that the soaker has, and then waits, for as short as the others need to go on.
func (u *soaker) wait(k int) {
	u.giveAll()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(100+u.rand.IntN(400))*time.Microsecond)
	defer cancel()
	late := context.DeadlineExceeded
	u.calls++
	switch u.rand.IntN(4) {
	case 0:
		u.may(u.ps[k].Wait(ctx), late)
	case 1:
		if x, err := u.as(k).GetWait(ctx); u.may(err, late) {
			u.hold(k, x)
		}
	case 2:
		if r, err := u.as(k).ReserveWait(ctx, 1+u.rand.IntN(64)); u.may(err, late) {
			u.use(k, r)
		}
	default:
		r0, _ := u.ps[0].Reserve(0)
		r1, _ := u.ps[1].Reserve(0)
		if u.may(respool.ReserveAllWait(ctx, r0.Need(5), r1.Need(4)), late) {
			u.use(0, r0)
			u.use(1, r1)
		}
	}
}

func (u *soaker) giveAll() {
	for k := range u.ps {
		u.giveBatch(k, len(u.held[k]), u.ps[k].PutBatch)
		u.calls++
		u.may(u.cs[k].Flush())
	}
}

func (u *soaker) receive() {
	select {
	case parcel := <-u.inbox[u.id-1]:
		u.use(parcel.pool, parcel.r)
	default:
	}
}

// rest lets the pools grow under a load that nobody gives back, and shrink after it.
func (u *soaker) rest(k int) {
	for range 8 {
		for range 64 {
			u.takeBatch(k, 8, u.ps[k].GetBatch)
		}
		time.Sleep(200 * time.Microsecond)
	}
	u.giveAll()
	time.Sleep(4 * time.Millisecond)
}

// step makes some ten or hundred calls of one kind.
func (u *soaker) step() {
	k, n := u.rand.IntN(2), 1+u.rand.IntN(64)
	p, c, a := u.ps[k], u.cs[k], u.as(k)
	switch way := u.rand.IntN(4096); {
	case way < 1:
		u.rest(k)
	case way < 4:
		u.wait(k)
	case way < 64:
		u.receive()
	case way < 400:
		u.reserve(k)
	case way < 1200:
		u.take(k, n, a.Get)
		u.give(k, n, p.Put)
	case way < 2400:
		u.take(k, n, c.Get)
		u.give(k, n, c.Put)
	case way < 2800:
		u.take(k, n, p.Get)
		u.give(k, n, c.Put)
	case way < 3200:
		u.take(k, n, c.Get)
		u.give(k, n, p.Put)
	case way < 3600:
		u.takeBatch(k, n, a.GetBatch)
		u.giveBatch(k, n/2, c.PutBatch)
	default:
		u.takeBatch(k, n, c.GetBatch)
		u.giveBatch(k, n+n/2, p.PutBatch)
	}
	if len(u.held[k]) > 512 {
		u.giveBatch(k, 256, p.PutBatch)
	}
}

// run makes calls until there were enough.
func (u *soaker) run(calls int, enough func() bool) {
	for (u.calls < calls || !enough()) && !u.fail.Load() {
		for before := u.calls; u.calls < before+10_000; {
			u.step()
		}
	}
	u.giveAll()
	for _, c := range u.cs {
		u.may(c.Close())
	}
}

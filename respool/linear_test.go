package respool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"gommu/respool"
	"gommu/respool/source"
)

// A stock is what the histories are of: a pool, or something that is broken on purpose.
type stock interface {
	get(class int) (int, error)
	getBatch(dst []int, class int) error
	put(e int) error
	putBatch(es []int) error
	reserve(n, class int) (part, error)
}

// A part is a reservation of a stock.
type part interface {
	add(n int) error
	get() (int, error)
	put(e int) error
	split(n int) (part, error)
	giveBack() error
}

// A client makes calls and writes down when each began and ended, and what it answered.
type client struct {
	id    int
	s     stock
	marks []int // by class: how many it leaves free
	rand  *rand.Rand
	base  time.Time
	log   []porcupine.Operation

	held  []int
	parts [2]part // what it split off comes second, of the same class
	class [2]int
	lens  [2]int
}

func (c *client) record(in call, do func() reply) reply {
	began := time.Since(c.base)
	out := do()
	ended := time.Since(c.base)
	c.log = append(c.log, porcupine.Operation{ClientId: c.id, Input: in, Call: int64(began), Output: out, Return: int64(ended)})
	return out
}

// place is the model's name of the client's reservation k.
func (c *client) place(k int) holder { return reservation0 + holder(2*c.id+k) }

func (c *client) anyClass() (class, leave int) {
	class = c.rand.IntN(len(c.marks))
	return class, c.marks[class]
}

func (c *client) take(n int) {
	class, leave := c.anyClass()
	in := call{name: "get", from: free, to: caller, n: n, leave: leave}
	out := c.record(in, func() reply {
		dst := make([]int, n)
		if n == 1 && c.rand.IntN(2) == 0 {
			e, err := c.s.get(class)
			dst[0] = e
			return reply{dst, err}
		}
		err := c.s.getBatch(dst, class)
		return reply{dst, err}
	})
	if out.err == nil {
		c.held = append(c.held, out.es...)
	}
}

func (c *client) give(n int) {
	es := slices.Clone(c.held[len(c.held)-n:])
	c.held = c.held[:len(c.held)-n]
	c.record(call{name: "put", from: caller, to: free, es: es, n: n}, func() reply {
		if n == 1 && c.rand.IntN(2) == 0 {
			return reply{es, c.s.put(es[0])}
		}
		return reply{es, c.s.putBatch(es)}
	})
}

// reserve makes the client's first reservation, or adds to one.
func (c *client) reserve(k, n int) {
	class, leave := c.anyClass()
	if c.parts[k] != nil {
		leave = c.marks[c.class[k]]
	}
	in := call{name: "reserve", from: free, to: c.place(k), n: n, leave: leave, unseen: true}
	out := c.record(in, func() (r reply) {
		if c.parts[k] != nil {
			return reply{err: c.parts[k].add(n)}
		}
		p, err := c.s.reserve(n, class)
		if err == nil {
			c.parts[k], c.class[k] = p, class
		}
		return reply{err: err}
	})
	if out.err == nil {
		c.lens[k] += n
	}
}

func (c *client) draw(k int) {
	out := c.record(call{name: "draw", from: c.place(k), to: caller, n: 1}, func() reply {
		e, err := c.parts[k].get()
		return reply{[]int{e}, err}
	})
	if out.err == nil {
		c.held = append(c.held, out.es...)
		c.lens[k]--
	}
}

func (c *client) putInto(k int) {
	e := c.held[len(c.held)-1]
	c.held = c.held[:len(c.held)-1]
	c.record(call{name: "put into", from: caller, to: c.place(k), es: []int{e}, n: 1}, func() reply {
		return reply{[]int{e}, c.parts[k].put(e)}
	})
	c.lens[k]++
}

func (c *client) split(n int) {
	out := c.record(call{name: "split", from: c.place(0), to: c.place(1), n: n, unseen: true}, func() reply {
		p, err := c.parts[0].split(n)
		if err == nil {
			c.parts[1], c.class[1] = p, c.class[0]
		}
		return reply{err: err}
	})
	if out.err == nil {
		c.lens[0], c.lens[1] = c.lens[0]-n, n
	}
}

// giveBack returns all of a reservation, which is not used again.
func (c *client) giveBack(k int) {
	c.record(call{name: "return", from: c.place(k), to: free, n: c.lens[k], unseen: true}, func() reply {
		return reply{err: c.parts[k].giveBack()}
	})
	c.parts[k], c.lens[k] = nil, 0
}

func (c *client) step() {
	k := c.rand.IntN(2)
	switch way := c.rand.IntN(12); {
	case way < 3:
		c.take(1 + c.rand.IntN(3))
	case way < 6 && len(c.held) > 0:
		c.give(1 + c.rand.IntN(len(c.held)))
	case way < 8 && (k == 0 || c.parts[k] != nil):
		c.reserve(k, 1+c.rand.IntN(3))
	case way < 10 && c.parts[k] != nil:
		c.draw(k)
	case way == 10 && c.parts[k] != nil && len(c.held) > 0:
		c.putInto(k)
	case way == 10 && c.parts[0] != nil && c.parts[1] == nil:
		c.split(c.rand.IntN(c.lens[0] + 2))
	case way == 11 && c.parts[k] != nil:
		c.giveBack(k)
	}
	switch c.rand.IntN(4) {
	case 0:
		runtime.Gosched()
	case 1:
		for range c.rand.IntN(300) {
		}
	}
}

// finish gives back all that the client has.
func (c *client) finish() {
	for k, p := range c.parts {
		if p != nil {
			c.giveBack(k)
		}
	}
	if len(c.held) > 0 {
		c.give(len(c.held))
	}
}

// histories are what some clients did at once, each beginning and ending with all elements free. They
// follow each other without a pause, so that clients are awake on several processors.
func histories(s stock, marks []int, clients, steps, rounds int, seed uint64) [][]porcupine.Operation {
	base := time.Now()
	logs := make([][][]porcupine.Operation, clients)
	var arrived atomic.Int64
	var wg sync.WaitGroup
	for id := range clients {
		c := &client{id: id, s: s, marks: marks, rand: rand.New(rand.NewPCG(seed, uint64(id))), base: base}
		wg.Go(func() {
			for round := range rounds {
				arrived.Add(1)
				for spins := 1; arrived.Load() < int64(clients*(round+1)); spins++ {
					if spins%200 == 0 {
						runtime.Gosched()
					}
				}
				c.log = make([]porcupine.Operation, 0, 2*steps)
				for range steps {
					c.step()
				}
				c.finish()
				logs[id] = append(logs[id], c.log)
			}
		})
	}
	wg.Wait()
	all := make([][]porcupine.Operation, rounds)
	for round := range all {
		for id := range logs {
			all[round] = append(all[round], logs[id][round]...)
		}
	}
	return all
}

// A tally shows that the histories were worth checking.
type tally struct{ histories, calls, overlaps, empty, drawn, marked int }

func (n *tally) count(ops []porcupine.Operation) {
	n.histories++
	n.calls += len(ops)
	for i, o := range ops {
		c, r := o.Input.(call), o.Output.(reply)
		if c.from == free && r.err != nil {
			n.empty++
		}
		if c.name == "draw" && r.err == nil {
			n.drawn++
		}
		if c.leave > 0 && r.err != nil {
			n.marked++
		}
		for _, other := range ops[:i] {
			if other.ClientId != o.ClientId && other.Call < o.Return && o.Call < other.Return {
				n.overlaps++
			}
		}
	}
}

// checked makes histories and returns the first that the model cannot explain, or nil.
func checked(n *tally, s stock, size int, marks []int, seed uint64) []porcupine.Operation {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	model := bagModel(size)
	for _, ops := range histories(s, marks, 2+r.IntN(5), 5+r.IntN(15), 50, seed) {
		n.count(ops)
		if !porcupine.CheckOperations(model, ops) {
			return ops
		}
	}
	return nil
}

func describe(size int, ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var s strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&s, "%8d to %8d ns, client %d: %s\n", o.Call, o.Return, o.ClientId, bagModel(size).DescribeOperation(o.Input, o.Output))
	}
	return s.String()
}

// varyProcs returns a function that lets as many threads run as there are processors or, one time
// in eight, more: then calls are preempted anywhere in the middle, but it is slow.
func varyProcs(t *testing.T) (next func()) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	return func() {
		n := max(2, runtime.NumCPU())
		if rand.IntN(8) == 0 {
			n *= 2
		}
		runtime.GOMAXPROCS(n)
	}
}

// Every short history of a small pool can be explained by calls that happened one after the
// other. The schedules are random: a failure shows the history, and its seed gives
// the same calls, not the same schedule.
func TestLinearizable(t *testing.T) {
	limit := 2500 * time.Millisecond
	if testing.Short() || respool.RaceDetector {
		limit /= 3
	}
	next := varyProcs(t)
	defer unsettle()()
	var n tally
	for until := time.Now().Add(limit); time.Now().Before(until) || n.histories < 100; {
		next()
		seed := rand.Uint64()
		size := 1 + int(seed%4)
		p, marks := smallPool(t, size)
		if ops := checked(&n, poolStock{p}, size, marks, seed); ops != nil {
			t.Fatalf("seed %d, %d elements: not linearizable\n%s", seed, size, describe(size, ops))
		}
		if s := p.Stats(); s.Free != size || s.InUse != 0 || s.Reserved != 0 {
			t.Fatalf("seed %d, all of %d is back: %+v", seed, size, s)
		}
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n.empty == 0 || n.drawn == 0 {
		t.Errorf("the histories show nothing: %+v", n)
	}
	t.Logf("%+v", n)
}

// smallPool makes a pool of the elements 1 to size, which stay as many: its worker sleeps.
// marks is how many elements each class leaves.
func smallPool(t *testing.T, size int) (p *respool.Pool[int], marks []int) {
	made := 0
	src := source.Values[int]{New: func() (int, error) { made++; return made, nil }}
	o := respool.Options{Min: size, Low: size, High: size, Max: size + 2, MinInterval: 1 << 40}
	if rand.IntN(2) == 0 {
		o.OrdinaryMark = rand.IntN(size)
		o.AtomicMark = rand.IntN(o.OrdinaryMark + 1)
	}
	p, err := respool.New(context.Background(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, []int{respool.Ordinary: o.OrdinaryMark, respool.Atomic: o.AtomicMark, respool.Critical: 0}
}

type poolStock struct{ p *respool.Pool[int] }

func (s poolStock) as(class int) respool.Access[int]    { return s.p.As(respool.Class(class)) }
func (s poolStock) get(class int) (int, error)          { return s.as(class).Get() }
func (s poolStock) getBatch(dst []int, class int) error { return s.as(class).GetBatch(dst) }
func (s poolStock) put(e int) error                     { return s.p.Put(e) }
func (s poolStock) putBatch(es []int) error             { return s.p.PutBatch(es) }
func (s poolStock) reserve(n, class int) (part, error)  { return newPart(s.as(class).Reserve(n)) }

type poolPart struct{ r *respool.Reservation[int] }

func newPart(r *respool.Reservation[int], err error) (part, error) {
	if err != nil {
		return nil, err
	}
	return poolPart{r}, nil
}

func (p poolPart) add(n int) error           { return p.r.Add(n) }
func (p poolPart) get() (int, error)         { return p.r.Get() }
func (p poolPart) put(e int) error           { return p.r.Put(e) }
func (p poolPart) split(n int) (part, error) { return newPart(p.r.Split(n)) }
func (p poolPart) giveBack() error           { return p.r.Return() }

package measure

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Neighbour is what runs beside a measurement.
type Neighbour string

const (
	Idle       Neighbour = ""         // nothing
	Collector  Neighbour = "gc"       // a goroutine that makes garbage and collects it
	Storm      Neighbour = "storm"    // a goroutine that drains the same pools and fills them again
	Everything Neighbour = "gc+storm" // both
)

// rest is what neighbours leave to others between two rounds: with two processors a third
// goroutine that never stops would show nothing but the scheduler.
const rest = time.Millisecond

// neighbours are what runs beside a cell.
type neighbours struct {
	over    atomic.Bool
	running sync.WaitGroup
	storm   *storm // nil without one
}

// start starts the neighbour of a cell, and returns when each has done a first round.
func (n Neighbour) start(ctx context.Context, c *Cell) (*neighbours, error) {
	b := &neighbours{}
	var rounds []func()
	if n == Storm || n == Everything {
		w, err := c.Way.Worker(ctx, c.Shape, c.threads(), stormSlots)
		if err != nil {
			return nil, err
		}
		b.storm = &storm{w: w, over: &b.over}
		rounds = append(rounds, b.storm.rage)
	}
	if n == Collector || n == Everything {
		rounds = append(rounds, collect)
	}
	var begun sync.WaitGroup
	begun.Add(len(rounds))
	for _, round := range rounds {
		b.running.Go(func() {
			round()
			begun.Done()
			for !b.over.Load() {
				time.Sleep(rest)
				round()
			}
		})
	}
	begun.Wait()
	return b, nil
}

// stop ends them and waits for that. It says how often a storm had found a pool dry.
func (b *neighbours) stop() (dry int64, err error) {
	b.over.Store(true)
	b.running.Wait()
	if b.storm == nil {
		return 0, nil
	}
	return b.storm.dry, errors.Join(b.storm.err, b.storm.w.Close())
}

// A node is garbage that the collector has to follow.
type node struct {
	next *node
	_    [6]uint64
}

var keep atomic.Pointer[node]

// collect makes a megabyte of garbage and has it collected.
func collect() {
	var list *node
	for range 1 << 20 / 64 {
		list = &node{next: list}
	}
	keep.Store(list)
	runtime.GC()
	keep.Store(nil)
}

// What a storm takes at most if nothing runs dry before.
const (
	stormSlots = 16384
	stormTime  = 20 * time.Millisecond
)

// A storm takes all that there is.
type storm struct {
	w    Worker
	over *atomic.Bool
	dry  int64 // rounds that ended for want of something ready
	err  error
}

// rage maps until that is refused, keeps all for a while, and unmaps it.
func (s *storm) rage() {
	mapped := 0
	for begin := now(); s.err == nil && mapped < stormSlots && now()-begin < int64(stormTime) && !s.over.Load(); mapped++ {
		if err := s.w.Map(mapped); err != nil {
			s.refused(err)
			break
		}
	}
	for slot := range mapped {
		if err := s.w.Unmap(slot); err != nil && s.err == nil {
			s.err = err
		}
	}
	if err := s.w.Flush(); err != nil && s.err == nil {
		s.err = err
	}
}

// refused keeps a pool dry for a while.
func (s *storm) refused(err error) {
	if !Dry(err) {
		s.err = err
		return
	}
	s.dry++
	time.Sleep(rest)
}

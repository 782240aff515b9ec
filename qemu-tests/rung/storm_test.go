//go:build linux

package rung_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gommu/iommu"
	"gommu/pagetable"
	"gommu/qemu-tests/rung"
	"gommu/respool"
	"gommu/respool/source"
	"gommu/vfio/edu"
)

var stormTime = flag.Duration("storm", 2*time.Second, "how long each storm lasts")

// A storm is workers that map, unmap and have devices copy, all at random, in one
// domain. Whatever they do, bytes arrive where they were sent and nowhere else,
// and nothing is lost.
type storm struct {
	m       *rung.Machine
	devices [2]device
	end     time.Time
	broken  atomic.Bool // something failed: all stop

	ops, copies, empty, droughts, inFlight, slow atomic.Int64
}

// A device is used by one worker at a time.
type device struct {
	sync.Mutex
	*edu.Device
}

// A stormKind is where and how a storm rages.
type stormKind struct {
	name    string
	rung    string
	mode    rung.Mode
	domain  iommu.Options
	workers int
	failNth int // every so manieth frame is refused by the source
	drain   bool
}

var (
	lazy   = iommu.Flush{Policy: iommu.Batched, Count: 32, Deadline: 2 * time.Millisecond}
	bounce = iommu.Bounce{On: true}
)

func TestStorm(t *testing.T) {
	for _, k := range []stormKind{
		{"strict", "model", rung.Legacy, iommu.Options{Bounce: bounce}, 4, 0, false},
		{"batched", "model", rung.ScalableSecond, iommu.Options{Flush: lazy, Guard: true, Bounce: bounce}, 4, 0, false},
		{"random", "model", rung.ScalableFirst, iommu.Options{Flush: lazy, Random: true}, 3, 0, false},
		{"dry", "model", rung.Legacy, iommu.Options{Flush: lazy}, 4, 0, true},
		{"faulty", "model", rung.Legacy, iommu.Options{Flush: lazy, Bounce: bounce}, 4, 3, true},
		{"batched", "qtest", rung.Legacy, iommu.Options{Flush: lazy, Bounce: bounce}, 3, 0, true},
		{"strict", "qtest", rung.ScalableFirst, iommu.Options{}, 2, 0, false},
	} {
		t.Run(k.rung+"/"+k.name, func(t *testing.T) { runStorm(t, k) })
	}
}

func runStorm(t *testing.T, k stormKind) {
	require(t, k.rung)
	k.domain.Check, k.domain.MaxMappings = true, 8192
	o := rung.Options{Mode: k.mode, Domain: k.domain, Devices: 2, Memory: 64 << 20}
	faulty := &source.Faulty[pagetable.Frame]{}
	o.WrapFrames = func(s respool.Source[pagetable.Frame]) respool.Source[pagetable.Frame] {
		faulty.Source = s
		return faulty
	}
	m, err := rung.Open(t.Context(), k.rung, o)
	if why, ok := errors.AsType[rung.Unavailable](err); ok {
		t.Skip(why)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &storm{m: m, end: time.Now().Add(*stormTime)}
	for i := range s.devices {
		if s.devices[i].Device, err = m.Devices[i].Edu(); err != nil {
			t.Fatal(err)
		}
	}
	if k.failNth > 0 {
		for n := range 10000 {
			faulty.OnAlloc.FailNth(faulty.OnAlloc.Stats().Calls+1+n*k.failNth, errInjected)
		}
	}
	s.rage(t, k)
	faulty.OnAlloc.Clear()
	if k.drain && s.droughts.Load() == 0 {
		t.Error("there was no drought")
	}
	for i := range s.devices {
		err = errors.Join(err, s.devices[i].Close())
	}
	if err := errors.Join(err, m.Close()); err != nil {
		t.Error(err)
	}
	t.Logf("%d operations, %d copies compared, %d transfers under way at an unmap, %d times dry, %d in droughts, %d times slow", s.ops.Load(), s.copies.Load(), s.inFlight.Load(), s.empty.Load(), s.droughts.Load(), s.slow.Load())
	if k.rung == "model" && s.slow.Load() > 3+s.ops.Load()/20000 {
		// It answers in the goroutine that asks. So this is rare there: the system took the processor away from whoever
		// was at it, for longer than the others spin.
		t.Error("the unit does not answer")
	}
	if s.copies.Load() == 0 || s.inFlight.Load() == 0 {
		t.Error("the storm did not come up")
	}
}

var errInjected = errors.New("injected")

// rage runs the workers until the time is over.
func (s *storm) rage(t *testing.T, k stormKind) {
	var all sync.WaitGroup
	seed := rand.Uint64()
	for i := range k.workers {
		all.Go(func() {
			if err := s.work(t.Context(), rand.New(rand.NewPCG(seed, uint64(i))), k); err != nil {
				s.broken.Store(true)
				t.Errorf("worker %d of seed %#x: %v", i, seed, err)
			}
		})
	}
	if k.drain {
		all.Go(func() {
			for s.going() {
				if err := s.drought(t.Context()); err != nil {
					s.broken.Store(true)
					t.Errorf("drought: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

// going says whether the workers go on: until the time is over, and on a slow machine until the storm has shown
// something.
func (s *storm) going() bool {
	now, shown := time.Now(), s.copies.Load() > 20 && s.inFlight.Load() > 2
	return !s.broken.Load() && (now.Before(s.end) || !shown && now.Before(s.end.Add(2*time.Minute)))
}

// drought takes every frame that there is, and maps until nothing is left of what was ready, and holds
// both for a while.
func (s *storm) drought(ctx context.Context) (err error) {
	mem, err := s.m.Memory.Alloc(ctx, 4096)
	if err != nil {
		return err
	}
	region, err := s.m.Domain.Register(ctx, mem, iommu.Bidirectional)
	if err != nil {
		return err
	}
	var frames []pagetable.Frame
	var hoard []iommu.Mapping
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		if f, err := s.m.Tables.Frames.Get(); err == nil {
			frames = append(frames, f)
			continue
		}
		m, err := s.m.Domain.Map(mem, iommu.Bidirectional)
		switch {
		case err == nil:
			hoard = append(hoard, m)
		case isDry(err):
			s.droughts.Add(1)
			time.Sleep(100 * time.Microsecond) // until a worker has made more, which is to be held, too
		default:
			return err
		}
	}
	return errors.Join(s.patient(s.m.Domain.UnmapBatch(hoard)), s.m.Tables.Frames.PutBatch(frames), s.rain(ctx, mem), region.Close(), s.m.Memory.Free(mem))
}

// rain waits until there is enough of everything again.
func (s *storm) rain(ctx context.Context, mem []byte) error {
	var all []iommu.Mapping
	for end := time.Now().Add(time.Minute); len(all) < 100; {
		m, err := s.m.Domain.Map(mem, iommu.Bidirectional)
		switch {
		case err == nil:
			all = append(all, m)
		case !isDry(err) || time.Now().After(end):
			return errors.Join(fmt.Errorf("after a drought: %w", err), s.patient(s.m.Domain.UnmapBatch(all)))
		default:
			time.Sleep(time.Millisecond)
		}
	}
	return s.patient(s.m.Domain.UnmapBatch(all))
}

// patient passes errors on, but for that a unit is slower than a call can wait that does not sleep, as QEMU's
// is on a machine with much else to do: what was unmapped is out of use until the unit has answered. runStorm counts them.
func (s *storm) patient(err error) error {
	if errors.Is(err, iommu.ErrFlush) {
		s.slow.Add(1)
		return nil
	}
	return err
}

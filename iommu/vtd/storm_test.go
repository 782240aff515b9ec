package vtd_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"gommu/internal/procpin"
	"gommu/iommu"
	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// stormArea is where the i-th goroutine maps: a directory of its own, below one
// that stays.
func stormArea(i int) uint64 { return 0x10_0000_0000 + uint64(i)<<30 }

// TestBeginStorm flushes from several goroutines while others attach, detach
// and invalidate. No device reaches what was unmapped once its flush is done.
func TestBeginStorm(t *testing.T) {
	for _, m := range append(bindModes[:len(bindModes):len(bindModes)],
		bindMode{"device TLB", model.Config{DeviceTLB: true}, vtd.Legacy, pagetable.SecondStage},
		bindMode{"scalable device TLB", model.Config{DeviceTLB: true, CachingMode: true}, vtd.Scalable, pagetable.FirstStage},
	) {
		t.Run(m.name, func(t *testing.T) {
			s := bindOn(t, m.c, m.mode, m.stage)
			if m.c.DeviceTLB {
				err := errors.Join(s.b.Detach(0x18), s.u.SetDeviceTLB(0x18, &vtd.DeviceTLB{}), s.b.Attach(0x18))
				if err != nil {
					t.Fatal(err)
				}
				s.hw.Device(0x18).SetATS(true)
			}
			if m.c.WriteBufferFlush && m.mode == vtd.Scalable && !procpin.Works {
				t.Skip("write buffers: the model copies memory, for which the race detector takes minutes; legacy mode has the same buffers")
			}
			rounds := 200
			if m.c.WriteBufferFlush { // copies memory
				rounds = 20
			}
			if !procpin.Works { // the race detector takes its time
				rounds /= 10
			}
			s.storm(t, rounds)
			if v := s.hw.Violations(); len(v) != 0 {
				t.Errorf("%q", v)
			}
		})
	}
}

func (s *bound) storm(t *testing.T, rounds int) {
	const flushers = 4
	for i := range flushers {
		s.ram[modelData-firstBus+uint64(i+1)<<12] = byte(i + 1)
	}
	keep := stormArea(flushers)
	if err := errors.Join(s.table.Map(keep, modelData, pagetable.FrameSize, pagetable.Read), s.b.Publish(keep, pagetable.FrameSize)); err != nil {
		t.Fatal(err)
	}
	var running atomic.Int32
	var flushing, sleeping sync.WaitGroup
	running.Store(flushers)
	for i := range flushers {
		flushing.Go(func() {
			defer running.Add(-1)
			for n := range rounds {
				if err := s.cycle(i, n); err != nil {
					t.Errorf("goroutine %d, round %d: %v", i, n, err)
					return
				}
			}
		})
	}
	sleeping.Go(func() {
		for n := 0; running.Load() > 0; n++ {
			err := errors.Join(s.b.Attach(0x20), s.u.Invalidate(s.b.DomainID(), 0x1000, 0x1000), s.b.Detach(0x20))
			if n%8 == 0 {
				err = errors.Join(err, s.u.InvalidateAll())
			}
			_, _, faults := s.u.Faults()
			if err := errors.Join(err, faults); err != nil {
				t.Error(err)
				return
			}
			_ = s.u.Stats()
		}
	})
	flushing.Wait()
	sleeping.Wait()
}

// cycle maps a page, has the device read it, unmaps and flushes it, and has the
// device try again.
func (s *bound) cycle(i, n int) error {
	d, buf := s.hw.Device(0x18), make([]byte, 1)
	iova, size := stormArea(i)+uint64(n%3)<<12, uint64(pagetable.FrameSize)
	err := s.table.Map(iova, modelData+uint64(i+1)<<12, size, pagetable.Read)
	for errors.Is(err, respool.ErrEmpty) {
		runtime.Gosched()
		err = s.table.Map(iova, modelData+uint64(i+1)<<12, size, pagetable.Read)
	}
	if err == nil {
		err = s.b.Publish(iova, size)
	}
	for errors.Is(err, iommu.ErrBusy) { // who tells the unit something does not run at this moment
		runtime.Gosched()
		err = s.b.Publish(iova, size)
	}
	if err != nil {
		return err
	}
	if err := d.Read(iova, buf); err != nil || buf[0] != byte(i+1) {
		return fmt.Errorf("reads page %d, want %d: %v", buf[0], i+1, err)
	}
	var batch pagetable.Batch
	if _, err := s.table.Unmap(iova, size, &batch); err != nil {
		return err
	}
	at, length := iova, size
	if n%5 == 0 {
		at, length = 0, 0
	}
	ticket, err := s.b.Begin(at, length, batch.Tables() == 0)
	for err == iommu.ErrBusy {
		runtime.Gosched()
		ticket, err = s.b.Begin(at, length, batch.Tables() == 0)
	}
	for done := false; err == nil && !done; runtime.Gosched() {
		done, err = s.b.Done(ticket)
	}
	if err := errors.Join(err, batch.Release()); err != nil {
		return err
	}
	if err := d.Read(iova, buf); !errors.Is(err, model.ErrBlocked) {
		return fmt.Errorf("after its flush the page is still reached: %v", err)
	}
	return nil
}

// TestBeginMute lets a device of the model keep what it has in its TLB: a flush
// does not count as done before the device has answered.
func TestBeginMute(t *testing.T) {
	for _, m := range []bindMode{
		{"legacy", model.Config{DeviceTLB: true}, vtd.Legacy, pagetable.SecondStage},
		{"scalable", model.Config{DeviceTLB: true}, vtd.Scalable, pagetable.FirstStage},
	} {
		t.Run(m.name, func(t *testing.T) {
			s := bindOn(t, m.c, m.mode, m.stage)
			d, buf := s.hw.Device(0x18), make([]byte, 1)
			if err := errors.Join(s.b.Detach(0x18), s.u.SetDeviceTLB(0x18, &vtd.DeviceTLB{}), s.b.Attach(0x18)); err != nil {
				t.Fatal(err)
			}
			d.SetATS(true)
			for range 200 { // around the queue
				var batch pagetable.Batch
				err := s.table.Map(0x1000, modelData, pagetable.FrameSize, pagetable.Read)
				if err := errors.Join(err, d.Read(0x1000, buf)); err != nil {
					t.Fatal(err)
				}
				d.SetMute(true)
				if _, err := s.table.Unmap(0x1000, pagetable.FrameSize, &batch); err != nil {
					t.Fatal(err)
				}
				before, err := s.b.Begin(0x1000, pagetable.FrameSize, false)
				if err := errors.Join(err, awaited(s.b, before)); !errors.Is(err, iommu.ErrFlush) {
					t.Fatal(err)
				}
				if err := errors.Join(s.b.Recover(), d.Read(0x1000, buf)); !errors.Is(err, iommu.ErrFlush) || errors.Is(err, model.ErrBlocked) {
					t.Fatalf("while it is mute: %v", err)
				}
				d.SetMute(false)
				if err := errors.Join(s.b.Recover(), awaited(s.b, before), batch.Release()); err != nil {
					t.Fatal(err)
				}
				if err := d.Read(0x1000, buf); !errors.Is(err, model.ErrBlocked) {
					t.Fatalf("after recovery the page is reached: %v", err)
				}
			}
			if v := s.hw.Violations(); len(v) != 0 {
				t.Errorf("%q", v)
			}
		})
	}
}

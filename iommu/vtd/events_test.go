package vtd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
)

// bell is an interrupt that a test rings.
type bell chan struct{}

func (bell) Message() (uint64, uint32) { return 0x1_fee0_1000, 0x41 }

func (b bell) Wait(ctx context.Context) error {
	select {
	case <-b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// record puts a fault into the unit.
func (f *fakeUnit) recordFault(i int, iova uint64, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records[i] = [2]uint64{iova, 1<<63 | 5<<32 | 0x18}
	if lost {
		f.fault |= 1
	}
}

// TestFaultEventsPolled waits by the clock.
func TestFaultEventsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		u := b.enabled(t, vtd.Options{FaultPoll: time.Minute, Timeout: time.Second})
		start := time.Now()
		go func() {
			for i := range 3 {
				time.Sleep(150 * time.Second)
				b.recordFault(0, uint64(i+1)<<12, i == 1)
			}
		}()
		n := 0
		for e, err := range u.FaultEvents(t.Context()) {
			n++
			if err != nil || e.Fault.IOVA != uint64(n)<<12 || e.Lost != (n == 2) {
				t.Fatalf("event %d: %+v %v", n, e, err)
			}
			if late := time.Since(start) - time.Duration(n)*150*time.Second; late < 0 || late > time.Minute {
				t.Errorf("event %d is %v late", n, late)
			}
			if n == 3 {
				break
			}
		}
		if got := u.Stats(); got.Faults != 3 || got.FaultsLost != 1 {
			t.Errorf("%+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for e, err := range u.FaultEvents(ctx) {
			t.Errorf("%+v %v after the last", e, err)
		}
	})
}

// TestFaultEventsInterrupt waits for the unit's message.
func TestFaultEventsInterrupt(t *testing.T) {
	b := newBench(t)
	b.capability |= 7 << 40
	ring := make(bell, 1)
	u := b.open(t, vtd.Options{FaultInterrupt: ring})
	if err := u.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([4]uint32{0, 0x41, 0xfee0_1000, 1}, b.event); diff != "" {
		t.Error(diff)
	}
	b.recordFault(0, 0x1000, false)
	b.recordFault(1, 0x2000, true)
	n := 0
	for e, err := range u.FaultEvents(t.Context()) {
		n++
		if err != nil || e.Fault.IOVA != uint64(n)<<12 || e.Lost != (n == 2) {
			t.Fatalf("event %d: %+v %v", n, e, err)
		}
		if n == 2 {
			b.recordFault(0, 0x3000, false)
			ring <- struct{}{}
		}
		if n == 3 {
			break
		}
	}
	b.mu.Lock()
	b.fault |= 1 // lost, and nothing recorded
	b.mu.Unlock()
	for e, err := range u.FaultEvents(t.Context()) {
		if err != nil || e != (vtd.FaultEvent{Lost: true}) {
			t.Errorf("%+v %v", e, err)
		}
		break
	}
	if err := u.Disable(t.Context()); err != nil || b.event[0] != 1<<31 {
		t.Errorf("%v, FECTL %#x", err, b.event[0])
	}
}

func TestFaultEventsEnd(t *testing.T) {
	b := newBench(t)
	u := b.enabled(t, vtd.Options{})
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	ended := error(nil)
	for _, err := range u.FaultEvents(t.Context()) {
		ended = errors.Join(ended, err)
	}
	if !errors.Is(ended, vtd.ErrClosed) {
		t.Errorf("after Close: %v", ended)
	}
	b = newBench(t)
	u = b.enabled(t, vtd.Options{FaultInterrupt: broken{}})
	ended = nil
	for _, err := range u.FaultEvents(t.Context()) {
		ended = errors.Join(ended, err)
	}
	if !errors.Is(ended, errBroken) {
		t.Errorf("with a broken interrupt: %v", ended)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Message() (uint64, uint32)  { return 0, 0 }
func (broken) Wait(context.Context) error { return errBroken }

func ExampleFault() {
	f, _ := vtd.DecodeFault(0x7000, 1<<63|0x85<<32|5<<40|1<<31|1<<29|0x18)
	fmt.Println(f)
	// Output: privileged write of iova 0x7000 by 00:03.0 PASID 0x5: no write permission (0x85)
}

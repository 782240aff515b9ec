package vtd_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// A hostile unit answers with whatever it was given, and now and then writes
// into the memory that it was told of, which is what a unit can do.
//
//gommu:maysleep it is a test's
type hostile struct {
	*fakeUnit
	answers []byte
	honest  bool // while the unit is opened
}

// next is the next 8 bytes of the answers, and false when there are no more.
func (h *hostile) next() (uint64, bool) {
	if len(h.answers) < 9 {
		return 0, false
	}
	kind, v := h.answers[0], binary.LittleEndian.Uint64(h.answers[1:])
	h.answers = h.answers[9:]
	if kind&1 == 0 {
		return 0, false // the truth, once
	}
	if kind&2 != 0 { // as if it had written a status
		for i := range uint64(poolFrames) {
			h.mem.Entries(frameAt(i))[0] = v
		}
	}
	return v, true
}

func (h *hostile) Read32(off uint64) uint32 {
	if v, ok := h.next(); ok && !h.honest {
		return uint32(v)
	}
	return h.fakeUnit.Read32(off)
}

func (h *hostile) Read64(off uint64) uint64 {
	if v, ok := h.next(); ok && !h.honest {
		return v
	}
	return h.fakeUnit.Read64(off)
}

// FuzzHostile runs a life on a unit that lies: no call panics or hangs.
func FuzzHostile(f *testing.F) {
	answer := func(kind byte, v uint64) []byte { return binary.LittleEndian.AppendUint64([]byte{kind}, v) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	stops := join(answer(1, 0x10), answer(1, 0xfff0), answer(1, 3), answer(1, 0x40), answer(1, 0), answer(1, 0x18<<32))
	for mode := range byte(4) {
		f.Add(mode, []byte{})
		f.Add(mode, stops)
		f.Add(mode, join(stops, stops, stops, answer(3, 5), answer(1, 0x71)))
		f.Add(mode, join(answer(1, 0x02), answer(1, ^uint64(0)), answer(1, 1), answer(0, 0), stops))
	}
	f.Fuzz(func(t *testing.T, mode byte, answers []byte) {
		b := newBench(t)
		b.quiet, b.lenient = true, true
		b.extra |= ecapScalable | ecapDT
		b.lag = int(mode >> 4 & 3)
		h := &hostile{fakeUnit: b.fakeUnit, answers: answers, honest: mode&2 == 0}
		// The mode of an honest start lets the rest of the life be hostile.
		opts := vtd.Options{Mode: vtd.Mode(mode & 1), Timeout: time.Millisecond, Adopt: mode&4 != 0}
		if h.honest {
			h.answers = nil
		}
		u, err := vtd.Open(h, b.mem, b.frames, opts)
		h.honest, h.answers = false, answers
		if err == nil {
			u.SetDeviceTLB(0x18, &vtd.DeviceTLB{})
			ctx := context.Background()
			for _, c := range calls(opts.Mode) {
				if c.name != "close" {
					c.do(u)
				}
			}
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			for range u.FaultEvents(short) {
				break
			}
			cancel()
			h.answers = nil
			b.unstick()
			b.fault = 0
			if err := u.Close(); err != nil {
				// A queue that was told lies may be beyond what Close can settle:
				// then it keeps the frames, and says so.
				b.status = 0
				if err := u.Close(); err != nil {
					t.Fatalf("close: %v", err)
				}
			}
		}
		for i := range uint64(poolFrames) {
			clear(b.mem.Entries(frameAt(i))[:])
		}
	})
}

// frameAt is the bench's i-th frame.
func frameAt(i uint64) pagetable.Frame { return pagetable.Frame{Bus: firstBus + i*pagetable.FrameSize} }

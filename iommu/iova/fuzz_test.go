package iova

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// FuzzAllocWait makes calls of AllocWait and FreeWait from bytes, eight for each, and compares them with a map of
// pages.
func FuzzAllocWait(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{3, 0, 10, 0, 3, 0, 0, 0, 0, 0, 30, 0, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 4096 {
			return
		}
		const pages = 2048
		h := newHooks()
		o := h.in(small())
		o.Ranges[0].Last = pages*PageSize - 1
		o.Reserved = []Range{{700 * PageSize, 702 * PageSize}}
		o.Guard = data[0]&1 != 0
		o.Random, o.Seed = data[0]&2 != 0, 1
		if data[0]&4 != 0 {
			h.fail = func(call int) bool { return call%int(2+data[0]>>3) == 0 }
		}
		s := open(t, o)
		l := newLedger(t, o, h)
		free := make(pageMap, pages)
		for _, r := range l.usable {
			free.set(r, true)
		}
		var ws []Window
		for data := data[1:]; len(data) >= 8; data = data[8:] {
			if n := len(ws); data[0]&3 == 0 && n > 0 {
				w := ws[int(data[1])%n]
				ws = slices.DeleteFunc(ws, func(o Window) bool { return o == w })
				l.remove(w)
				if err := s.FreeWait(w); err != nil {
					t.Fatal(err)
				}
				if err := s.FreeWait(w); !errors.Is(err, ErrNotOut) {
					t.Fatalf("freed twice: %v", err)
				}
				free.set(run{w.Start >> pageBits, (w.Start+w.Size)>>pageBits + l.guard}, true)
				continue
			}
			q := request(data)
			w, err := s.AllocWait(context.Background(), q)
			h.check(t)
			if err == nil {
				l.add(t, w, q.Size)
				checkAgainst(t, free, q, w, l.guard)
				ws = append(ws, w)
				continue
			}
			want, at, bad := q.want(l.guard)
			fits := false
			if bad == nil && at == nil {
				_, fits = free.find(want)
			} else if bad == nil {
				fits = free.fits(want, *at)
			}
			late := s.Stats().Retiring > 0 // and its free range is out of reach
			switch {
			case errors.Is(err, ErrBadRequest), errors.Is(err, ErrSize):
				if bad == nil {
					t.Fatalf("%+v: %v", q, err)
				}
			case errors.Is(err, ErrNoSpace), errors.Is(err, ErrInUse):
				if fits && !late {
					t.Fatalf("%+v: %v, but there is room", q, err)
				}
			case errors.Is(err, ErrNumbers):
				if len(ws) < o.MaxWindows {
					t.Fatalf("%+v: %v with %d windows", q, err, len(ws))
				}
			case !errors.Is(err, errHook):
				t.Fatalf("%+v: %v", q, err)
			}
		}
		for _, w := range ws {
			l.remove(w)
			if err := s.FreeWait(w); err != nil {
				t.Fatal(err)
			}
		}
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		shut(t, s, h)
	})
}

// request is what eight bytes ask for.
func request(b []byte) Request {
	q := Request{Size: (uint64(b[1]) | uint64(b[2]&7)<<8) << 11, Align: 1 << (b[3] & 31)}
	if b[0]&4 != 0 {
		q.Boundary = 1 << (12 + b[3]>>5)
	}
	if b[0]&8 != 0 {
		q.Below = uint64(b[4])<<15 | 1
	}
	if b[0]&16 != 0 {
		q.Fixed, q.At = true, (uint64(b[5])|uint64(b[6]&15)<<8)<<pageBits
		if b[0]&32 != 0 {
			q.Align = 0
		}
	}
	if b[0]&64 != 0 {
		q.Align ^= uint64(b[7]) << 12
	}
	return q
}

// checkAgainst checks w, that q asked for, against the free pages, and takes it out of these.
func checkAgainst(t *testing.T, free pageMap, q Request, w Window, guard uint64) {
	t.Helper()
	want, at, err := q.want(guard)
	from := w.Start >> pageBits
	if err != nil || !free.fits(want, from) || at != nil && *at != from || w.Size != want.body<<pageBits {
		t.Fatalf("%+v: %+v, %v", q, w, err)
	}
	free.set(run{from, from + want.pages}, false)
}

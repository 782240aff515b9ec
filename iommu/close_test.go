package iommu_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"gommu/iommu"
	"gommu/iommu/model"
)

// A domain with live mappings is not closed, and says which there are; forced, it is. Closed is closed.
func TestClose(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Name: "net0", Flush: p.f})
			var all []iommu.Mapping
			for i := range 7 {
				all = append(all, r.mapped(r.data(i*page, page), iommu.ToDevice))
			}
			if n := len(r.d.Live()); n != 7 {
				t.Errorf("%d live, want 7", n)
			}
			err := r.d.Close(t.Context())
			want(t, err, iommu.ErrMapped)
			for _, part := range []string{"net0", "0x1000 bytes at 0x", "3 more"} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
			r.reached(all[0].IOVA()) // nothing has changed
			want(t, r.d.Unmap(all[0]), nil)
			want(t, r.d.CloseForced(t.Context()), nil)
			for _, m := range all {
				r.blocked(m.IOVA())
			}
			want(t, r.d.Close(t.Context()), nil)
			want(t, r.d.CloseForced(t.Context()), nil)

			_, err = r.d.Map(r.data(0, page), iommu.ToDevice)
			if !errors.Is(err, iommu.ErrClosed) && !errors.Is(err, iommu.ErrNotRegistered) {
				t.Errorf("map after close: %v", err)
			}
			want(t, r.d.Unmap(all[1]), iommu.ErrNotMapped)
			want(t, r.d.Flush(t.Context()), iommu.ErrClosed)
			want(t, r.d.Attach(iommu.Device{Source: 1, Unit: r.u}), iommu.ErrClosed)
			want(t, r.d.Detach(iommu.Device{Source: rigSource, Unit: r.gate}), iommu.ErrClosed)
		})
	}
}

// Close among calls on other goroutines is refused while something is mapped, and lets nothing through that
// is made at the same time.
func TestCloseAtOnce(t *testing.T) {
	for range 20 {
		r := newRig(t, settings[0], batched(8))
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for {
					m, err := r.d.Map(r.data(g*page, page), iommu.Bidirectional)
					switch {
					case errors.Is(err, iommu.ErrClosed), errors.Is(err, iommu.ErrNotRegistered):
						if r.d.Closed() {
							return
						}
						continue
					case errors.Is(err, iommu.ErrEmpty):
						continue
					case err != nil:
						t.Error(err)
						return
					}
					if err := r.d.Unmap(m); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for {
			err := r.d.Close(context.Background())
			if err == nil {
				break
			}
			if !errors.Is(err, iommu.ErrMapped) {
				t.Fatal(err)
			}
		}
		wg.Wait()
		r.close()
	}
}

// What a caller got wrong is said, each by its error, and nothing has changed.
func TestBadInput(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{Mask: 1<<40 - 1})
	o := newUnit(t, settings[0])
	o.domain(settings[0], iommu.Options{})
	reads, err := r.d.Register(t.Context(), o.data(0, 4*page), iommu.ToDevice)
	if err == nil {
		t.Fatal("memory was registered that the domain's Memory does not know", reads)
	}
	m := r.mapped(r.data(0, page), iommu.ToDevice)
	foreign := make([]byte, 100)
	into := func(_ iommu.Mapping, err error) error { return err }
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"unregistered", into(r.d.Map(foreign, iommu.ToDevice)), iommu.ErrNotRegistered},
		{"empty", into(r.d.Map(nil, iommu.ToDevice)), iommu.ErrZeroSize},
		{"no direction", into(r.d.Map(r.data(0, 1), 0)), iommu.ErrDirection},
		{"unknown direction", into(r.d.Map(r.data(0, 1), 9)), iommu.ErrDirection},
		{"overflow in a region", into(r.region.Map(page, math.MaxUint64, iommu.ToDevice)), iommu.ErrRange},
		{"beyond a region", into(r.region.Map(math.MaxUint64, page, iommu.ToDevice)), iommu.ErrRange},
		{"short of room", r.d.MapBatch([][]byte{foreign}, iommu.ToDevice, nil), iommu.ErrPieces},
		{"another domain's", o.d.Unmap(m), iommu.ErrNotMapped},
		{"the zero mapping", r.d.Unmap(iommu.Mapping{}), iommu.ErrNotMapped},
		{"a part", r.d.Unmap(iommu.Part(m, 1, 10)), iommu.ErrPart},
		{"beyond its mask", r.d.Attach(iommu.Device{Source: 0x20, Mask: math.MaxUint32, Unit: r.u}), iommu.ErrMask},
		{"attached twice", r.d.Attach(iommu.Device{Source: rigSource, Unit: r.gate}), iommu.ErrAttached},
		{"no unit", r.d.Attach(iommu.Device{Source: 0x20}), iommu.ErrOptions},
		{"not attached", r.d.Detach(iommu.Device{Source: 0x20, Unit: r.u}), iommu.ErrNotAttached},
		{"region in use", r.region.Close(), iommu.ErrMapped},
		{"registered twice", func() error { _, err := r.d.Register(t.Context(), r.data(0, page), iommu.ToDevice); return err }(), iommu.ErrRegistered},
		{"wrong sync", r.d.SyncForCPU(m, 0, 1), iommu.ErrDirection},
	} {
		t.Run(c.name, func(t *testing.T) { want(t, c.err, c.want) })
	}
	want(t, r.d.Unmap(m), nil)
	want(t, r.d.Unmap(m), iommu.ErrNotMapped)
	for name, o := range map[string]iommu.Options{
		"mappings": {MaxMappings: -1}, "policy": {Flush: iommu.Flush{Policy: 7}}, "count": {Flush: iommu.Flush{Count: -1}},
		"mask": {Mask: 100}, "reserved": {Reserved: []iommu.IOVARange{{Start: 0, Last: math.MaxUint64}}},
	} {
		if _, err := iommu.New(t.Context(), r.mem, r.tables(0), o); !errors.Is(err, iommu.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// IOVAs stay within the mask and outside of what is reserved.
func TestPlacement(t *testing.T) {
	hole := iommu.IOVARange{Start: 1 << 29, Last: 3<<29 - 1}
	r := newUnit(t, settings[0])
	r.domain(settings[0], iommu.Options{Mask: 1<<31 - 1, Reserved: []iommu.IOVARange{hole}, Guard: true})
	var all []iommu.Mapping
	for {
		m, err := r.d.Map(r.data(0, 100*page), iommu.Bidirectional)
		if err != nil {
			want(t, err, iommu.ErrEmpty)
			break
		}
		first, last := m.IOVA(), m.IOVA()+m.Size()-1
		if last > 1<<31-1 || first <= hole.Last && last >= hole.Start {
			t.Fatalf("%#x to %#x is beyond the mask, or reserved", first, last)
		}
		if err := r.dev.Read(last+1, make([]byte, 1)); !errors.Is(err, model.ErrBlocked) {
			t.Fatalf("the page behind a mapping is reached: %v", err)
		}
		all = append(all, m)
		if len(all) == 300 {
			break
		}
	}
	want(t, r.d.UnmapBatch(all), nil)
	for _, m := range all {
		r.blocked(m.IOVA())
	}
}

// Two devices share a domain; detached, a device reaches nothing, the other one all.
func TestDevices(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, s, iommu.Options{})
			other := iommu.Device{Source: 0x40, Unit: r.gate}
			want(t, r.d.Attach(other), nil)
			m := r.mapped(r.data(0, page), iommu.ToDevice)
			r.reached(m.IOVA())
			dev, buf := r.hw.Device(0x40), make([]byte, 1)
			if err := dev.Read(m.IOVA(), buf); err != nil {
				t.Error(err)
			}
			want(t, r.d.Detach(other), nil)
			if err := dev.Read(m.IOVA(), buf); !errors.Is(err, model.ErrBlocked) {
				t.Errorf("detached: %v", err)
			}
			r.reached(m.IOVA())
			want(t, r.d.Detach(iommu.Device{Source: rigSource, Unit: r.gate}), nil)
			r.blocked(m.IOVA())
			if r.gate.closed != 1 {
				t.Errorf("the binding was closed %d times without devices, want once", r.gate.closed)
			}
			want(t, r.d.Attach(other), nil) // what is mapped it reaches at once
			if err := dev.Read(m.IOVA(), buf); err != nil {
				t.Error(err)
			}
			want(t, r.d.Unmap(m), nil)
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

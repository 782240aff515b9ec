package pci

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withList writes capabilities at the given offsets: id, offset, next.
func (c *memConfig) withList(start byte, caps ...[3]int) *memConfig {
	c.b[regStatus] |= statusCapList
	c.b[regCapPointer] = start
	for _, x := range caps {
		if x[1] < ConfigSize {
			c.b[x[1]], c.b[x[1]+1] = byte(x[0]), byte(x[2])
			continue
		}
		c.put(x[1], 4, uint32(x[0])|1<<16|uint32(x[2])<<20)
	}
	return c
}

func TestCapabilities(t *testing.T) {
	c := newConfig(4096).withList(0x41, // reserved low bits are ignored
		[3]int{CapMSI, 0x40, 0x80}, [3]int{CapPCIe, 0x80, 0x60}, [3]int{CapPM, 0x60, 0},
		[3]int{ExtCapATS, 0x100, 0x140}, [3]int{0x77, 0x140, 0xffc}, [3]int{0x78, 0xffc, 0})
	got, err := Capabilities(c)
	want := []Capability{
		{ID: CapMSI, Offset: 0x40}, {ID: CapPCIe, Offset: 0x80}, {ID: CapPM, Offset: 0x60},
		{ID: ExtCapATS, Version: 1, Extended: true, Offset: 0x100}, {ID: 0x77, Version: 1, Extended: true, Offset: 0x140},
		{ID: 0x78, Version: 1, Extended: true, Offset: 0xffc},
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	names := []string{"MSI", "PCI Express", "power management", "ATS", "extended capability 0x77"}
	for i, n := range names {
		if got[i].Name() != n {
			t.Errorf("name %q, want %q", got[i].Name(), n)
		}
	}
	if x, err := FindCapability(c, ExtCapATS, true); err != nil || x.Offset != 0x100 {
		t.Errorf("FindCapability(ATS) = %v, %v", x, err)
	}
	if _, err := FindCapability(c, CapMSIX, false); !errors.Is(err, ErrNoCapability) {
		t.Errorf("FindCapability(MSI-X): %v, want ErrNoCapability", err)
	}
}

func TestCapabilitiesNone(t *testing.T) {
	ones := newConfig(4096)
	ones.put(0x100, 4, 0xffffffff)
	for _, c := range []*memConfig{newConfig(256), newConfig(4096), ones, newConfig(256).withList(0)} {
		if caps, err := Capabilities(c); err != nil || len(caps) != 0 {
			t.Errorf("got %v, %v; want none", caps, err)
		}
	}
	cardbus := newConfig(256).withList(0xff, [3]int{CapPM, 0x80, 0})
	cardbus.b[regHeaderType] = byte(HeaderCardBus)
	cardbus.b[regCapCardBus] = 0x80
	if caps, err := Capabilities(cardbus); err != nil || len(caps) != 1 {
		t.Errorf("CardBus: %v, %v", caps, err)
	}
}

func TestCapabilitiesHostile(t *testing.T) {
	gone := newConfig(256)
	gone.put(regVendor, 4, 0xffffffff)
	tests := []struct {
		name string
		c    *memConfig
		want error
	}{
		{"loop on itself", newConfig(256).withList(0x40, [3]int{CapPM, 0x40, 0x40}), ErrCapabilityLoop},
		{"loop of three", newConfig(256).withList(0x40, [3]int{9, 0x40, 0x50}, [3]int{9, 0x50, 0x60}, [3]int{9, 0x60, 0x50}), ErrCapabilityLoop},
		{"loop through reserved bits", newConfig(256).withList(0x40, [3]int{9, 0x40, 0x43}), ErrCapabilityLoop},
		{"into the header", newConfig(256).withList(0x10, [3]int{9, 0x10, 0}), ErrCapabilityRange},
		{"MSI-X over the end", newConfig(256).withList(0xf8, [3]int{CapMSIX, 0xf8, 0}), ErrCapabilityRange},
		{"next in the header", newConfig(256).withList(0x40, [3]int{9, 0x40, 0x04}), ErrCapabilityRange},
		{"extended loop", newConfig(4096).withList(0, [3]int{0xb, 0x100, 0x100}), ErrCapabilityLoop},
		{"extended into the standard part", newConfig(4096).withList(0, [3]int{0xb, 0x100, 0x40}), ErrCapabilityRange},
		{"extended over the end", newConfig(4096).withList(0, [3]int{0xb, 0x100, 0xff0}, [3]int{ExtCapSRIOV, 0xff0, 0}), ErrCapabilityRange},
		{"extended beyond a short space", newConfig(512).withList(0, [3]int{0xb, 0x100, 0x200}), ErrCapabilityRange},
		{"space cut inside the first header", newConfig(258), ErrCapabilityRange},
		{"gone", gone, ErrNoAnswer},
	}
	for _, tt := range tests {
		caps, err := Capabilities(tt.c)
		if !errors.Is(err, tt.want) || caps != nil {
			t.Errorf("%s: %v, %v; want %v", tt.name, caps, err, tt.want)
		}
		var op *OpError
		if !errors.As(err, &op) {
			t.Errorf("%s: %T is not an OpError", tt.name, err)
		}
	}
}

func TestCapabilitiesReadErrors(t *testing.T) {
	list := func() *memConfig {
		return newConfig(4096).withList(0x40, [3]int{CapMSI, 0x40, 0x80}, [3]int{CapPM, 0x80, 0}, [3]int{ExtCapATS, 0x100, 0x140}, [3]int{ExtCapACS, 0x140, 0})
	}
	whole := list()
	if _, err := Capabilities(whole); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.n; n++ {
		c := list()
		c.failAt = n
		if caps, err := Capabilities(c); !errors.Is(err, errInjected) || caps != nil {
			t.Errorf("read %d of %d failed: %v, %v", n, whole.n, caps, err)
		}
	}
}

// FuzzCapabilities walks arbitrary configuration space: it must end, and what it returns must lie inside.
func FuzzCapabilities(f *testing.F) {
	f.Add(newConfig(256).b)
	f.Add(newConfig(4096).withList(0x40, [3]int{CapMSI, 0x40, 0x80}, [3]int{CapPM, 0x80, 0}, [3]int{ExtCapATS, 0x100, 0x140}).b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > ExtendedConfigSize {
			b = b[:ExtendedConfigSize]
		}
		c := &memConfig{b: b}
		caps, err := Capabilities(c)
		if c.n > 10+ExtendedConfigSize/4 {
			t.Fatalf("%d reads", c.n)
		}
		if err != nil {
			if caps != nil {
				t.Fatal("capabilities with an error")
			}
			return
		}
		seen := map[int]bool{}
		for _, x := range caps {
			if seen[x.Offset] || x.Offset%4 != 0 || x.Offset+x.kind().size > len(b) || x.Extended != (x.Offset >= ConfigSize) || x.Offset < 0x40 {
				t.Fatalf("%+v of %+v", x, caps)
			}
			seen[x.Offset] = true
			id := uint16(b[x.Offset])
			if x.Extended {
				id |= uint16(b[x.Offset+1]) << 8
			}
			if id != x.ID {
				t.Fatalf("%+v: configuration space says id %#x", x, id)
			}
		}
	})
}

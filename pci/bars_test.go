package pci

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// barDevice is a function with the given BARs, which it decodes as hardware does: bits below the size are wired
// to zero, flags are wired. It objects when somebody writes a BAR while it decodes.
func barDevice(t testing.TB, bars [6]BARInfo) *memConfig {
	c := newConfig(256)
	c.put(regCommand, 2, commandIO|commandMemory|commandMaster)
	var mask, wired [6]uint32
	for i := 0; i < 6; i++ {
		b := bars[i]
		if b.Size == 0 {
			continue
		}
		m := ^(b.Size - 1)
		mask[i] = uint32(m)
		switch {
		case b.IO:
			wired[i] = barIO
		case b.Is64:
			wired[i] = barType64
			mask[i+1] = uint32(m >> 32)
		}
		if b.Prefetchable {
			wired[i] |= barPrefetch
		}
		c.put(regBAR0+4*i, 4, uint32(b.Base)|wired[i])
		if b.Is64 {
			c.put(regBAR0+4*(i+1), 4, uint32(b.Base>>32))
			i++
		}
	}
	c.onSet = func(off, width int, v uint32) (uint32, bool) {
		if off < regBAR0 || off >= regBAR0+24 {
			return v, true
		}
		if c.b[regCommand]&(commandIO|commandMemory) != 0 && c.failAt == 0 {
			t.Errorf("BAR register %#x written while the function decodes", off)
		}
		i := (off - regBAR0) / 4
		return v&mask[i] | wired[i], true
	}
	return c
}

var someBARs = [6]BARInfo{
	{Base: 0xfe000000, Size: 1 << 20},
	{Base: 0xc000, Size: 32, IO: true},
	{Base: 0x38_00000000, Size: 8 << 30, Is64: true, Prefetchable: true},
	{},
	{Base: 0xfd000000, Size: 4096, Is64: true},
	{},
}

func TestProbeBARs(t *testing.T) {
	c := barDevice(t, someBARs)
	before := bytes.Clone(c.b)
	got, err := ProbeBARs(c)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(someBARs, got); d != "" {
		t.Error(d)
	}
	if !bytes.Equal(before, c.b) {
		t.Error("configuration space changed")
	}
}

// TestProbeBARsFailures fails every access in turn, with and without effect. Registers must be as before, but
// for the one whose restoring itself failed.
func TestProbeBARsFailures(t *testing.T) {
	whole := barDevice(t, someBARs)
	if _, err := ProbeBARs(whole); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2*whole.n; n++ {
		c := barDevice(t, someBARs)
		before := bytes.Clone(c.b)
		c.failAt, c.late = (n+1)/2, n%2 == 0
		_, err := ProbeBARs(c)
		if !errors.Is(err, errInjected) {
			t.Errorf("access %d of %d failed: %v", c.failAt, whole.n, err)
		}
		restoring := c.failAt > whole.n-7 // six BARs and the command register are written back last
		changed := 0
		for i := 0; i < len(before); i += 4 {
			if !bytes.Equal(before[i:i+4], c.b[i:i+4]) {
				changed++
			}
		}
		if changed > 1 || changed == 1 && (!restoring || c.late) {
			t.Errorf("access %d of %d failed: %d registers changed", c.failAt, whole.n, changed)
		}
	}
}

func TestProbeBARsAnyLayout(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var bars [6]BARInfo
		for i := 0; i < 6; i++ {
			var b BARInfo
			switch rapid.IntRange(0, 3).Draw(rt, fmt.Sprintf("kind%d", i)) {
			case 0:
				continue
			case 1:
				b = BARInfo{IO: true, Size: 1 << rapid.IntRange(2, 8).Draw(rt, "size")}
				b.Base = rapid.Uint64Range(0, 0xffff).Draw(rt, "base")
			case 2:
				b = BARInfo{Size: 1 << rapid.IntRange(4, 31).Draw(rt, "size"), Prefetchable: rapid.Bool().Draw(rt, "prefetchable")}
				b.Base = rapid.Uint64Range(0, 1<<32-1).Draw(rt, "base")
			case 3:
				if i == 5 {
					continue
				}
				b = BARInfo{Is64: true, Size: 1 << rapid.IntRange(4, 63).Draw(rt, "size"), Prefetchable: rapid.Bool().Draw(rt, "prefetchable")}
				b.Base = rapid.Uint64().Draw(rt, "base")
			}
			b.Base &^= b.Size - 1
			bars[i] = b
			if b.Is64 {
				i++
			}
		}
		c := barDevice(t, bars)
		before := bytes.Clone(c.b)
		got, err := ProbeBARs(c)
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(bars, got); d != "" {
			rt.Fatal(d)
		}
		if !bytes.Equal(before, c.b) {
			rt.Fatal("configuration space changed")
		}
	})
}

func TestProbeBARsRefuses(t *testing.T) {
	last := barDevice(t, [6]BARInfo{})
	last.put(regBAR0+20, 4, barType64)
	last.onSet = func(off, width int, v uint32) (uint32, bool) {
		if off == regBAR0+20 {
			v = v&0xfffffff0 | barType64
		} else if off >= regBAR0 && off < regBAR0+20 {
			v = 0
		}
		return v, true
	}
	holes := barDevice(t, [6]BARInfo{})
	holes.onSet = func(off, width int, v uint32) (uint32, bool) {
		if off >= regBAR0 && off < regBAR0+24 {
			v &= 0xf0f00000
		}
		return v, true
	}
	stuck := barDevice(t, [6]BARInfo{0: {Size: 16, Is64: true}})
	stuck.onSet = func(off, width int, v uint32) (uint32, bool) {
		if off >= regBAR0 && off < regBAR0+24 {
			return barType64, off == regBAR0 // no address bit can be written
		}
		return v, true
	}
	for name, c := range map[string]*memConfig{"64-bit in the last register": last, "holes": holes, "no writable bits": stuck} {
		before := bytes.Clone(c.b)
		if bars, err := ProbeBARs(c); !errors.Is(err, ErrBadBAR) {
			t.Errorf("%s: %+v, %v; want ErrBadBAR", name, bars, err)
		}
		if !bytes.Equal(before, c.b) {
			t.Errorf("%s: configuration space changed", name)
		}
	}
	odd := newConfig(256)
	odd.b[regHeaderType] = 5
	if _, err := ProbeBARs(odd); !errors.Is(err, ErrBadConfig) {
		t.Errorf("unknown header: %v", err)
	}
	bridge := newConfig(256)
	bridge.b[regHeaderType] = byte(HeaderBridge)
	bridge.onSet = func(off, width int, v uint32) (uint32, bool) {
		if off >= regBAR0+8 {
			t.Errorf("wrote register %#x of a bridge", off)
		}
		return v, off < regBAR0 // its two BARs are not implemented
	}
	if bars, err := ProbeBARs(bridge); err != nil || bars != [6]BARInfo{} {
		t.Errorf("bridge: %+v, %v", bars, err)
	}
}

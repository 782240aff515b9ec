package pci

import (
	"encoding/binary"
	"errors"
	"testing"
)

var errInjected = errors.New("injected")

// memConfig is configuration space in memory. It counts accesses and fails the failAt-th (from 1).
type memConfig struct {
	b      []byte
	onSet  func(off, width int, v uint32) (uint32, bool) // may change what is stored, or forbid it
	n      int
	failAt int
	late   bool // what fails happens all the same
}

func (c *memConfig) Size() int { return len(c.b) }

func (c *memConfig) fail() bool {
	c.n++
	return c.n == c.failAt
}

func (c *memConfig) Read(off, width int) (uint32, error) {
	if c.fail() {
		return 0, errInjected
	}
	if err := CheckAccess(len(c.b), off, width); err != nil {
		return 0, err
	}
	var v [4]byte
	copy(v[:width], c.b[off:])
	return binary.LittleEndian.Uint32(v[:]), nil
}

func (c *memConfig) Write(off, width int, v uint32) error {
	failed := c.fail()
	if failed && !c.late {
		return errInjected
	}
	if err := CheckAccess(len(c.b), off, width); err != nil {
		return err
	}
	if c.onSet != nil {
		var ok bool
		if v, ok = c.onSet(off, width, v); !ok {
			return nil
		}
	}
	c.put(off, width, v)
	if failed {
		return errInjected
	}
	return nil
}

func (c *memConfig) put(off, width int, v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	copy(c.b[off:off+width], b[:])
}

// newConfig is an edu device's configuration space.
func newConfig(size int) *memConfig {
	c := &memConfig{b: make([]byte, size)}
	c.put(regVendor, 4, 0x11e81234)
	c.put(regCommand, 4, 0x00100002)
	c.put(regRevision, 4, 0x00ff0010)
	c.put(regSubsystemVendor, 4, 0x11001af4)
	return c
}

func TestReadIDs(t *testing.T) {
	c := newConfig(256)
	c.put(regHeaderType, 1, 0x80)
	got, err := ReadIDs(c)
	want := IDs{Vendor: 0x1234, Device: 0x11e8, Class: 0x00ff00, Revision: 0x10, SubsystemVendor: 0x1af4, SubsystemDevice: 0x1100, MultiFunction: true}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	c.put(regHeaderType, 1, 0x01)
	if got, _ := ReadIDs(c); got.Header != HeaderBridge || got.SubsystemVendor != 0 {
		t.Errorf("bridge: %+v", got)
	}
	c.put(regVendor, 2, 0xffff)
	if _, err := ReadIDs(c); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("all ones: %v, want ErrNoAnswer", err)
	}
	for n := 1; n <= 6; n++ {
		c := newConfig(256)
		c.failAt = n
		if _, err := ReadIDs(c); !errors.Is(err, errInjected) {
			t.Errorf("access %d failed: error %v", n, err)
		}
	}
}

func TestCheckAccess(t *testing.T) {
	for _, x := range [][2]int{{-1, 1}, {256, 1}, {255, 2}, {254, 4}, {253, 4}, {1, 2}, {2, 4}, {0, 3}, {0, 0}, {0, 8}, {1 << 62, 4}} {
		if err := CheckAccess(256, x[0], x[1]); !errors.Is(err, ErrBadConfig) {
			t.Errorf("offset %d width %d: %v, want ErrBadConfig", x[0], x[1], err)
		}
	}
	for _, x := range [][2]int{{0, 1}, {255, 1}, {254, 2}, {252, 4}} {
		if err := CheckAccess(256, x[0], x[1]); err != nil {
			t.Errorf("offset %d width %d: %v", x[0], x[1], err)
		}
	}
}

func TestSetCommandBits(t *testing.T) {
	c := newConfig(256)
	for _, step := range []struct{ on, was bool }{{true, false}, {true, true}, {false, true}, {false, false}} {
		was, err := SetBusMaster(c, step.on)
		if err != nil || was != step.was {
			t.Fatalf("SetBusMaster(%v) = %v, %v; want %v", step.on, was, err, step.was)
		}
		if got := c.b[regCommand]&commandMaster != 0; got != step.on {
			t.Fatalf("bus master is %v after SetBusMaster(%v)", got, step.on)
		}
		if c.b[regCommand]&commandMemory == 0 {
			t.Fatal("SetBusMaster changed memory decoding")
		}
	}
	if was, err := SetMemoryDecode(c, false); !was || err != nil || c.b[regCommand] != 0 {
		t.Errorf("SetMemoryDecode(false) = %v, %v; command %#x", was, err, c.b[regCommand])
	}
	if _, err := SetINTxDisable(c, true); err != nil || c.b[regCommand+1] != commandINTxOff>>8 {
		t.Errorf("SetINTxDisable: %v, command %#x", err, c.b[regCommand+1])
	}

	c.onSet = func(off, width int, v uint32) (uint32, bool) { return 0, false }
	if _, err := SetBusMaster(c, true); !errors.Is(err, ErrBadConfig) {
		t.Errorf("a bit that does not take: %v, want ErrBadConfig", err)
	}
	c.put(regCommand, 2, 0xffff)
	if _, err := SetBusMaster(c, false); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a function that went away: %v, want ErrNoAnswer", err)
	}
	for n := 1; n <= 3; n++ {
		c := newConfig(256)
		c.failAt = n
		if _, err := SetBusMaster(c, true); !errors.Is(err, errInjected) {
			t.Errorf("access %d failed: error %v", n, err)
		}
	}
}

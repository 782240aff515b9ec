package pci

import (
	"fmt"
	"strconv"
)

// A Capability is one entry of a function's capability lists.
type Capability struct {
	ID       uint16
	Version  uint8 // extended capabilities only
	Extended bool  // in the list that starts at 0x100 (PCI Express)
	Offset   int   // of its header in configuration space
}

// Ids of capabilities in the standard list (PCI Code and ID Assignment).
const (
	CapPM   = 0x01
	CapMSI  = 0x05
	CapPCIe = 0x10
	CapMSIX = 0x11
	CapAF   = 0x13
)

// Ids of capabilities in the extended list.
const (
	ExtCapACS   = 0x0d
	ExtCapATS   = 0x0f
	ExtCapSRIOV = 0x10
	ExtCapPRI   = 0x13
	ExtCapPASID = 0x1b
)

// A capKind is a capability's name and the least size of its structure in bytes.
type capKind struct {
	name string
	size int
}

var standardCaps = map[uint16]capKind{
	0x00: {"null", 2}, CapPM: {"power management", 8}, 0x02: {"AGP", 4}, 0x03: {"VPD", 8}, 0x04: {"slot identification", 4},
	CapMSI: {"MSI", 10}, 0x06: {"CompactPCI hot swap", 4}, 0x07: {"PCI-X", 8}, 0x08: {"HyperTransport", 4}, 0x09: {"vendor specific", 3},
	0x0a: {"debug port", 4}, 0x0b: {"CompactPCI resource control", 4}, 0x0c: {"hot plug", 4}, 0x0d: {"bridge subsystem", 8},
	0x0e: {"AGP 8x", 4}, 0x0f: {"secure device", 4}, CapPCIe: {"PCI Express", 20}, CapMSIX: {"MSI-X", 12}, 0x12: {"SATA", 8},
	CapAF: {"advanced features", 6}, 0x14: {"enhanced allocation", 4},
}

var extendedCaps = map[uint16]capKind{
	0x00: {"null", 4}, 0x01: {"advanced error reporting", 44}, 0x02: {"virtual channel", 16}, 0x03: {"device serial number", 12},
	0x04: {"power budgeting", 16}, 0x05: {"root complex link declaration", 16}, 0x06: {"root complex internal link", 12},
	0x07: {"root complex event collector", 8}, 0x08: {"multi-function virtual channel", 16}, 0x09: {"virtual channel", 16},
	0x0a: {"root complex register block", 8}, 0x0b: {"vendor specific", 8}, ExtCapACS: {"ACS", 8}, 0x0e: {"ARI", 8}, ExtCapATS: {"ATS", 8},
	ExtCapSRIOV: {"SR-IOV", 64}, 0x12: {"multicast", 40}, ExtCapPRI: {"page request", 16}, 0x15: {"resizable BAR", 12},
	0x16: {"dynamic power allocation", 16}, 0x17: {"TPH requester", 12}, 0x18: {"latency tolerance", 8}, 0x19: {"secondary PCI Express", 12},
	0x1a: {"protocol multiplexing", 4}, ExtCapPASID: {"PASID", 8}, 0x1d: {"downstream port containment", 16}, 0x1e: {"L1 PM substates", 16},
	0x1f: {"precision time measurement", 12}, 0x23: {"designated vendor specific", 10}, 0x25: {"data link feature", 12},
	0x26: {"physical layer 16 GT/s", 4}, 0x27: {"lane margining", 4}, 0x2a: {"physical layer 32 GT/s", 4}, 0x2e: {"data object exchange", 24},
}

// kind is what is known of the capability's id.
func (c Capability) kind() capKind {
	if c.Extended {
		if k, ok := extendedCaps[c.ID]; ok {
			return k
		}
		return capKind{size: 4}
	}
	if k, ok := standardCaps[c.ID]; ok {
		return k
	}
	return capKind{size: 2}
}

// Name is the capability's name in few words, or "capability 0x.." where the id is not known.
func (c Capability) Name() string {
	if n := c.kind().name; n != "" {
		return n
	}
	if c.Extended {
		return "extended capability 0x" + strconv.FormatUint(uint64(c.ID), 16)
	}
	return "capability 0x" + strconv.FormatUint(uint64(c.ID), 16)
}

// Capabilities walks both lists of the function's capabilities, the standard one first, each in
// its own order. It trusts nothing that it reads: a list with a loop gives ErrCapabilityLoop, a
// capability that does not lie wholly in its part of configuration space gives
// ErrCapabilityRange, and a function that reads as all ones ErrNoAnswer. The extended list is
// walked if cfg reaches beyond 256 bytes.
func Capabilities(cfg Config) ([]Capability, error) {
	id, err := ReadIDs(cfg)
	if err != nil {
		return nil, err
	}
	caps, err := standardList(cfg, id.Header)
	if err == nil && cfg.Size() > ConfigSize {
		caps, err = extendedList(cfg, caps)
	}
	if err != nil {
		return nil, &OpError{Op: "walk capabilities", Err: err}
	}
	return caps, nil
}

// FindCapability is the first capability with that id in the standard or the extended list,
// or ErrNoCapability.
func FindCapability(cfg Config, id uint16, extended bool) (Capability, error) {
	caps, err := Capabilities(cfg)
	if err != nil {
		return Capability{}, err
	}
	for _, c := range caps {
		if c.ID == id && c.Extended == extended {
			return c, nil
		}
	}
	return Capability{}, &OpError{Op: "find capability", Target: Capability{ID: id, Extended: extended}.Name(), Err: ErrNoCapability}
}

func standardList(cfg Config, h HeaderType) ([]Capability, error) {
	r := &reader{cfg: cfg}
	if r.read(regStatus, 2)&statusCapList == 0 {
		return nil, r.err
	}
	at := regCapPointer
	if h == HeaderCardBus {
		at = regCapCardBus
	}
	w := walk{first: 0x40, end: min(cfg.Size(), ConfigSize)}
	var caps []Capability
	for next := int(r.read(at, 1)) &^ 3; r.err == nil && next != 0; {
		head := r.read(next, 2)
		c := Capability{ID: uint16(head & 0xff), Offset: next}
		if err := w.visit(c); err != nil {
			return nil, err
		}
		caps = append(caps, c)
		next = int(head>>8) &^ 3 // the low two bits are reserved
	}
	return caps, r.err
}

func extendedList(cfg Config, caps []Capability) ([]Capability, error) {
	r := &reader{cfg: cfg}
	w := walk{first: ConfigSize, end: min(cfg.Size(), ExtendedConfigSize)}
	for next := ConfigSize; r.err == nil && next != 0; {
		if next > w.end-4 {
			return nil, fmt.Errorf("%w: extended capability at %#x", ErrCapabilityRange, next)
		}
		head := r.read(next, 4)
		if next == ConfigSize && (head == 0 || head == 0xffffffff) {
			break // an empty list, or a bridge on the way that does not forward the upper part
		}
		c := Capability{ID: uint16(head), Version: uint8(head>>16) & 0xf, Extended: true, Offset: next}
		if err := w.visit(c); err != nil {
			return nil, err
		}
		caps = append(caps, c)
		next = int(head>>20) &^ 3
	}
	return caps, r.err
}

// A walk remembers where a list has been and what its bounds are.
type walk struct {
	first, end int
	seen       [ExtendedConfigSize / 4 / 8]byte
}

// visit refuses a capability that was visited before or does not fit.
func (w *walk) visit(c Capability) error {
	if c.Offset < w.first || c.Offset+c.kind().size > w.end {
		return fmt.Errorf("%w: %s, %d bytes or more at %#x, does not fit between %#x and %#x", ErrCapabilityRange, c.Name(), c.kind().size, c.Offset, w.first, w.end)
	}
	i := c.Offset / 4
	if w.seen[i/8]&(1<<(i%8)) != 0 {
		return fmt.Errorf("%w: back at %#x (%s)", ErrCapabilityLoop, c.Offset, c.Name())
	}
	w.seen[i/8] |= 1 << (i % 8)
	return nil
}

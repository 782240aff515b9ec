package dmar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"gommu/pci"
)

// A Topology knows the machine's bridges.
type Topology interface {
	// Buses returns the buses behind the function at addr, with ok false if it is not there
	// or is no bridge.
	Buses(addr pci.Address) (b Buses, ok bool, err error)
}

// Buses are the bus numbers behind a bridge.
type Buses struct {
	Secondary   uint8 // right behind the bridge
	Subordinate uint8 // the greatest
}

// Registers of a bridge's header (PCI-to-PCI Bridge 1.2, 3.2) that pci does not
// export.
const (
	regHeaderType  = 0x0e
	regSecondary   = 0x19
	regSubordinate = 0x1a
	headerBytes    = 64
)

// Sysfs reads the bridges of the machine whose sysfs is fsys: os.DirFS("/sys"). No
// rights are needed. A function that goes away meanwhile is not there.
func Sysfs(fsys fs.FS) Topology { return sysfsTopology{fsys} }

type sysfsTopology struct{ fsys fs.FS }

func (s sysfsTopology) Buses(addr pci.Address) (Buses, bool, error) {
	f, err := s.fsys.Open(path.Join("bus/pci/devices", addr.String(), "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return Buses{}, false, nil
	}
	if err != nil {
		return Buses{}, false, err
	}
	defer f.Close()
	var h [headerBytes]byte // what everybody may read
	if _, err := io.ReadFull(f, h[:]); err != nil {
		return Buses{}, false, fmt.Errorf("configuration space of %s: %w", addr, err)
	}
	return buses(h[regHeaderType], h[regSecondary], h[regSubordinate])
}

// FromConfig reads the bridges from configuration space. open returns a function's, or an
// error that wraps pci.ErrNotFound if it is not there; a function that does not answer is not
// there either.
func FromConfig(open func(pci.Address) (pci.Config, error)) Topology { return configTopology(open) }

type configTopology func(pci.Address) (pci.Config, error)

func (open configTopology) Buses(addr pci.Address) (Buses, bool, error) {
	cfg, err := open(addr)
	if errors.Is(err, pci.ErrNotFound) {
		return Buses{}, false, nil
	}
	if err != nil {
		return Buses{}, false, err
	}
	var v [3]byte
	for i, off := range []int{regHeaderType, regSecondary, regSubordinate} {
		x, err := cfg.Read(off, 1)
		if err != nil {
			return Buses{}, false, fmt.Errorf("register %#x of %s: %w", off, addr, err)
		}
		v[i] = byte(x)
	}
	return buses(v[0], v[1], v[2])
}

// buses are those of a header with these registers.
func buses(header, secondary, subordinate byte) (Buses, bool, error) {
	// A function that is not there reads as all ones: its header type is 0x7f.
	switch pci.HeaderType(header & 0x7f) {
	case pci.HeaderBridge, pci.HeaderCardBus:
		return Buses{secondary, subordinate}, true, nil
	}
	return Buses{}, false, nil
}

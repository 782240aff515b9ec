package pci

import "fmt"

// Offsets of the header's registers (PCI Local Bus 3.0, 6.1).
const (
	regVendor          = 0x00
	regDevice          = 0x02
	regCommand         = 0x04
	regStatus          = 0x06
	regRevision        = 0x08 // revision 7:0, class code 31:8
	regHeaderType      = 0x0e
	regBAR0            = 0x10
	regCapCardBus      = 0x14 // capability pointer in a CardBus header
	regSubsystemVendor = 0x2c
	regSubsystemDevice = 0x2e
	regCapPointer      = 0x34

	statusCapList = 1 << 4
)

// Sizes of configuration space in bytes.
const (
	ConfigSize         = 256  // conventional PCI
	ExtendedConfigSize = 4096 // PCI Express
)

// HeaderType says how the header from offset 0x10 on is laid out.
type HeaderType uint8

// The header types.
const (
	HeaderEndpoint HeaderType = 0
	HeaderBridge   HeaderType = 1 // PCI-to-PCI bridge
	HeaderCardBus  HeaderType = 2
)

// IDs says what a function is.
type IDs struct {
	Vendor   uint16
	Device   uint16
	Class    uint32 // 24 bits: base class, subclass, programming interface
	Revision uint8

	// The board that the function sits on; zero in a bridge's header.
	SubsystemVendor uint16
	SubsystemDevice uint16

	Header        HeaderType
	MultiFunction bool
}

// ReadIDs reads what the function is. A function that does not answer (it reads as all
// ones) gives ErrNoAnswer.
func ReadIDs(cfg Config) (IDs, error) {
	r := &reader{cfg: cfg}
	var id IDs
	id.Vendor = uint16(r.read(regVendor, 2))
	if r.err == nil && id.Vendor == 0xffff {
		return IDs{}, &OpError{Op: "read ids", Err: ErrNoAnswer}
	}
	id.Device = uint16(r.read(regDevice, 2))
	rev := r.read(regRevision, 4)
	id.Revision, id.Class = uint8(rev), rev>>8
	h := r.read(regHeaderType, 1)
	id.Header, id.MultiFunction = HeaderType(h&0x7f), h&0x80 != 0
	if id.Header == HeaderEndpoint {
		id.SubsystemVendor = uint16(r.read(regSubsystemVendor, 2))
		id.SubsystemDevice = uint16(r.read(regSubsystemDevice, 2))
	}
	if r.err != nil {
		return IDs{}, &OpError{Op: "read ids", Err: r.err}
	}
	return id, nil
}

// CheckAccess returns an error that wraps ErrBadConfig unless an access of width bytes
// at offset off is naturally aligned, 1, 2 or 4 bytes wide, and inside the size bytes of
// a configuration space. Implementations of Config call it first.
func CheckAccess(size, off, width int) error {
	switch {
	case width != 1 && width != 2 && width != 4:
		return fmt.Errorf("%w: %d bytes wide, not 1, 2 or 4", ErrBadConfig, width)
	case off < 0 || off > size-width:
		return fmt.Errorf("%w: %d bytes at %#x of %#x", ErrBadConfig, width, off, size)
	case off%width != 0:
		return fmt.Errorf("%w: %d bytes at %#x are misaligned", ErrBadConfig, width, off)
	}
	return nil
}

// A reader reads registers and keeps the first error.
type reader struct {
	cfg Config
	err error
}

func (r *reader) read(off, width int) uint32 {
	if r.err != nil {
		return 0
	}
	v, err := r.cfg.Read(off, width)
	if err != nil {
		r.err = fmt.Errorf("register %#x: %w", off, err)
		return 0
	}
	return v
}

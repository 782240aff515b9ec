package iommu

import "gommu/pagetable"

// A Mapping is a window that the domain's devices have onto memory. It is a
// value: copy it, put it into a ring. It stays good until Unmap.
type Mapping struct {
	iova, size uint64
	number     uint32 // of its record
	generation uint32 // of that record's uses
}

// IOVA is the address that a device is given. It has the same offset in its
// 4096-byte page as the memory.
func (m Mapping) IOVA() uint64 { return m.iova }

// Size is the number of bytes that were asked for.
func (m Mapping) Size() uint64 { return m.size }

// A Direction says who writes and who reads the memory. The zero value is none and refused.
type Direction uint8

const (
	ToDevice      Direction = 1                     // the device reads
	FromDevice    Direction = 2                     // the device writes
	Bidirectional Direction = ToDevice | FromDevice // it does both
)

func (d Direction) String() string {
	switch d {
	case ToDevice:
		return "to device"
	case FromDevice:
		return "from device"
	case Bidirectional:
		return "bidirectional"
	}
	return "no direction"
}

// MarshalText is String, for JSON.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// prot is the direction as tables have it.
func (d Direction) prot() pagetable.Prot {
	return pagetable.Prot(d)
}

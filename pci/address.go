package pci

import "fmt"

// Address names a function: domain (segment), bus, device 0-31, function 0-7.
type Address struct {
	Domain   uint32
	Bus      uint8
	Device   uint8
	Function uint8
}

// String is the address as Linux writes it: 0000:00:03.0.
func (a Address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", a.Domain, a.Bus, a.Device, a.Function)
}

// RequesterID is the 16-bit id that the function's DMA requests carry:
// bus 15:8, device 7:3, function 2:0.
func (a Address) RequesterID() uint16 {
	return uint16(a.Bus)<<8 | uint16(a.Device)<<3 | uint16(a.Function)
}

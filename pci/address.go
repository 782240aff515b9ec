package pci

import (
	"fmt"
	"strconv"
	"strings"
)

// Address names a function: domain (segment), bus, device 0-31, function 0-7.
type Address struct {
	Domain   uint32
	Bus      uint8
	Device   uint8
	Function uint8
}

// ParseAddress reads an address as Linux and lspci write it, in hexadecimal:
// "0000:00:03.0", or "00:03.0" in domain 0. Errors wrap ErrBadAddress.
func ParseAddress(s string) (Address, error) {
	bad := func(why string) (Address, error) {
		return Address{}, &OpError{Op: "parse address", Target: strconv.Quote(s), Err: fmt.Errorf("%w: %s", ErrBadAddress, why),
			Remedy: "write it as 0000:00:03.0 (domain:bus:device.function) or 00:03.0"}
	}
	parts := strings.Split(s, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return bad("it has two or three parts divided by colons")
	}
	dev, fn, ok := strings.Cut(parts[len(parts)-1], ".")
	if !ok {
		return bad("the last part is device.function")
	}
	var a Address
	if len(parts) == 3 {
		// Linux numbers the segments behind an Intel VMD from 0x10000 on.
		v, err := parseHex(parts[0], 4, 8, 1<<32-1)
		if err != nil {
			return bad("domain " + err.Error())
		}
		a.Domain = uint32(v)
	}
	bus, err := parseHex(parts[len(parts)-2], 2, 2, 0xff)
	if err != nil {
		return bad("bus " + err.Error())
	}
	d, err := parseHex(dev, 2, 2, 31)
	if err != nil {
		return bad("device " + err.Error())
	}
	f, err := parseHex(fn, 1, 1, 7)
	if err != nil {
		return bad("function " + err.Error())
	}
	a.Bus, a.Device, a.Function = uint8(bus), uint8(d), uint8(f)
	return a, nil
}

// parseHex reads a hexadecimal number of minLen to maxLen digits, at most limit.
func parseHex(s string, minLen, maxLen int, limit uint64) (uint64, error) {
	for _, c := range []byte(s) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return 0, fmt.Errorf("%q is not hexadecimal", s)
		}
	}
	if len(s) < minLen || len(s) > maxLen {
		if minLen == maxLen {
			return 0, fmt.Errorf("%q does not have %d digits", s, minLen)
		}
		return 0, fmt.Errorf("%q does not have %d to %d digits", s, minLen, maxLen)
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || v > limit {
		return 0, fmt.Errorf("%q is more than %x", s, limit)
	}
	return v, nil
}

// String is the address as Linux writes it: 0000:00:03.0.
func (a Address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", a.Domain, a.Bus, a.Device, a.Function)
}

// MarshalText is String, for JSON and flags.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(text []byte) error {
	v, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// Compare orders addresses by domain, bus, device and function.
func (a Address) Compare(b Address) int {
	if a.Domain != b.Domain {
		if a.Domain < b.Domain {
			return -1
		}
		return 1
	}
	return int(a.RequesterID()) - int(b.RequesterID())
}

// RequesterID is the 16-bit id that the function's DMA requests carry:
// bus 15:8, device 7:3, function 2:0.
func (a Address) RequesterID() uint16 {
	return uint16(a.Bus)<<8 | uint16(a.Device)<<3 | uint16(a.Function)
}

package pci

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Names gives numbers their names, from the pci.ids list that most machines carry
// (package pci.ids or hwdata). The zero value knows none.
type Names struct {
	vendors map[uint16]string
	devices map[uint32]string // vendor 31:16, device 15:0
	classes map[uint32]string // base class alone, with subclass, with interface: see classKey
}

// namesPaths is where distributions put pci.ids.
var namesPaths = []string{
	"/usr/share/misc/pci.ids",   // Debian, Ubuntu
	"/usr/share/hwdata/pci.ids", // Fedora, Arch, SUSE
	"/usr/share/pci.ids",
	"/usr/local/share/pciids/pci.ids", // BSDs
}

// LoadNames reads the first pci.ids that is there: of paths if any are given, otherwise of the
// usual places. That there is none is no error: the names are empty then.
func LoadNames(paths ...string) (*Names, error) {
	if len(paths) == 0 {
		paths = namesPaths
	}
	for _, p := range paths {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &OpError{Op: "read names", Err: err}
		}
		n, err := ParseNames(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, &OpError{Op: "read names", Target: p, Err: err}
		}
		return n, nil
	}
	return &Names{}, nil
}

// ParseNames reads the pci.ids format: "vvvv  name", tab "dddd  name", and for classes
// "C cc  name", tab "ss  name", tab tab "pp  name". It skips what it does not know and lines that
// are malformed.
func ParseNames(r io.Reader) (*Names, error) {
	n := &Names{vendors: map[uint16]string{}, devices: map[uint32]string{}, classes: map[uint32]string{}}
	p := namesParser{names: n}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		p.line(sc.Text())
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return n, nil
}

// A namesParser remembers what the indented lines belong to.
type namesParser struct {
	names *Names
	state int // what the last line without indentation was
	top   uint64
	sub   uint64
	hasub bool
}

const (
	inNothing = iota
	inVendor
	inClass
)

func (p *namesParser) line(s string) {
	depth := 0
	for depth < len(s) && s[depth] == '\t' {
		depth++
	}
	s = s[depth:]
	if s == "" || s[0] == '#' {
		return
	}
	if depth == 0 {
		p.state, p.hasub = inNothing, false
		if rest, ok := strings.CutPrefix(s, "C "); ok {
			if v, name, ok := entry(rest, 2); ok {
				p.state, p.top = inClass, v
				p.names.classes[classKey(v, 0, 0, 1)] = name
			}
		} else if v, name, ok := entry(s, 4); ok {
			p.state, p.top = inVendor, v
			p.names.vendors[uint16(v)] = name
		}
		return
	}
	switch {
	case p.state == inVendor && depth == 1:
		if v, name, ok := entry(s, 4); ok {
			p.names.devices[uint32(p.top)<<16|uint32(v)] = name
		}
	case p.state == inClass && depth == 1:
		var name string
		if p.sub, name, p.hasub = entry(s, 2); p.hasub {
			p.names.classes[classKey(p.top, p.sub, 0, 2)] = name
		}
	case p.state == inClass && depth == 2 && p.hasub:
		if v, name, ok := entry(s, 2); ok {
			p.names.classes[classKey(p.top, p.sub, v, 3)] = name
		}
	}
}

// entry splits "1234  name" with so many hexadecimal digits.
func entry(s string, digits int) (v uint64, name string, ok bool) {
	if len(s) < digits+1 || s[digits] != ' ' {
		return 0, "", false
	}
	v, err := strconv.ParseUint(s[:digits], 16, 32)
	return v, strings.TrimSpace(s[digits:]), err == nil
}

// classKey packs a class and how many of its three bytes are given.
func classKey(base, sub, iface uint64, known uint32) uint32 {
	return known<<24 | uint32(base)<<16 | uint32(sub)<<8 | uint32(iface)
}

// Vendor is the vendor's name, or "" if it is not known.
func (n *Names) Vendor(vendor uint16) string { return n.vendors[vendor] }

// Device is the device's name without the vendor's, or "" if it is not known.
func (n *Names) Device(vendor, device uint16) string {
	return n.devices[uint32(vendor)<<16|uint32(device)]
}

// Class is the name of the subclass of a 24-bit class code, of the base class if the subclass is
// not known, or "".
func (n *Names) Class(class uint32) string {
	base, sub := uint64(class>>16&0xff), uint64(class>>8&0xff)
	if s := n.classes[classKey(base, sub, 0, 2)]; s != "" {
		return s
	}
	return n.classes[classKey(base, 0, 0, 1)]
}

// Interface is the name of a 24-bit class code's programming interface, such as "NVM Express",
// or "" if it is not known.
func (n *Names) Interface(class uint32) string {
	return n.classes[classKey(uint64(class>>16&0xff), uint64(class>>8&0xff), uint64(class&0xff), 3)]
}

// Describe is the vendor's and the device's name in one line; numbers stand where names are not known.
func (n *Names) Describe(vendor, device uint16) string {
	v, d := n.Vendor(vendor), n.Device(vendor, device)
	if v == "" {
		v = fmt.Sprintf("vendor %04x", vendor)
	}
	if d == "" {
		d = fmt.Sprintf("device %04x", device)
	}
	return v + " " + d
}

package pci

import (
	"errors"
	"fmt"
)

// BARInfo describes a base address register. Size is zero where the function
// implements none, and in the upper half of a 64-bit one.
type BARInfo struct {
	Base         uint64 // bus address; zero if nobody has assigned one
	Size         uint64 // bytes, a power of two
	IO           bool   // decodes I/O ports
	Is64         bool   // takes the next register for its upper half
	Prefetchable bool
}

// Low bits of a base address register (PCI Local Bus 3.0, 6.2.5.1).
const (
	barIO       = 1 << 0
	barTypeMask = 3 << 1
	barType64   = 2 << 1
	barPrefetch = 1 << 3
	barIOFlags  = 3
	barMemFlags = 15
)

// ProbeBARs finds the sizes of the base address registers by writing ones to them. While it
// does, the function does not answer on its BARs; whatever happens, the registers and the
// command register are written back before it returns.
//
// On Linux prefer the sizes of sysfs ([Sysfs.Resources]) or of VFIO: there, the kernel or
// another program may be using the BARs.
func ProbeBARs(cfg Config) (bars [6]BARInfo, err error) {
	fail := func(err error) ([6]BARInfo, error) { return [6]BARInfo{}, &OpError{Op: "probe BARs", Err: err} }
	id, err := ReadIDs(cfg)
	if err != nil {
		return fail(err)
	}
	n := 6
	switch id.Header {
	case HeaderEndpoint:
	case HeaderBridge:
		n = 2
	case HeaderCardBus:
		n = 1
	default:
		return fail(fmt.Errorf("%w: unknown header type %d", ErrBadConfig, id.Header))
	}
	p, err := startProbe(cfg, n)
	if err != nil {
		return fail(err)
	}
	for i := 0; i < n && err == nil; i++ {
		bars[i], err = p.probe(i)
		if bars[i].Is64 {
			i++
		}
	}
	if err = errors.Join(err, p.restore()); err != nil {
		return fail(err)
	}
	return bars, nil
}

// A barProbe remembers what the registers held.
type barProbe struct {
	cfg     Config
	command uint32
	saved   []uint32
	dirty   int // how many registers, from the first, may hold something else
}

// startProbe saves the registers and stops decoding, so that the ones that the
// probe writes claim no addresses.
func startProbe(cfg Config, n int) (*barProbe, error) {
	r := &reader{cfg: cfg}
	p := &barProbe{cfg: cfg, command: r.read(regCommand, 2)}
	for i := range n {
		p.saved = append(p.saved, r.read(regBAR0+4*i, 4))
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := cfg.Write(regCommand, 2, p.command&^(commandIO|commandMemory)); err != nil {
		return nil, errors.Join(fmt.Errorf("stopping decoding: %w", err), p.restore())
	}
	return p, nil
}

// probe sizes register i, and the next one with it if it is a 64-bit one.
func (p *barProbe) probe(i int) (BARInfo, error) {
	v := p.saved[i]
	mask, err := p.ones(i)
	if err != nil {
		return BARInfo{}, err
	}
	if mask == 0 {
		return BARInfo{}, nil
	}
	var b BARInfo
	if v&barIO != 0 {
		b = BARInfo{IO: true, Base: uint64(v &^ barIOFlags)}
		m := mask &^ barIOFlags
		if m>>16 == 0 {
			m |= 0xffff0000 // a function may decode 16 bits of port number only
		}
		return b.sized(i, uint64(m)|0xffffffff<<32)
	}
	b = BARInfo{Base: uint64(v &^ barMemFlags), Prefetchable: v&barPrefetch != 0, Is64: v&barTypeMask == barType64}
	m := uint64(mask&^barMemFlags) | 0xffffffff<<32
	if b.Is64 {
		if i+1 == len(p.saved) {
			return BARInfo{}, fmt.Errorf("%w: BAR %d is the last one and claims to be 64 bits wide", ErrBadBAR, i)
		}
		b.Base |= uint64(p.saved[i+1]) << 32
		hi, err := p.ones(i + 1)
		if err != nil {
			return BARInfo{}, err
		}
		m = uint64(hi)<<32 | uint64(mask&^barMemFlags)
	}
	return b.sized(i, m)
}

// sized is b with the size that the writable bits m give.
func (b BARInfo) sized(i int, m uint64) (BARInfo, error) {
	b.Size = ^m + 1
	if m == 0 || b.Size&(b.Size-1) != 0 {
		return BARInfo{}, fmt.Errorf("%w: the writable bits of BAR %d are %#x: they are not one run up to the top", ErrBadBAR, i, m)
	}
	return b, nil
}

// ones writes ones to register i and returns what it then reads.
func (p *barProbe) ones(i int) (uint32, error) {
	p.dirty = i + 1
	if err := p.cfg.Write(regBAR0+4*i, 4, 0xffffffff); err != nil {
		return 0, fmt.Errorf("BAR %d: %w", i, err)
	}
	v, err := p.cfg.Read(regBAR0+4*i, 4)
	if err != nil {
		return 0, fmt.Errorf("BAR %d: %w", i, err)
	}
	return v, nil
}

// restore writes everything back, the command register last.
func (p *barProbe) restore() error {
	var errs []error
	for i := range p.dirty {
		if err := p.cfg.Write(regBAR0+4*i, 4, p.saved[i]); err != nil {
			errs = append(errs, fmt.Errorf("restoring BAR %d: %w", i, err))
		}
	}
	if err := p.cfg.Write(regCommand, 2, p.command); err != nil {
		errs = append(errs, fmt.Errorf("restoring the command register: %w", err))
	}
	return errors.Join(errs...)
}

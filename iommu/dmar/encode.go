package dmar

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// MarshalBinary is AppendBinary to nothing.
func (t *Table) MarshalBinary() ([]byte, error) { return t.AppendBinary(nil) }

// AppendBinary appends the table as Parse reads it: structures by type, as section 8.2 wants
// them, reserved fields zero, names padded with spaces, the checksum right. It gives ErrTooLarge for a value
// that has no place in the format; what Parse refuses besides (overlaps, say) it
// does not look for.
func (t *Table) AppendBinary(dst []byte) ([]byte, error) {
	e := &encoder{b: append(dst, "DMAR"...), start: len(dst)}
	e.u32(0) // length, later
	e.b = append(e.b, t.Revision, 0)
	e.text("OEM id", t.OEMID, 6)
	e.text("OEM table id", t.OEMTableID, 8)
	e.u32(t.OEMRevision)
	e.text("creator id", t.CreatorID, 4)
	e.u32(t.CreatorRevision)
	if t.HostAddressWidth < 1 || t.HostAddressWidth > 256 {
		e.fail("host address width", "%d bits", t.HostAddressWidth)
	}
	e.b = append(e.b, byte(t.HostAddressWidth-1), byte(t.Flags), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	e.structures(t)
	if e.err != nil {
		return dst, e.err
	}
	table := e.b[e.start:]
	if uint64(len(table)) > 1<<32-1 {
		return dst, &OpError{Op: "encode", Target: "table", Err: fmt.Errorf("%w: %d bytes", ErrTooLarge, len(table))}
	}
	binary.LittleEndian.PutUint32(table[4:], uint32(len(table)))
	sum := byte(0)
	for _, v := range table {
		sum += v
	}
	table[9] = -sum // it was zero so far
	return e.b, nil
}

// structures encodes the remapping structures.
func (e *encoder) structures(t *Table) {
	for _, u := range t.Units {
		log := bits.TrailingZeros64(u.Size / page)
		if log > 15 || u.Size != page<<log {
			e.fail("DRHD", "a register set of %#x bytes", u.Size)
		}
		e.structure(typeDRHD, u.Scopes, func() {
			e.b = append(e.b, flag(u.IncludeAll), byte(log))
			e.u16(u.Segment)
			e.u64(u.Base)
		})
	}
	for _, r := range t.Reserved {
		e.structure(typeRMRR, r.Scopes, func() { e.u16(0); e.u16(r.Segment); e.u64(r.Base); e.u64(r.Limit) })
	}
	for _, a := range t.RootPorts {
		e.structure(typeATSR, a.Scopes, func() { e.b = append(e.b, flag(a.AllPorts), 0); e.u16(a.Segment) })
	}
	for _, r := range t.Affinity {
		e.structure(typeRHSA, nil, func() { e.u32(0); e.u64(r.Base); e.u32(r.Proximity) })
	}
	for _, a := range t.Namespace {
		if strings.ContainsRune(a.Name, 0) {
			e.fail("ANDD", "the name %q has a zero byte", a.Name)
		}
		e.structure(typeANDD, nil, func() { e.b = append(append(e.b, 0, 0, 0, a.Number), a.Name+"\x00"...) })
	}
	for _, c := range t.Caches {
		e.structure(typeSATC, c.Scopes, func() { e.b = append(e.b, flag(c.Required), 0); e.u16(c.Segment) })
	}
	for _, p := range t.Properties {
		e.structure(typeSIDP, p.Scopes, func() { e.u16(0); e.u16(p.Segment) })
	}
	for _, r := range t.Unrecognized {
		if r.Type < typeUnknown {
			e.fail("unrecognized structure", "type %d is known", r.Type)
		}
		e.structure(r.Type, nil, func() { e.b = append(e.b, r.Data...) })
	}
}

// An encoder appends to b and keeps the first error.
type encoder struct {
	b     []byte
	start int // of the table in b
	err   error
}

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

func (e *encoder) fail(target, format string, args ...any) {
	if e.err == nil {
		e.err = &OpError{Op: "encode", Target: target, Err: fmt.Errorf("%w: "+format, append([]any{ErrTooLarge}, args...)...)}
	}
}

// text appends s padded to n bytes.
func (e *encoder) text(target, s string, n int) {
	if len(s) > n {
		e.fail(target, "%q has more than %d bytes", s, n)
		return
	}
	e.b = append(e.b, s+strings.Repeat(" ", n-len(s))...)
}

// structure appends one: header, what body appends, scopes.
func (e *encoder) structure(kind uint16, scopes []Scope, body func()) {
	at := len(e.b)
	e.u16(kind)
	e.u16(0) // length, below
	body()
	for _, s := range scopes {
		n := scopeSize + 2*len(s.Path)
		if n > 255 {
			e.fail("scope", "a path of %d steps", len(s.Path))
			return
		}
		e.b = append(e.b, byte(s.Type), byte(n), byte(s.Flags), 0, s.EnumerationID, s.Bus)
		for _, p := range s.Path {
			e.b = append(e.b, p.Device, p.Function)
		}
	}
	n := len(e.b) - at
	if n > 1<<16-1 {
		e.fail(kinds[min(kind, typeUnknown)].name, "%d bytes", n)
		return
	}
	binary.LittleEndian.PutUint16(e.b[at+2:], uint16(n))
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

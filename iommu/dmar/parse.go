package dmar

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Sizes in bytes of the table's header, of each structure up to its scopes or name, and of a scope
// up to its path.
const (
	tableSize  = 48 // ACPI header (36), width, flags, 10 reserved (section 8.1)
	headerSize = 4  // type and length of each structure (section 8.2)
	drhdSize   = 16 // section 8.3
	rmrrSize   = 24 // section 8.4
	atsrSize   = 8  // section 8.5
	rhsaSize   = 20 // section 8.6
	anddSize   = 8  // section 8.7
	satcSize   = 8  // section 8.8
	sidpSize   = 8  // section 8.9
	scopeSize  = 6  // section 8.3.1
)

// The structure types (section 8.2).
const (
	typeDRHD = iota
	typeRMRR
	typeATSR
	typeRHSA
	typeANDD
	typeSATC
	typeSIDP
	typeUnknown // this and greater
)

// kinds has the name and least size of each structure.
var kinds = [...]struct {
	name string
	min  int
}{
	{"DRHD", drhdSize}, {"RMRR", rmrrSize}, {"ATSR", atsrSize}, {"RHSA", rhsaSize}, {"ANDD", anddSize + 1},
	{"SATC", satcSize}, {"SIDP", sidpSize}, {"unknown structure", headerSize},
}

const page = 4096

// Parse reads a table. Bytes behind the length that the table gives itself are not
// looked at. Errors are OpErrors that say where in the table: ErrSignature, ErrTruncated,
// ErrChecksum, ErrLength, ErrWidth, ErrPath, ErrAddress, ErrOverlap, ErrDuplicate, ErrName.
func Parse(b []byte) (*Table, error) {
	b, err := frame(b)
	if err != nil {
		return nil, err
	}
	t := &Table{
		Revision:         b[8],
		OEMID:            unpad(b[10:16]),
		OEMTableID:       unpad(b[16:24]),
		OEMRevision:      binary.LittleEndian.Uint32(b[24:]),
		CreatorID:        unpad(b[28:32]),
		CreatorRevision:  binary.LittleEndian.Uint32(b[32:]),
		HostAddressWidth: int(b[36]) + 1,
		Flags:            Flags(b[37]) & (InterruptRemapping | X2APICOptOut | DMAOptIn),
	}
	if w := t.HostAddressWidth; w < 12 || w > 64 {
		return nil, bad("host address width", 36, ErrWidth, "%d bits, not 12 to 64", w)
	}
	counts, err := count(b)
	if err != nil {
		return nil, err
	}
	t.makeRoom(counts)
	var where [typeUnknown][]int
	for k := typeDRHD; k <= typeRMRR; k++ {
		where[k] = make([]int, 0, counts[k])
	}
	for off := tableSize; off < len(b); {
		s := structure{kind: kindOf(b[off:]), at: off, b: b[off:][:length(b[off:])]}
		if err := t.add(s); err != nil {
			return nil, err
		}
		if s.kind <= typeRMRR {
			where[s.kind] = append(where[s.kind], off)
		}
		off += len(s.b)
	}
	if err := t.checkUnits(where[typeDRHD]); err != nil {
		return nil, err
	}
	if err := t.checkReserved(where[typeRMRR]); err != nil {
		return nil, err
	}
	return t, nil
}

// frame checks the ACPI header and cuts b to the table.
func frame(b []byte) ([]byte, error) {
	if len(b) < 4 || string(b[:4]) != "DMAR" {
		return nil, bad("signature", 0, ErrSignature, "it begins with %q", b[:min(4, len(b))])
	}
	if len(b) < tableSize {
		return nil, bad("table", 0, ErrTruncated, "%d bytes of at least %d", len(b), tableSize)
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n < tableSize {
		return nil, bad("table", 4, ErrLength, "%d bytes, the header alone has %d", n, tableSize)
	}
	if uint64(n) > uint64(len(b)) {
		return nil, bad("table", 4, ErrTruncated, "it gives its length as %d bytes, there are %d", n, len(b))
	}
	b = b[:n]
	var sum byte
	for _, v := range b {
		sum += v
	}
	if sum != 0 {
		return nil, bad("checksum", 9, ErrChecksum, "the bytes add up to %#02x, not 0", sum)
	}
	return b, nil
}

// unpad cuts the spaces and zeros that fill a field.
func unpad(b []byte) string { return strings.TrimRight(string(b), " \x00") }

// kindOf is the type of the structure, typeUnknown for all that are not known.
func kindOf(b []byte) int { return int(min(binary.LittleEndian.Uint16(b), typeUnknown)) }

func length(b []byte) int { return int(binary.LittleEndian.Uint16(b[2:])) }

// count checks where the structures begin and end, and counts them by kind.
func count(b []byte) (counts [typeUnknown + 1]int, err error) {
	for off := tableSize; off < len(b); {
		rest := len(b) - off
		if rest < headerSize {
			return counts, bad("structure", off, ErrTruncated, "%d bytes are left, its header has %d", rest, headerSize)
		}
		kind, n := kindOf(b[off:]), length(b[off:])
		if k := kinds[kind]; n < k.min {
			return counts, bad(k.name, off, ErrLength, "%d bytes of at least %d", n, k.min)
		}
		if n > rest {
			return counts, bad(kinds[kind].name, off, ErrTruncated, "it has %d bytes, the table %d more", n, rest)
		}
		counts[kind]++
		off += n
	}
	return counts, nil
}

// makeRoom makes the slices at their final sizes. None is nil: in JSON, none is [].
func (t *Table) makeRoom(counts [typeUnknown + 1]int) {
	t.Units = make([]DRHD, 0, counts[typeDRHD])
	t.Reserved = make([]RMRR, 0, counts[typeRMRR])
	t.RootPorts = make([]ATSR, 0, counts[typeATSR])
	t.Affinity = make([]RHSA, 0, counts[typeRHSA])
	t.Namespace = make([]ANDD, 0, counts[typeANDD])
	t.Caches = make([]SATC, 0, counts[typeSATC])
	t.Properties = make([]SIDP, 0, counts[typeSIDP])
	t.Unrecognized = make([]Raw, 0, counts[typeUnknown])
}

// A structure is one remapping structure as it lies in the table. count has checked that
// it has at least its kind's least size.
type structure struct {
	kind int
	at   int // its offset in the table
	b    []byte
}

func (s structure) u16(off int) uint16 { return binary.LittleEndian.Uint16(s.b[off:]) }
func (s structure) u32(off int) uint32 { return binary.LittleEndian.Uint32(s.b[off:]) }
func (s structure) u64(off int) uint64 { return binary.LittleEndian.Uint64(s.b[off:]) }

// bad is the error of a parse about this structure.
func (s structure) bad(err error, format string, args ...any) error {
	return bad(kinds[s.kind].name, s.at, err, format, args...)
}

// add decodes s and appends it to its slice.
func (t *Table) add(s structure) error {
	var err error
	switch s.kind {
	case typeDRHD:
		u := DRHD{Segment: s.u16(6), IncludeAll: s.b[4]&1 != 0, Base: s.u64(8), Size: page << (s.b[5] & 15)}
		if u.Scopes, err = s.scopes(drhdSize); err == nil {
			err = s.checkRegisters(u)
		}
		t.Units = append(t.Units, u)
	case typeRMRR:
		r := RMRR{Segment: s.u16(6), Base: s.u64(8), Limit: s.u64(16)}
		if r.Base%page != 0 || r.Limit%page != page-1 || r.Limit < r.Base {
			return s.bad(ErrAddress, "%#x to %#x is not a range of 4 KiB pages", r.Base, r.Limit)
		}
		r.Scopes, err = s.scopes(rmrrSize)
		t.Reserved = append(t.Reserved, r)
	case typeATSR:
		a := ATSR{Segment: s.u16(6), AllPorts: s.b[4]&1 != 0}
		a.Scopes, err = s.scopes(atsrSize)
		t.RootPorts = append(t.RootPorts, a)
	case typeRHSA:
		t.Affinity = append(t.Affinity, RHSA{Base: s.u64(8), Proximity: s.u32(16)})
	case typeANDD:
		a := ANDD{Number: s.b[7]}
		a.Name, err = s.name()
		t.Namespace = append(t.Namespace, a)
	case typeSATC:
		c := SATC{Segment: s.u16(6), Required: s.b[4]&1 != 0}
		c.Scopes, err = s.scopes(satcSize)
		t.Caches = append(t.Caches, c)
	case typeSIDP:
		p := SIDP{Segment: s.u16(6)}
		p.Scopes, err = s.scopes(sidpSize)
		t.Properties = append(t.Properties, p)
	default:
		t.Unrecognized = append(t.Unrecognized, Raw{Type: s.u16(0), Data: bytes.Clone(s.b[headerSize:])})
	}
	return err
}

// name is the object name of an ANDD, which ends with a zero byte.
func (s structure) name() (string, error) {
	name, _, ok := bytes.Cut(s.b[anddSize:], []byte{0})
	if !ok {
		return "", s.bad(ErrName, "no zero byte ends it")
	}
	for _, c := range name {
		if c < ' ' || c > '~' {
			return "", s.bad(ErrName, "%q is not printable ASCII", name)
		}
	}
	return string(name), nil
}

// scopes decodes the device scopes, which begin at off of the structure.
func (s structure) scopes(off int) ([]Scope, error) {
	n := 0
	for at := off; at < len(s.b); n++ {
		size, err := s.checkScope(at)
		if err != nil {
			return nil, err
		}
		at += size
	}
	scopes := make([]Scope, 0, n)
	for at := off; at < len(s.b); {
		b := s.b[at:][:s.b[at+1]]
		sc := Scope{Type: ScopeType(b[0]), Flags: ScopeFlags(b[2]) & scopeFlags, EnumerationID: b[4], Bus: b[5], Path: make([]Step, 0, (len(b)-scopeSize)/2)}
		for i := scopeSize; i < len(b); i += 2 {
			sc.Path = append(sc.Path, Step{Device: b[i], Function: b[i+1]})
		}
		if err := sc.checkPath(); err != nil {
			return nil, bad(kinds[s.kind].name+" scope", s.at+at, ErrPath, "%v", err)
		}
		scopes = append(scopes, sc)
		at += len(b)
	}
	return scopes, nil
}

// checkScope is the size of the scope at off of the structure.
func (s structure) checkScope(off int) (int, error) {
	target := kinds[s.kind].name + " scope"
	rest := len(s.b) - off
	if rest < scopeSize {
		return 0, bad(target, s.at+off, ErrTruncated, "%d bytes are left of the structure, a scope has at least %d", rest, scopeSize)
	}
	n, least := int(s.b[off+1]), scopeSize
	if ScopeType(s.b[off]).known() {
		least += 2
	}
	switch {
	case n < least || n%2 != 0:
		return 0, bad(target, s.at+off, ErrLength, "%d bytes, not an even number of at least %d", n, least)
	case n > rest:
		return 0, bad(target, s.at+off, ErrTruncated, "it has %d bytes, the structure %d more", n, rest)
	}
	return n, nil
}

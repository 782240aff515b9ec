// Package dmar reads the ACPI DMAR table: which VT-d units a machine has, which
// devices each of them translates for, and what firmware reserved.
//
// [Parse] turns bytes into a [Table], [Read] finds them in sysfs, and
// [Table.Resolve] walks the table's device scopes through the machine's bridges
// and says which unit owns which device ([Owners.Unit]).
//
// A table comes from firmware and may be anything. What breaks the specification
// in a way that changes its meaning (a wrong length or checksum, a path that no
// function can have, memory regions or units that overlap, two units that own the
// rest of one segment) is refused with an [OpError] that says at which offset. Reserved
// bits are ignored, structures and scopes of unknown type are kept as they are.
// A parse takes time n log n and memory of at most a small multiple of the input.
//
// A Table is plain data, owned by the caller; nothing in it points into the bytes
// that it was parsed from. Parse and the encoding do not block. Read, the [Topology] of
// [Sysfs] or [FromConfig], and so Resolve, do file or configuration
// accesses and may sleep. Everything is safe to call at once from several
// goroutines as long as nobody changes the Table.
//
// Sections are those of the "Intel Virtualization Technology for Directed I/O
// Architecture Specification", revision 4.0, chapter 8, "BIOS Considerations".
package dmar

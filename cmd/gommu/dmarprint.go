//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"

	"gommu/iommu/dmar"
	"gommu/pci"
)

// printDMAR writes the report for people. Text from the table is quoted: it may hold anything.
func printDMAR(w io.Writer, r *dmarReport) error {
	var b strings.Builder
	t := r.Table
	fmt.Fprintf(&b, "DMAR revision %d of %q %q: %d-bit host addresses%s\n", t.Revision, t.OEMID, t.OEMTableID, t.HostAddressWidth, after(", ", t.Flags.String()))
	for i, u := range t.Units {
		fmt.Fprintf(&b, "\nunit %d: registers %#x, %d KiB, segment %04x%s%s\n", i, u.Base, u.Size>>10, u.Segment,
			near(t, u.Base), when(u.IncludeAll, ", every device of the segment that no other unit lists"))
		printScopes(&b, u.Scopes)
		if r.Owned != nil {
			fmt.Fprintf(&b, "  owns %s\n", addressList(r.Owned[i]))
		}
	}
	if len(r.Unowned) > 0 {
		fmt.Fprintf(&b, "\nno unit owns %s\n", addressList(r.Unowned))
	}
	printRest(&b, t)
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "\nnot in this machine: %s\n", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printRest writes all but the units.
func printRest(b *strings.Builder, t *dmar.Table) {
	for _, m := range t.Reserved {
		fmt.Fprintf(b, "\nreserved memory: %#x to %#x, %d KiB, segment %04x\n", m.Base, m.Limit, (m.Limit-m.Base)>>10+1, m.Segment)
		printScopes(b, m.Scopes)
	}
	for _, a := range t.RootPorts {
		fmt.Fprintf(b, "\naddress translation services: segment %04x%s\n", a.Segment, when(a.AllPorts, ", every root port"))
		printScopes(b, a.Scopes)
	}
	for _, a := range t.Affinity {
		if !isUnit(t, a.Base) {
			fmt.Fprintf(b, "\naffinity: a unit at %#x that the table does not have, proximity domain %d\n", a.Base, a.Proximity)
		}
	}
	for _, n := range t.Namespace {
		fmt.Fprintf(b, "\nnamespace device %d: %q\n", n.Number, n.Name)
	}
	for _, c := range t.Caches {
		fmt.Fprintf(b, "\ntranslation caches in the SoC: segment %04x%s\n", c.Segment, when(c.Required, ", needed for the devices to work"))
		printScopes(b, c.Scopes)
	}
	for _, p := range t.Properties {
		fmt.Fprintf(b, "\nproperties of SoC devices: segment %04x\n", p.Segment)
		for _, s := range p.Scopes {
			fmt.Fprintf(b, "  %s%s\n", s, after(": ", s.Flags.String()))
		}
	}
	for _, u := range t.Unrecognized {
		fmt.Fprintf(b, "\nstructure of unknown type %d: %d bytes\n", u.Type, len(u.Data))
	}
}

func printScopes(b *strings.Builder, scopes []dmar.Scope) {
	for _, s := range scopes {
		fmt.Fprintf(b, "  %s\n", s)
	}
}

// near says which proximity domain the unit is in, if the table does.
func near(t *dmar.Table, base uint64) string {
	for _, a := range t.Affinity {
		if a.Base == base {
			return fmt.Sprintf(", proximity domain %d", a.Proximity)
		}
	}
	return ""
}

func isUnit(t *dmar.Table, base uint64) bool {
	for _, u := range t.Units {
		if u.Base == base {
			return true
		}
	}
	return false
}

func addressList(list []pci.Address) string {
	if len(list) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.String())
	}
	return b.String()
}

func when(set bool, s string) string {
	if set {
		return s
	}
	return ""
}

// after is s behind sep, or nothing.
func after(sep, s string) string { return when(s != "", sep+s) }

package dmar

import (
	"bytes"
	"testing"

	"gommu/pci"
)

// FuzzParse gives Parse anything, with the length and checksum put right where they can be,
// and looks the scopes up behind bridges that say anything too.
func FuzzParse(f *testing.F) {
	f.Add(qemu())
	f.Add(recorded())
	f.Add(server())
	f.Fuzz(func(t *testing.T, b []byte) {
		reread(t, b)
		if len(b) < tableSize {
			return
		}
		b = seal(append([]byte("DMAR"), bytes.Clone(b)[4:]...))
		if !reread(t, b) {
			return
		}
		table, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range table.Units {
			for _, s := range u.Scopes {
				_ = s.String()
			}
		}
		if owners, err := table.Resolve(anything(b)); err == nil {
			owners.Unit(pci.Address{Bus: b[40], Device: 3})
		}
	})
}

// anything is a topology made of bytes.
type anything []byte

func (a anything) Buses(addr pci.Address) (Buses, bool, error) {
	i := int(addr.RequesterID()) % len(a)
	return Buses{a[i], a[(i+1)%len(a)]}, a[i]&1 == 0, nil
}

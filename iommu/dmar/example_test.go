package dmar_test

import (
	"fmt"
	"os"

	"gommu/iommu/dmar"
	"gommu/pci"
)

// Which unit has to be programmed so that a device can do DMA.
func Example() {
	fsys := os.DirFS("/sys")
	table, err := dmar.Read(fsys) // needs root
	if err != nil {
		fmt.Println(err) // says what to do
		return
	}
	owners, err := table.Resolve(dmar.Sysfs(fsys))
	if err != nil {
		fmt.Println(err)
		return
	}
	if i, ok := owners.Unit(pci.Address{Bus: 0, Device: 3}); ok {
		fmt.Printf("the registers are at %#x\n", table.Units[i].Base)
	}
}

// A scope leads to its device through bridges, whose bus numbers a Topology knows.
func ExampleScope_Resolve() {
	s := dmar.Scope{Type: dmar.ScopeEndpoint, Path: []dmar.Step{{Device: 0x1c, Function: 5}, {Device: 0, Function: 1}}}
	a, err := s.Resolve(0, oneBridge{})
	fmt.Println(s, "is", a, err)
	// Output: endpoint 00:1c.5/00.1 is 0000:04:00.1 <nil>
}

// oneBridge is a machine with one root port, which has the bus 4 behind it.
type oneBridge struct{}

func (oneBridge) Buses(a pci.Address) (dmar.Buses, bool, error) {
	return dmar.Buses{Secondary: 4, Subordinate: 4}, a == pci.Address{Device: 0x1c, Function: 5}, nil
}

// What is wrong with a table, and where.
func ExampleParse() {
	_, err := dmar.Parse([]byte("APIC"))
	fmt.Println(err)
	// Output: dmar: parse signature at offset 0x0: not a DMAR table: it begins with "APIC"
}

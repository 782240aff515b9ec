package pci_test

import (
	"fmt"

	"gommu/pci"
)

func ExampleParseAddress() {
	a, err := pci.ParseAddress("3a:1f.2")
	fmt.Printf("%v requester id %#04x %v\n", a, a.RequesterID(), err)
	_, err = pci.ParseAddress("3a:20.0")
	fmt.Println(err)
	// Output:
	// 0000:3a:1f.2 requester id 0x3afa <nil>
	// pci: parse address "3a:20.0": not a PCI address: device "20" is more than 1f; write it as 0000:00:03.0 (domain:bus:device.function) or 00:03.0
}

// A driver is tested against registers in memory.
func ExampleNewWindow() {
	var bar pci.BAR
	bar, err := pci.NewWindow(make([]byte, 4096))
	if err != nil {
		fmt.Println(err)
		return
	}
	bar.Write32(0x80, 7)
	fmt.Println(bar.Read32(0x80), bar.Read64(0x80))
	// Output: 7 7
}

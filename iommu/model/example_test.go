package model_test

import (
	"fmt"
	"log"

	"gommu/iommu/model"
)

// A device writes through a page table of four levels, which is written here by
// hand, and through an entry that is not there.
func Example() {
	ram := frames(8)
	unit, err := model.New(model.Config{RAM: ram, Coherent: true})
	if err != nil {
		log.Fatal(err)
	}
	const root, context, top, bdf = 0x0000, 0x1000, 0x2000, 0x0018
	w := words(ram)
	w[root/8] = context | 1            // root entry of bus 0
	w[(context+bdf*16)/8] = top | 1    // context entry: the table,
	w[(context+bdf*16)/8+1] = 5<<8 | 2 // domain id 5, four levels
	for level := range uint64(3) {     // entries 0 lead from table to table
		w[(top+level<<12)/8] = top + (level+1)<<12 | 3
	}
	w[(top+3<<12)/8+4] = 0x7000 | 3 // IOVA 0x4000 is bus address 0x7000

	unit.Write64(0x20, root)  // RTADDR
	unit.Write32(0x18, 1<<30) // GCMD: set root table pointer
	unit.Write32(0x18, 1<<31) // GCMD: enable translation
	device := unit.Device(bdf)
	fmt.Println(device.Write(0x4010, []byte("hello")), string(ram[0x7010:0x7015]))
	fmt.Println(device.Write(0x5000, []byte("hello")))
	fmt.Printf("%#x %#x\n", unit.Read64(0x200), unit.Read64(0x208)) // the fault record
	// Output:
	// <nil> hello
	// model: write of iova 0x5000 by device 0x0018: blocked by the unit (reason 0x05)
	// 0x5000 0x8000000500000018
}

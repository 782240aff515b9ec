package guest_test

import (
	"fmt"

	"gommu/qemu-tests/vm/guest"
)

func Example() {
	// In main: guest.Init(run), and run is
	run := func() int {
		if !guest.Inside() {
			fmt.Println("not in a guest")
			return 1
		}
		fmt.Println("DMA for real")
		return 0
	}
	fmt.Println(run())
	// Output:
	// not in a guest
	// 1
}

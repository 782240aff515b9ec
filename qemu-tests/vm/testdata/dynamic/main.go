// Command dynamic is a program that needs the C library, for TestDynamic of package vm.
package main

// #include <stdlib.h>
import "C"

import (
	"fmt"

	"gommu/qemu-tests/vm/guest"
)

func main() {
	guest.Init(func() int {
		fmt.Print("abs says ", C.abs(-5))
		return 0
	})
}

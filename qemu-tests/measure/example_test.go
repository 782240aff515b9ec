package measure_test

import (
	"context"
	"fmt"
	"time"

	"gommu/qemu-tests/measure"
)

// Two ways are measured beside each other and compared. Those of a driver are made by NewDomain and NewRing; here both
// only compute. Row.Ratio is the medians' of the row over its peer's.
func Example() {
	cell := func(name string, rounds int) measure.Cell {
		return measure.Cell{Way: measure.NewLoop(rounds), Name: name, Policy: "none", Shape: measure.Page}
	}
	r, err := measure.Run(context.Background(), measure.Plan{
		Cells:  []measure.Cell{cell("long", 30_000), cell("short", 10)},
		Budget: 50 * time.Millisecond,
		Rounds: 2,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err = measure.Join("none", "this one", "short", r)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, row := range r.Rows {
		fmt.Printf("%s: %s; compared with %s: %t\n", row.Way, row.Name, row.Peer, row.Ratio > 0)
	}
	// Output:
	// long: map+unmap 4K; compared with short, none: true
	// long: map 4K; compared with short, none: true
	// long: unmap 4K; compared with short, none: true
	// short: map+unmap 4K; compared with short, none: true
	// short: map 4K; compared with short, none: true
	// short: unmap 4K; compared with short, none: true
}

package scenario_test

import (
	"context"
	"fmt"

	"gommu/respool/scenario"
)

func ExampleScenario_Run() {
	found, err := scenario.Find("raid1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range scenario.Disciplines() {
		for _, r := range found[0].Run(context.Background(), d, scenario.Options{}) {
			fmt.Printf("%s, %s: %s, %d of %d tasks got through\n", r.Discipline, r.Way, r.Got, r.Finished(), len(r.Tasks))
		}
	}
	// Output:
	// pool-first, a reservation comes with the request: finished, 22 of 22 tasks got through
	// pool-first, nothing is handed over: deadlock, 0 of 22 tasks got through
	// allocator-first, the daemon has a mempool: deadlock, 0 of 22 tasks got through
}

//go:build linux

package trace_test

import (
	"fmt"
	"log"
	"time"

	"gommu/iommu/trace"
)

// Watch a program's maps for a while. It has no output here, because it takes a program and rights.
func Example() {
	t, err := trace.Open(trace.Options{Binary: "/usr/local/bin/driver", Sample: 16})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	time.Sleep(10 * time.Second)
	s, err := t.Snapshot()
	if err != nil {
		log.Fatal(err)
	}
	maps := s.Of(trace.Map)
	fmt.Printf("%d maps of %d bytes in %v; lost: %+v\n", maps.Count, maps.Size, maps.Time, s.Lost)
}

// Command victim calls the probes as often as it is told on its standard input, a line at a time:
// "calls N" for N calls from several goroutines at once, "on" for the probes that are on, "load" for calls until the end of the input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"gommu/internal/probe"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var n uint64
		if _, err := fmt.Sscanf(lines.Text(), "calls %d", &n); err == nil {
			calls(n)
		}
		switch lines.Text() {
		case "load":
			go func() {
				for {
					calls(1000)
				}
			}()
		}
		var on uint64
		for p := range probe.Points {
			if probe.On(p) {
				on |= 1 << p
			}
		}
		fmt.Println("on", on)
	}
}

// calls makes n calls of Map and of Unmap, and one of Fault for each hundred.
func calls(n uint64) {
	var next atomic.Uint64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				call(i)
			}
		})
	}
	all.Wait()
}

// call is the i-th call. Its device is one of two, its size one of four, its duration i ns.
func call(i uint64) {
	source, size := 0x10+i%2*8, uint64(4096)<<(i%4)
	if probe.On(probe.Map) && probe.Sampled() {
		probe.CallMap(1+i%2, source, i<<12, size, 3, probe.Done, i)
	}
	if probe.On(probe.Unmap) && probe.Sampled() {
		probe.CallUnmap(1+i%2, source, i<<12, size, 3, probe.Done, 2*i)
	}
	if i%100 == 0 && probe.On(probe.Fault) {
		probe.CallFault(1+i%2, source, i<<12, 3, 5, 7)
	}
}

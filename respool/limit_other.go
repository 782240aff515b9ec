//go:build !linux

package respool

// machineMemory is not known.
func machineMemory() int64 { return 0 }

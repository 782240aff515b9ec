//go:build !amd64

package cacheline

func variants() map[string]func([]uint64) { return nil }

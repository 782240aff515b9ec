//go:build race

package respool

const pinning = false

func pin() int { return 0 }

func unpin() {}

//go:build !linux

package guest

// first is false: guests are Linux.
func first() bool { return false }

func supervise() {}

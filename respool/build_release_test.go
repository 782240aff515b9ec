//go:build !debug

package respool_test

import "gommu/respool"

// What a debug build has in build_debug_test.go.

const debugBuild = false

func hear(*respool.Options) {}

func unsettle() (settle func()) { return func() {} }

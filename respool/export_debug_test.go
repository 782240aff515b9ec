//go:build debug

package respool

// SetTestPause sets testPause until reset is called.
func SetTestPause(f func(at string)) (reset func()) {
	testPause.Store(&f)
	return func() { testPause.Store(nil) }
}

//go:build !race

package respool

import _ "unsafe" // for go:linkname

// pinning says that pin works. The race detector does not know that goroutines pinned to the
// same processor take turns.
const pinning = true

// pin keeps the calling goroutine on its processor until unpin and says which of
// GOMAXPROCS that is. Meanwhile no other goroutine runs there. It costs about 1 ns. The
// runtime keeps procPin for packages that link to it, as it says beside it.
//
//go:linkname pin runtime.procPin
func pin() int

//go:linkname unpin runtime.procUnpin
func unpin()

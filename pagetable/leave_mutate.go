//go:build mutate

package pagetable

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// The steps that can be left out are the calls of flush, order and showLinks, named by file and
// line. The environment says which one is left out, and where to write which are reached.
const (
	leaveEnv   = "PAGETABLE_LEAVE"
	reachedEnv = "PAGETABLE_REACHED"
)

var (
	leave   = os.Getenv(leaveEnv)
	reached sync.Map // of names
)

// leftOut says that the step its caller was called for is to be left out.
func leftOut() bool {
	_, file, line, _ := runtime.Caller(2)
	name := fmt.Sprintf("%s:%d", filepath.Base(file), line)
	reached.Store(name, nil)
	return name == leave
}

//go:build !linux

package vm

import "errors"

// libraries is asked where no guest can be started (package child).
func libraries(string) ([]string, error) { return nil, errors.ErrUnsupported }

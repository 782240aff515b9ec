//go:build !linux

package provision

import (
	"context"
	"errors"
)

// Setup fetches what is missing; that works on Linux only. Elsewhere it succeeds when nothing is missing.
func Setup(_ context.Context, opts Options) (Installed, error) {
	in, err := Find(opts)
	if err != nil {
		return Installed{}, &Error{Op: "setup", Err: errors.Join(ErrUnsupported, err), Remedy: remedyInstall}
	}
	return in, nil
}

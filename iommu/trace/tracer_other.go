//go:build !linux || !(amd64 || arm64)

package trace

import (
	"context"
	"fmt"
	"runtime"
)

// A Tracer watches. On this system there is none.
type Tracer struct{}

var errSystem = fmt.Errorf("%w: this is %s/%s, it takes Linux on amd64 or arm64", ErrKernel, runtime.GOOS, runtime.GOARCH)

// Open is ErrKernel.
func Open(Options) (*Tracer, error) { return nil, failure("open", "", errSystem) }

// Snapshot is ErrKernel.
func (*Tracer) Snapshot() (Snapshot, error) { return Snapshot{}, failure("snapshot", "", errSystem) }

// Read is ErrKernel.
func (*Tracer) Read(context.Context) (Event, error) { return Event{}, failure("read", "", errSystem) }

// Close does nothing.
func (*Tracer) Close() error { return nil }

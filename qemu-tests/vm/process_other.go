//go:build !linux

package vm

import (
	"context"
	"errors"
	"io"
	"os"
)

// Guests are started on Linux only; elsewhere Boot fails with errors.ErrUnsupported.

func start(context.Context, []string, []*os.File, io.Writer) (<-chan struct{}, *error, error) {
	return nil, nil, errors.ErrUnsupported
}

func socketPair(string) (ours, theirs *os.File, err error) { return nil, nil, errors.ErrUnsupported }

func memoryFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func bootID() string { return "" }

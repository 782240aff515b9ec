//go:build !linux

package child

import (
	"context"
	"errors"
	"io"
	"os"
)

func Start(context.Context, []string, []*os.File, io.Writer) (*Process, error) {
	return nil, errors.ErrUnsupported
}

func (p *Process) Kill() {}

func SocketPair(string) (ours, theirs *os.File, err error) { return nil, nil, errors.ErrUnsupported }

func MemoryFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }

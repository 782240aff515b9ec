package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"gommu/qemu-tests/vm/internal/wire"
)

// A session receives what the guest sends over the result port.
type session struct {
	machine Machine
	begin   time.Time
	// exited becomes true with the guest's last word.
	exited atomic.Bool

	// Only the goroutine in receive touches the rest until it has returned.
	status         wire.Status
	started        time.Duration
	stdout, stderr bytes.Buffer
	log            bytes.Buffer
	file           *incoming
	fetched        map[string]bool
	fileErr        error
}

// receive reads frames until the guest says how the program ended, or the stream does,
// and acknowledges the end.
func (s *session) receive(port io.ReadWriter) error {
	defer func() { s.file.abort() }()
	for {
		k, b, err := wire.Read(port)
		if err != nil {
			return err
		}
		if err := s.frame(k, b); err != nil {
			return err
		}
		if k == wire.Exit {
			s.exited.Store(true)
			_, err := port.Write([]byte{1})
			return err
		}
	}
}

func (s *session) frame(k wire.Kind, b []byte) error {
	switch k {
	case wire.Ready:
		s.started = time.Since(s.begin)
	case wire.Stdout, wire.Stderr:
		buf := &s.stdout
		if k == wire.Stderr {
			buf = &s.stderr
		}
		buf.Write(b)
		if s.machine.Output != nil {
			_, _ = s.machine.Output.Write(b)
		}
	case wire.Log:
		s.log.Write(b)
	case wire.File, wire.Data, wire.EOF:
		if err := s.fetch(k, b); err != nil {
			s.fileErr = errors.Join(s.fileErr, err) // the output after it is still wanted
		}
	case wire.Exit:
		if err := json.Unmarshal(b, &s.status); err != nil {
			return fmt.Errorf("%w: %w", wire.ErrFrame, err)
		}
	}
	return nil
}

// fetch takes one frame of a file.
func (s *session) fetch(k wire.Kind, b []byte) error {
	switch k {
	case wire.File:
		s.file.abort()
		to, ok := s.machine.Fetch[string(b)]
		if !ok {
			s.file = nil
			return fmt.Errorf("%w: a file that was not asked for: %q", wire.ErrFrame, b)
		}
		f, err := newIncoming(string(b), to)
		s.file = f
		return err
	case wire.Data:
		if s.file == nil {
			return nil // its error has been told
		}
		return s.file.write(b)
	default:
		if s.file == nil {
			return nil
		}
		f := s.file
		s.file = nil
		if err := f.commit(); err != nil {
			return err
		}
		s.fetched[f.name] = true
		return nil
	}
}

// An incoming file lies beside its destination until it is complete. A nil one may be aborted.
type incoming struct {
	name, to string
	f        *os.File
	err      error
}

func newIncoming(name, to string) (*incoming, error) {
	f, err := os.CreateTemp(filepath.Dir(to), ".incoming-*")
	if err != nil {
		return nil, err
	}
	return &incoming{name: name, to: to, f: f}, nil
}

// write keeps the first error for commit.
func (i *incoming) write(b []byte) error {
	if i.err == nil {
		_, i.err = i.f.Write(b)
	}
	return nil
}

func (i *incoming) commit() error {
	err := errors.Join(i.err, i.f.Chmod(0o644), i.f.Close())
	if err == nil {
		err = os.Rename(i.f.Name(), i.to)
	}
	if err != nil {
		os.Remove(i.f.Name())
	}
	return err
}

func (i *incoming) abort() {
	if i != nil {
		i.f.Close()
		os.Remove(i.f.Name())
	}
}

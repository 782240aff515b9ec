// Package wire is what the host and PID 1 of the guest say to each other.
//
// The host tells the guest what to do in a file of the initramfs (Spec). The
// guest answers over one virtio-serial port with frames: a kind, a length, that
// many bytes. One ordered stream carries everything, so once the host has seen
// the Exit frame it has all output and all files. It answers with one byte, and
// the guest powers off. The package owns nothing, and only the reader and writer handed to it can block.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// SpecPath is where the guest finds its Spec.
	SpecPath = "/gommu.json"
	// PortName is the name of the virtio-serial port.
	PortName = "gommu.result"
	// Inside is the environment variable that a program of the guest finds set to 1.
	Inside = "GOMMU_IN_VM"
	// MaxPayload is the largest payload of a frame, in bytes.
	MaxPayload = 1 << 20
	// Chunk is the payload size that a sender cuts long data into, in bytes.
	Chunk = 32 << 10
)

// Spec tells PID 1 what to run.
type Spec struct {
	// Args are the program's arguments, its own name not among them.
	Args []string `json:"args,omitempty"`
	// Env are KEY=VALUE pairs.
	Env []string `json:"env,omitempty"`
	// Preload are modules that the result port needs, Modules those asked for;
	// each may be followed by a space and parameters.
	Preload []string `json:"preload,omitempty"`
	Modules []string `json:"modules,omitempty"`
	// Fetch are files to send back once the program has ended.
	Fetch []string `json:"fetch,omitempty"`
	// Limit is the time since boot at which the program is made to dump its
	// goroutines and end; 0 is none.
	Limit time.Duration `json:"limit,omitempty"`
}

// A Kind says what a frame carries.
type Kind byte

const (
	Ready  Kind = 'r' // set-up is done, the program starts; no payload
	Stdout Kind = 'o' // bytes that the program wrote
	Stderr Kind = 'e'
	File   Kind = 'f' // a fetched file begins; the payload is its name
	Data   Kind = 'd' // bytes of that file
	EOF    Kind = 'z' // the file is complete
	Log    Kind = 'k' // text of the kernel's log
	Exit   Kind = 'x' // the end; the payload is a Status in JSON
)

// Status is how the program ended.
type Status struct {
	// Code is the exit code, 128 and the signal number if a signal ended it.
	Code int `json:"code"`
	// Signal is that signal's name.
	Signal string `json:"signal,omitempty"`
	// TimedOut says that the time limit ended it.
	TimedOut bool `json:"timed_out,omitempty"`
	// Error is why the program could not be started or its files not be sent.
	Error string `json:"error,omitempty"`
}

// ErrFrame is a malformed frame.
var ErrFrame = errors.New("malformed frame")

const header = 5 // kind, then the length as 32 bits little endian

// Write writes one frame; longer payloads of Stdout, Stderr, Data and Log are cut
// into several.
func Write(w io.Writer, k Kind, payload []byte) error {
	for {
		n := min(len(payload), Chunk)
		buf := make([]byte, header, header+n)
		buf[0] = byte(k)
		binary.LittleEndian.PutUint32(buf[1:], uint32(n))
		if _, err := w.Write(append(buf, payload[:n]...)); err != nil {
			return err
		}
		if payload = payload[n:]; len(payload) == 0 {
			return nil
		}
	}
}

// WriteExit writes the Exit frame; an error text too long for one frame is cut.
func WriteExit(w io.Writer, s Status) error {
	s.Error = s.Error[:min(len(s.Error), Chunk/8)] // JSON may need 6 bytes for one
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return Write(w, Exit, b)
}

// Read reads one frame. The error is io.EOF if the stream ends between frames.
func Read(r io.Reader) (Kind, []byte, error) {
	var h [header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	k, n := Kind(h[0]), binary.LittleEndian.Uint32(h[1:])
	switch k {
	case Ready, Stdout, Stderr, File, Data, EOF, Log, Exit:
	default:
		return 0, nil, fmt.Errorf("%w: kind %#x", ErrFrame, h[0])
	}
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return k, b, nil
}

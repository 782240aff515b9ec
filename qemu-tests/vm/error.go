package vm

import (
	"bytes"
	"errors"
	"strings"
)

var (
	// ErrTimeout: the machine's time limit was reached.
	ErrTimeout = errors.New("time limit reached")
	// ErrNoResult: QEMU ended, and the program's exit code had not come: the
	// kernel panicked, PID 1 died, or QEMU did not start.
	ErrNoResult = errors.New("the guest ended without a result")
	// ErrGuest: PID 1 could not set the guest up, start the program, or send a file.
	ErrGuest = errors.New("the guest reports")
	// ErrModule: the kernel's module folder lacks a module.
	ErrModule = errors.New("no such kernel module")
	// ErrKernel: the kernel image is neither a bzImage nor an ELF vmlinux.
	ErrKernel = errors.New("not a kernel image that QEMU can boot")
	// ErrKVM: KVM was demanded and does not work.
	ErrKVM = errors.New("KVM does not work here")
)

// An Error is a failed step of a boot.
type Error struct {
	Op   string // what was done: "image", "kernel", "boot", …
	Path string // the file concerned, or ""
	Err  error
	// Log is the end of what QEMU and the console said, or "".
	Log string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("vm: " + e.Op)
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Log != "" {
		b.WriteString("\n\t" + strings.ReplaceAll(strings.TrimSpace(e.Log), "\n", "\n\t"))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// lastLines returns at most n last lines of b.
func lastLines(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.ReplaceAll(string(bytes.Join(lines, []byte("\n"))), "\r", "")
}

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"gommu/qemu-tests/internal/child"
	"gommu/qemu-tests/vm/internal/wire"
)

const (
	consoleKept = 1 << 20         // bytes of the console in a Result
	qemuLogKept = 64 << 10        // bytes of QEMU's stderr
	offLimit    = 5 * time.Second // for the guest to power off when its result is there
	drainLimit  = 2 * time.Second // for what QEMU has left in the sockets
	tailLines   = 20              // lines of the log in an Error
)

// Boot runs a machine until its program has ended. A program that fails is no error
// of Boot: see Result.ExitCode. The errors are *Error: ErrTimeout, ctx's error, ErrNoResult, ErrGuest,
// ErrModule, ErrKernel, ErrKVM, those of package provision, those of files. The result is nil if QEMU was
// not started, and has what there was otherwise. Boot blocks until QEMU is gone.
func Boot(ctx context.Context, m Machine) (*Result, error) {
	m, err := m.withDefaults()
	if err != nil {
		return nil, err
	}
	program, err := loadProgram(m.Init)
	if err != nil {
		return nil, err
	}
	return boot(ctx, m, program)
}

// boot is Boot with the defaults filled in and the program read.
func boot(ctx context.Context, m Machine, program []cpio.Record) (*Result, error) {
	kernel, err := bootable(m.Kernel.Image)
	if err != nil {
		return nil, err
	}
	accel, err := m.accel(ctx, kernel)
	if err != nil {
		return nil, err
	}
	r, err := prepare(m, program)
	if err != nil {
		return nil, err
	}
	defer r.close()
	return r.run(ctx, append([]string{m.QEMU.Path}, m.args(kernel, accel)...), accel)
}

// A running is one QEMU with its three descriptors.
type running struct {
	m               Machine
	console, result *os.File   // our ends
	theirs          []*os.File // image, console, result
	consoleTail     child.Tail
	qemuTail        child.Tail
	session         session
}

// prepare makes the image and the sockets, and refuses what would fail after the run.
func prepare(m Machine, program []cpio.Record) (_ *running, err error) {
	r := &running{m: m, consoleTail: child.Tail{Limit: consoleKept}, qemuTail: child.Tail{Limit: qemuLogKept}}
	r.session = session{machine: m, fetched: map[string]bool{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, to := range m.Fetch {
		if _, err := os.Stat(filepath.Dir(to)); err != nil {
			return nil, &Error{Op: "file from the guest", Path: to, Err: err}
		}
	}
	image, err := child.MemoryFile("gommu-initramfs")
	if err != nil {
		return nil, &Error{Op: "image", Err: err}
	}
	r.theirs = append(r.theirs, image)
	if err := writeImage(image, m, program); err != nil {
		return nil, err
	}
	for _, ours := range []**os.File{&r.console, &r.result} {
		a, b, err := child.SocketPair("gommu-qemu")
		if err != nil {
			return nil, &Error{Op: "boot", Err: err}
		}
		*ours = a
		r.theirs = append(r.theirs, b)
	}
	return r, nil
}

// close closes what is open; a second close of a file only returns an error.
func (r *running) close() {
	for _, f := range append(r.theirs, r.console, r.result) {
		f.Close() // a nil *os.File gives an error
	}
}

// run runs QEMU to its end.
func (r *running) run(parent context.Context, command []string, accel string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(parent, r.m.Timeout, ErrTimeout)
	defer cancel()
	r.session.begin = time.Now()
	qemu, err := child.Start(ctx, command, r.theirs, &r.qemuTail)
	if err != nil {
		return nil, &Error{Op: "start QEMU", Path: r.m.QEMU.Path, Err: err}
	}
	for _, f := range r.theirs { // else the sockets would not end with QEMU
		f.Close()
	}
	consoleEnd, resultEnd := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(consoleEnd)
		io.Copy(&r.consoleTail, r.console)
	}()
	go func() {
		err := r.session.receive(r.result)
		switch {
		case r.session.exited.Load():
			time.AfterFunc(offLimit, cancel) // a machine that cannot power off
		case err != io.EOF:
			cancel() // nobody listens to the guest any more
		}
		resultEnd <- err
	}()
	<-qemu.Done()
	cause := context.Cause(ctx)
	elapsed := time.Since(r.session.begin)
	deadline := time.Now().Add(drainLimit)
	r.console.SetReadDeadline(deadline)
	r.result.SetReadDeadline(deadline)
	<-consoleEnd
	portErr := <-resultEnd

	res := r.outcome(command, accel, elapsed)
	return res, r.verdict(cause, qemu.Err(), portErr)
}

// outcome collects the result; the readers have ended.
func (r *running) outcome(command []string, accel string, elapsed time.Duration) *Result {
	s := &r.session
	res := &Result{
		ExitCode: s.status.Code, Signal: s.status.Signal,
		Stdout: s.stdout.Bytes(), Stderr: s.stderr.Bytes(),
		Console: r.consoleTail.Bytes(), KernelLog: s.log.Bytes(), QEMULog: r.qemuTail.Bytes(),
		Command: command, Accel: accel,
		Started: s.started, Elapsed: elapsed,
	}
	if !s.exited.Load() {
		res.ExitCode = -1
	}
	for _, name := range slices.Sorted(maps.Keys(r.m.Fetch)) {
		if !s.fetched[name] {
			res.Missing = append(res.Missing, name)
		}
	}
	return res
}

// verdict says what went wrong, in the order in which one thing explains the other.
func (r *running) verdict(cause, exit, port error) error {
	s := &r.session
	var err error
	switch {
	case s.exited.Load() && s.status.TimedOut, !s.exited.Load() && errors.Is(cause, ErrTimeout):
		err = fmt.Errorf("%w (%v)", ErrTimeout, r.m.Timeout)
	case s.exited.Load() && s.status.Error != "":
		return &Error{Op: "boot", Err: fmt.Errorf("%w: %s", ErrGuest, s.status.Error)}
	case s.exited.Load() && s.fileErr != nil:
		return &Error{Op: "fetch", Err: s.fileErr}
	case s.exited.Load():
		return nil
	case errors.Is(port, wire.ErrFrame):
		err = fmt.Errorf("%w: %w", ErrNoResult, port)
	case cause != nil:
		err = cause
	case exit != nil:
		err = fmt.Errorf("%w: QEMU: %w", ErrNoResult, exit)
	default:
		err = ErrNoResult
	}
	log := append(r.qemuTail.Bytes(), r.consoleTail.Bytes()...)
	return &Error{Op: "boot", Err: err, Log: lastLines(log, tailLines)}
}

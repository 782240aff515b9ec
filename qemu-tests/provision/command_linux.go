package provision

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// command is a packaging tool to run, in a process group of its own that dies with the context and with this process.
type command struct {
	name string
	args []string
	dir  string
	env  []string // added to this process's
}

// start begins the command with its output going to stdout. Its caller holds the thread locked until finish has
// returned: the kernel sends the death signal when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG).
func (c command) start(ctx context.Context, stdout io.Writer) (finish func() error, err error) {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Dir = c.dir
	// English messages, so that they can be told apart.
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "LANGUAGE=", "DEBIAN_FRONTEND=noninteractive"), c.env...)
	cmd.Stdout = stdout
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, &toolError{c.name, "", err}
	}
	return func() error {
		err := cmd.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return &toolError{c.name, stderr.String(), err}
		}
		return nil
	}, nil
}

// output runs the command and returns what it wrote.
func (c command) output(ctx context.Context) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stdout bytes.Buffer
	finish, err := c.start(ctx, &stdout)
	if err != nil {
		return "", err
	}
	err = finish()
	return stdout.String(), err
}

// stream runs the command and gives its output to read. An *Error of read is about its own work and returned; any other
// may be the echo of the command's failure, which is returned then.
func (c command) stream(ctx context.Context, read func(io.Reader) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	finish, err := c.start(ctx, w)
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	readErr := read(r)
	if readErr == nil {
		_, readErr = io.Copy(io.Discard, r)
	}
	r.Close() // ends a command that still writes
	err = finish()
	var own *Error
	if err == nil || ctx.Err() == nil && errors.As(readErr, &own) {
		return readErr
	}
	return err
}

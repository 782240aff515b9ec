package child

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start runs a program, with files as its descriptors from 3 on, until it ends, Kill
// is called, or ctx ends; a context that has ended starts nothing. The files stay the caller's. What the program
// writes to stdout and stderr goes to output, which must take writes at any time until Done.
func Start(ctx context.Context, command []string, files []*os.File, output io.Writer) (*Process, error) {
	p := &Process{done: make(chan struct{})}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A group of its own: an interrupt from the terminal is for this process, and a
		// wrapper script is killed with the program that it runs.
		Setpgid: true,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second // for one that left the group and keeps the output open
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that forked ends, not the process
		// (prctl(2), PR_SET_PDEATHSIG): this goroutine keeps it until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Kill ends the program and what it started; it does not wait.
func (p *Process) Kill() {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // it may have ended meanwhile
	}
}

// SocketPair returns two ends of a stream: ours, which honours deadlines, and the one to
// hand on.
func SocketPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// MemoryFile returns a file that is gone when nobody has it open. A child opens it through its descriptor in
// /proc/self/fd, so nothing is left behind on any file system, however the processes end.
func MemoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

package vm

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start starts a process that ends with ctx and with this process. It takes over
// files, which the process has from descriptor 3 on. When done is closed, all that it wrote to
// stdout and stderr is in output, and how it ended in *err.
func start(ctx context.Context, command []string, files []*os.File, output io.Writer) (done <-chan struct{}, err *error, _ error) {
	ended, started, exit := make(chan struct{}), make(chan error, 1), new(error)
	go func() {
		// The death signal comes when the thread that forked ends, not the process:
		// this goroutine keeps the thread until QEMU has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = output, output
		cmd.ExtraFiles = files
		// A group of its own, so that a wrapper script dies with its QEMU.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 2 * time.Second
		err := cmd.Start()
		for _, f := range files {
			f.Close()
		}
		started <- err
		if err == nil {
			*exit = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, err
	}
	return ended, exit, nil
}

// socketPair returns two ends of a stream: ours, which honours deadlines, and the one to
// hand on.
func socketPair(name string) (ours, theirs *os.File, err error) {
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

// memoryFile returns a file that is gone when nobody has it open.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// bootID changes with each start of the host.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

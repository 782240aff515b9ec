package qtest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running QEMU. It dies with this process, however that ends.
type process struct {
	cmd    *exec.Cmd
	output tail
	done   chan struct{} // closed when it has ended and was reaped
	err    error         // how it ended; valid once done is closed
}

// startProcess runs QEMU with the given files as descriptors 3 and up.
//
// Pdeathsig is tied to the thread that forked, not to the process: were that
// thread to end, QEMU would be killed. So one goroutine, locked to its thread,
// forks and then waits for QEMU to end, and only then gives the thread up.
func startProcess(path string, args []string, files []*os.File) (*process, error) {
	p := &process{done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.ExtraFiles = files
	p.cmd.Stdout = &p.output
	p.cmd.Stderr = &p.output
	p.cmd.WaitDelay = time.Second // for a child of a script that keeps the output open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // an interrupt from the terminal is for the program, which closes the machine
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process; it does not wait.
func (p *process) kill() { p.cmd.Process.Kill() }

// status says how a process that has ended did so.
func (p *process) status() string {
	if p.cmd.ProcessState == nil {
		return fmt.Sprint(p.err)
	}
	return p.cmd.ProcessState.String()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String is the text, without the warning that -icount sleep=off always gives.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.buf)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "icount sleep disabled and no active timers") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"

	"gommu/qemu-tests/vm/internal/wire"
)

const (
	ackLimit  = 10 * time.Second // until the host has taken the result
	leastRun  = time.Second      // for the program to install its signal handler before the time limit
	quitLimit = time.Second      // for the goroutine dump after the time limit
	pipeLimit = time.Second      // for children of the program that keep its output open
)

// first reports whether this is PID 1 of a guest. PID 1 of a container is not: it
// has no spec.
func first() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(wire.SpecPath)
	return err == nil
}

// supervise is PID 1. What goes wrong before the port is open can only be told on
// the console; the host then reports a guest that ended without a result.
func supervise() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "gommu init:", err)
	}
	for {
		err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		fmt.Fprintln(os.Stderr, "gommu init: power off:", err)
		time.Sleep(time.Second)
	}
}

func serve() error {
	if err := mountAll(); err != nil {
		return err
	}
	b, err := os.ReadFile(wire.SpecPath)
	if err != nil {
		return err
	}
	var spec wire.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	if err := load(spec.Preload); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	st := perform(spec, port)
	if st.Code != 0 || st.Error != "" {
		sendLog(port)
	}
	if err := wire.WriteExit(port, st); err != nil {
		return fmt.Errorf("sending the result: %w", err)
	}
	return awaitAck(port)
}

// perform does what the spec asks for.
func perform(spec wire.Spec, port *os.File) wire.Status {
	if err := load(spec.Modules); err != nil {
		return wire.Status{Code: -1, Error: err.Error()}
	}
	st, err := runProgram(spec, port)
	if err != nil {
		return wire.Status{Code: -1, Error: err.Error()}
	}
	for _, name := range spec.Fetch {
		if err := sendFile(port, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			st.Error = fmt.Sprintf("sending %s: %v", name, err)
		}
	}
	return st
}

// load loads modules and what they depend on; the host wrote modules.dep.
func load(modules []string) error {
	for _, m := range modules {
		name, params, _ := strings.Cut(m, " ")
		if err := kmodule.Probe(name, params); err != nil {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
	}
	return nil
}

// runProgram runs this executable again as the program.
func runProgram(spec wire.Spec, port *os.File) (wire.Status, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"/init"}, spec.Args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}, spec.Env...)
	cmd.Env = append(cmd.Env, wire.Inside+"=1")
	cmd.Dir = "/"
	cmd.Stdout = frames{port, wire.Stdout}
	cmd.Stderr = frames{port, wire.Stderr}
	cmd.WaitDelay = pipeLimit
	if err := wire.Write(port, wire.Ready, nil); err != nil {
		return wire.Status{}, err
	}
	if err := cmd.Start(); err != nil {
		return wire.Status{}, fmt.Errorf("starting the program: %w", err)
	}
	var timedOut atomic.Bool
	if spec.Limit > 0 {
		defer time.AfterFunc(max(spec.Limit-uptime(), leastRun), func() {
			timedOut.Store(true)
			cmd.Process.Signal(syscall.SIGQUIT) // a Go program dumps its goroutines
			time.AfterFunc(quitLimit, func() { cmd.Process.Kill() })
		}).Stop()
	}
	err := cmd.Wait()
	if cmd.ProcessState == nil {
		return wire.Status{}, fmt.Errorf("waiting for the program: %w", err)
	}
	st := wire.Status{Code: cmd.ProcessState.ExitCode(), TimedOut: timedOut.Load()}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		st.Code, st.Signal = 128+int(ws.Signal()), ws.Signal().String()
	}
	return st, nil
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

package vtd_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gommu/internal/procpin"
)

// childEnv tells the test binary that it is the child that the filter kills.
const childEnv = "VTD_NO_SYSCALL"

// TestNoSystemCall begins flushes and looks for their end, a million times on a thread that the kernel
// kills at its first system call. Preemption by signals is off in the child, for the end of a signal's
// handler is a system call.
func TestNoSystemCall(t *testing.T) {
	if !procpin.Works {
		t.Skip("the race detector makes system calls: run without")
	}
	if os.Getenv(childEnv) != "" {
		underFilter(t)
	}
	for _, c := range []struct{ call, want string }{{"none", ""}, {"getpid", "signal: bad system call"}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoSystemCall$")
		cmd.Env = append(os.Environ(), childEnv+"="+c.call, "GODEBUG=asyncpreemptoff=1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil && c.want == "":
		case errors.As(err, &exit) && exit.ExitCode() == skipped:
			t.Skipf("no seccomp filter on this machine: %s", out)
		case exit == nil || exit.ProcessState.String() != c.want && exit.ProcessState.String() != c.want+" (core dumped)":
			t.Errorf("with the system call %q: %v\n%s", c.call, err, out)
		}
	}
}

// skipped is the child's exit code where it can install no filter.
const skipped = 77

// underFilter does not return.
func underFilter(t *testing.T) {
	debug.SetGCPercent(-1)
	units := make([]*bound, len(bindModes))
	for i, m := range bindModes {
		units[i] = bindOn(t, m.c, m.mode, m.stage)
	}
	rounds := 1_000_000
	if os.Getenv(childEnv) == "getpid" {
		rounds = 1
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(skipped)
	}
	// Load the number of the call; let exit_group through; kill for all others.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_EXIT_GROUP},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		os.Stdout.WriteString(errno.Error())
		os.Exit(skipped)
	}
	procpin.Pin() // preemption, which is not the driver's, would be a futex call
	var err error
	for i := range rounds {
		err = errors.Join(err, flush(units[0].b, 0x1000, 0x1000, true))
		if i%100 != 0 {
			continue
		}
		for j, s := range units {
			if i%10_000 == 0 || !bindModes[j].c.WriteBufferFlush { // that copies memory
				err = errors.Join(err, flush(s.b, 0x1000, 0x1000, true), flush(s.b, 0, 0, false), s.b.Publish(0x1000, 0x1000))
			}
		}
	}
	if os.Getenv(childEnv) == "getpid" {
		unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	}
	code := uintptr(0)
	if err != nil {
		code = 1
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
}

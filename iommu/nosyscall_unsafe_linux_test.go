package iommu_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gommu/internal/procpin"
	"gommu/iommu"
	"gommu/iommu/model"
)

// childEnv tells the test binary that it is the child that the filter kills.
const childEnv = "IOMMU_NO_SYSCALL"

// All that must not sleep runs a million times on a thread that the kernel kills at its first system
// call, with each policy, on the model. Preemption by signals is off in the child, for the end of a signal's handler is a system call.
func TestNoSystemCall(t *testing.T) {
	if !procpin.Works {
		t.Skip("the race detector makes system calls: run without")
	}
	if how := os.Getenv(childEnv); how != "" {
		underFilter(t, how)
	}
	for _, c := range []struct{ how, want string }{{"strict", ""}, {"batched", ""}, {"getpid", "signal: bad system call"}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoSystemCall$")
		cmd.Env = append(os.Environ(), childEnv+"="+c.how, "GODEBUG=asyncpreemptoff=1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil && c.want == "":
		case errors.As(err, &exit) && exit.ExitCode() == skipped:
			t.Skipf("no seccomp filter on this machine: %s", out)
		case exit == nil || exit.ProcessState.String() != c.want && exit.ProcessState.String() != c.want+" (core dumped)":
			t.Errorf("%s: %v\n%s", c.how, err, out)
		}
	}
}

// skipped is the child's exit code where it can install no filter.
const skipped = 77

// underFilter does not return.
func underFilter(t *testing.T, how string) {
	debug.SetGCPercent(-1)
	o := iommu.Options{}
	if how == "batched" {
		// The model's registers have a mutex, so the worker stays away.
		o.Flush = iommu.Flush{Policy: iommu.Batched, Deadline: time.Hour}
	}
	// It snoops, for the model sees cache line flushes under a mutex, which a pool's worker may have.
	snoops := setting{c: model.Config{Coherent: true}}
	r := newUnit(t, snoops)
	r.bare = true
	r.domain(snoops, o)
	calls := newPath(t, r).calls()
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
	procpin.Pin() // preemption, which is not the domain's, would be a futex call
	code := uintptr(0)
	for i := range 1_000_000 {
		c := &calls[0]
		if i%20 == 0 { // the others do many at a time
			c = &calls[i/20%len(calls)]
		}
		if c.do() != nil {
			code = 1
		}
	}
	if how == "getpid" {
		unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
}

package rung_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gommu/internal/procpin"
	"gommu/iommu"
	"gommu/qemu-tests/rung"
)

// childEnv tells the test binary that it is the child that the filter kills.
const childEnv = "RUNG_NO_SYSCALL"

// In a guest, over the registers of QEMU's unit, a million maps and unmaps run on a thread that the kernel kills at its first system
// call, with each policy. Package iommu has the same test on the model, with all calls.
func TestNoSystemCall(t *testing.T) {
	if !procpin.Works {
		t.Skip("the race detector makes system calls: run without")
	}
	if how := os.Getenv(childEnv); how != "" {
		underFilter(t, how)
	}
	for _, c := range []struct{ how, want string }{{"strict", "exit status 0"}, {"batched", "exit status 0"}, {"getpid", "signal: bad system call"}} {
		t.Run(c.how, func(t *testing.T) {
			run(t, "vm", rung.Options{}, func(_ context.Context, m *rung.Machine) error {
				if err := m.Close(); err != nil {
					return err // the child opens the unit itself, and leaves it on
				}
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoSystemCall$")
				cmd.Env = append(os.Environ(), childEnv+"="+c.how, "GODEBUG=asyncpreemptoff=1")
				out, _ := cmd.CombinedOutput()
				if got := cmd.ProcessState.String(); got != c.want && got != c.want+" (core dumped)" {
					return fmt.Errorf("%s: %s", got, out)
				}
				return nil
			})
		})
	}
}

// underFilter does not return.
func underFilter(t *testing.T, how string) {
	debug.SetGCPercent(-1)
	o := iommu.Options{}
	if how == "batched" {
		o.Flush.Policy = iommu.Batched
	}
	m, err := rung.Open(t.Context(), "vm", rung.Options{Domain: o})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	mem, err := m.Memory.Alloc(t.Context(), 64<<10)
	if err == nil {
		_, err = m.Domain.Register(t.Context(), mem, iommu.Bidirectional)
	}
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	runtime.LockOSThread()
	// Load the number of the call; let exit_group through; kill for all others.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_EXIT_GROUP},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		fmt.Println(errno)
		os.Exit(5)
	}
	procpin.Pin() // preemption, which is not the domain's, would be a futex call
	code := uintptr(0)
	for done, tries := 0, 0; done < 1_000_000 && code == 0; tries++ {
		b, err := m.Domain.Map(mem[done&0xf<<12:][:1500], iommu.FromDevice)
		switch {
		case err == nil:
			done++
			if m.Domain.Unmap(b) != nil {
				code = 6
			}
		case !errors.Is(err, iommu.ErrEmpty) || tries > 10_000_000: // a dry pool is an answer, too
			code = 7
		}
	}
	if how == "getpid" {
		unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
}

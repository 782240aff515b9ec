package respool_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gommu/respool"
)

// childEnv tells the test binary that it is the child that the filter kills.
const childEnv = "RESPOOL_NO_SYSCALL"

// All that must not sleep runs a million times on a thread that the kernel kills at its first system
// call. Preemption by signals is off in the child, for the end of a signal's handler is a system call.
func TestNoSystemCall(t *testing.T) {
	if respool.RaceDetector || debugBuild {
		t.Skip("the race detector and debug builds make system calls: run without")
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
	ctx := context.Background()
	debug.SetGCPercent(-1)
	p, err := respool.New(ctx, words{}, respool.Options{Min: 256, Low: 100, High: 256, Max: 256, OrdinaryMark: 8})
	if err != nil {
		t.Fatal(err)
	}
	q, err := respool.New(ctx, words{}, respool.Options{Min: 64, Max: 64})
	if err != nil {
		t.Fatal(err)
	}
	c, r, s := p.NewCache(16), reservation(t, p), reservation(t, q)
	buf := make([]uint64, 40)
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
	respool.Pin() // preemption, which is not the pool's, would be a futex call
	ok := true
	for range 100_000 {
		ok = hotPath(p, q, c, r, s, buf) && ok
	}
	if os.Getenv(childEnv) == "getpid" {
		unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	}
	code := uintptr(0)
	if !ok {
		code = 1
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
}

func reservation(t *testing.T, p *respool.Pool[uint64]) *respool.Reservation[uint64] {
	r, err := p.Reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hotPath makes each call that must not sleep, and says whether all went well.
func hotPath(p, q *respool.Pool[uint64], c *respool.Cache[uint64], r, s *respool.Reservation[uint64], buf []uint64) bool {
	ok := true
	want := func(err, wanted error) { ok = ok && errors.Is(err, wanted) }
	e, err := p.Get()
	want(err, nil)
	want(p.Put(e), nil)
	e, err = p.As(respool.Critical).Get()
	want(err, nil)
	want(p.Put(e), nil)
	for _, n := range []int{3, len(buf)} { // along both ways that a batch may take
		want(p.GetBatch(buf[:n]), nil)
		want(p.PutBatch(buf[:n]), nil)
	}
	for range 20 { // across the trips of the cache
		buf[0], err = c.Get()
		want(err, nil)
	}
	for range 20 {
		want(c.Put(buf[0]), nil)
	}
	want(c.Flush(), nil)
	want(r.Add(4), nil)
	e, err = r.Get()
	want(err, nil)
	want(r.Put(e), nil)
	want(r.Return(), nil)
	want(respool.ReserveAll(r.Need(2), s.Need(64)), nil)
	want(respool.ReserveAll(r.Need(2), s.Need(1)), respool.ErrEmpty)
	_, err = q.Get()
	want(err, respool.ErrEmpty)
	want(r.Return(), nil)
	want(s.Return(), nil)
	_, _ = p.Stats(), p.Forecast()
	return ok
}

package provision

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// envChild marks this test binary started again by a test: as another user, in a namespace, or to be killed.
const envChild = "GOMMU_PROVISION_TEST_CHILD"

// again runs the test alone in a copy of this binary. It returns false in that copy.
func again(t *testing.T, attr *syscall.SysProcAttr) (parent bool) {
	t.Helper()
	if os.Getenv(envChild) != "" {
		return false
	}
	needTools(t)
	dir, err := os.MkdirTemp("", "gommu-provision")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	self := filepath.Join(dir, "test") // where another user may run it: the folder of go test is closed to others
	copyFile(t, "/proc/self/exe", self)
	tmp := filepath.Join(dir, "tmp")
	check(t, os.Mkdir(tmp, 0o777))
	check(t, os.Chmod(tmp, 0o777|os.ModeSticky))

	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), envChild+"=1", "TMPDIR="+tmp, "HOME="+tmp)
	cmd.SysProcAttr = attr
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
		t.Skipf("this kernel lets an ordinary user make no user and mount namespaces (%v): run the test as root", err)
	}
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()) {
		t.Skipf("%s", out.Bytes())
	}
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("child: %v\n%s", err, out.Bytes())
	}
	return true
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	check(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	check(t, err)
	_, err = io.Copy(out, in)
	check(t, errors.Join(err, out.Close()))
}

// inMountNamespace runs the test in a mount namespace of its own, so that what it mounts is seen by nobody else and goes with it.
func inMountNamespace(t *testing.T) (parent bool) {
	t.Helper()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if again(t, attr) {
		return true
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skipf("mounting in a namespace of its own is forbidden (%v), as AppArmor does to ordinary users: run the test as root", err)
	}
	if errors.Is(err, unix.EINVAL) {
		t.Skip("the root folder is no mount point, as in a plain chroot, so mounts cannot be kept from others: run the test outside of it")
	}
	check(t, err)
	return false
}

// smallDisk mounts a file system of that size for the cache.
func smallDisk(t testing.TB, opts *Options, size string) {
	t.Helper()
	opts.Cache = t.TempDir()
	check(t, unix.Mount("tmpfs", opts.Cache, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { _ = unix.Unmount(opts.Cache, unix.MNT_DETACH) })
}

// bigArchive is the standard one with a kernel whose .deb has debSize bytes and that unpacks to zeros more.
func bigArchive(t testing.TB, debSize, zeros int) archive {
	t.Helper()
	a := archive{}
	pkgs := basePackages()
	pkgs[5].files = append(pkgs[5].files,
		debFile{"lib/modules/" + testRelease + "/big", bigKernel(debSize), 0o644},
		debFile{"lib/modules/" + testRelease + "/a-zero", strings.Repeat("\x00", zeros), 0o644})
	a.suite(t, "alpha", pkgs)
	a.suite(t, "alpha-backports", backportsPackages())
	a.suite(t, next, testingPackages())
	return a
}

func TestNoSpace(t *testing.T) {
	if inMountNamespace(t) {
		return
	}
	for _, test := range []struct {
		name         string
		deb, zeros   int
		disk         string
		ignoreNeeded bool
		says         string
	}{
		{"seen ahead", 6 << 20, 0, "8m", false, "needs 13 MB in "},
		{"during the download", 12 << 20, 0, "8m", true, "download"},
		{"while unpacking", 5 << 20, 24 << 20, "16m", true, "unpack"},
		{"before anything", 1 << 20, 0, "4k", true, ""},
		{"during the lists", 1 << 20, 0, "64k", true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMirror(t, bigArchive(t, test.deb, test.zeros))
			opts := machine(t, m.URL)
			smallDisk(t, &opts, test.disk)
			opts.host.anySpace = test.ignoreNeeded
			_, err := Setup(t.Context(), opts)
			var e *Error
			if !errors.Is(err, ErrNoSpace) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), test.says) ||
				!errors.As(err, &e) || !strings.Contains(e.Remedy, "free some or set GOMMU_CACHE") {
				t.Fatal(err)
			}
			consistent(t, opts)
			if got := entries(t, opts); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
			check(t, unix.Mount("", opts.Cache, "", unix.MS_REMOUNT, "size=200m"))
			mustSetup(t, opts)
			whole(t, opts)
		})
	}
}

// A disk that can hold no unit at all is refused before anything is fetched.
func TestNoSpaceAtAll(t *testing.T) {
	if inMountNamespace(t) {
		return
	}
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	smallDisk(t, &opts, "1m")
	opts.host.least = 0 // as it is outside of tests
	_, err := Setup(t.Context(), opts)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "needs 180 MB in ") || !strings.Contains(err.Error(), "free some or set GOMMU_CACHE") {
		t.Error(err)
	}
	if n := m.requests.Load(); n > 0 {
		t.Errorf("%d requests", n)
	}
	if got := entries(t, opts); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

func TestReadOnly(t *testing.T) {
	if inMountNamespace(t) {
		return
	}
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	smallDisk(t, &opts, "20m")
	remount := func(flags uintptr) { check(t, unix.Mount("", opts.Cache, "", unix.MS_REMOUNT|flags, "")) }
	remount(unix.MS_RDONLY)
	_, err := Setup(t.Context(), opts)
	if !errors.Is(err, ErrReadOnly) || !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), envCache) {
		t.Fatal(err)
	}
	if n := m.requests.Load(); n > 0 {
		t.Errorf("%d requests before it was known", n)
	}
	remount(0)
	mustSetup(t, opts)
	remount(unix.MS_RDONLY)
	mustSetup(t, opts) // nothing is missing: nothing is written
	whole(t, opts)
}

// A file system that forbids programs.
func TestNoExec(t *testing.T) {
	if inMountNamespace(t) {
		return
	}
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	smallDisk(t, &opts, "20m")
	check(t, unix.Mount("", opts.Cache, "", unix.MS_REMOUNT|unix.MS_NOEXEC, ""))
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "noexec") {
		t.Fatal(err)
	}
	consistent(t, opts)
}

// Everything works for an ordinary user, and what that user may not write is said.
func TestOrdinaryUser(t *testing.T) {
	var attr *syscall.SysProcAttr
	if os.Getuid() == 0 {
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if again(t, attr) {
		return
	}
	if os.Getuid() == 0 {
		t.Fatal("still root")
	}
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	closed := t.TempDir()
	check(t, os.Chmod(closed, 0o555))
	good := opts.Cache
	opts.Cache = filepath.Join(closed, "cache")
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrReadOnly) || !errors.Is(err, unix.EACCES) {
		t.Errorf("closed folder: %v", err)
	}
	opts.Cache = good
	mustSetup(t, opts)
	whole(t, opts)
}

// Killed in the middle, Setup leaves a staging folder; its children die, and the next Setup cleans up and works.
func TestSetupKilled(t *testing.T) {
	if os.Getenv(envChild) != "" {
		opts := machine(t, os.Getenv("GOMMU_TEST_MIRROR"))
		opts.Cache = os.Getenv("GOMMU_TEST_CACHE")
		_, err := Setup(t.Context(), opts)
		t.Fatalf("not killed: %v", err)
	}
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	asked, release := make(chan struct{}), make(chan struct{})
	m.misbehave(func(w http.ResponseWriter, path string, b []byte) bool {
		if !strings.Contains(path, "libc6") {
			return false
		}
		close(asked)
		<-release
		return true
	})
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSetupKilled$")
	cmd.Env = append(os.Environ(), envChild+"=1", "GOMMU_TEST_MIRROR="+m.URL, "GOMMU_TEST_CACHE="+opts.Cache,
		"TMPDIR="+t.TempDir()) // the child cannot clean up
	check(t, cmd.Start())
	<-asked
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	waitGone(t, opts.Cache) // while the server still keeps them waiting
	close(release)
	left := entries(t, opts)
	if len(left) != 2 || left[0] != allUnits[0] || !strings.HasPrefix(left[1], stagingPrefix) {
		t.Fatalf("after the kill: %v", left)
	}
	check(t, Verify(t.Context(), opts))
	if _, err := FindKernel(opts); err != nil {
		t.Error(err)
	}
	m.behave()
	debs := m.debs.Load()
	mustSetup(t, opts)
	whole(t, opts)
	if n := m.debs.Load() - debs; n != 10 {
		t.Errorf("%d packages were fetched again, not the 8 of the QEMUs and 2 of the newer kernel", n)
	}
}

// SIGINT, as the command sees it: a context that ends.
func TestSetupInterrupted(t *testing.T) {
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	opts.Progress = func(e Event) {
		if strings.HasPrefix(e.Step, "unpack QEMU") {
			_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
			<-ctx.Done()
		}
	}
	if _, err := Setup(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	consistent(t, opts)
}

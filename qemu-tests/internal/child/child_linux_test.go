package child_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/qemu-tests/internal/child"
)

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

func start(t *testing.T, ctx context.Context, script string, files ...*os.File) (*child.Process, *child.Tail) {
	t.Helper()
	out := &child.Tail{Limit: 100}
	p, err := child.Start(ctx, sh(script), files, out)
	if err != nil {
		t.Fatal(err)
	}
	return p, out
}

// TestEnds: a program that ends by itself has its output taken and its exit state told, and its files.
func TestEnds(t *testing.T) {
	ours, theirs, err := child.SocketPair("test")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	mem, err := child.MemoryFile("test")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt([]byte("from a file"), 0); err != nil {
		t.Fatal(err)
	}
	p, out := start(t, t.Context(), `read line <&3; echo "got $line"; cat /proc/self/fd/4 >&2; exit 3`, theirs, mem)
	theirs.Close()
	if _, err := ours.WriteString("a line\n"); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 3 || string(out.Bytes()) != "got a line\nfrom a file" {
		t.Errorf("%v, %q", p.Err(), out.Bytes())
	}
	p.Kill() // too late, and harmless
	if err := ours.SetReadDeadline(time.Now().Add(-1)); err != nil {
		t.Errorf("deadlines: %v", err)
	}
}

// TestKilled: whoever ends a program ends what it started, too.
func TestKilled(t *testing.T) {
	const wrapper = `sleep 1000 & echo $!; wait`
	started := func(out *child.Tail) string {
		for !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
			time.Sleep(time.Millisecond)
		}
		return strings.TrimSpace(string(out.Bytes()))
	}
	p, _ := start(t, t.Context(), "true")
	<-p.Done() // what the runtime keeps
	before := held.Now(t)

	p, out := start(t, t.Context(), wrapper)
	pid := started(out)
	p.Kill()
	<-p.Done()
	waitGone(t, pid)

	ctx, cancel := context.WithCancel(t.Context())
	p, out = start(t, ctx, wrapper)
	pid = started(out)
	cancel()
	<-p.Done()
	waitGone(t, pid)
	held.Check(t, before)
}

// TestStartFails: nothing is left of a program that cannot be started.
func TestStartFails(t *testing.T) {
	before := held.Now(t)
	if _, err := child.Start(t.Context(), []string{"/none/qemu"}, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := child.Start(ctx, sh("true"), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	held.Check(t, before)
}

// TestDiesWithParent kills a process that has a child, without any warning.
func TestDiesWithParent(t *testing.T) {
	const env = "GOMMU_TEST_PIDFILE"
	if file := os.Getenv(env); file != "" { // the process to be killed
		start(t, context.Background(), `echo $$ >`+file+`.new; mv `+file+`.new `+file+`; exec sleep 1000`)
		select {}
	}
	file := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command("/proc/self/exe", "-test.run=^TestDiesWithParent$")
	parent.Env = append(os.Environ(), env+"="+file)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	var pid string
	for pid == "" {
		b, _ := os.ReadFile(file)
		pid = strings.TrimSpace(string(b))
		time.Sleep(time.Millisecond)
	}
	// Long enough for the runtime to retire idle threads, were the child tied to one.
	time.Sleep(50 * time.Millisecond)
	if gone(pid) {
		t.Fatal("the child ended before its parent")
	}
	parent.Process.Kill()
	parent.Wait()
	waitGone(t, pid)
}

// gone says whether a process has ended (it may be waiting for init to take notice).
func gone(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func waitGone(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !gone(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %s still runs", pid)
		}
	}
}

func TestTail(t *testing.T) {
	tl := child.Tail{Limit: 10}
	var all []byte
	for i := range 100 {
		b := bytes.Repeat([]byte{byte('a' + i%26)}, i%25)
		tl.Write(b)
		all = append(all, b...)
		if got, want := tl.Bytes(), all[max(0, len(all)-10):]; !bytes.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

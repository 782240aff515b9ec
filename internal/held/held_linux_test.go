package held

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Every kind of thing is missed while it is there, and no longer when it is given back.
func TestLeaks(t *testing.T) {
	run(t, "true") // what the runtime keeps
	for _, c := range []struct {
		name string
		take func(t *testing.T) (give func())
		says string
	}{
		{"file", func(t *testing.T) func() {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return func() { f.Close() }
		}, "/dev/null"},
		{"mapping", func(t *testing.T) func() {
			fd, err := unix.MemfdCreate("held-test", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			b, err := unix.Mmap(fd, 0, 1, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			return func() { unix.Munmap(b) }
		}, "mapping of /memfd:held-test"},
		{"locked memory", func(t *testing.T) func() {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Mlock(b); err != nil {
				t.Skipf("no page can be locked (%v): raise ulimit -l", err)
			}
			return func() { unix.Munmap(b) }
		}, "VmLck"},
		{"child", func(t *testing.T) func() {
			cmd := exec.Command("sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			return func() { cmd.Process.Kill(); cmd.Wait() }
		}, "child processes"},
		{"goroutine", func(t *testing.T) func() {
			quit := make(chan struct{})
			go func() { <-quit }()
			return func() { close(quit) }
		}, "goroutines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := Now(t)
			give := c.take(t)
			if got := Now(t).compare(before); !strings.Contains(got, c.says) {
				t.Errorf("it says %q, want %q", got, c.says)
			}
			give()
			Check(t, before)
		})
	}
}

func run(t *testing.T, name string) {
	t.Helper()
	if err := exec.Command(name).Run(); err != nil {
		t.Fatal(err)
	}
}

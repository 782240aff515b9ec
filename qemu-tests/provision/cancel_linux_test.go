package provision

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two setups at once: the second waits, says so, and finds the work done.
func TestSetupTwice(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	waits := make(chan struct{})
	var once sync.Once
	m.misbehave(func(http.ResponseWriter, string, []byte) bool {
		<-waits
		return false
	})
	opts := machine(t, m.URL)
	opts.Progress = func(e Event) {
		if strings.HasPrefix(e.Step, "wait for another setup") {
			once.Do(func() { close(waits) })
		}
	}
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := Setup(t.Context(), opts)
			errs <- err
		}()
	}
	for range 2 {
		check(t, <-errs)
	}
	whole(t, opts)
	if n := m.debs.Load(); n != 11 {
		t.Errorf("%d packages were fetched, not 11 (4 of QEMU, 4 of the newer, 1 of the kernel, 2 of the newer)", n)
	}
}

func TestSetupWaitCancelled(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	c, err := opts.cache()
	check(t, err)
	check(t, os.MkdirAll(c.dir, 0o755))
	unlock, err := c.lock(t.Context(), func() {})
	check(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(Event) { cancel() }
	if _, err := Setup(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := m.requests.Load(); n > 0 {
		t.Errorf("%d requests without the lock", n)
	}
}

// Cancelled at any step, Setup ends soon, with no child left and nothing half-done.
func TestSetupCancel(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"lists": "/Packages", "kernel": "linux-image-" + testRelease, "newer QEMU": "qemu-system-x86_1%3a10.0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, standardArchive(t))
			opts := machine(t, m.URL)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			m.misbehave(func(w http.ResponseWriter, path string, b []byte) bool {
				if !strings.Contains(path, at) {
					return false
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				_, _ = w.Write(b[:len(b)/2])
				w.(http.Flusher).Flush()
				cancel()
				<-release
				return true
			})
			if _, err := Setup(ctx, opts); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			consistent(t, opts)
			waitGone(t, opts.Cache)
		})
	}
}

// A child's own children die with it.
func TestCommandKillsItsGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	marker := t.Name() + strconv.Itoa(os.Getpid()) // not one that an earlier run left
	script := `sh -c 'sleep 1000; :' ` + marker + ` & echo started; wait`
	started := false
	err := command{name: "sh", args: []string{"-c", script}}.stream(ctx, func(r io.Reader) error {
		_, err := r.Read(make([]byte, 1))
		started = err == nil
		cancel()
		_, err = io.ReadAll(r)
		return err
	})
	if !errors.Is(err, context.Canceled) || !started {
		t.Errorf("started %v, %v", started, err)
	}
	waitGone(t, marker)
}

// waitGone waits until no process has the text in its command line.
func waitGone(t testing.TB, text string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left := ""
		paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range paths {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
				left = string(b)
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still running: %q", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

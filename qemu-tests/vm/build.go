package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/cpio"
)

// A build is what makes one test binary different from another.
type build struct {
	dir, pkg   string
	race       bool
	cgo, cover bool
	coverPkg   string
	tags       string
}

// builds holds the test binaries of this process, as the records of an initramfs.
var builds struct {
	mu   sync.Mutex
	made map[build]func() ([]cpio.Record, error)
}

// program compiles the tests, once for each build and process.
func (b build) program(ctx context.Context) ([]cpio.Record, error) {
	dir, err := os.Getwd() // a relative package path means another one elsewhere
	if err != nil {
		return nil, err
	}
	b.dir = dir
	builds.mu.Lock()
	if builds.made == nil {
		builds.made = map[build]func() ([]cpio.Record, error){}
	}
	compile, ok := builds.made[b]
	if !ok {
		compile = sync.OnceValues(func() ([]cpio.Record, error) { return b.compile(ctx) })
		builds.made[b] = compile
	}
	builds.mu.Unlock()
	recs, err := compile()
	if errors.Is(err, context.Canceled) { // of the test that came first
		builds.mu.Lock()
		delete(builds.made, b)
		builds.mu.Unlock()
	}
	return recs, err
}

func (b build) compile(ctx context.Context) ([]cpio.Record, error) {
	tmp, err := os.MkdirTemp("", "gommu-vm-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "init")
	cgo := "0"
	args := []string{"test", "-c", "-o", out}
	if b.race {
		args = append(args, "-race")
	}
	if b.race || b.cgo { // the race detector needs cgo
		cgo = "1"
	}
	if b.cover {
		args = append(args, "-cover")
	}
	if b.coverPkg != "" {
		args = append(args, "-coverpkg", b.coverPkg)
	}
	if b.tags != "" {
		args = append(args, "-tags", b.tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, b.pkg)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED="+cgo)
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, &Error{Op: "compile the tests of", Path: b.pkg, Err: err, Log: string(text)}
	}
	if _, err := os.Stat(out); err != nil {
		return nil, &Error{Op: "compile the tests of", Path: b.pkg, Err: fmt.Errorf("it has none: %s", strings.TrimSpace(string(text)))}
	}
	return loadProgram(out)
}

// events converts the output of a test binary run with -test.v=test2json to the events
// of "go doc test2json".
func events(ctx context.Context, output []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	cmd.Stdin = bytes.NewReader(output)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	js, err := cmd.Output()
	if err != nil {
		return nil, &Error{Op: "go tool test2json", Err: err, Log: stderr.String()}
	}
	return js, nil
}

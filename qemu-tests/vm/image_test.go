package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm/internal/wire"
)

// TestImage reads an image back: the program, the spec, modules, files, and every folder before
// what is in it.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "tree/sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "tree/sub/f"), []byte("content"), 0o640),
		os.Symlink("sub/f", filepath.Join(dir, "tree/link")),
		os.Symlink("tree", filepath.Join(dir, "other")),
	); err != nil {
		t.Fatal(err)
	}
	m := Machine{
		Kernel:  provision.Kernel{Modules: fakeModules(t), Release: "1.2.3"},
		Args:    []string{"a b"},
		Modules: []string{"mid-two x=1", "in-kernel"},
		Files:   map[string]string{"/deep/er/data": filepath.Join(dir, "other"), "/one": filepath.Join(dir, "tree/link")},
		Fetch:   map[string]string{"/z": "1", "/a": "2"},
		Timeout: 10 * time.Second,
	}
	var b bytes.Buffer
	if err := writeImage(&b, m, []cpio.Record{cpio.StaticFile("init", "program", 0o755)}); err != nil {
		t.Fatal(err)
	}
	recs, err := cpio.ReadAllRecords(cpio.EOFReader{RecordReader: cpio.Newc.Reader(bytes.NewReader(b.Bytes()))})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range recs {
		up := filepath.Dir(r.Name)
		if _, ok := got[up]; up != "." && !ok {
			t.Errorf("%s comes before its folder", r.Name)
		}
		if _, ok := got[r.Name]; ok {
			t.Errorf("%s twice", r.Name)
		}
		body, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		got[r.Name] = string(body)
	}
	for name, want := range map[string]string{
		"init": "program", "deep/er/data/sub/f": "content", "deep/er/data/link": "sub/f", "one": "content",
		"lib/modules/1.2.3/modules.dep": "kernel/c/bottom.ko:\nkernel/b/mid_two.ko: kernel/c/bottom.ko\n",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"dev/console", "dev/null", "lib/modules/1.2.3/kernel/b/mid_two.ko"} {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	var spec wire.Spec
	if err := json.Unmarshal([]byte(got[strings.TrimPrefix(wire.SpecPath, "/")]), &spec); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wire.Spec{Args: []string{"a b"}, Modules: []string{"mid_two x=1"}, Fetch: []string{"/a", "/z"}, Limit: 8 * time.Second}, spec); d != "" {
		t.Error(d)
	}
}

// failAfter is a writer that fails once n bytes have been written.
type failAfter struct{ n int }

var errFull = errors.New("full")

func (f *failAfter) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestImageRefuses(t *testing.T) {
	program := []cpio.Record{cpio.StaticFile("init", "program", 0o755)}
	for name, c := range map[string]struct {
		m    Machine
		want string
	}{
		"two files of a name": {Machine{Files: map[string]string{"/init": "image_test.go"}}, "/init: two files of one name"},
		"a device":            {Machine{Files: map[string]string{"/x": "/dev/null"}}, "neither a file"},
		"no module folder":    {Machine{Modules: []string{"x"}, Kernel: provision.Kernel{Modules: "/none"}}, "/none"},
	} {
		if err := writeImage(io.Discard, c.m, program); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	var whole bytes.Buffer
	if err := writeImage(&whole, Machine{}, program); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := writeImage(&failAfter{n}, Machine{}, program); !errors.Is(err, errFull) {
			t.Fatalf("full after %d of %d bytes: %v", n, whole.Len(), err)
		}
	}
}

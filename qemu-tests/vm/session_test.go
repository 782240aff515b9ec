package vm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"gommu/qemu-tests/vm/internal/wire"
)

// A stream is a result port: what the guest sends, and what it is answered.
type stream struct {
	io.Reader
	answer bytes.Buffer
}

func (s *stream) Write(b []byte) (int, error) { return s.answer.Write(b) }

// TestReceive plays guests to a session, honest ones and others.
func TestReceive(t *testing.T) {
	send := func(frames ...any) *stream {
		var b bytes.Buffer
		for i := 0; i < len(frames); i += 2 {
			wire.Write(&b, frames[i].(wire.Kind), []byte(frames[i+1].(string)))
		}
		return &stream{Reader: &b}
	}
	file := func(name, text string, rest ...any) []any {
		return append([]any{wire.File, name, wire.Data, text, wire.EOF, ""}, rest...)
	}
	const done = `{"code":3}`
	for name, c := range map[string]struct {
		in      *stream
		want    error
		exited  bool
		fetched bool
		fileErr bool
	}{
		"whole":            {in: send(file("/f", "text", wire.Exit, done)...), exited: true, fetched: true},
		"ends in a file":   {in: send(wire.File, "/f", wire.Data, "te"), want: io.EOF},
		"exits in a file":  {in: send(wire.File, "/f", wire.Data, "te", wire.Exit, done), exited: true},
		"another file":     {in: send(wire.File, "/f", wire.Data, "te", wire.File, "/f", wire.Data, "text", wire.EOF, "", wire.Exit, done), exited: true, fetched: true},
		"not asked for":    {in: send(file("/etc/passwd", "text", wire.Exit, done)...), exited: true, fileErr: true},
		"a path upwards":   {in: send(file("/f/../g", "text", wire.Exit, done)...), exited: true, fileErr: true},
		"data of no file":  {in: send(wire.Data, "text", wire.EOF, "", wire.Exit, done), exited: true},
		"a bad status":     {in: send(wire.Exit, "{"), want: wire.ErrFrame},
		"rubbish":          {in: &stream{Reader: bytes.NewReader([]byte("rubbish"))}, want: wire.ErrFrame},
		"nothing":          {in: send(), want: io.EOF},
		"ends in a header": {in: &stream{Reader: bytes.NewReader([]byte("o\x01"))}, want: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			to := filepath.Join(dir, "f")
			s := session{machine: Machine{Fetch: map[string]string{"/f": to}}, fetched: map[string]bool{}}
			if err := s.receive(c.in); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if s.exited.Load() != c.exited || (c.in.answer.Len() == 1) != c.exited || c.exited && s.status.Code != 3 {
				t.Errorf("exited %v, answered %d bytes, code %d", s.exited.Load(), c.in.answer.Len(), s.status.Code)
			}
			if (s.fileErr != nil) != c.fileErr || s.fetched["/f"] != c.fetched {
				t.Errorf("file error %v, fetched %v", s.fileErr, s.fetched)
			}
			files, _ := os.ReadDir(dir)
			if b, _ := os.ReadFile(to); (string(b) == "text") != c.fetched || len(files) != len(b)/4 {
				t.Errorf("the file has %q, the folder %v", b, files)
			}
		})
	}
}

// TestFetchFails: a destination that is a folder is an error, and nothing is left.
func TestFetchFails(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "folder")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := newIncoming("/f", to)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.commit(); err == nil {
		t.Error("a folder was replaced")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	if _, err := newIncoming("/f", filepath.Join(dir, "none", "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

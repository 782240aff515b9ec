package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestRoundTrip sends payloads of any length, longer than a frame among them.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOf(rapid.SampledFrom([]Kind{Stdout, Stderr, Data, Log})).Draw(t, "kinds")
		var stream bytes.Buffer
		want, got := map[Kind][]byte{}, map[Kind][]byte{}
		for _, k := range kinds {
			b := bytes.Repeat([]byte{byte(k), 0, 0xff}, rapid.SampledFrom([]int{0, 1, 100, Chunk / 3, Chunk}).Draw(t, "size"))
			want[k] = append(want[k], b...)
			if err := Write(&stream, k, b); err != nil {
				t.Fatal(err)
			}
		}
		for {
			k, b, err := Read(&stream)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got[k] = append(got[k], b...)
		}
		for k, b := range want {
			if !bytes.Equal(got[k], b) {
				t.Fatalf("%c: got %d bytes, sent %d", k, len(got[k]), len(b))
			}
		}
	})
}

// TestWriteExit cuts an error text so that the status stays one frame.
func TestWriteExit(t *testing.T) {
	var b bytes.Buffer
	if err := WriteExit(&b, Status{Code: 1, Error: strings.Repeat("\x00", 1<<20)}); err != nil {
		t.Fatal(err)
	}
	k, p, err := Read(&b)
	var s Status
	if err != nil || k != Exit || json.Unmarshal(p, &s) != nil || s.Code != 1 || b.Len() != 0 {
		t.Errorf("%c, %v, %d bytes follow", k, err, b.Len())
	}
}

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"kind":      {"?\x00\x00\x00\x00", ErrFrame},
		"length":    {"o\xff\xff\xff\xff", ErrFrame},
		"header":    {"o\x01", io.ErrUnexpectedEOF},
		"truncated": {"o\x02\x00\x00\x00a", io.ErrUnexpectedEOF},
		"no body":   {"o\x02\x00\x00\x00", io.ErrUnexpectedEOF},
		"empty":     {"", io.EOF},
	} {
		if _, _, err := Read(bytes.NewReader([]byte(c.in))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("r\x00\x00\x00\x00o\x02\x00\x00\x00hix\x0a\x00\x00\x00{\"code\":0}"))
	f.Add([]byte("o\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			_, p, err := Read(r)
			if err != nil {
				return
			}
			if len(p) > MaxPayload {
				t.Fatalf("a payload of %d bytes", len(p))
			}
		}
	})
}

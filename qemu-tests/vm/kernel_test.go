package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// bzImage makes a kernel image with a payload; size is what it claims to unpack to.
func bzImage(payload []byte, size int) []byte {
	const sects, off = 3, 100
	b := make([]byte, (sects+1)*512+off)
	b[hdrSetupSects] = sects
	copy(b[hdrMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[hdrVersion:], 0x20f)
	binary.LittleEndian.PutUint32(b[hdrPayloadOff:], off)
	binary.LittleEndian.PutUint32(b[hdrPayloadLen:], uint32(len(payload)+4))
	b = append(b, payload...)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, "what follows"...)
}

func TestExtract(t *testing.T) {
	vmlinux := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel "), 10000)...)
	for _, format := range []string{".zst", ".gz"} {
		p := pack(t, format, vmlinux)
		got, err := extract(bzImage(p, len(vmlinux)))
		if err != nil || !bytes.Equal(got, vmlinux) {
			t.Errorf("%s: %d bytes, %v", format, len(got), err)
		}
		for name, bad := range map[string][]byte{
			"cut":            bzImage(p[:len(p)/2], len(vmlinux)),
			"too short":      bzImage(p, len(vmlinux)+1),
			"too long":       bzImage(p, 1<<31),
			"no ELF":         bzImage(pack(t, format, vmlinux[1:]), len(vmlinux)-1),
			"outside":        bzImage(p, len(vmlinux))[:1000],
			"unknown format": bzImage([]byte("LZXX payload"), 12),
			"no payload":     bzImage(nil, 0),
		} {
			if _, err := extract(bad); !errors.Is(err, errPayload) {
				t.Errorf("%s, %s: %v", format, name, err)
			}
		}
	}
}

func TestBootable(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GOMMU_CACHE", filepath.Join(dir, "cache"))
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	elf := []byte("\x7fELF and more")
	vmlinux := write("vmlinux", elf)
	good := write("good", bzImage(pack(t, ".zst", elf), len(elf)))
	odd := write("odd", bzImage([]byte("unknown format"), 14))

	if got, err := bootable(vmlinux); err != nil || got != vmlinux {
		t.Errorf("vmlinux: %s, %v", got, err)
	}
	if got, err := bootable(odd); err != nil || got != odd {
		t.Errorf("what cannot be unpacked does not boot as it is: %s, %v", got, err)
	}
	got, err := bootable(good)
	if err != nil || got == good {
		t.Fatalf("%s, %v", got, err)
	}
	if b, err := os.ReadFile(got); err != nil || !bytes.Equal(b, elf) {
		t.Errorf("%q, %v", b, err)
	}
	if again, err := bootable(good); err != nil || again != got {
		t.Errorf("not found again: %s, %v", again, err)
	}
	if files, _ := os.ReadDir(filepath.Dir(got)); len(files) != 1 {
		t.Errorf("the cache has %v", files)
	}
	for _, bad := range []string{write("text", []byte("no kernel")), write("empty", nil), write("zeros", make([]byte, 1<<20))} {
		if _, err := bootable(bad); !errors.Is(err, ErrKernel) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	// A cache that cannot be written to: the bzImage boots.
	t.Setenv("GOMMU_CACHE", filepath.Join(vmlinux, "none"))
	if got, err := bootable(good); err != nil || got != good {
		t.Errorf("no cache: %s, %v", got, err)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(bzImage([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0}, 4))
	f.Add(bzImage([]byte{0x1f, 0x8b, 8, 0}, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := extract(b); err == nil && !bytes.HasPrefix(out, []byte("\x7fELF")) {
			t.Error("not an ELF file")
		}
	})
}

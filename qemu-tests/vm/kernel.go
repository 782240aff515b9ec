package vm

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"gommu/qemu-tests/provision"
)

// The parts of a bzImage's header that tell where the compressed vmlinux lies
// (Documentation/arch/x86/boot.rst of the kernel).
const (
	hdrSetupSects = 0x1f1
	hdrMagic      = 0x202 // "HdrS"
	hdrVersion    = 0x206
	hdrPayloadOff = 0x248 // from the protected-mode code; since protocol 2.08
	hdrPayloadLen = 0x24c
	hdrEnd        = 0x250
)

// maxVmlinux bounds what a payload may unpack to, maxWindow the memory that a zstd frame may claim (the
// kernel is packed with 128 MiB), in bytes.
const (
	maxVmlinux = 1 << 30
	maxWindow  = 128 << 20
)

var errPayload = errors.New("no vmlinux that can be unpacked")

// bootable returns the path of what QEMU is given as -kernel: the image itself if
// it is an ELF file, else the vmlinux out of it, unpacked once into the cache. QEMU
// enters an ELF kernel directly (PVH), which saves the guest unpacking it, about
// 1 s under TCG. If that cannot be done the bzImage itself boots too.
func bootable(image string) (string, error) {
	b, err := os.ReadFile(image)
	if err != nil {
		return "", &Error{Op: "kernel", Path: image, Err: err}
	}
	if bytes.HasPrefix(b, []byte("\x7fELF")) {
		return image, nil
	}
	if len(b) < hdrEnd || string(b[hdrMagic:hdrMagic+4]) != "HdrS" {
		return "", &Error{Op: "kernel", Path: image, Err: ErrKernel}
	}
	dir, err := cacheDir()
	if err != nil {
		return image, nil
	}
	sum := sha256.Sum256(b)
	path := filepath.Join(dir, fmt.Sprintf("vmlinux-%x", sum[:12]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	vmlinux, err := extract(b)
	if err != nil || writeFile(path, vmlinux) != nil {
		return image, nil
	}
	return path, nil
}

// extract unpacks the vmlinux of a bzImage.
func extract(b []byte) ([]byte, error) {
	if len(b) < hdrEnd || binary.LittleEndian.Uint16(b[hdrVersion:]) < 0x208 {
		return nil, fmt.Errorf("%w: boot protocol before 2.08", errPayload)
	}
	sects := int(b[hdrSetupSects])
	if sects == 0 {
		sects = 4
	}
	off := uint64(sects+1)*512 + uint64(binary.LittleEndian.Uint32(b[hdrPayloadOff:]))
	length := uint64(binary.LittleEndian.Uint32(b[hdrPayloadLen:]))
	if length < 8 || off+length > uint64(len(b)) {
		return nil, fmt.Errorf("%w: the payload does not lie in the file", errPayload)
	}
	p := b[off : off+length]
	// The payload ends with the size of what is packed, whatever the format.
	size := binary.LittleEndian.Uint32(p[len(p)-4:])
	if size > maxVmlinux {
		return nil, fmt.Errorf("%w: it would be %d bytes", errPayload, size)
	}
	r, err := payloadReader(p)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// ReadAll rather than a buffer of the size that the file claims.
	out, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	if len(out) != int(size) || !bytes.HasPrefix(out, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%w: not an ELF file of %d bytes", errPayload, size)
	}
	return out, nil
}

// payloadReader unpacks what Debian's and Ubuntu's kernels use; of the others the
// bzImage boots as it is.
func payloadReader(p []byte) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPayload, err)
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPayload, err)
		}
		z.Multistream(false) // the size follows
		return z, nil
	}
	return nil, fmt.Errorf("%w: format %x", errPayload, p[:4])
}

// cacheDir returns the folder for what is made once, and makes it.
func cacheDir() (string, error) {
	dir, err := provision.CacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "vm")
	return dir, os.MkdirAll(dir, 0o755)
}

// writeFile writes a file as a whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

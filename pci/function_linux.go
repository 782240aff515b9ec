package pci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
)

// A SysfsFunction is a function reached through sysfs. It needs no driver, and no IOMMU stands between
// its DMA and memory. Its methods are safe to call at once from several goroutines.
type SysfsFunction struct {
	s    Sysfs
	addr Address
	cfg  *sysfsConfig

	mu       sync.Mutex
	closed   bool
	bars     [6]*sysfsBAR
	undecode bool // memory decoding was off before the first BAR was opened
}

var _ Function = (*SysfsFunction)(nil)

// A sysfsBAR is a mapped resource file.
type sysfsBAR struct {
	*Window
	mem []byte
}

// Open opens a function. Without the right to write configuration space it is opened for reading.
// Errors: ErrNotFound, ErrPermission.
func (s Sysfs) Open(addr Address) (*SysfsFunction, error) {
	name := path.Join(s.device(addr), "config")
	f, err := s.fs().open(name, os.O_RDWR)
	readOnly := errors.Is(err, fs.ErrPermission)
	if readOnly {
		f, err = s.fs().open(name, os.O_RDONLY)
	}
	if err != nil {
		return nil, s.deviceError("open", addr, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(s.deviceError("open", addr, err), f.Close())
	}
	return &SysfsFunction{s: s, addr: addr, cfg: &sysfsConfig{f: f, addr: addr, size: int(st.Size()), readOnly: readOnly}}, nil
}

// Address is the function's.
func (f *SysfsFunction) Address() Address { return f.addr }

// Config is configuration space through the config file. Users other than root read its first 64
// bytes only; more is ErrPermission.
func (f *SysfsFunction) Config() Config { return f.cfg }

// Info reads what sysfs says of the function.
func (f *SysfsFunction) Info() (Info, error) { return f.s.Info(f.addr) }

// BAR maps base address register i, and turns memory decoding on if it is off (Close turns it off
// again). Errors: ErrNoBAR, ErrIOPorts, ErrPermission, ErrClosed.
func (f *SysfsFunction) BAR(i int) (BAR, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, f.error("open BAR of", ErrClosed, "")
	}
	if i < 0 || i >= len(f.bars) {
		return nil, f.error("open BAR of", fmt.Errorf("%w: BAR %d", ErrNoBAR, i), "")
	}
	if f.bars[i] != nil {
		return f.bars[i], nil
	}
	b, err := f.mapBAR(i)
	if err != nil {
		return nil, err
	}
	was, err := SetMemoryDecode(f.cfg, true)
	if err != nil {
		return nil, errors.Join(f.error("open BAR of", err, ""), f.s.fs().munmap(b.mem))
	}
	f.undecode = f.undecode || !was
	f.bars[i] = b
	return b, nil
}

// mapBAR maps resource file i.
func (f *SysfsFunction) mapBAR(i int) (*sysfsBAR, error) {
	op := "open BAR " + strconv.Itoa(i) + " of"
	res, err := f.s.Resources(f.addr)
	if err != nil {
		return nil, err
	}
	r := res[i]
	switch {
	case r.Size == 0:
		return nil, f.error(op, ErrNoBAR, "")
	case r.IO:
		return nil, f.error(op, ErrIOPorts, "")
	case r.Base == 0:
		return nil, f.error(op, fmt.Errorf("%w: nobody has assigned it an address", ErrBadBAR), "")
	}
	file, err := f.s.fs().open(path.Join(f.s.device(f.addr), "resource"+strconv.Itoa(i)), os.O_RDWR)
	if err != nil {
		return nil, f.s.deviceError(op, f.addr, err)
	}
	// The kernel maps whole pages; a small BAR may start inside one.
	page := uint64(os.Getpagesize())
	skip := r.Base % page
	mem, err := f.s.fs().mmap(file, int((skip+r.Size+page-1)/page*page))
	if err != nil {
		remedy := ""
		if errors.Is(err, fs.ErrPermission) {
			remedy = "run as root; kernel lockdown and a driver that claims the BAR also forbid it (iomem=relaxed)"
		}
		return nil, errors.Join(f.error(op, err, remedy), file.Close())
	}
	if err := file.Close(); err != nil {
		return nil, errors.Join(f.error(op, err, ""), f.s.fs().munmap(mem))
	}
	w, err := NewWindow(mem[skip : skip+r.Size])
	if err != nil {
		return nil, errors.Join(f.error(op, err, ""), f.s.fs().munmap(mem))
	}
	return &sysfsBAR{Window: w, mem: mem}, nil
}

// Reset resets the function by the best means that the kernel knows, or returns ErrNoReset. It may
// take a second.
func (f *SysfsFunction) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.error("reset", ErrClosed, "")
	}
	err := f.s.fs().writeFile(path.Join(f.s.device(f.addr), "reset"), "1")
	if errors.Is(err, fs.ErrNotExist) {
		return f.error("reset", ErrNoReset, "the kernel knows no way to reset it alone")
	}
	if err != nil {
		return f.s.deviceError("reset", f.addr, err)
	}
	return nil
}

// Close unmaps the BARs and closes the function. It does not stop the function's DMA: no mapping of this
// process depends on it. Twice is harmless.
func (f *SysfsFunction) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	var errs []error
	if f.undecode {
		if _, err := SetMemoryDecode(f.cfg, false); err != nil {
			errs = append(errs, err)
		}
	}
	for i, b := range f.bars {
		if b == nil {
			continue
		}
		b.Window.Close()
		if err := f.s.fs().munmap(b.mem); err != nil {
			errs = append(errs, fmt.Errorf("BAR %d: %w", i, err))
		}
	}
	errs = append(errs, f.cfg.f.Close())
	if err := errors.Join(errs...); err != nil {
		return f.error("close", err, "")
	}
	return nil
}

func (f *SysfsFunction) error(op string, err error, remedy string) error {
	return &OpError{Op: op, Target: f.addr.String(), Err: err, Remedy: remedy}
}

// sysfsConfig is configuration space through a config file.
type sysfsConfig struct {
	f        *os.File
	addr     Address
	size     int
	readOnly bool
}

func (c *sysfsConfig) Size() int { return c.size }

func (c *sysfsConfig) Read(off, width int) (uint32, error) {
	fail := func(err error, remedy string) (uint32, error) {
		return 0, &OpError{Op: "read config of", Target: c.addr.String(), Err: err, Remedy: remedy}
	}
	if err := CheckAccess(c.size, off, width); err != nil {
		return fail(err, "")
	}
	var b [4]byte
	n, err := c.f.ReadAt(b[:width], int64(off))
	if n < width && (err == nil || errors.Is(err, io.EOF)) {
		return fail(fmt.Errorf("%w: the kernel gives %d of %d bytes at %#x", ErrPermission, n, width, off), "run as root (or with CAP_SYS_ADMIN): others read the first 64 bytes only")
	}
	if err != nil {
		return fail(err, "")
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

func (c *sysfsConfig) Write(off, width int, v uint32) error {
	fail := func(err error, remedy string) error {
		return &OpError{Op: "write config of", Target: c.addr.String(), Err: err, Remedy: remedy}
	}
	if err := CheckAccess(c.size, off, width); err != nil {
		return fail(err, "")
	}
	if c.readOnly {
		return fail(ErrPermission, "run as root")
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	if _, err := c.f.WriteAt(b[:width], int64(off)); err != nil {
		return fail(err, "")
	}
	return nil
}

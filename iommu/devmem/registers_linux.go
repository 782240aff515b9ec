package devmem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gommu/pci"
)

// Options say where a unit's registers lie. The zero value, with an address, works.
type Options struct {
	// Size is how many bytes of registers to map, whole pages; 0 is one page. The
	// DMAR table and the unit's capabilities tell of units that have more.
	Size int
}

// Registers are the mapped registers of a unit. They are a vtd.Registers; an access
// outside of them, or after Close, panics as a slice access does.
type Registers struct {
	*pci.Window

	sys system
	mu  sync.Mutex
	mem []byte // nil once closed
}

// Open maps the registers of the unit at a physical address, which the DMAR table
// gives (QEMU's unit is at 0xfed90000). It changes nothing in the unit. Errors:
// ErrKernelOwns, ErrNoUnit, ErrBadAddress, those of the kernel.
func Open(address uint64, o Options) (*Registers, error) { return open(kernel, address, o) }

func open(sys system, address uint64, o Options) (*Registers, error) {
	fail := func(err error, remedy string) (*Registers, error) {
		return nil, &OpError{Op: "open unit", Target: fmt.Sprintf("at %#x", address), Err: err, Remedy: remedy}
	}
	page := os.Getpagesize()
	if o.Size == 0 {
		o.Size = page
	}
	if address%uint64(page) != 0 || o.Size < 0 || o.Size%page != 0 {
		return fail(fmt.Errorf("%w of %d: address %#x, %d bytes", ErrBadAddress, page, address, o.Size), "")
	}
	owner, err := sys.owner(address)
	if err != nil {
		return fail(err, "is sysfs mounted?")
	}
	if owner != "" {
		return fail(fmt.Errorf("%w, as %s", ErrKernelOwns, owner), "boot with intel_iommu=off intremap=off")
	}
	mem, remedy, err := sys.mapRegisters(address, o.Size)
	if err != nil {
		return fail(err, remedy)
	}
	w, err := pci.NewWindow(mem)
	if err != nil {
		return fail(errors.Join(err, sys.munmap(mem)), "")
	}
	// VER_REG (VT-d specification 11.4.1): every unit has a version.
	if v := w.Read32(0); v == 0 || v == ^uint32(0) {
		w.Close()
		err := fmt.Errorf("%w: the version register reads %#x", ErrNoUnit, v)
		return fail(errors.Join(err, sys.munmap(mem)), "the ACPI table DMAR lists the units of this machine")
	}
	return &Registers{Window: w, sys: sys, mem: mem}, nil
}

// mapRegisters maps a range of physical addresses. Opened with O_SYNC, /dev/mem maps
// registers uncached.
func (s system) mapRegisters(address uint64, size int) (mem []byte, remedy string, err error) {
	f, err := s.open(s.devMem, os.O_RDWR|unix.O_SYNC)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "this kernel has no /dev/mem (CONFIG_DEVMEM), or devtmpfs is not mounted", err
	case errors.Is(err, fs.ErrPermission):
		return nil, "run as root (CAP_SYS_RAWIO); kernel lockdown, which secure boot turns on, forbids it too", err
	case err != nil:
		return nil, "", err
	}
	mem, err = s.mmap(int(f.Fd()), int64(address), size)
	err = errors.Join(err, f.Close())
	if errors.Is(err, fs.ErrPermission) {
		remedy = "a driver has claimed these registers: boot with iomem=relaxed"
	}
	if err != nil && mem != nil {
		err = errors.Join(err, s.munmap(mem))
		mem = nil
	}
	if err != nil {
		return nil, remedy, fmt.Errorf("mapping %d bytes: %w", size, err)
	}
	return mem, "", nil
}

// owner is the kernel's name of the unit at an address if its driver has taken it.
func (s system) owner(address uint64) (string, error) {
	files, err := filepath.Glob(filepath.Join(s.sysfs, "class/iommu/*/intel-iommu/address"))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		at, err := strconv.ParseUint(strings.TrimSpace(string(b)), 16, 64)
		if err != nil {
			return "", fmt.Errorf("%s: %w", f, err)
		}
		if at == address {
			return filepath.Base(filepath.Dir(filepath.Dir(f))), nil
		}
	}
	return "", nil
}

// Close unmaps the registers. The unit stays as it is. Twice is harmless.
func (r *Registers) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mem == nil {
		return nil
	}
	r.Window.Close()
	if err := r.sys.munmap(r.mem); err != nil {
		return &OpError{Op: "close unit", Err: err}
	}
	r.mem = nil
	return nil
}

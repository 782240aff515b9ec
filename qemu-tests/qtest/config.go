package qtest

import (
	"fmt"
	"time"
)

// Config says what machine to run. Only QEMU is required.
type Config struct {
	// QEMU is the path of a qemu-system-x86_64, 7.2 or newer, or of a script
	// that execs one.
	QEMU string

	// Memory is the machine's RAM in bytes: a multiple of 2 MiB, at most 2 GiB
	// (above that a PC's RAM is not contiguous). 0 is 64 MiB.
	Memory int64

	// AddressWidth is the width in bits of the unit's IOVAs, 39 or 48. 0 is 48.
	AddressWidth int

	// IOMMU are further properties of the intel-iommu device, for example
	// "caching-mode=on,snoop-control=on".
	IOMMU string

	// Devices are the arguments of one -device option each, for example
	// "edu,addr=0x3,dma_mask=0xffffffffffffffff". They are behind the unit.
	Devices []string

	// Timeout bounds every single request and the start. 0 is 10 seconds.
	Timeout time.Duration

	// BeforeRequest, if set, is called before the nth request (from 0) is sent
	// to QEMU, with the command. An error that it returns fails the machine as if
	// QEMU had gone. It is for fault injection and for counting; it must not
	// call the machine's methods, except Kill.
	BeforeRequest func(n int, command string) error
}

const (
	defaultMemory  = 64 << 20
	memoryMultiple = 2 << 20
	maxMemory      = 2 << 30
	defaultTimeout = 10 * time.Second
)

// The child's file descriptors: exec.Cmd.ExtraFiles begin at 3.
const (
	fdSocket = 3 + iota
	fdRAM
	fdFirmware
)

// withDefaults fills in what is zero and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.AddressWidth == 0 {
		c.AddressWidth = 48
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	switch {
	case c.QEMU == "":
		return c, fmt.Errorf("%w: Config.QEMU is empty: it is the path of qemu-system-x86_64", ErrConfig)
	case c.Memory < memoryMultiple || c.Memory > maxMemory || c.Memory%memoryMultiple != 0:
		return c, fmt.Errorf("%w: Memory is %d bytes: it must be a multiple of 2 MiB, at most 2 GiB", ErrConfig, c.Memory)
	case c.AddressWidth != 39 && c.AddressWidth != 48:
		return c, fmt.Errorf("%w: AddressWidth is %d: QEMU's unit has 39 or 48 bits", ErrConfig, c.AddressWidth)
	case c.Timeout < 0:
		return c, fmt.Errorf("%w: Timeout is negative", ErrConfig)
	}
	return c, nil
}

// args is QEMU's command line.
//
// The processor halts in the firmware's first instruction, and -icount
// sleep=off makes the virtual clock jump to the next timer while it idles. The
// PIT and the HPET would make that a busy loop. The qtest accelerator would do
// the same more directly, but Debian's packages do not contain it. The unit
// comes before the devices because some bind their address space when they are
// created.
func (c Config) args() []string {
	iommu := fmt.Sprintf("intel-iommu,intremap=on,aw-bits=%d", c.AddressWidth)
	if c.IOMMU != "" {
		iommu += "," + c.IOMMU
	}
	args := []string{
		"-machine", "q35,pit=off,hpet=off,memory-backend=ram",
		"-m", fmt.Sprintf("%dM", c.Memory>>20),
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%d,mem-path=/proc/self/fd/%d,share=on", c.Memory, fdRAM),
		"-bios", fmt.Sprintf("/proc/self/fd/%d", fdFirmware),
		"-accel", "tcg", "-icount", "shift=0,sleep=off",
		"-nodefaults", "-display", "none",
		"-chardev", fmt.Sprintf("socket,id=qtest,fd=%d", fdSocket),
		"-qtest", "chardev:qtest", "-qtest-log", "none",
		"-device", iommu,
	}
	for _, d := range c.Devices {
		args = append(args, "-device", d)
	}
	return args
}

// firmware is 64 KiB of HLT with the reset vector, 16 bytes before the end, doing
// CLI; HLT; and jumping back should anything wake it.
func firmware() []byte {
	const size, reset = 64 << 10, 64<<10 - 16
	b := make([]byte, size)
	for i := range b {
		b[i] = 0xf4 // hlt
	}
	copy(b[reset:], []byte{0xfa, 0xf4, 0xeb, 0xfd}) // cli; hlt; jmp to the hlt
	return b
}

package vm

import (
	"io"
	"time"

	"gommu/qemu-tests/provision"
)

// A Machine is a virtual machine and the program that runs in it. Of the fields only
// Init is needed; Run fills it in as well.
type Machine struct {
	// QEMU and Kernel: the zero values are found by package provision, the newest QEMU and the distribution's kernel.
	QEMU   provision.QEMU
	Kernel provision.Kernel

	// Init is the path of the program, an x86-64 ELF executable. If it is
	// dynamically linked, its loader and libraries come along.
	Init string
	// Args are its arguments, without its name, Env KEY=VALUE pairs. They reach it
	// byte for byte. Nothing of this process's environment does.
	Args, Env []string
	// Files are put into the guest: path in the guest to path of a file or folder here.
	Files map[string]string
	// Fetch are files that the program writes: path in the guest to path here.
	// They are replaced as a whole or not at all. What the program did not write
	// is in Result.Missing.
	Fetch map[string]string

	// Memory is in MiB; 0 is 512. CPUs: 0 is 2.
	Memory, CPUs int
	// IOMMU are the properties of the intel-iommu device; "" is
	// "intremap=on,aw-bits=48", "off" a machine without one.
	IOMMU string
	// Devices are further devices, as for QEMU's -device: "edu,addr=0x3". PCI slot
	// 0x1e is taken.
	Devices []string
	// QEMUArgs are further arguments of QEMU, before the devices: a -drive, say.
	QEMUArgs []string
	// Modules are loaded in this order before the program starts, each after what it
	// depends on: "vfio_iommu_type1 allow_unsafe_interrupts=1". What is built into
	// the kernel may be named too.
	Modules []string
	// Cmdline is added to the kernel's command line.
	Cmdline string

	// Timeout is for the whole run; 0 is 60 s. Shortly before its end (a fifth of
	// it, at most 5 s) the guest makes the program dump its goroutines.
	Timeout time.Duration
	// Output gets what the program writes, stdout and stderr in the order in which
	// they arrive; nil discards. The result has both all the same. An error of the
	// writer ends nothing and is not reported.
	Output io.Writer
	// KVM says when to use it.
	KVM KVM

	// quit is the uptime at which the guest ends the program; 0 is shortly before
	// Timeout.
	quit time.Duration
}

// KVM is when to use KVM instead of QEMU's translator (TCG).
type KVM int

const (
	KVMAuto   KVM = iota // where the probe succeeds
	KVMNever             // never
	KVMAlways            // or fail with ErrKVM
)

// A Result is what a guest left behind.
type Result struct {
	// ExitCode is the program's, 128 and the signal's number if a signal ended it;
	// -1 if it did not come to an end. Signal is that signal's name.
	ExitCode int
	Signal   string
	// Stdout and Stderr are what the program wrote.
	Stdout, Stderr []byte
	// Console is the end of the serial console, at most 1 MiB: the kernel's
	// emergencies, panics, what PID 1 could not say elsewhere.
	Console []byte
	// KernelLog is the kernel's log if the program failed.
	KernelLog []byte
	// QEMULog is the end of what QEMU wrote to its stderr.
	QEMULog []byte
	// Missing are the files of Fetch that did not come, in order.
	Missing []string
	// Command is the QEMU command line.
	Command []string
	// Accel is "tcg" or "kvm".
	Accel string
	// Started is the time from the start of QEMU to the start of the program, 0 if it
	// was not started; Elapsed is the time until QEMU had ended.
	Started, Elapsed time.Duration
}

const (
	defaultTimeout = 60 * time.Second
	defaultMemory  = 512
	defaultCPUs    = 2
	defaultIOMMU   = "intremap=on,aw-bits=48"
)

// withDefaults fills in what is zero, and finds QEMU and the kernel.
func (m Machine) withDefaults() (Machine, error) {
	if m.QEMU.Path == "" {
		q, err := provision.FindQEMU(provision.Options{})
		if err != nil {
			return m, &Error{Op: "boot", Err: err}
		}
		m.QEMU = q[0]
	}
	if m.Kernel.Image == "" {
		k, err := provision.FindKernel(provision.Options{})
		if err != nil {
			return m, &Error{Op: "boot", Err: err}
		}
		m.Kernel = k
	}
	if m.Memory == 0 {
		m.Memory = defaultMemory
	}
	if m.CPUs == 0 {
		m.CPUs = defaultCPUs
	}
	if m.IOMMU == "" {
		m.IOMMU = defaultIOMMU
	}
	if m.Timeout == 0 {
		m.Timeout = defaultTimeout
	}
	return m, nil
}

// limit is the uptime at which the guest ends the program by itself.
func (m Machine) limit() time.Duration {
	if m.quit != 0 {
		return m.quit
	}
	return m.Timeout - min(m.Timeout/5, 5*time.Second)
}

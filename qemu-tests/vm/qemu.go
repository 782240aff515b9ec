package vm

import (
	"fmt"
	"strconv"
	"strings"

	"gommu/qemu-tests/vm/internal/wire"
)

// The kernel's command line. Quiet, no crypto self-tests: 0.6 s under TCG. no_timer_check: on a
// busy host the kernel's test of the timer interrupt fails and it panics. A panic resets the
// machine, at which QEMU ends (-no-reboot). A word that the kernel does not know would become an
// argument of init; the program's come from the spec, so that harms nothing here.
const cmdline = "console=ttyS0 quiet loglevel=1 cryptomgr.notests no_timer_check panic=-1 intel_iommu=on"

// Files that QEMU inherits, in the order of exec.Cmd.ExtraFiles.
const (
	fdImage = 3 + iota
	fdConsole
	fdResult
)

// args are QEMU's arguments for a machine whose kernel is unpacked at kernel. The
// IOMMU comes before the devices: they take their address space from it when they are made.
func (m Machine) args(kernel, accel string) []string {
	a := append(platform(accel, m.Memory, m.CPUs),
		"-kernel", kernel,
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", fdImage),
		"-append", strings.TrimSpace(cmdline+" "+m.Cmdline),
		"-chardev", fmt.Sprintf("socket,id=gommu-console,fd=%d", fdConsole),
		"-serial", "chardev:gommu-console",
		"-chardev", fmt.Sprintf("socket,id=gommu-result,fd=%d", fdResult))
	a = append(a, m.QEMUArgs...)
	if m.IOMMU != "off" {
		a = append(a, "-device", "intel-iommu,"+m.IOMMU)
	}
	a = append(a,
		"-device", "virtio-serial-pci,id=gommu-serial,addr=0x1e",
		"-device", "virtserialport,bus=gommu-serial.0,chardev=gommu-result,name="+wire.PortName)
	for _, d := range m.Devices {
		a = append(a, "-device", d)
	}
	return a
}

// platform are the arguments that a guest and the KVM probe share.
func platform(accel string, memory, cpus int) []string {
	machine, cpu := "q35", "max"
	if accel == "kvm" {
		machine, cpu = "q35,kernel-irqchip=split", "host" // interrupt remapping needs the split
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-m", strconv.Itoa(memory), "-smp", strconv.Itoa(cpus),
	}
}

// Package vm boots a stock Linux kernel in QEMU behind an emulated VT-d unit,
// with a Go program as its /init, and has the program's output, exit code and
// files back.
//
// [Run] is for tests: it compiles the tests of a package, runs them in a guest,
// and carries their results over as subtests. [Boot] is the layer below and
// knows no testing: it runs any program that calls guest.Init or guest.Main (package
// vm/guest) before everything else.
//
//	func TestInGuest(t *testing.T) {
//		vm.Run(t, vm.Config{
//			Package: "./guest",
//			Machine: vm.Machine{
//				Modules: []string{"vfio-pci", "vfio_iommu_type1"},
//				Devices: []string{"edu,addr=0x3"},
//			},
//		})
//	}
//
// A boot owns one QEMU process, two sockets and a file in memory, and leaves
// nothing of them behind, whichever way it ends; the process dies with this one.
// Kept are, in the cache folder (GOMMU_CACHE, else gommu in the user's), the
// unpacked kernel and whether KVM works, and in a folder that the failure
// message names the logs of a failed Run.
//
// Run and Boot block for seconds and are safe to call from several goroutines.
//
// A guest has 512 MiB, two processors, no network and no disk. /proc, /sys, /dev, /tmp, debugfs,
// tracefs and bpffs are mounted; the working directory is /. KVM is used only
// where a probe has shown, within a time limit, that this kernel starts under it:
// a /dev/kvm may exist and hang every guest.
package vm

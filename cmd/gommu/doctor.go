//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gommu/pci"
	"gommu/qemu-tests/provision"
)

// A finding is one line of the doctor's: what was looked at, what was found
// and, unless all is well, what to do.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // one of the constants below
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

const (
	stateOK      = "ok"
	stateWarn    = "warn"    // works, with a limit
	stateMissing = "missing" // does not work
)

func newDoctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine has for DMA from user space and for the test hardware",
		Long: "Check what this machine has for DMA from user space (IOMMU, VFIO modules, locked memory, huge pages, groups) and for the\n" +
			"test hardware (QEMU, kernel). Each line says what to do. The exit code is 0 if the demo has a rung to run on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := examine(host{root: "/"})
			if err := printFindings(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if !slices.ContainsFunc(found, func(f finding) bool { return strings.HasPrefix(f.Check, "rung ") && f.State == stateOK }) {
				return errors.New("no rung is there to run on: the lines above say what to do")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func printFindings(w io.Writer, found []finding, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(found)
	}
	for _, f := range found {
		line := fmt.Sprintf("%-7s  %-18s %s", f.State, f.Check, f.Found)
		if f.Do != "" {
			line += "; " + f.Do
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// host is the machine under examination.
type host struct {
	root string // of its file system: "/", or a recorded tree
}

func (h host) path(p string) string { return filepath.Join(h.root, p) }

func (h host) exists(p string) bool { _, err := os.Stat(h.path(p)); return err == nil }

func (h host) read(p string) string {
	b, _ := os.ReadFile(h.path(p))
	return strings.TrimSpace(string(b))
}

// examine looks at everything. The last findings are the rungs.
func examine(h host) []finding {
	iommu := h.iommu()
	node := h.vfioNode()
	found := []finding{iommu, h.groups()}
	modules := true
	for _, m := range []string{"vfio", "vfio_iommu_type1", "vfio_pci"} {
		f := h.module(m)
		modules = modules && f.State == stateOK
		found = append(found, f)
	}
	qemu, kernel := findQEMU(), findKernel()
	found = append(found, node, memlock(), h.hugepages(), qemu, kernel)

	vfio := iommu.State == stateOK && modules && node.State == stateOK
	return append(found,
		rungFinding("qtest", qemu.State == stateOK, "QEMU's VT-d without a guest"),
		rungFinding("vm", qemu.State == stateOK && kernel.State == stateOK, "VFIO in a Linux guest"),
		rungFinding("vfio", vfio, "this machine's own IOMMU (the demo needs an edu device there)"))
}

func rungFinding(name string, there bool, what string) finding {
	f := finding{Check: "rung " + name, State: stateOK, Found: what}
	if !there {
		f.State, f.Do = stateMissing, "see above"
	}
	return f
}

func (h host) iommu() finding {
	f := finding{Check: "IOMMU", State: stateOK}
	units, _ := filepath.Glob(h.path("/sys/class/iommu/*"))
	if len(units) > 0 {
		for i, u := range units {
			units[i] = filepath.Base(u)
		}
		f.Found = "on: " + strings.Join(units, ", ")
		return f
	}
	f.State, f.Found = stateMissing, "off"
	f.Do = "enable VT-d in the firmware and boot with intel_iommu=on (kernel command line)"
	if strings.Contains(h.read("/proc/cmdline"), "intel_iommu=off") {
		f.Found, f.Do = "switched off by intel_iommu=off", "boot without it"
	}
	return f
}

func (h host) groups() finding {
	f := finding{Check: "groups", State: stateOK}
	sysfs := pci.Sysfs{Root: h.path("/sys")}
	ids, err := sysfs.Groups()
	switch {
	case err != nil:
		f.State, f.Found, f.Do = stateMissing, err.Error(), "is sysfs mounted?"
		return f
	case len(ids) == 0:
		f.State, f.Found, f.Do = stateMissing, "none", "switch the IOMMU on"
		return f
	}
	shared := 0
	for _, id := range ids {
		if g, err := sysfs.Group(id); err == nil && len(g.Members) > 1 {
			shared++
		}
	}
	f.Found = fmt.Sprintf("%d, of which %d with several functions", len(ids), shared)
	if shared > 0 {
		f.Do = "the functions of one group go to vfio-pci together: `gommu devices` shows them"
	}
	return f
}

// module looks for a kernel module: loaded, built in, or to be had.
func (h host) module(name string) finding {
	f := finding{Check: "module " + name, State: stateOK, Found: "loaded"}
	if h.exists("/sys/module/" + name) {
		return f
	}
	release := h.read("/proc/sys/kernel/osrelease")
	lists := func(list string) bool {
		text := strings.ReplaceAll(h.read(filepath.Join("/lib/modules", release, list)), "-", "_")
		return strings.Contains(text, "/"+name+".ko")
	}
	switch {
	case lists("modules.builtin"):
		f.Found = "built in"
	case lists("modules.dep"):
		f.State, f.Found, f.Do = stateMissing, "not loaded", "modprobe "+name
	default:
		f.State, f.Found = stateMissing, "not in kernel "+release
		f.Do = "install the modules of this kernel, or a distribution's kernel"
	}
	return f
}

func (h host) vfioNode() finding {
	const node = "/dev/vfio/vfio"
	f := finding{Check: node, State: stateOK, Found: "usable"}
	err := unix.Access(h.path(node), unix.R_OK|unix.W_OK)
	switch {
	case errors.Is(err, unix.ENOENT):
		f.State, f.Found, f.Do = stateMissing, "not there", "modprobe vfio-pci"
	case err != nil:
		f.State, f.Found, f.Do = stateMissing, err.Error(), "run as root, or give your group the nodes in /dev/vfio by a udev rule"
	}
	return f
}

// memlock looks at how much memory this process may pin. VFIO counts every
// page that it maps against it.
func memlock() finding {
	f := finding{Check: "memlock", State: stateOK}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return finding{Check: "memlock", State: stateWarn, Found: err.Error()}
	}
	const enough = 64 << 20
	switch {
	case limit.Cur == unix.RLIM_INFINITY:
		f.Found = "unlimited"
	case os.Geteuid() == 0:
		f.Found = fmt.Sprintf("%d KiB, which root may exceed", limit.Cur>>10)
	case limit.Cur < enough:
		f.State, f.Found = stateWarn, fmt.Sprintf("%d KiB can be mapped for DMA", limit.Cur>>10)
		f.Do = "raise it: ulimit -l, memlock in /etc/security/limits.conf, LimitMEMLOCK= in a systemd unit"
	default:
		f.Found = fmt.Sprintf("%d MiB", limit.Cur>>20)
	}
	return f
}

func (h host) hugepages() finding {
	const nr = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	f := finding{Check: "huge pages", State: stateOK}
	n, err := strconv.Atoi(h.read(nr))
	switch {
	case err != nil:
		f.State, f.Found = stateWarn, "this kernel has none of 2 MiB"
	case n == 0:
		f.State, f.Found = stateWarn, "none of 2 MiB reserved"
		f.Do = "buffers work without, with more IOTLB misses; to have 64: echo 64 > " + nr
	default:
		f.Found = fmt.Sprintf("%d of 2 MiB", n)
	}
	return f
}

func findQEMU() finding {
	f := finding{Check: "QEMU", State: stateOK}
	qemus, err := provision.FindQEMU(provision.Options{})
	if err != nil {
		f.State, f.Found = stateMissing, err.Error()
		return f
	}
	var found []string
	for _, q := range qemus {
		found = append(found, q.Version+" "+q.Path)
	}
	f.Found = strings.Join(found, ", ")
	return f
}

func findKernel() finding {
	kernels, err := provision.FindKernels(provision.Options{})
	if err != nil {
		return finding{Check: "kernel", State: stateMissing, Found: err.Error()}
	}
	var found []string
	for _, k := range kernels {
		found = append(found, k.Release+" "+k.Image)
	}
	return finding{Check: "kernel", State: stateOK, Found: strings.Join(found, ", ")}
}

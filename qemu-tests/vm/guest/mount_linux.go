package guest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A mount is one file system that a guest has.
type mount struct {
	kind, at string
	optional bool // not every kernel has it
}

// The order matters: a mount point may lie in a file system mounted before.
var mounts = []mount{
	{kind: "proc", at: "/proc"},
	{kind: "sysfs", at: "/sys"},
	{kind: "devtmpfs", at: "/dev"},
	{kind: "tmpfs", at: "/tmp"},
	{kind: "debugfs", at: "/sys/kernel/debug", optional: true},
	{kind: "tracefs", at: "/sys/kernel/tracing", optional: true},
	{kind: "bpf", at: "/sys/fs/bpf", optional: true},
}

func mountAll() error {
	for _, m := range mounts {
		// Those below /sys are the kernel's own directories.
		if err := os.MkdirAll(m.at, 0o755); err != nil && !m.optional {
			return err
		}
		err := unix.Mount(m.kind, m.at, m.kind, 0, "")
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil && !m.optional {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	return nil
}

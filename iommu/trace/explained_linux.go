//go:build amd64 || arm64

package trace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// capabilities are what a tracer needs.
const capabilities = "run it as root, or with the capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"

// explained adds to an error of a system call what it means here and what helps.
func explained(err error, need string) error {
	switch rejected := (*ebpf.VerifierError)(nil); {
	case errors.As(err, &rejected) && len(rejected.Log) > 1:
		return fmt.Errorf("%w: its verifier refuses the program: %w", ErrKernel, err)
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		if unix.Geteuid() == 0 {
			return fmt.Errorf("%w: root may not either: look for kernel.lockdown, seccomp or a container that keeps capabilities back: %w", ErrPermission, err)
		}
		return fmt.Errorf("%w: %s: %w", ErrPermission, capabilities, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: CONFIG_BPF_SYSCALL: %w", ErrKernel, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EINVAL), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %s: %w", ErrKernel, need, err)
	}
	return err
}

// btfPath is where the kernel shows its types.
const btfPath = "/sys/kernel/btf/vmlinux"

// typesKnown says whether the kernel shows its types.
func typesKnown(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: no BTF in %s: build it with CONFIG_DEBUG_INFO_BTF=y: %w", ErrKernel, path, err)
	}
	return nil
}

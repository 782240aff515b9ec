package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gommu/qemu-tests/internal/child"
)

// kvmLimit is how long the probe may take. A kernel starts in half a second under KVM.
const kvmLimit = 5 * time.Second

// A kvmKey is what the answer of the probe depends on.
type kvmKey struct{ qemu, version, kernel, boot string }

// kvmAnswers remembers what the probe said, in this process.
var kvmAnswers struct {
	mu     sync.Mutex
	answer map[kvmKey]error
}

// accel chooses the accelerator of a machine.
func (m Machine) accel(ctx context.Context, kernel string) (string, error) {
	if m.KVM == KVMNever {
		return "tcg", nil
	}
	err := m.kvmWorks(ctx, kernel)
	switch {
	case err == nil:
		return "kvm", nil
	case ctx.Err() != nil:
		return "", &Error{Op: "KVM probe", Err: ctx.Err()}
	case m.KVM == KVMAlways:
		return "", &Error{Op: "boot", Err: fmt.Errorf("%w: %w", ErrKVM, err)}
	}
	return "tcg", nil
}

// kvmWorks returns nil if this QEMU starts this kernel under KVM. The probe is made once
// for each start of the host; the answer is kept in the cache folder.
func (m Machine) kvmWorks(ctx context.Context, kernel string) error {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	kvm.Close()
	kvmAnswers.mu.Lock()
	defer kvmAnswers.mu.Unlock()
	key := kvmKey{m.QEMU.Path, m.QEMU.Version, kernel, bootID()}
	if err, ok := kvmAnswers.answer[key]; ok {
		return err
	}
	err, ok := readAnswer(key)
	if !ok {
		err = m.probeKVM(ctx, kernel, kvmLimit)
		if ctx.Err() != nil {
			return err
		}
		writeAnswer(key, err)
	}
	if kvmAnswers.answer == nil {
		kvmAnswers.answer = map[kvmKey]error{}
	}
	kvmAnswers.answer[key] = err
	return err
}

// probeKVM starts the kernel with no root file system. It has shown that guests run when
// it has got as far as to complain about that; a few instructions in real mode run even where
// every kernel hangs.
func (m Machine) probeKVM(parent context.Context, kernel string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	log := child.Tail{Limit: qemuLogKept}
	command := append([]string{m.QEMU.Path}, platform("kvm", 256, 1)...)
	command = append(command, "-kernel", kernel, "-append", cmdline, "-serial", "stdio")
	qemu, err := child.Start(ctx, command, nil, &log)
	if err != nil {
		return err
	}
	<-qemu.Done()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("a guest did not start within %v", limit)
	case qemu.Err() != nil:
		return fmt.Errorf("QEMU: %w: %s", qemu.Err(), lastLines(log.Bytes(), 3))
	case !bytes.Contains(log.Bytes(), []byte("Kernel panic")):
		return errors.New("a guest ended before its kernel had started")
	}
	return nil
}

// bootID changes with each start of the host.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// answerFile is where the answer for a key is kept: one file for all starts of the host.
func answerFile(k kvmKey) (string, error) {
	dir, err := cacheDir()
	sum := sha256.Sum256([]byte(k.qemu + "\n" + k.version + "\n" + k.kernel))
	return filepath.Join(dir, fmt.Sprintf("kvm-%x", sum[:8])), err
}

// readAnswer reads a kept answer, if it is of this start of the host. The file has the boot
// id, then "yes" or why not.
func readAnswer(k kvmKey) (answer error, ok bool) {
	file, err := answerFile(k)
	if err != nil {
		return nil, false
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, false
	}
	boot, text, _ := strings.Cut(string(b), "\n")
	if boot != k.boot || text == "" {
		return nil, false
	}
	if text == "yes" {
		return nil, true
	}
	return errors.New(text), true
}

// writeAnswer keeps an answer. If that fails the next process probes again.
func writeAnswer(k kvmKey, answer error) {
	text := "yes"
	if answer != nil {
		text = answer.Error()
	}
	if file, err := answerFile(k); err == nil {
		_ = writeFile(file, []byte(k.boot+"\n"+text))
	}
}

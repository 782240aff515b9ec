package rung

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
	"gommu/qemu-tests/vm/guest"
)

const (
	envRung    = "GOMMU_RUNG"       // rung and label that a guest was booted for
	answerPath = "/tmp/rung-answer" // in the guest
)

// ErrGuest reports a guest whose program did not come to the function.
var ErrGuest = errors.New("the program in the guest did not come to the function of Run: does its main begin with rung.Main, and do its arguments lead there?")

// A GuestError is the error of a function in a guest.
type GuestError struct {
	Rung, Text string
	Skip       bool // it was an Unavailable
}

func (e *GuestError) Error() string { return e.Text }

// Unwrap is the Unavailable that it was.
func (e *GuestError) Unwrap() error {
	if e.Skip {
		return Unavailable(e.Text)
	}
	return nil
}

// Main is the main of a program that uses Run: it runs f and ends the process, in a
// guest and outside. ctx ends by an interrupt from the keyboard; an error is
// printed, and the exit code is 1.
func Main(f func(ctx context.Context) error) {
	guest.Init(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := f(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
			return 1
		}
		return 0
	})
}

// bootedFor says whether this process runs in a guest that a Run booted, and
// whether that was a Run like this one.
func bootedFor(name, label string) (booted, mine bool) {
	v, ok := os.LookupEnv(envRung)
	if !ok || !guest.Inside() {
		return false, false
	}
	return true, v == name+"\n"+label
}

// An answer is what comes back from a guest.
type guestAnswer struct {
	Error string
	Skip  bool
}

// answer leaves the function's error for the host, and ends the process.
func answer(err error) {
	var a guestAnswer
	if err != nil {
		_, a.Skip = errors.AsType[Unavailable](err)
		a.Error = err.Error()
	}
	b, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(answerPath, b, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// boot runs this program in a guest, which answers.
func boot(ctx context.Context, r rung, opts Options) error {
	in, err := provision.Find(provision.Options{})
	if err != nil {
		return err
	}
	if opts.QEMU.Path != "" {
		in.QEMUs = []provision.QEMU{opts.QEMU}
	}
	m, err := r.guest(opts, in)
	if err != nil {
		return err
	}
	if m.Init, err = os.Executable(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gommu-rung-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "answer")
	m.QEMU, m.Kernel, m.Timeout, m.Output = in.QEMUs[0], in.Kernel, opts.Timeout, opts.Output
	m.Env, m.Fetch = []string{envRung + "=" + r.name + "\n" + opts.Label}, map[string]string{answerPath: file}
	if m.Args = opts.Args; m.Args == nil {
		m.Args = os.Args[1:]
	}
	if opts.JumpClock {
		JumpClock(&m)
	}
	res, err := vm.Boot(ctx, m)
	if err != nil {
		return err
	}
	return verdict(r.name, file, res)
}

// JumpClock gives a guest a clock that counts instructions and, when its processor has nothing
// to do, jumps to the next timer: else each transfer of an edu device takes 100 ms.
func JumpClock(m *vm.Machine) {
	// An instruction is 16 ns long. At 128 ns booting takes the guest so much of its time that its
	// watchdogs bark. KVM has no such clock.
	m.QEMUArgs, m.CPUs, m.KVM = append(m.QEMUArgs, "-icount", "shift=4,sleep=off"), 1, vm.KVMNever
}

// verdict is what a guest's program answered.
func verdict(name, file string, res *vm.Result) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("rung %s: %w (exit code %d) %s", name, ErrGuest, res.ExitCode, strings.TrimSpace(string(res.Stderr)))
	}
	var a guestAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("rung %s: %w", name, err)
	}
	if a.Error != "" {
		return &GuestError{Rung: name, Text: a.Error, Skip: a.Skip}
	}
	return nil
}

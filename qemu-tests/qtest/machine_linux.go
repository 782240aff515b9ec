package qtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gommu/qemu-tests/internal/child"
)

// A Machine is a running QEMU whose registers, configuration space and RAM are
// at hand. Make one with Start.
type Machine struct {
	cfg     Config
	proc    *child.Process
	output  child.Tail // what QEMU printed
	ram     []byte
	closing atomic.Bool // Close or Kill was called: QEMU's end is expected

	mu       sync.Mutex // one request at a time
	conn     *os.File
	answers  *bufio.Reader
	requests int
	err      error // sticky

	pciMu   sync.Mutex // set-up of configuration space and of BARs
	ecam    bool
	nextBAR uint64

	closeOnce sync.Once
}

// Start runs a machine. It returns when QEMU has answered its first request,
// 50 to 100 ms later, or with an error that says what was wrong; nothing is
// left behind then. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, &OpError{Op: "start", Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, &OpError{Op: "start", Target: cfg.QEMU, Err: err}
	}
	m := &Machine{cfg: cfg, nextBAR: firstBAR, output: child.Tail{Limit: outputKept}}
	if err := m.launch(); err != nil {
		m.release()
		return nil, startError(cfg.QEMU, err)
	}
	stop := context.AfterFunc(ctx, m.proc.Kill)
	_, err = m.request("endianness")
	if !stop() && ctx.Err() != nil {
		err = &OpError{Op: "start", Target: cfg.QEMU, Err: ctx.Err()}
	}
	if err != nil {
		m.closing.Store(true)
		m.release()
		return nil, startError(cfg.QEMU, err)
	}
	return m, nil
}

// launch makes the memory, the socket and the process.
func (m *Machine) launch() error {
	ram, err := ramFile(m.cfg.Memory)
	if err != nil {
		return err
	}
	defer ram.Close()
	if m.ram, err = mapFile(ram, m.cfg.Memory); err != nil {
		return err
	}
	bios, err := firmwareFile()
	if err != nil {
		return err
	}
	defer bios.Close()
	ours, theirs, err := child.SocketPair("qtest")
	if err != nil {
		return fmt.Errorf("make socket pair: %w", err)
	}
	m.conn, m.answers = ours, bufio.NewReader(ours)
	defer theirs.Close()
	command := append([]string{m.cfg.QEMU}, m.cfg.args()...)
	m.proc, err = child.Start(context.Background(), command, []*os.File{theirs, ram, bios}, &m.output)
	return err
}

// startError turns a failed launch into what the caller can act upon.
func startError(qemu string, err error) error {
	e := &OpError{Op: "start", Target: qemu, Err: err}
	var op *OpError
	switch {
	case errors.As(err, &op):
		e = op
		e.Op, e.Target = "start", qemu
		if errors.Is(err, ErrExited) {
			e.Remedy = "QEMU 7.2 or newer is needed; look at Config.Devices and Config.IOMMU for an option that it does not know"
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOEXEC):
		e.Err = fmt.Errorf("%w: %w", ErrNoQEMU, err)
		e.Remedy = "install qemu-system-x86 or run \"gommu setup\", or let GOMMU_QEMU name an executable qemu-system-x86_64"
	}
	return e
}

// RAM is the machine's memory: byte i is at physical address i. Both this
// process and the emulated hardware may change it at any time: use sync/atomic
// for what hardware reads or writes meanwhile. Bytes from 640 KiB to 1 MiB are
// hidden from devices by ROM, as on a PC. RAM must not be touched after Close.
func (m *Machine) RAM() []byte { return m.ram }

// Err is the error that stopped the machine, or nil while it works. It stays.
func (m *Machine) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Requests is how many requests were sent to QEMU.
func (m *Machine) Requests() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

// Kill ends QEMU at once, as a test of what its users do then. RAM stays
// until Close.
func (m *Machine) Kill() {
	m.closing.Store(true)
	m.proc.Kill()
}

// Close ends QEMU and gives back everything that Start made. It reports if QEMU
// had ended by itself before. Twice is harmless.
func (m *Machine) Close() (err error) {
	m.closeOnce.Do(func() {
		unexpected := false
		select {
		case <-m.proc.Done():
			unexpected = !m.closing.Load()
		default:
		}
		m.closing.Store(true)
		m.release()
		if unexpected {
			err = m.exited("close")
		}
	})
	return err
}

// release undoes launch, however far that came.
func (m *Machine) release() {
	if m.proc != nil {
		m.proc.Kill()
		<-m.proc.Done()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = &OpError{Op: "access", Target: m.cfg.QEMU, Err: ErrClosed}
	}
	if m.conn != nil {
		m.conn.Close()
	}
	if m.ram != nil {
		unix.Munmap(m.ram)
		m.ram = nil
	}
}

// outputKept is how much of what QEMU prints an error may have, in bytes.
const outputKept = 4 << 10

// complaint is what QEMU printed last, without the warning that -icount sleep=off always gives.
func (m *Machine) complaint() string {
	var said []string
	for line := range strings.Lines(string(m.output.Bytes())) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "icount sleep disabled and no active timers") {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}

// exited is the error for a QEMU that has ended.
func (m *Machine) exited(op string) error {
	how := "exit status 0"
	if err := m.proc.Err(); err != nil {
		how = err.Error()
	}
	return &OpError{
		Op: op, Target: m.cfg.QEMU, Stderr: m.complaint(),
		Err: fmt.Errorf("%w: %s", ErrExited, how),
	}
}

// reapTime is how long after its socket closed QEMU may take to end.
const reapTime = 2 * time.Second

// lost is the error for a socket that broke.
func (m *Machine) lost(op string, err error) error {
	select {
	case <-m.proc.Done():
		return m.exited(op)
	case <-time.After(reapTime):
		return &OpError{Op: op, Target: m.cfg.QEMU, Stderr: m.complaint(), Err: err}
	}
}

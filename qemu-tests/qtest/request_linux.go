package qtest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// request sends one command and returns what follows "OK" in the answer. After
// any failure the machine is stopped: every later request fails the same way.
//
// The protocol is one line each way; "IRQ" lines may come in between
// (QEMU, comment at the head of system/qtest.c).
func (m *Machine) request(command string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return "", m.err
	}
	answer, err := m.exchange(command)
	if err != nil {
		m.stop(err)
	}
	return answer, err
}

// stop makes err the machine's error and ends QEMU. The caller holds mu.
func (m *Machine) stop(err error) {
	m.err = err
	if !errors.Is(err, ErrExited) {
		m.closing.Store(true) // the end that follows is ours, not for Close to report
	}
	m.proc.Kill()
}

// exchange is request without the memory of failure. The caller holds mu.
func (m *Machine) exchange(command string) (string, error) {
	op, _, _ := strings.Cut(command, " ")
	if m.cfg.BeforeRequest != nil {
		if err := m.cfg.BeforeRequest(m.requests, command); err != nil {
			return "", &OpError{Op: op, Target: m.cfg.QEMU, Err: err}
		}
	}
	m.requests++
	m.conn.SetDeadline(time.Now().Add(m.cfg.Timeout))
	if _, err := m.conn.Write(append([]byte(command), '\n')); err != nil {
		return "", m.broken(op, err)
	}
	for {
		line, err := m.answers.ReadString('\n')
		if err != nil {
			return "", m.broken(op, err)
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "IRQ":
		case "OK":
			return rest, nil
		default:
			return "", &OpError{Op: op, Target: m.cfg.QEMU, Err: fmt.Errorf("%w to %q: %q", ErrProtocol, command, strings.TrimSpace(line))}
		}
	}
}

// broken is the error for an exchange that the socket did not finish.
func (m *Machine) broken(op string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &OpError{Op: op, Target: m.cfg.QEMU, Stderr: m.complaint(), Err: fmt.Errorf("%w (%v)", ErrTimeout, m.cfg.Timeout)}
	}
	return m.lost(op, err)
}

// suffix is how qtest names an access width in bytes.
var suffix = map[int]string{1: "b", 2: "w", 4: "l", 8: "q"}

// Read reads width (1, 2, 4 or 8) bytes of the machine's physical address
// space in one access. It gives all ones if the machine is gone or the width
// does not exist.
func (m *Machine) Read(addr uint64, width int) uint64 {
	s, ok := suffix[width]
	if !ok {
		return allOnes
	}
	return m.number(fmt.Sprintf("read%s %#x", s, addr), width)
}

// Write writes width (1, 2, 4 or 8) bytes of the machine's physical address
// space in one access.
func (m *Machine) Write(addr uint64, width int, v uint64) {
	if s, ok := suffix[width]; ok {
		m.request(fmt.Sprintf("write%s %#x %#x", s, addr, v&mask(width))) // failures stick in Err
	}
}

// outl writes to an I/O port.
func (m *Machine) outl(port uint16, v uint32) { m.request(fmt.Sprintf("outl %#x %#x", port, v)) }

const allOnes = ^uint64(0)

func mask(width int) uint64 { return allOnes >> (64 - 8*width) }

// number is the answer of a read of width bytes, all ones if there is none.
func (m *Machine) number(command string, width int) uint64 {
	answer, err := m.request(command)
	if err != nil {
		return mask(width)
	}
	v, err := strconv.ParseUint(answer, 0, 64)
	if err != nil {
		m.fail(&OpError{Op: command, Target: m.cfg.QEMU, Err: fmt.Errorf("%w: %q is no number", ErrProtocol, answer)})
		return mask(width)
	}
	return v & mask(width)
}

// fail stops the machine with err unless it was stopped before.
func (m *Machine) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.stop(err)
	}
}

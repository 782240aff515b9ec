//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gommu/pci"
)

// A kernelLog reads the kernel's messages from the moment it was opened. Linux
// reports DMA faults of VT-d units there and nowhere else.
type kernelLog struct {
	fd    int
	lines []string // read and not yet claimed
}

// openKernelLog opens /dev/kmsg behind its last record.
func openKernelLog() (*kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's log /dev/kmsg, where it reports DMA faults: %w; run as root", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("seeking in /dev/kmsg: %w", err)
	}
	return &kernelLog{fd: fd}, nil
}

// Close closes the log.
func (l *kernelLog) Close() error { return unix.Close(l.fd) }

// faultWait is how long the kernel may take to report a fault: its interrupt
// thread and its console come first.
const faultWait = 5 * time.Second

// fault waits for the kernel to report a blocked request of the function at
// addr to iova.
func (l *kernelLog) fault(ctx context.Context, addr pci.Address, iova uint64) (*faultReport, error) {
	ctx, cancel := context.WithTimeout(ctx, faultWait)
	defer cancel()
	for {
		if err := l.read(); err != nil {
			return nil, err
		}
		for i, line := range l.lines {
			f, ok := parseFault(line, addr.Domain)
			if ok && f.Requester == addr.String() && f.IOVA == fmt.Sprintf("%#x", iova&^(pageSize-1)) {
				l.lines = append(l.lines[:i:i], l.lines[i+1:]...)
				return f, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the kernel did not report a fault of %s at %#x within %v", addr, iova, faultWait)
		case <-time.After(time.Millisecond):
		}
	}
}

// read takes all records that are there. A record is "prefix;text", with a
// continuation that is of no use here (Documentation/ABI/testing/dev-kmsg).
func (l *kernelLog) read() error {
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(l.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			continue // EPIPE: records were overwritten before they were read
		case err != nil:
			return fmt.Errorf("reading /dev/kmsg: %w", err)
		}
		_, text, ok := strings.Cut(string(buf[:n]), ";")
		if ok {
			text, _, _ = strings.Cut(text, "\n")
			l.lines = append(l.lines, text)
		}
	}
}

// faultLine is how Linux reports a blocked DMA: see dmar_fault_do_one in
// drivers/iommu/intel/dmar.c. 6.12 leaves the segment out, 7.2 does not.
var faultLine = regexp.MustCompile(`DMAR: \[DMA (Read|Write) (?:NO_PASID|PASID 0x[0-9a-f]+)\] Request device \[([0-9a-f]{4}:)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\] fault addr (0x[0-9a-f]+) \[fault reason 0x([0-9a-f]{2})\] (.*)`)

// parseFault reads a line of the kernel's log. The domain is that of a line that names none.
func parseFault(line string, domain uint32) (*faultReport, bool) {
	m := faultLine.FindStringSubmatch(line)
	if m == nil {
		return nil, false
	}
	reason, err := strconv.ParseUint(m[5], 16, 8)
	if err != nil {
		return nil, false
	}
	return &faultReport{
		Reason:    int(reason),
		Text:      m[6],
		IOVA:      m[4],
		Requester: cmp.Or(m[2], fmt.Sprintf("%04x:", domain)) + m[3],
		Access:    strings.ToLower(m[1]),
		Log:       line,
	}, true
}

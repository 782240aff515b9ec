package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gommu/qemu-tests/vm/internal/wire"
)

const portLimit = 10 * time.Second // for the kernel to learn the ports' names

// openPort opens the virtio-serial port to the host. The kernel learns the names
// of the ports from QEMU some time after it has found the device.
func openPort() (*os.File, error) {
	for deadline := time.Now().Add(portLimit); ; time.Sleep(2 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil || strings.TrimSpace(string(b)) != wire.PortName {
				continue
			}
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
		}
		if time.Now().After(deadline) {
			return nil, errors.New("no virtio-serial port " + wire.PortName + " (kernel without virtio_pci or virtio_console?)")
		}
	}
}

// frames is a writer of frames of one kind. The port serialises the writes of
// several.
type frames struct {
	port *os.File
	kind wire.Kind
}

func (f frames) Write(b []byte) (int, error) {
	if err := wire.Write(f.port, f.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func sendFile(port *os.File, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, errors.New("not a regular file"))
	}
	if err := wire.Write(port, wire.File, []byte(name)); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(frames{port, wire.Data}, struct{ io.Reader }{f}, make([]byte, wire.Chunk)); err != nil {
		return err
	}
	return wire.Write(port, wire.EOF, nil)
}

// sendLog sends the kernel's log; a kernel that does not give it out is no error.
func sendLog(port *os.File) {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL of syslog(2)
	buf := make([]byte, 1<<20)
	if n, err := unix.Klogctl(readAll, buf); err == nil {
		_ = wire.Write(port, wire.Log, buf[:n])
	}
}

// awaitAck waits for the byte by which the host says that it has everything: what
// was written may still lie in QEMU, and is lost if the machine goes off.
func awaitAck(port *os.File) error {
	got := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(port, make([]byte, 1))
		got <- err
	}()
	select {
	case err := <-got:
		return err
	case <-time.After(ackLimit):
		return fmt.Errorf("the host did not take the result within %v", ackLimit)
	}
}

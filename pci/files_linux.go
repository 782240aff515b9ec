package pci

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// files is how sysfs is reached. The tests put in its place one that fails at a
// chosen call, or that behaves as the kernel does when somebody writes.
type files interface {
	readFile(name string) ([]byte, error)
	writeFile(name string, data string) error
	readLink(name string) (string, error)
	readDir(name string) ([]string, error)
	open(name string, flag int) (*os.File, error)
	mmap(f *os.File, length int) ([]byte, error)
	munmap(mem []byte) error
}

// osFiles are the files of the operating system.
type osFiles struct{}

func (osFiles) readFile(name string) ([]byte, error) { return os.ReadFile(name) }
func (osFiles) readLink(name string) (string, error) { return os.Readlink(name) }

func (osFiles) open(name string, flag int) (*os.File, error) { return os.OpenFile(name, flag, 0) }

// writeFile writes an attribute in one write, as sysfs wants it. It creates nothing.
func (osFiles) writeFile(name string, data string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(data)
	return errors.Join(err, f.Close())
}

func (osFiles) readDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFiles) mmap(f *os.File, length int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (osFiles) munmap(mem []byte) error { return unix.Munmap(mem) }

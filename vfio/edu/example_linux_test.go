package edu_test

import (
	"context"
	"log"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gommu/pci"
	"gommu/vfio"
	"gommu/vfio/edu"
)

// The device writes into a page that was mapped for it. This is the README's example; the function was bound to
// vfio-pci before.
func Example_vfio() {
	if err := deviceWrites(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func deviceWrites(ctx context.Context) error {
	addr, err := pci.ParseAddress("0000:00:03.0")
	if err != nil {
		return err
	}
	dev, err := vfio.Open(addr, vfio.Options{}) // errors say what to do: IOMMU off, group not viable and because of which sibling, ...
	if err != nil {
		return err
	}
	defer dev.Close() // stops the device before its mappings go
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	if err := dev.Container().MapDMA(0x100000, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
		return err
	}
	engine, err := edu.Open(dev, edu.Options{}) // a driver: any pci.Function will do
	if err != nil {
		return err
	}
	return engine.WriteMemory(ctx, 0x100000, 0, 1024) // the device writes 1 KiB into mem
}

// TestREADME keeps the README's example and the one above, which the compiler checks, the same.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_linux_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	code, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		t.Fatal("README.md has no Go example")
	}
	body := "(ctx context.Context) error {\n\t" + strings.ReplaceAll(code, "\n", "\n\t") + "\n}\n"
	if !strings.Contains(string(source), body) {
		t.Errorf("the README's example is not deviceWrites:\n%s", code)
	}
}

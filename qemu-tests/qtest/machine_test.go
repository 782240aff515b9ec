//go:build linux

package qtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gommu/pci"
	"gommu/qemu-tests/qtest"
)

// qemus are the QEMU executables to test with. A list in GOMMU_QEMU is
// separated as PATH is.
func qemus(t testing.TB) []string {
	t.Helper()
	list := filepath.SplitList(os.Getenv("GOMMU_QEMU"))
	if len(list) == 0 {
		t.Skip("no QEMU: let GOMMU_QEMU name one or more qemu-system-x86_64 (7.2 or newer), separated by ':'; \"gommu setup\" gets them")
	}
	return list
}

func start(t testing.TB, cfg qtest.Config) *qtest.Machine {
	t.Helper()
	m, err := qtest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

const eduDevice = "edu,addr=0x3,dma_mask=0xffffffffffffffff"

var eduAddress = pci.Address{Device: 3}

func TestStart(t *testing.T) {
	for _, qemu := range qemus(t) {
		t.Run(filepath.Base(qemu), func(t *testing.T) {
			begin := time.Now()
			m := start(t, qtest.Config{QEMU: qemu, Devices: []string{eduDevice}})
			t.Logf("started in %v", time.Since(begin))
			if got := m.IOMMU().Read32(0); got != 0x10 {
				t.Errorf("VER = %#x, want 0x10", got)
			}
			const want = uint64(0x00d2008c222f0606)
			if got := m.IOMMU().Read64(8); got != want {
				t.Errorf("CAP = %#x, want %#x", got, want)
			}
			m.RAM()[0x200000] = 0xa5
			if got := m.Read(0x200000, 1); got != 0xa5 {
				t.Errorf("machine sees %#x in the byte that was stored", got)
			}
			m.Write(0x200004, 4, 0x12345678)
			if got := fmt.Sprintf("%x", m.RAM()[0x200004:0x200008]); got != "78563412" {
				t.Errorf("the machine's store reads as %s here", got)
			}
			f, err := m.PCI(eduAddress)
			if err != nil {
				t.Fatal(err)
			}
			id, err := f.Config().Read(0, 4)
			if id != 0x11e81234 || err != nil {
				t.Errorf("id %#x, %v", id, err)
			}
			bar, err := f.BAR(0)
			if err != nil {
				t.Fatal(err)
			}
			if bar.Size() != 1<<20 {
				t.Errorf("BAR 0 has %#x bytes", bar.Size())
			}
			if got := bar.Read32(0); got != 0x010000ed {
				t.Errorf("edu id %#x", got)
			}
			if err := m.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

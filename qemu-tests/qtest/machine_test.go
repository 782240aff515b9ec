//go:build linux

package qtest_test

import (
	"fmt"
	"testing"
	"time"

	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
)

// qemus are the QEMUs to test with.
func qemus(t testing.TB) []provision.QEMU {
	t.Helper()
	return provision.Require(t, "qtest", provision.Options{NoKernel: true}).QEMUs
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
		t.Run(qemu.Version, func(t *testing.T) {
			begin := time.Now()
			m := start(t, qtest.Config{QEMU: qemu.Path, Devices: []string{eduDevice}})
			t.Logf("started in %v", time.Since(begin))
			if got := m.IOMMU().Read32(0); got != 0x10 {
				t.Errorf("VER = %#x, want 0x10", got)
			}
			const want = uint64(0x00d2008c222f0606)
			const enhancedRoot = 1 << 63 // ESRTPS, since QEMU 10.2
			if got := m.IOMMU().Read64(8) &^ enhancedRoot; got != want {
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

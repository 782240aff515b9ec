//go:build linux

package guest

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"gommu/internal/held"
	"gommu/pci"
	"gommu/vfio"
)

// Registers in BAR 0 of an NVM Express controller (NVMe base specification 1.4, 3.1).
const (
	nvmeClass = 0x010802

	nvmeCC     = 0x14 // enable 0, log2 of a submission entry 19:16, of a completion entry 23:20
	nvmeStatus = 0x1c // ready 0
	nvmeAQA    = 0x24 // sizes of the admin queues less one: submission 11:0, completion 27:16
	nvmeASQ    = 0x28
	nvmeACQ    = 0x30
	nvmeTail   = 0x1000 // doorbells of the admin queues; QEMU's have no stride
	nvmeHead   = 0x1004

	nvmeEnable  = 1 | 6<<16 | 4<<20
	nvmeEntries = 4
)

// openedNVMe is QEMU's NVMe controller, alone in its group, as opened is edu.
func openedNVMe(t *testing.T) *vfio.Device {
	t.Helper()
	i := findFunction(t, "NVMe controller", func(i pci.Info) bool { return i.Class == nvmeClass })
	bind(t, i)
	return open(t, i)
}

// TestVFIOMSIX enables every vector, has the kernel loop each back, and finds their messages in the device's table.
func TestVFIOMSIX(t *testing.T) {
	d := openedNVMe(t)
	info, err := d.IRQInfo(vfio.MSIX)
	if err != nil || info.Count < 3 || !info.EventFD {
		t.Fatalf("%+v, %v", info, err)
	}
	before := held.Now(t)
	_, err = d.EnableIRQ(vfio.MSIX, info.Count+1)
	want(t, "one more than it has", err, vfio.ErrNoIRQ)
	held.Check(t, before)
	b, table := msixTable(t, d)
	for _, n := range []int{info.Count, 2} {
		irqs, err := d.EnableIRQ(vfio.MSIX, n)
		if err != nil || len(irqs) != n {
			t.Fatalf("%d of %d vectors: %v", len(irqs), n, err)
		}
		for _, i := range slices.Backward(irqs) {
			if err := errors.Join(i.Trigger(), i.Trigger(), i.Wait(t.Context())); err != nil {
				t.Fatalf("vector %d: %v", i.Index(), err)
			}
		}
		for k, i := range irqs {
			if i.Index() != k || i.Count() != 2 {
				t.Errorf("vector %d is number %d and fired %d times, want 2", k, i.Index(), i.Count())
			}
			// The kernel writes the messages: this mapping must show them, above the interrupt range's start.
			if address := b.Read64(table + 16*uint64(k)); address>>20 != 0xfee {
				t.Errorf("the message of vector %d goes to %#x", k, address)
			}
		}
		if irqs[0].Mask() == nil || irqs[0].Unmask() == nil {
			t.Error("VFIO masks MSI-X now: the documentation says that it does not")
		}
		got := make(chan error)
		go func() { got <- irqs[n-1].Wait(t.Context()) }()
		if err := d.DisableIRQ(vfio.MSIX); err != nil {
			t.Fatal(err)
		}
		want(t, "wait over disabling", <-got, vfio.ErrClosed)
	}
	if _, err := d.EnableIRQ(vfio.MSIX, info.Count); err != nil { // left for Close
		t.Error(err)
	}
}

// msixTable is where the MSI-X table lies. Since Linux 4.16 its BAR is mapped whole.
func msixTable(t *testing.T, d *vfio.Device) (pci.BAR, uint64) {
	t.Helper()
	c, err := pci.FindCapability(d.Config(), pci.CapMSIX, false)
	if err != nil {
		t.Fatal(err)
	}
	at, err := d.Config().Read(c.Offset+4, 4) // offset with the BAR's number in bits 2:0
	if err != nil {
		t.Fatal(err)
	}
	bar, off := int(at&7), uint64(at&^7)
	r, err := d.Region(bar)
	if err != nil || !r.Mapable || !r.MSIXMappable || len(r.Areas) != 0 || r.Size <= off {
		t.Errorf("region with an MSI-X table at %#x: %+v, %v", off, r, err)
	}
	before := vfioMaps(t)
	b, err := d.BAR(bar)
	if err != nil {
		t.Fatal(err)
	}
	if n := vfioMaps(t) - before; n != 1 {
		t.Errorf("%d mappings of the BAR, want one", n)
	}
	return b, off
}

// An nvmeQueue is the pair of admin queues. The device and this process share their memory.
type nvmeQueue struct {
	regs                           pci.BAR
	submission, completion, answer *pci.Window
	text                           []byte // of answer
	at                             uint64 // next entry; only the first round is used
}

const nvmeIOVA = 0x200000 // of submissions, completions and the answer, a page each

// start gives the controller its queues and waits until it is ready.
func (q *nvmeQueue) start(t *testing.T) {
	t.Helper()
	q.at = 0
	for off := range uint64(64) { // completions are told from old ones by their phase bit
		q.completion.Write32(4*off, 0)
	}
	q.regs.Write32(nvmeAQA, (nvmeEntries-1)<<16|nvmeEntries-1)
	q.regs.Write64(nvmeASQ, nvmeIOVA)
	q.regs.Write64(nvmeACQ, nvmeIOVA+4096)
	q.regs.Write32(nvmeCC, nvmeEnable)
	for q.regs.Read32(nvmeStatus)&1 == 0 {
		if s := q.regs.Read32(nvmeStatus); s&2 != 0 || t.Context().Err() != nil {
			t.Fatalf("the controller does not start: status %#x", s)
		}
		runtime.Gosched()
	}
}

// identify has the controller write who it is into the answer, and waits for its interrupt.
func (q *nvmeQueue) identify(t *testing.T, irq *vfio.Interrupt) {
	t.Helper()
	clear(q.text)
	entry := 64 * q.at
	for off := range uint64(8) {
		q.submission.Write64(entry+8*off, 0)
	}
	q.submission.Write32(entry, uint32(q.at)<<16|0x06) // Identify, with an id of its own
	q.submission.Write64(entry+24, nvmeIOVA+2*4096)    // where to
	q.submission.Write32(entry+40, 1)                  // the controller, not a namespace
	q.regs.Write32(nvmeTail, uint32(q.at+1)%nvmeEntries)
	if err := irq.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := q.completion.Read32(16*q.at + 12) // id 15:0, phase 16, status above
	if status != uint32(q.at)|1<<16 {
		t.Errorf("completion %d: %#x", q.at, status)
	}
	q.at++
	q.regs.Write32(nvmeHead, uint32(q.at)%nvmeEntries)
	if id := q.answer.Read32(0); id&0xffff != 0x1b36 || !bytes.HasPrefix(q.text[4:], []byte("gommu ")) {
		t.Errorf("the controller says it is %#x, serial number %q", id, q.text[4:24])
	}
}

// TestVFIOFunctionReset resets a function that can be: the device forgets, the BAR stays open, and its interrupts and
// mappings work again when the device has been set up anew.
func TestVFIOFunctionReset(t *testing.T) {
	d := openedNVMe(t)
	if !d.CanReset() {
		t.Fatal("no reset for a function with FLR")
	}
	mem := pages(t, 3)
	if err := d.Container().MapDMA(nvmeIOVA, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
		t.Fatal(err)
	}
	q := &nvmeQueue{text: mem[2*4096:]}
	for n, w := range []**pci.Window{&q.submission, &q.completion, &q.answer} {
		var err error
		if *w, err = pci.NewWindow(mem[n*4096:][:4096]); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if q.regs, err = d.BAR(0); err != nil {
		t.Fatal(err)
	}
	irqs, err := d.EnableIRQ(vfio.MSIX, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
		t.Fatal(err)
	}
	for round := range uint64(2) {
		q.start(t)
		q.identify(t, irqs[0])
		q.identify(t, irqs[0])
		if n := irqs[0].Count(); n != 2*round+2 {
			t.Errorf("%d interrupts, want %d", n, 2*round+2)
		}
		if cc := q.regs.Read32(nvmeCC); cc != nvmeEnable {
			t.Errorf("before the reset CC is %#x", cc)
		}
		if err := d.Reset(); err != nil {
			t.Fatal(err)
		}
		// QEMU keeps the queues' addresses, which it should not.
		if cc, status := q.regs.Read32(nvmeCC), q.regs.Read32(nvmeStatus); cc != 0 || status != 0 {
			t.Errorf("after the reset CC is %#x, the status %#x", cc, status)
		}
		if was, err := pci.SetBusMaster(d.Config(), true); err != nil || !was {
			t.Errorf("bus mastering after the reset: %v, %v; the kernel restores it", was, err)
		}
	}
	q.start(t) // left running for Close
}

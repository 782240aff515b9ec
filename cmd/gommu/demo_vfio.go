//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gommu/pci"
	"gommu/respool"
	"gommu/vfio"
	"gommu/vfio/edu"
)

// The demonstration's pages and IOVAs on VFIO: within the 28 bits that an edu
// device has unless it is told otherwise.
const (
	vfioPages   = 64
	vfioIOVA    = 16 << 20
	vfioOutside = vfioIOVA + 1<<20
)

// vfioStage is a device taken over through VFIO, and a pool of pages that a
// worker has mapped for it ahead of time: the kernel's map call sleeps.
type vfioStage struct {
	binding *pci.Binding
	dev     *vfio.Device
	edu     *edu.Device
	log     *kernelLog
	pages   *mappedPages
	pool    *respool.Pool[page]
	revoked map[uint64]bool // pages whose mapping unmapPage took away
	memory  watch
}

// findEdu lists the machine's edu devices.
func findEdu(sysfs pci.Sysfs) ([]pci.Info, error) {
	all, err := sysfs.Scan()
	if err != nil {
		return nil, err
	}
	var edus []pci.Info
	for _, i := range all {
		if i.Vendor == edu.VendorID && i.Device == edu.DeviceID {
			edus = append(edus, i)
		}
	}
	return edus, nil
}

// eduAddress is the device that the user named, or the only one there is.
func eduAddress(named string) (pci.Address, error) {
	if named != "" {
		return pci.ParseAddress(named)
	}
	edus, err := findEdu(pci.Sysfs{})
	if err != nil {
		return pci.Address{}, err
	}
	switch len(edus) {
	case 0:
		return pci.Address{}, errors.New("this machine has no edu device (1234:11e8), the only one that the demo can drive; use --on vm, which has one")
	case 1:
		return edus[0].Address, nil
	default:
		return pci.Address{}, fmt.Errorf("this machine has %d edu devices; name one with --device %s", len(edus), edus[0].Address)
	}
}

// demoVFIO runs the demonstration through VFIO type 1 on this machine's kernel.
func demoVFIO(ctx context.Context, opts demoOptions, r *report) (err error) {
	r.DMA = "VFIO type 1, tables written by the kernel"
	s := &vfioStage{revoked: make(map[uint64]bool)}
	defer func() { err = errors.Join(err, s.close(r)) }()
	if err := s.open(ctx, opts, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r, beforeTransfer: opts.beforeTransfer}
	return demo.run(ctx)
}

func (s *vfioStage) open(ctx context.Context, opts demoOptions, r *report) error {
	addr, err := eduAddress(opts.device)
	if err != nil {
		return err
	}
	r.Device = addr.String()
	if _, err := (pci.Sysfs{}).GroupOf(addr); err != nil {
		return err
	}
	if r.Unit, err = kernelUnit("/sys", addr); err != nil {
		return err
	}
	if s.log, err = openKernelLog(); err != nil {
		return err
	}
	if s.binding, err = pci.Bind(addr, "vfio-pci"); err != nil {
		return err
	}
	if s.dev, err = vfio.Open(addr, vfio.Options{}); err != nil {
		return err
	}
	if s.edu, err = edu.Open(s.dev, edu.Options{DMAMask: opts.dmaMask}); err != nil {
		return err
	}
	if s.pages, err = newMappedPages(s.dev.Container()); err != nil {
		return err
	}
	s.memory.mem = s.pages.mem
	s.pool, err = respool.New(ctx, s.pages, respool.Options{Name: "mapped pages", Max: vfioPages})
	return err
}

// close gives everything back, newest first: the device is stopped before its
// mappings go.
func (s *vfioStage) close(r *report) error {
	var errs []error
	if s.edu != nil {
		errs = append(errs, s.edu.Close())
	}
	if s.pool != nil {
		r.Pool = reportPool("pages mapped ahead of time", s.pool.Stats())
		errs = append(errs, closePool(s.pool))
	}
	if s.pages != nil {
		errs = append(errs, s.pages.close())
	}
	if s.dev != nil {
		errs = append(errs, s.dev.Close())
	}
	if s.binding != nil {
		errs = append(errs, s.binding.Undo())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}

func (s *vfioStage) engine() engine    { return s.edu }
func (s *vfioStage) invalidates() bool { return false }
func (s *vfioStage) invalidate() error { return nil }
func (s *vfioStage) outside() uint64   { return vfioOutside }

func (s *vfioStage) mapPage() (page, error) { return s.pool.Get() }

// release gives a page back to the pool, whose pages are mapped.
func (s *vfioStage) release(p page) error {
	if s.revoked[p.iova] {
		if err := s.pages.mapPage(p); err != nil {
			return err
		}
		delete(s.revoked, p.iova)
	}
	return s.pool.Put(p)
}

func (s *vfioStage) unmapPage(p page) error {
	if err := s.pages.unmapPage(p); err != nil {
		return err
	}
	s.revoked[p.iova] = true
	return nil
}

func (s *vfioStage) fault(ctx context.Context, iova uint64) (*faultReport, error) {
	return s.log.fault(ctx, s.dev.Address(), iova)
}

// changed looks at all memory that is, or was, mapped for the device.
func (s *vfioStage) changed(except ...page) int {
	var spans []span
	for _, p := range except {
		spans = append(spans, span{p.iova - vfioIOVA, pageSize})
	}
	return s.memory.changed(spans...)
}

// kernelUnit is what Linux says of the unit that covers a function.
func kernelUnit(sysfs string, addr pci.Address) (unit, error) {
	dir := filepath.Join(sysfs, "bus/pci/devices", addr.String(), "iommu/intel-iommu")
	var u unit
	for _, f := range []struct {
		name string
		to   *string
	}{{"version", &u.Version}, {"cap", &u.Cap}, {"ecap", &u.Ecap}} {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return unit{}, fmt.Errorf("reading what the kernel says of the IOMMU of %s (is it a VT-d unit?): %w", addr, err)
		}
		v := strings.TrimPrefix(strings.TrimSpace(string(text)), "0x")
		if f.name == "version" {
			v = strings.ReplaceAll(v, ":", "") // Linux writes major:minor
		}
		*f.to = "0x" + v
	}
	return u, nil
}

// mappedPages is the source of a pool of pages that are mapped for a device.
type mappedPages struct {
	container *vfio.Container
	mem       []byte
	free      chan page
}

func newMappedPages(c *vfio.Container) (*mappedPages, error) {
	mem, err := unix.Mmap(-1, 0, vfioPages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("getting memory for DMA: %w", err)
	}
	m := &mappedPages{container: c, mem: mem, free: make(chan page, vfioPages)}
	for i := range uint64(vfioPages) {
		m.free <- page{iova: vfioIOVA + i*pageSize, mem: mem[i*pageSize:][:pageSize]}
	}
	return m, nil
}

// Alloc maps a page for the device. It sleeps in the kernel.
func (m *mappedPages) Alloc(context.Context) (page, error) {
	select {
	case p := <-m.free:
		if err := m.mapPage(p); err != nil {
			m.free <- p
			return page{}, err
		}
		return p, nil
	default:
		return page{}, errors.New("all pages are mapped")
	}
}

// Free unmaps a page.
func (m *mappedPages) Free(p page) error {
	if err := m.unmapPage(p); err != nil {
		return err
	}
	m.free <- p
	return nil
}

func (m *mappedPages) mapPage(p page) error {
	return m.container.MapDMA(p.iova, p.mem, vfio.DMARead|vfio.DMAWrite)
}

func (m *mappedPages) unmapPage(p page) error { return m.container.UnmapDMA(p.iova, pageSize) }

// close gives the memory back. A page that is still mapped for the device
// keeps its memory.
func (m *mappedPages) close() error {
	if n := vfioPages - len(m.free); n > 0 {
		return fmt.Errorf("%d pages are still mapped for the device", n)
	}
	return unix.Munmap(m.mem)
}

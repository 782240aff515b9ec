package vfio

import (
	"encoding/binary"
	"fmt"

	"gommu/pci"
)

// Region asks about a region: 0 to 5 are the BARs, 6 the expansion ROM, 7 configuration space.
func (d *Device) Region(i int) (RegionInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return RegionInfo{}, d.error("ask about region of", ErrClosed)
	}
	r, err := d.region(uint32(i))
	if err != nil {
		return RegionInfo{}, d.error("ask about region of", err)
	}
	return r, nil
}

// Regions asks for the number of regions.
func (d *Device) Regions() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, d.error("ask about", ErrClosed)
	}
	answer, err := query(d.sys, d.fd, ioctlDeviceGetInfo, bytesOf(&deviceInfo{}))
	if err != nil {
		return 0, d.error("ask about", err)
	}
	var info deviceInfo
	decode(&info, answer)
	return int(info.numRegions), nil
}

func (d *Device) region(i uint32) (RegionInfo, error) {
	answer, err := query(d.sys, d.fd, ioctlDeviceGetRegion, bytesOf(&regionInfo{index: i}))
	if err != nil {
		return RegionInfo{}, fmt.Errorf("asking about region %d: %w", i, err)
	}
	r, err := parseRegionInfo(answer)
	if err != nil {
		return RegionInfo{}, fmt.Errorf("region %d: %w", i, err)
	}
	return r, nil
}

// config is configuration space through the config region.
type config struct {
	d      *Device
	size   int
	offset int64
}

func (c *config) Size() int { return c.size }

func (c *config) Read(off, width int) (uint32, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return lockedConfig{c}.Read(off, width)
}

func (c *config) Write(off, width int, v uint32) error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return lockedConfig{c}.Write(off, width, v)
}

// lockedConfig is configuration space for who holds the device's lock.
type lockedConfig struct{ *config }

func (c lockedConfig) Read(off, width int) (uint32, error) {
	var b [4]byte
	if err := c.access("read config of", c.d.sys.pread, b[:], off, width); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

func (c lockedConfig) Write(off, width int, v uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return c.access("write config of", c.d.sys.pwrite, b[:], off, width)
}

func (c lockedConfig) access(op string, do func(int, []byte, int64) (int, error), b []byte, off, width int) error {
	if c.d.closed {
		return c.d.error(op, ErrClosed)
	}
	if err := pci.CheckAccess(c.size, off, width); err != nil {
		return c.d.error(op, err)
	}
	n, err := do(c.d.fd, b[:width], c.offset+int64(off))
	if err == nil && n != width {
		err = fmt.Errorf("%w: %d of %d bytes at %#x", ErrBadInfo, n, width, off)
	}
	if err != nil {
		return c.d.error(op, err)
	}
	return nil
}

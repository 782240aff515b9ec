package vfio

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

type fakeDevice struct {
	group   *fakeGroup
	open    bool
	flags   uint32
	regions map[int]*fakeRegion
	irqs    [3]int // how many of each kind
	vectors int    // how many the host gives
	enabled map[int][]int
	masked  map[int]bool
	resets  int
	gone    bool // reads as all ones
}

type fakeRegion struct {
	answer []byte // flags, index and so on, as GET_REGION_INFO gives them
	mem    []byte
	files  int // accesses through the file
}

// newFakeDevice has BAR 0 mappable, BAR 1 of I/O ports, BAR 2 with an MSI-X table in the middle and BAR 4 too small to
// be mapped.
func newFakeDevice(g *fakeGroup) *fakeDevice {
	d := &fakeDevice{group: g, flags: deviceFlagReset | deviceFlagPCI, regions: map[int]*fakeRegion{}, irqs: [3]int{1, 4, 3}, vectors: 2048, enabled: map[int][]int{}, masked: map[int]bool{}}
	add := func(i int, size uint64, flags uint32, caps ...[]byte) {
		cap := uint32(0)
		if caps != nil {
			flags, cap = flags|regionCaps, 32
		}
		r := &fakeRegion{mem: make([]byte, size+4096)}
		skew := int(4096 - uint64(addressOf(r.mem))%4096)
		r.mem = r.mem[skew%4096:][:size]
		r.answer = cat(words(0, flags, uint32(i), cap), w64(size, uint64(i)<<40), cat(caps...))
		d.regions[i] = r
	}
	for i := range 9 {
		add(i, 0, 0)
	}
	add(0, 1<<20, regionRead|regionWrite|regionMmap)
	add(1, 32, regionRead|regionWrite)
	add(2, 0x4000, regionRead|regionWrite|regionMmap, capHead(regionCapSparse, 1, 0), words(2, 0), w64(0, 0x1000, 0x2000, 0x2000))
	add(4, 64, regionRead|regionWrite)
	add(7, 256, regionRead|regionWrite)
	cfg := d.regions[7].mem
	copy(cfg, words(0x11e81234, 0x00100000, 0x00ff0010))
	copy(cfg[0x10:], words(0xfe000000, 0xc001, 0xfd000000))
	return d
}

func (k *fakeKernel) deviceCall(d *fakeDevice, req uintptr, arg []byte) (int, error) {
	switch req {
	case 0x3b6b:
		return reply(arg, words(0, d.flags, 9, 5, 0), 16, 16)
	case 0x3b6c:
		r := d.regions[int(ne.Uint32(arg[8:]))]
		if r == nil {
			return 0, syscall.EINVAL
		}
		return reply(arg, r.answer, 32, 12)
	case 0x3b6d:
		kind := ne.Uint32(arg[8:])
		if len(arg) != 16 || ne.Uint32(arg) != 16 || kind > 2 {
			return 0, syscall.EINVAL
		}
		flags := uint32(irqEventFD | irqNoResize)
		if kind == 0 {
			flags = irqEventFD | irqMaskable | irqAutomasked
		}
		copy(arg[4:], words(flags, kind, uint32(d.irqs[kind])))
		return 0, nil
	case 0x3b6e:
		return k.setIRQs(d, arg)
	}
	k.t.Errorf("ioctl %#x on a device", req)
	return 0, syscall.ENOTTY
}

func (k *fakeKernel) setIRQs(d *fakeDevice, arg []byte) (int, error) {
	flags, kind, start, count := ne.Uint32(arg[4:]), int(ne.Uint32(arg[8:])), int(ne.Uint32(arg[12:])), int(ne.Uint32(arg[16:]))
	if int(ne.Uint32(arg)) != len(arg) || kind > 2 || start+count > d.irqs[kind] {
		return 0, syscall.EINVAL
	}
	fds, on := d.enabled[kind]
	switch flags {
	case irqDataEventFD | irqActionTrigger:
		if len(arg) != 20+4*count || len(d.enabled) > 0 {
			k.t.Errorf("enabling %d interrupts with %d bytes", count, len(arg))
			return 0, syscall.EINVAL
		}
		if count > d.vectors {
			return d.vectors, nil
		}
		for i := range count {
			d.enabled[kind] = append(d.enabled[kind], int(int32(ne.Uint32(arg[20+4*i:]))))
		}
		return 0, nil
	case irqDataNone | irqActionTrigger:
		if count == 0 {
			if !on {
				return 0, syscall.EINVAL
			}
			delete(d.enabled, kind)
			return 0, nil
		}
		if !on || start >= len(fds) {
			return 0, syscall.EINVAL
		}
		return 0, d.signal(kind, start)
	case irqDataNone | irqActionUnmask, irqDataNone | irqActionMask:
		if kind != 0 || !on {
			return 0, syscall.EINVAL
		}
		d.masked[0] = flags&irqActionMask != 0
		return 0, nil
	}
	k.t.Errorf("SET_IRQS with flags %#x", flags)
	return 0, syscall.EINVAL
}

// signal delivers an interrupt; an INTx masks itself.
func (d *fakeDevice) signal(kind, i int) error {
	if kind == 0 {
		if d.masked[0] {
			return nil
		}
		d.masked[0] = true
	}
	_, err := unix.Write(d.enabled[kind][i], w64(1))
	return err
}

func (d *fakeDevice) isMasked(k *fakeKernel) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return d.masked[0]
}

// region finds what lies at an offset of a device's file.
func (k *fakeKernel) region(fd int, offset int64, n int) (*fakeDevice, *fakeRegion, int, error) {
	d, ok := k.files[fd].(*fakeDevice)
	if !ok {
		k.t.Errorf("access of file %d, which is no open device", fd)
		return nil, nil, 0, syscall.EBADF
	}
	r, at := d.regions[int(offset>>40)], int(offset&(1<<40-1))
	if r == nil || at+n > len(r.mem) {
		return nil, nil, 0, syscall.EINVAL
	}
	return d, r, at, nil
}

func (k *fakeKernel) pread(fd int, b []byte, offset int64) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return 0, err
	}
	d, r, at, err := k.region(fd, offset, len(b))
	if err != nil {
		return 0, err
	}
	r.files++
	copy(b, r.mem[at:])
	if d.gone {
		copy(b, bytes.Repeat([]byte{0xff}, len(b)))
	}
	return len(b), nil
}

func (k *fakeKernel) pwrite(fd int, b []byte, offset int64) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return 0, err
	}
	_, r, at, err := k.region(fd, offset, len(b))
	if err != nil {
		return 0, err
	}
	r.files++
	return copy(r.mem[at:], b), nil
}

func (k *fakeKernel) mmap(fd int, offset int64, length int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return nil, err
	}
	d, r, at, err := k.region(fd, offset, length)
	if err != nil {
		return nil, err
	}
	if d.regions[7].mem[4]&2 == 0 {
		k.t.Error("BAR mapped while the device does not decode memory")
	}
	if length == 0 || at%4096 != 0 || length%4096 != 0 || len(r.mem) == 0x4000 && at < 0x2000 && at+length > 0x1000 {
		k.t.Errorf("mmap of %#x+%#x, which is not mappable", at, length)
		return nil, syscall.EINVAL
	}
	mem := r.mem[at : at+length]
	k.maps[&mem[0]] = length
	return mem, nil
}

func (k *fakeKernel) munmap(mem []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.maps[&mem[0]] != len(mem) {
		k.t.Errorf("munmap of %d bytes that are not mapped", len(mem))
	}
	delete(k.maps, &mem[0])
	return k.call()
}

func (k *fakeKernel) eventfd() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return -1, err
	}
	return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
}

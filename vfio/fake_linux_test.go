package vfio

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A fakeKernel imitates VFIO type 1 v2 strictly: the order of calls, sizes of structures, what is mapped, the budget
// of entries, the limit of locked memory, regions and interrupts. It reads structures at the offsets of the
// uapi header, not through this package's. A call that the package should never make fails the test.
type fakeKernel struct {
	t  testing.TB
	mu sync.Mutex

	n      int // system calls so far
	failAt int // which one fails
	fail   syscall.Errno

	files map[int]any // *fakeContainer, *fakeGroup or *fakeDevice
	next  int
	maps  map[*byte]int // mapped areas: their length

	version, type1, unmapAll int
	openErr                  map[string]syscall.Errno
	groups                   map[int]*fakeGroup
	setIOMMU                 syscall.Errno
	entryLimit               int
	lockLimit, locked        uint64
	info                     []byte // what GET_INFO answers, nil for what a 48-bit VT-d does
	shortUnmap               bool   // unmaps tell half of what they did
	growing                  bool   // answers always want more room
}

type fakeContainer struct {
	groups []*fakeGroup
	iommu  bool
	mapped map[uint64]uint64 // iova: size
}

type fakeGroup struct {
	id        int
	open      bool
	viable    bool
	container *fakeContainer
	devices   map[string]*fakeDevice
}

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

func newKernel(t testing.TB) *fakeKernel {
	k := &fakeKernel{
		t: t, files: map[int]any{}, next: 1000, maps: map[*byte]int{}, type1: 1, unmapAll: 1,
		openErr: map[string]syscall.Errno{}, groups: map[int]*fakeGroup{}, entryLimit: 8, lockLimit: 1 << 20,
	}
	k.addGroup(3, "0000:00:03.0")
	k.addGroup(4, "0000:00:04.0")
	return k
}

func (k *fakeKernel) addGroup(id int, names ...string) {
	g := &fakeGroup{id: id, viable: true, devices: map[string]*fakeDevice{}}
	for _, n := range names {
		g.devices[n] = newFakeDevice(g)
	}
	k.groups[id] = g
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

// call counts a system call and says whether it fails.
func (k *fakeKernel) call() error {
	k.n++
	if k.n == k.failAt {
		return k.fail
	}
	return nil
}

func (k *fakeKernel) install(file any) int {
	k.next++
	k.files[k.next] = file
	return k.next
}

func (k *fakeKernel) open(name string) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.call()
	if e := k.openErr[path.Base(name)]; e != 0 {
		err = e
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	if name == "/dev/vfio/vfio" {
		return k.install(&fakeContainer{mapped: map[uint64]uint64{}}), nil
	}
	id, _ := strconv.Atoi(path.Base(name))
	g := k.groups[id]
	if g == nil || path.Dir(name) != "/dev/vfio" {
		return -1, &os.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	if g.open {
		return -1, &os.PathError{Op: "open", Path: name, Err: syscall.EBUSY}
	}
	g.open = true
	return k.install(g), nil
}

// close goes through even when it fails, as on Linux.
func (k *fakeKernel) close(fd int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch f := k.files[fd].(type) {
	case *fakeContainer:
		if len(f.groups) > 0 {
			k.t.Errorf("container closed with %d groups in it", len(f.groups))
		}
	case *fakeGroup:
		for name, d := range f.devices {
			if d.open {
				k.t.Errorf("group closed before its device %s", name)
			}
		}
		f.open = false
		f.detach()
	case *fakeDevice:
		if f.regions[7].mem[4]&4 != 0 && !f.gone && k.failAt == 0 {
			k.t.Error("device closed while it is bus master")
		}
		if len(f.enabled) > 0 && k.failAt == 0 {
			k.t.Error("device closed with interrupts enabled")
		}
		f.open, f.enabled = false, map[int][]int{}
	default:
		k.t.Errorf("close of file %d, which is not open", fd)
		return syscall.EBADF
	}
	delete(k.files, fd)
	return k.call()
}

func (g *fakeGroup) detach() {
	c := g.container
	if c == nil {
		return
	}
	g.container = nil
	for i, x := range c.groups {
		if x == g {
			c.groups = append(c.groups[:i], c.groups[i+1:]...)
			break
		}
	}
	if len(c.groups) == 0 {
		c.iommu, c.mapped = false, map[uint64]uint64{}
	}
}

func (k *fakeKernel) ioctl(fd int, req, arg uintptr) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return 0, err
	}
	switch f := k.files[fd].(type) {
	case *fakeContainer:
		switch req {
		case 0x3b64:
			return k.version, nil
		case 0x3b65:
			switch arg {
			case 3:
				return k.type1, nil
			case 9:
				return k.unmapAll, nil
			}
			return 0, nil
		case 0x3b66:
			if len(f.groups) == 0 || f.iommu || arg != 3 {
				k.t.Errorf("SET_IOMMU %d with %d groups, IOMMU on: %v", arg, len(f.groups), f.iommu)
				return 0, syscall.EINVAL
			}
			if k.setIOMMU != 0 {
				return 0, k.setIOMMU
			}
			f.iommu = true
			return 0, nil
		}
	case *fakeGroup:
		if req == 0x3b69 {
			if f.container == nil {
				return 0, syscall.EINVAL
			}
			f.detach()
			return 0, nil
		}
	case *fakeDevice:
		if req == 0x3b6f {
			if f.flags&deviceFlagReset == 0 {
				return 0, syscall.ENOTTY
			}
			f.resets++
			return 0, nil
		}
	}
	k.t.Errorf("ioctl %#x(%d) on %T", req, arg, k.files[fd])
	return 0, syscall.ENOTTY
}

func (k *fakeKernel) ioctlPtr(fd int, req uintptr, arg []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(); err != nil {
		return 0, err
	}
	if k.growing && req == 0x3b70 {
		ne.PutUint32(arg, uint32(len(arg)+8))
		return 0, nil
	}
	switch f := k.files[fd].(type) {
	case *fakeContainer:
		return k.containerCall(f, req, arg)
	case *fakeGroup:
		return k.groupCall(f, req, arg)
	case *fakeDevice:
		return k.deviceCall(f, req, arg)
	}
	k.t.Errorf("ioctl %#x on file %d, which is not open", req, fd)
	return 0, syscall.EBADF
}

// reply puts an answer of any length into arg as the kernel does: if it does not fit, argsz says what is needed and the
// capabilities are left out.
func reply(arg, answer []byte, fixed, capOffset int) (int, error) {
	if len(arg) < fixed || int(ne.Uint32(arg)) != len(arg) {
		return 0, syscall.EINVAL
	}
	full := bytes.Clone(answer)
	if len(answer) > len(arg) {
		ne.PutUint32(full[capOffset:], 0)
		full = full[:fixed]
	}
	copy(arg, full)
	ne.PutUint32(arg, uint32(len(answer)))
	return 0, nil
}

func (k *fakeKernel) containerCall(c *fakeContainer, req uintptr, arg []byte) (int, error) {
	if !c.iommu {
		k.t.Errorf("ioctl %#x before the IOMMU type is set", req)
		return 0, syscall.EINVAL
	}
	switch req {
	case 0x3b70:
		answer := k.info
		if answer == nil {
			answer = vtdAnswer()
			ne.PutUint32(answer[64:], uint32(k.entryLimit-len(c.mapped)))
		}
		return reply(arg, answer, 20, 16)
	case 0x3b71:
		return k.mapDMA(c, arg)
	case 0x3b72:
		return k.unmapDMA(c, arg)
	}
	k.t.Errorf("ioctl %#x on a container", req)
	return 0, syscall.ENOTTY
}

func (k *fakeKernel) mapDMA(c *fakeContainer, arg []byte) (int, error) {
	flags, vaddr, iova, size := ne.Uint32(arg[4:]), ne.Uint64(arg[8:]), ne.Uint64(arg[16:]), ne.Uint64(arg[24:])
	bad := len(arg) != 32 || ne.Uint32(arg) != 32 || flags == 0 || flags > 3 || size == 0 || (vaddr|iova|size)%4096 != 0 || iova+size-1 < iova
	if bad || iova+size > 1<<48 || iova < 0xfef00000 && iova+size > 0xfee00000 {
		k.t.Errorf("kernel asked to map %#x+%#x at %#x, flags %#x", iova, size, vaddr, flags)
		return 0, syscall.EINVAL
	}
	for i, s := range c.mapped {
		if iova < i+s && i < iova+size {
			return 0, syscall.EEXIST
		}
	}
	if len(c.mapped) >= k.entryLimit {
		return 0, syscall.ENOSPC
	}
	if k.locked+size > k.lockLimit {
		return 0, syscall.ENOMEM
	}
	k.locked += size
	c.mapped[iova] = size
	return 0, nil
}

func (k *fakeKernel) unmapDMA(c *fakeContainer, arg []byte) (int, error) {
	flags, iova, size := ne.Uint32(arg[4:]), ne.Uint64(arg[8:]), ne.Uint64(arg[16:])
	all := flags == dmaUnmapAll && iova == 0 && size == 0
	if len(arg) != 24 || ne.Uint32(arg) != 24 || !all && (flags != 0 || size == 0 || (iova|size)%4096 != 0 || iova+size-1 < iova) {
		k.t.Errorf("kernel asked to unmap %#x+%#x, flags %#x", iova, size, flags)
		return 0, syscall.EINVAL
	}
	last := iova + size - 1
	if all {
		last = 1<<64 - 1
	}
	var done uint64
	for i, s := range c.mapped {
		if !all && (i < iova && i+s > iova || i <= last && i+s-1 > last) {
			return 0, syscall.EINVAL
		}
	}
	for i, s := range c.mapped {
		if i >= iova && i <= last {
			delete(c.mapped, i)
			done += s
		}
	}
	k.locked -= done
	if k.shortUnmap {
		done /= 2
	}
	ne.PutUint64(arg[16:], done)
	return 0, nil
}

func (k *fakeKernel) groupCall(g *fakeGroup, req uintptr, arg []byte) (int, error) {
	switch req {
	case 0x3b67:
		if len(arg) != 8 || ne.Uint32(arg) != 8 {
			return 0, syscall.EINVAL
		}
		flags := uint32(0)
		if g.viable {
			flags |= 1
		}
		if g.container != nil {
			flags |= 2
		}
		ne.PutUint32(arg[4:], flags)
		return 0, nil
	case 0x3b68:
		c, ok := k.files[int(int32(ne.Uint32(arg)))].(*fakeContainer)
		switch {
		case len(arg) != 4 || !ok:
			return 0, syscall.EBADF
		case g.container != nil:
			return 0, syscall.EINVAL
		case !g.viable:
			return 0, syscall.EPERM
		}
		g.container = c
		c.groups = append(c.groups, g)
		return 0, nil
	case 0x3b6a:
		if g.container == nil || !g.container.iommu {
			k.t.Error("device asked for before its group is attached")
			return 0, syscall.EINVAL
		}
		end := bytes.IndexByte(arg, 0)
		if end < 0 {
			k.t.Error("device name without an end")
			return 0, syscall.EFAULT
		}
		d := g.devices[string(arg[:end])]
		if d == nil {
			return 0, syscall.ENODEV
		}
		d.open = true
		return k.install(d), nil
	}
	k.t.Errorf("ioctl %#x on a group", req)
	return 0, syscall.ENOTTY
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

func (k *fakeKernel) memlock() (limit, used uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lockLimit, k.locked, k.call()
}

// checkEmpty fails the test if the kernel still holds anything of this process.
func (k *fakeKernel) checkEmpty() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.files) != 0 || len(k.maps) != 0 {
		k.t.Errorf("%d files and %d mappings left: %s", len(k.files), len(k.maps), fmt.Sprint(k.files))
	}
	for _, g := range k.groups {
		for name, d := range g.devices {
			if len(d.enabled) > 0 {
				k.t.Errorf("interrupts of %s left enabled", name)
			}
		}
	}
}

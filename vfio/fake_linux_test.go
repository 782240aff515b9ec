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

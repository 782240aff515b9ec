//go:build amd64 || arm64

package trace

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// A function of the kernel's that is timed from its entry to its return.
type function struct {
	operation Operation
	name      string
	module    string // "" is the kernel itself
	need      string // what lets it exist
	size      string // the parameter that is the size
	bytes     bool   // it returns how many bytes it unmapped, not 0 or an errno

	// Of an ioctl: which, and where in what it points to the IOVA and the size are.
	command        uint32
	iovaAt, sizeAt uint32
}

// The ioctls and their structures are those of uapi/linux/vfio.h.
var timed = []function{
	{operation: KernelMap, name: "iommu_map", size: "size", need: "CONFIG_IOMMU_API=y"},
	{operation: KernelUnmap, name: "iommu_unmap", size: "size", bytes: true, need: "CONFIG_IOMMU_API=y"},
	{operation: KernelUnmapFast, name: "iommu_unmap_fast", size: "size", bytes: true, need: "CONFIG_IOMMU_API=y"},
	{operation: VFIOMap, name: vfioFunction, module: vfioModule, command: 0x3b71, iovaAt: 16, sizeAt: 24, need: vfioNeed},
	{operation: VFIOUnmap, name: vfioFunction, module: vfioModule, command: 0x3b72, iovaAt: 8, sizeAt: 16, need: vfioNeed},
}

const (
	vfioFunction = "vfio_iommu_type1_ioctl"
	vfioModule   = "vfio_iommu_type1"
	vfioNeed     = "load the module vfio_iommu_type1 before (CONFIG_VFIO_IOMMU_TYPE1)"
)

// functionHook times a function: its entry notes when, its return what came of it.
func (t *Tracer) functionHook(types *btf.Spec, intel *intel, f function) (hook, error) {
	h := hook{operation: f.operation, need: f.need}
	proto, err := functionOf(types, f.name)
	if err != nil {
		return h, err
	}
	h.programs = []*ebpf.ProgramSpec{
		t.entry(f).program(f.name, ebpf.AttachTraceFEntry),
		t.exit(f, proto, intel, types).program(f.name, ebpf.AttachTraceFExit),
	}
	return h, nil
}

// only jumps to the label if this is another ioctl.
func (b *builder) only(f function, skip string) {
	if f.command != 0 {
		b.argument(asm.R1, 1)
		b.add(asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 32), asm.JNE.Imm(asm.R1, int32(f.command), skip))
	}
}

// The key of a start says who, and in which function.
const (
	startKeySize = 16
	startKeyAt   = freeAt
	startAt      = freeAt + startKeySize
)

// startKey puts the key of this call on the stack.
func (b *builder) startKey() {
	b.add(asm.FnGetCurrentPidTgid.Call())
	b.store(startKeyAt, asm.R0)
	b.add(asm.Mov.Imm(asm.R1, int32(b.operation)))
	b.store(startKeyAt+8, asm.R1)
}

func (t *Tracer) entry(f function) *builder {
	b := &builder{t: t, operation: f.operation}
	skip := b.begin()
	b.only(f, skip)
	b.startKey()
	b.add(asm.FnKtimeGetNs.Call())
	b.store(startAt, asm.R0)
	b.add(asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, startAt), asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)))
	b.call(asm.FnMapUpdateElem, t.starts.FD(), startKeyAt)
	b.land(skip)
	b.end()
	return b
}

func (t *Tracer) exit(f function, proto *btf.FuncProto, intel *intel, types *btf.Spec) *builder {
	b := &builder{t: t, operation: f.operation}
	skip := b.begin()
	b.only(f, skip)
	b.elapsed(skip)
	b.functionSize(f, proto)
	b.functionResult(f, len(proto.Params))
	b.device(f, intel, types)
	b.count(nil)
	if b.unlessSlow(skip) {
		b.clear(noteAt, noteSize)
		if i, ok := parameters(proto, 0)["iova"]; ok {
			b.argument(asm.R1, i)
			b.store(noteIOVA, asm.R1)
		} else if f.command != 0 {
			b.argument(asm.R3, 2)
			b.readUser(noteIOVA, 8, f.iovaAt)
		}
		b.note(kernelStack)
	}
	b.land(skip)
	b.end()
	return b
}

// elapsed leaves in R8 how long the call took. If its start was not noted it counts that and jumps to the label.
func (b *builder) elapsed(skip string) {
	known := b.label()
	b.startKey()
	b.call(asm.FnMapLookupElem, b.t.starts.FD(), startKeyAt)
	b.add(asm.JNE.Imm(asm.R0, 0, known))
	b.lose(lostCalls)
	b.add(asm.Ja.Label(skip))
	b.land(known)
	b.add(asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord))
	b.call(asm.FnMapDeleteElem, b.t.starts.FD(), startKeyAt)
	b.add(asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R8, asm.R0), asm.Sub.Reg(asm.R8, asm.R7))
}

// functionSize leaves the size of a call in R9.
func (b *builder) functionSize(f function, proto *btf.FuncProto) {
	if f.command == 0 {
		b.argument(asm.R9, parameters(proto, 0)[f.size])
		return
	}
	// The call has read it, so its page is there. If it was not readable the call has failed, and the size is 0.
	b.argument(asm.R3, 2)
	b.readUser(word(0), 8, f.sizeAt)
	b.fetch(asm.R9, word(0))
}

// functionResult stores what a call returned as the result of the cell: an errno, 0 for none. What returns bytes fails with 0 of them.
func (b *builder) functionResult(f function, result int) {
	done := b.label()
	b.argument(asm.R1, result)
	if f.bytes {
		b.add(asm.Mov.Imm(asm.R2, 0), asm.JNE.Imm(asm.R1, 0, done), asm.Mov.Imm(asm.R2, int32(unix.EINVAL)))
	} else {
		b.add(
			asm.LSh.Imm(asm.R1, 32), asm.ArSh.Imm(asm.R1, 32), // an int, whatever is above it
			asm.Mov.Imm(asm.R2, 0), asm.JSGE.Imm(asm.R1, 0, done),
			asm.Sub.Reg(asm.R2, asm.R1),
		)
	}
	b.land(done)
	b.add(asm.StoreMem(asm.RFP, cellResult, asm.R2, asm.Half))
}

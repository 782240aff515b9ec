//go:build amd64 || arm64

package trace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
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

	// Of an ioctl: which, and where in what it points to the size is.
	command uint32
	sizeAt  int32
}

var timed = []function{
	{operation: KernelMap, name: "iommu_map", size: "size", need: "CONFIG_IOMMU_API=y"},
	{operation: KernelUnmap, name: "iommu_unmap", size: "size", bytes: true, need: "CONFIG_IOMMU_API=y"},
	{operation: KernelUnmapFast, name: "iommu_unmap_fast", size: "size", bytes: true, need: "CONFIG_IOMMU_API=y"},
	{operation: VFIOMap, name: vfioFunction, module: vfioModule, command: 0x3b71, sizeAt: 24, need: vfioNeed},
	{operation: VFIOUnmap, name: vfioFunction, module: vfioModule, command: 0x3b72, sizeAt: 16, need: vfioNeed},
}

const (
	vfioFunction = "vfio_iommu_type1_ioctl"
	vfioModule   = "vfio_iommu_type1"
	vfioNeed     = "load the module vfio_iommu_type1 before (CONFIG_VFIO_IOMMU_TYPE1)"
)

// A tracepoint of the kernel's.
type tracepoint struct {
	operation Operation
	name      string
	need      string
	iova      string // the parameter that is the IOVA, or ""
	size      string // the parameter that is the size, or ""
	pages     bool   // that is in pages
	always    bool   // each is an event
}

var tracepoints = []tracepoint{
	{operation: EventMap, name: "map", iova: "iova", size: "size", need: iommuNeed},
	{operation: EventUnmap, name: "unmap", iova: "iova", size: "size", need: iommuNeed},
	{operation: EventFault, name: "io_page_fault", iova: "iova", always: true, need: iommuNeed},
	{operation: EventSubmit, name: "qi_submit", need: intelNeed},
	{operation: EventFlushAll, name: "cache_tag_flush_all", need: tagsNeed},
	{operation: EventFlushRange, name: "cache_tag_flush_range", size: "pages", pages: true, need: tagsNeed},
	{operation: EventFlushAbsent, name: "cache_tag_flush_range_np", size: "pages", pages: true, need: tagsNeed},
}

const (
	iommuNeed = "CONFIG_IOMMU_API=y and CONFIG_TRACEPOINTS=y"
	intelNeed = "CONFIG_INTEL_IOMMU=y and CONFIG_TRACEPOINTS=y"
	tagsNeed  = intelNeed + ", Linux 6.10"
)

// attachKernel attaches to what there is and notes what there is not. It fails only if nothing could work.
func (t *Tracer) attachKernel() error {
	if err := typesKnown(btfPath); err != nil {
		return err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return explained(err, "CONFIG_DEBUG_INFO_BTF=y")
	}
	t.starts, err = ebpf.NewMap(&ebpf.MapSpec{Name: "gommu_starts", Type: ebpf.Hash, KeySize: startKeySize, ValueSize: 8, MaxEntries: 16384})
	if err != nil {
		return explained(err, "Linux 4.6")
	}
	t.closers = append(t.closers, t.starts)
	for _, p := range tracepoints {
		if err := t.kernelCall(p.operation, p.need, t.attachTracepoint(kernel, p)); err != nil {
			return err
		}
	}
	for _, f := range timed {
		if err := t.kernelCall(f.operation, f.need, t.attachFunction(kernel, f)); err != nil {
			return err
		}
	}
	return nil
}

// kernelCall sorts errors: what the kernel lacks is noted, without rights there is no use in going on.
func (t *Tracer) kernelCall(o Operation, need string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errAbsent):
		t.missing = append(t.missing, Missing{o.String(), "this kernel has none: " + need})
		return nil
	case errors.Is(err, ErrPermission) && unix.Geteuid() != 0:
		return err
	}
	why := err.Error()
	if errno := unix.Errno(0); o < EventMap && errors.As(err, &errno) {
		why = fmt.Sprintf("this kernel refuses it, %v: it takes CONFIG_FUNCTION_TRACER=y and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y", errno)
		if rejected := (*ebpf.VerifierError)(nil); errors.As(err, &rejected) {
			why = fmt.Sprintf("this kernel refuses the program: %v", rejected)
		}
	}
	t.missing = append(t.missing, Missing{o.String(), why})
	return nil
}

var errAbsent = errors.New("absent")

// parameters is where the parameters of a function are, by their names.
func parameters(p *btf.FuncProto, skip int) map[string]int {
	at := map[string]int{}
	for i, q := range p.Params[skip:] {
		at[q.Name] = i
	}
	return at
}

// namesOf is where the parameters of a tracepoint are. The type of its functions has no names; those of
// the function that calls them do, on kernels that show it.
func namesOf(kernel *btf.Spec, name string, proto *btf.FuncProto) map[string]int {
	var fn *btf.Func
	for _, with := range []string{"__probestub_", "__bpf_trace_", "trace_event_raw_event_", "perf_trace_"} {
		if kernel.TypeByName(with+name, &fn) != nil {
			continue
		}
		if p, ok := fn.Type.(*btf.FuncProto); ok && len(p.Params) == len(proto.Params) {
			return parameters(p, 1) // the first is what who attached gave with his function
		}
	}
	return nil
}

// attachTracepoint attaches to an event. That needs no tracefs, which may not be mounted.
func (t *Tracer) attachTracepoint(kernel *btf.Spec, p tracepoint) error {
	var typ *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+p.name, &typ); err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	pointer, ok := typ.Type.(*btf.Pointer)
	if !ok {
		return errAbsent
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok {
		return errAbsent
	}
	at := namesOf(kernel, p.name, proto)
	b := &builder{}
	skip := b.begin(t)
	b.add(asm.Mov.Imm(asm.R9, 0))
	if i, ok := at[p.size]; ok && p.size != "" {
		b.add(asm.LoadMem(asm.R9, asm.R6, int16(8*i), asm.DWord))
		if p.pages {
			b.add(asm.LSh.Imm(asm.R9, 12))
		}
	}
	b.count(t, p.operation, false, p.size != "")
	if p.always {
		b.clear(noteAt, noteSize)
		b.add(asm.Mov.Imm(asm.R8, 0), asm.LoadImm(asm.R1, -1, asm.DWord), asm.StoreMem(asm.RFP, noteAt+24, asm.R1, asm.DWord))
		if i, ok := at[p.iova]; ok {
			b.add(asm.LoadMem(asm.R1, asm.R6, int16(8*i), asm.DWord), asm.StoreMem(asm.RFP, noteAt+32, asm.R1, asm.DWord))
		}
		b.note(t, 0)
	}
	b.land(skip)
	b.end()
	return t.attachTracing(b, p.name, ebpf.AttachTraceRawTp)
}

// begin is the start of each program for the kernel: the cell is cleared, and calls for other processes jump to the label.
func (b *builder) begin(t *Tracer) (skip string) {
	skip = b.label()
	b.add(asm.Mov.Reg(asm.R6, asm.R1))
	if t.opts.PID != 0 {
		b.add(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.JNE.Imm(asm.R0, int32(t.opts.PID), skip))
	}
	b.clear(cellAt, cellSize)
	b.add(asm.LoadImm(asm.R1, -1, asm.DWord), asm.StoreMem(asm.RFP, cellAt+16, asm.R1, asm.DWord)) // Several
	return skip
}

// The key of a start: who, and in which function.
const (
	startKeySize = 16
	startKeyAt   = noteAt - 8 - startKeySize - 8
	startAt      = startKeyAt + startKeySize // 8 bytes
)

// startKey puts the key of this call on the stack.
func (b *builder) startKey(o Operation) {
	b.add(
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, startKeyAt, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, int32(o)),
		asm.StoreMem(asm.RFP, startKeyAt+8, asm.R1, asm.DWord),
	)
}

// attachFunction times a function: its entry notes when, its return what came of it.
func (t *Tracer) attachFunction(kernel *btf.Spec, f function) error {
	spec := kernel
	if f.module != "" {
		var err error
		if spec, err = btf.LoadKernelModuleSpec(f.module); err != nil {
			spec = kernel // built in, or there is none
		}
	}
	var fn *btf.Func
	if err := spec.TypeByName(f.name, &fn); err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return errAbsent
	}
	if err := t.attachTracing(t.entry(f), f.name, ebpf.AttachTraceFEntry); err != nil {
		return err
	}
	n := len(t.closers)
	if err := t.attachTracing(t.exit(f, proto), f.name, ebpf.AttachTraceFExit); err != nil {
		return err
	}
	for _, c := range t.closers[n:] {
		if p, ok := c.(*ebpf.Program); ok {
			t.exits = append(t.exits, p)
		}
	}
	return nil
}

// only jumps to the label if this is another ioctl.
func (b *builder) only(f function, skip string) {
	if f.command != 0 {
		b.add(asm.LoadMem(asm.R1, asm.R6, 8, asm.DWord), asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 32), asm.JNE.Imm(asm.R1, int32(f.command), skip))
	}
}

func (t *Tracer) entry(f function) *builder {
	b := &builder{}
	skip := b.begin(t)
	b.only(f, skip)
	b.startKey(f.operation)
	b.add(
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.RFP, startAt, asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, startAt), asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)),
	)
	b.call(asm.FnMapUpdateElem, t.starts.FD(), startKeyAt)
	b.land(skip)
	b.end()
	return b
}

func (t *Tracer) exit(f function, proto *btf.FuncProto) *builder {
	b := &builder{}
	skip, known := b.label(), b.label()
	other := b.begin(t)
	b.only(f, skip)
	b.startKey(f.operation)
	b.call(asm.FnMapLookupElem, t.starts.FD(), startKeyAt)
	b.add(asm.JNE.Imm(asm.R0, 0, known))
	b.lose(t, lostCalls)
	b.add(asm.Ja.Label(skip))
	b.land(known)
	b.add(asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord))
	b.call(asm.FnMapDeleteElem, t.starts.FD(), startKeyAt)
	b.add(asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R8, asm.R0), asm.Sub.Reg(asm.R8, asm.R7))
	b.functionSize(f, proto)
	b.functionResult(f, int16(8*len(proto.Params)))
	b.count(t, f.operation, true, true)
	if slow := t.opts.SlowerThan.Nanoseconds(); slow > 0 {
		b.add(asm.LoadImm(asm.R1, slow, asm.DWord), asm.JLT.Reg(asm.R8, asm.R1, skip))
		b.clear(noteAt, noteSize)
		b.add(asm.LoadImm(asm.R1, -1, asm.DWord), asm.StoreMem(asm.RFP, noteAt+24, asm.R1, asm.DWord))
		if i, ok := parameters(proto, 0)["iova"]; ok {
			b.add(asm.LoadMem(asm.R1, asm.R6, int16(8*i), asm.DWord), asm.StoreMem(asm.RFP, noteAt+32, asm.R1, asm.DWord))
		}
		b.note(t, 0)
	}
	b.land(skip)
	b.land(other)
	b.end()
	return b
}

// functionSize leaves the size of a call in R9.
func (b *builder) functionSize(f function, proto *btf.FuncProto) {
	if f.command == 0 {
		b.add(asm.LoadMem(asm.R9, asm.R6, int16(8*parameters(proto, 0)[f.size]), asm.DWord))
		return
	}
	// The call has read it, so its page is there. If it was not readable the call has failed, and the size is 0.
	b.clear(startAt, 8)
	b.add(
		asm.LoadMem(asm.R3, asm.R6, 16, asm.DWord),
		asm.Add.Imm(asm.R3, f.sizeAt),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, startAt),
		asm.Mov.Imm(asm.R2, 8),
		asm.FnProbeReadUser.Call(),
		asm.LoadMem(asm.R9, asm.RFP, startAt, asm.DWord),
	)
}

// functionResult stores what a call returned as the result of the cell: an errno, 0 for none. What returns bytes fails with 0 of them.
func (b *builder) functionResult(f function, at int16) {
	done := b.label()
	b.add(asm.LoadMem(asm.R1, asm.R6, at, asm.DWord))
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
	b.add(asm.StoreMem(asm.RFP, cellAt+2, asm.R2, asm.Half))
}

func (t *Tracer) attachTracing(b *builder, to string, how ebpf.AttachType) error {
	p, err := t.newProgram(&ebpf.ProgramSpec{Name: "gommu_kernel", Type: ebpf.Tracing, AttachType: how, AttachTo: to, Instructions: b.Instructions, License: "GPL"})
	if err != nil {
		return err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return err
	}
	t.links = append(t.links, l)
	return nil
}

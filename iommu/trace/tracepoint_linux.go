//go:build amd64 || arm64

package trace

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A tracepoint of the kernel's. Parameters have the same names in all kernels; how many there are, and where, differs.
type tracepoint struct {
	operation Operation
	name      string
	need      string
	iova      string // the parameter that is the IOVA, or ""
	size      string // the parameter that is the size, or ""
	last      string // the parameter that is the last address, from size on, or ""
	always    bool   // each is an event
}

var tracepoints = []tracepoint{
	{operation: EventMap, name: "map", iova: "iova", size: "size", need: iommuNeed},
	{operation: EventUnmap, name: "unmap", iova: "iova", size: "size", need: iommuNeed},
	{operation: EventFault, name: "io_page_fault", iova: "iova", always: true, need: iommuNeed},
	{operation: EventSubmit, name: "qi_submit", need: traceNeed},
	{operation: EventFlushAll, name: "cache_tag_flush_all", need: tagsNeed + ", before 7.2, where it is a cache_tag_flush_range"},
	{operation: EventFlushRange, name: "cache_tag_flush_range", size: "start", last: "end", need: tagsNeed},
	{operation: EventFlushAbsent, name: "cache_tag_flush_range_np", size: "start", last: "end", need: tagsNeed},
}

// tracepointHook attaches to an event. That needs no tracefs, which may not be mounted.
func (t *Tracer) tracepointHook(kernel *btf.Spec, p tracepoint) (hook, error) {
	h := hook{operation: p.operation, need: p.need}
	proto, err := tracepointOf(kernel, p.name)
	if err != nil {
		return h, err
	}
	at := namesOf(kernel, p.name, proto)
	b := &builder{t: t, operation: p.operation}
	skip := b.begin()
	b.eventSize(at, p)
	b.count(nil)
	if p.always {
		b.clear(noteAt, noteSize)
		b.add(asm.Mov.Imm(asm.R8, 0))
		if i, ok := at[p.iova]; ok {
			b.argument(asm.R1, i)
			b.store(noteIOVA, asm.R1)
		}
		b.note(kernelStack)
	}
	b.land(skip)
	b.end()
	h.programs = []*ebpf.ProgramSpec{b.program(p.name, ebpf.AttachTraceRawTp)}
	return h, nil
}

// tracepointOf is the type of the functions that may be attached to an event.
func tracepointOf(kernel *btf.Spec, name string) (*btf.FuncProto, error) {
	var typ *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &typ); err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	if pointer, ok := typ.Type.(*btf.Pointer); ok {
		if proto, ok := pointer.Target.(*btf.FuncProto); ok {
			return proto, nil
		}
	}
	return nil, errAbsent
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

// eventSize leaves the size of an event in R9, 0 if it has none.
func (b *builder) eventSize(at map[string]int, p tracepoint) {
	i, ok := at[p.size]
	if !ok {
		b.add(asm.Mov.Imm(asm.R9, 0))
		return
	}
	b.argument(asm.R9, i)
	if j, ok := at[p.last]; ok {
		b.argument(asm.R1, j)
		b.add(asm.Sub.Reg(asm.R1, asm.R9), asm.Add.Imm(asm.R1, 1), asm.Mov.Reg(asm.R9, asm.R1))
	}
}

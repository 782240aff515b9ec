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
	intel, err := intelTypes(kernel)
	if err != nil {
		t.missing = append(t.missing, Missing{"devices of the kernel's calls", err.Error()})
	}
	for _, f := range timed {
		if err := t.kernelCall(f.operation, f.need, t.attachFunction(kernel, intel, f)); err != nil {
			return err
		}
	}
	return t.kernelCall(KernelFault, intelNeed, t.attachFaults(kernel))
}

const (
	iommuNeed = "CONFIG_IOMMU_API=y and CONFIG_TRACEPOINTS=y"
	intelNeed = "CONFIG_INTEL_IOMMU=y"
	traceNeed = intelNeed + " and CONFIG_TRACEPOINTS=y"
	tagsNeed  = traceNeed + ", Linux 6.10"
)

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

// begin is the start of each program for the kernel's calls: the cell is cleared, and calls for other processes jump to the label.
func (b *builder) begin() (skip string) {
	skip = b.label()
	b.add(asm.Mov.Reg(asm.R6, asm.R1))
	if pid := b.t.opts.PID; pid != 0 {
		b.add(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.JNE.Imm(asm.R0, int32(pid), skip))
	}
	b.clearCell()
	return skip
}

// clearCell clears the cell; its source is Several.
func (b *builder) clearCell() {
	b.clear(cellAt, cellSize)
	b.add(asm.LoadImm(asm.R1, -1, asm.DWord))
	b.store(cellSource, asm.R1)
}

// functionOf finds a function of the kernel's, or of a module of that name.
func functionOf(kernel *btf.Spec, name, module string) (*btf.Spec, *btf.FuncProto, error) {
	spec := kernel
	if module != "" {
		if s, err := btf.LoadKernelModuleSpec(module); err == nil {
			spec = s
		} // else it is built in, or there is none
	}
	var fn *btf.Func
	if err := spec.TypeByName(name, &fn); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return nil, nil, errAbsent
	}
	return spec, proto, nil
}

// parameters is where the parameters of a function are, by their names.
func parameters(p *btf.FuncProto, skip int) map[string]int {
	at := map[string]int{}
	for i, q := range p.Params[skip:] {
		at[q.Name] = i
	}
	return at
}

func (t *Tracer) attachTracing(b *builder, to string, how ebpf.AttachType) (*ebpf.Program, error) {
	p, err := t.newProgram(&ebpf.ProgramSpec{Name: "gommu_kernel", Type: ebpf.Tracing, AttachType: how, AttachTo: to, Instructions: b.Instructions, License: "GPL"})
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return nil, err
	}
	t.links = append(t.links, l)
	return p, nil
}

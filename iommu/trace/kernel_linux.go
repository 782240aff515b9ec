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

// A hook is what is attached for an operation of the kernel's.
type hook struct {
	operation Operation
	need      string              // what lets the kernel have it
	programs  []*ebpf.ProgramSpec // in the order of attaching
}

// attachKernel attaches to what there is and notes what there is not. It fails only if nothing could work.
func (t *Tracer) attachKernel() error {
	if err := typesKnown(btfPath); err != nil {
		return err
	}
	cache := btf.NewCache() // reading the kernel's types takes longer than all the rest
	kernel, err := cache.Kernel()
	if err != nil {
		return explained(err, "CONFIG_DEBUG_INFO_BTF=y")
	}
	t.starts, err = ebpf.NewMap(&ebpf.MapSpec{Name: "gommu_starts", Type: ebpf.Hash, KeySize: startKeySize, ValueSize: 8, MaxEntries: 16384})
	if err != nil {
		return explained(err, "Linux 4.6")
	}
	t.closers = append(t.closers, t.starts)
	hooks, err := t.hooks(kernel, cache)
	if err != nil {
		return err
	}
	programs := t.loadAll(hooks)
	for i, h := range hooks {
		if err := t.kernelCall(h.operation, h.need, t.attach(h, programs[i])); err != nil {
			return err
		}
	}
	return nil
}

// hooks are those that the kernel can have.
func (t *Tracer) hooks(kernel *btf.Spec, cache *btf.Cache) (hooks []hook, err error) {
	note := func(h hook, e error) {
		if e == nil {
			hooks = append(hooks, h)
		} else {
			err = errors.Join(err, t.kernelCall(h.operation, h.need, e))
		}
	}
	for _, p := range tracepoints {
		note(t.tracepointHook(kernel, p))
	}
	intel, e := intelTypes(kernel)
	if e != nil {
		t.missing = append(t.missing, Missing{"devices of the kernel's calls", e.Error()})
	}
	for _, f := range timed {
		types := kernel
		if f.module != "" {
			if m, err := cache.Module(f.module); err == nil {
				types = m
			} // else it is built in, or there is none
		}
		note(t.functionHook(types, intel, f))
	}
	note(t.faultHook(kernel))
	return hooks, err
}

// loadAll loads the programs of all hooks at once, so that the kernel's types are read for all of them only once. If that fails there
// are none.
func (t *Tracer) loadAll(hooks []hook) [][]*ebpf.Program {
	programs := make([][]*ebpf.Program, len(hooks))
	all := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{}}
	name := func(i, k int) string { return fmt.Sprintf("%d.%d", i, k) }
	for i, h := range hooks {
		for k, p := range h.programs {
			all.Programs[name(i, k)] = p
		}
	}
	c, err := ebpf.NewCollection(all)
	if err != nil {
		return programs
	}
	for i, h := range hooks {
		for k := range h.programs {
			p := c.Programs[name(i, k)]
			programs[i] = append(programs[i], p)
			t.closers = append(t.closers, p)
		}
	}
	return programs
}

// attach attaches the programs of a hook. If they were not loaded with all the others, it loads them alone: then it is known which the kernel
// does not take.
func (t *Tracer) attach(h hook, programs []*ebpf.Program) error {
	for i, spec := range h.programs {
		var p *ebpf.Program
		if len(programs) > 0 {
			p = programs[i]
		} else {
			var err error
			if p, err = t.newProgram(spec); err != nil {
				return err
			}
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return err
		}
		t.links = append(t.links, l)
		if spec.AttachType == ebpf.AttachTraceFExit {
			t.exits = append(t.exits, p)
		}
	}
	return nil
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

// functionOf finds a function.
func functionOf(types *btf.Spec, name string) (*btf.FuncProto, error) {
	var fn *btf.Func
	if err := types.TypeByName(name, &fn); err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return nil, errAbsent
	}
	return proto, nil
}

// parameters is where the parameters of a function are, by their names.
func parameters(p *btf.FuncProto, skip int) map[string]int {
	at := map[string]int{}
	for i, q := range p.Params[skip:] {
		at[q.Name] = i
	}
	return at
}

// program is what the builder has written, to be attached to a function or an event of the kernel's.
func (b *builder) program(to string, how ebpf.AttachType) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Name: "gommu_kernel", Type: ebpf.Tracing, AttachType: how, AttachTo: to, Instructions: b.Instructions, License: "GPL"}
}

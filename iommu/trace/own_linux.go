//go:build amd64 || arm64

package trace

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"gommu/internal/probe"
)

// arguments says which argument of a probe's function is what, from 0.
type arguments struct {
	operation            Operation
	domain, source, iova int
	size, items          int
	result, ns           int
	extra                int  // for an event
	always               bool // each call is an event
}

const none = -1

var own = map[probe.Point]arguments{
	probe.Map:        {operation: Map, domain: 0, source: 1, iova: 2, size: 3, items: none, result: 5, ns: 6, extra: 4},
	probe.Unmap:      {operation: Unmap, domain: 0, source: 1, iova: 2, size: 3, items: none, result: 5, ns: 6, extra: 4},
	probe.Flush:      {operation: Flush, domain: 0, source: 1, iova: none, size: 3, items: 2, result: 4, ns: 5, extra: 2},
	probe.PoolGrow:   {operation: PoolGrow, domain: none, source: 0, iova: none, size: none, items: 1, result: none, ns: 3, extra: 1},
	probe.PoolShrink: {operation: PoolShrink, domain: none, source: 0, iova: none, size: none, items: 1, result: none, ns: 3, extra: 1},
	probe.PoolEmpty:  {operation: PoolEmpty, domain: none, source: 0, iova: none, size: none, items: 1, result: none, ns: none, extra: none},
	probe.Fault:      {operation: Fault, domain: 0, source: 1, iova: 2, size: 5, items: none, result: 4, ns: none, extra: 3, always: true},
}

// load puts an argument of a probe into a register, or 0.
func (b *builder) load(to asm.Register, argument int) {
	if argument == none {
		b.add(asm.Mov.Imm(to, 0))
		return
	}
	b.add(asm.LoadMem(to, asm.R6, argumentAt[argument], asm.DWord))
}

// ownProgram is the program for a probe: it adds the call to its tally, and makes an event of it if it is one that
// shall be told by itself.
func (t *Tracer) ownProgram(a arguments) (*ebpf.Program, error) {
	b := &builder{t: t, operation: a.operation}
	b.add(asm.Mov.Reg(asm.R6, asm.R1))
	b.clear(cellAt, cellSize)
	b.load(asm.R1, a.source)
	b.store(cellSource, asm.R1)
	b.load(asm.R1, a.result)
	b.add(asm.StoreMem(asm.RFP, cellResult, asm.R1, asm.Half))
	b.load(asm.R9, a.size)
	b.load(asm.R8, a.ns)
	b.count(func(to asm.Register) { b.load(to, a.items) })
	skip := b.label()
	if a.always || b.unlessSlow(skip) {
		b.ownNote(a)
	}
	b.land(skip)
	b.end()
	return t.newProgram(&ebpf.ProgramSpec{Name: "gommu_own", Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, Instructions: b.Instructions, License: "GPL"})
}

// ownNote makes an event of the call.
func (b *builder) ownNote(a arguments) {
	b.clear(noteAt, noteSize)
	for _, f := range []struct {
		at       int16
		argument int
	}{{noteIOVA, a.iova}, {noteDomain, a.domain}, {noteExtra, a.extra}} {
		b.load(asm.R1, f.argument)
		b.store(f.at, asm.R1)
	}
	// The function has no frame yet, so the kernel's unwinder starts at its caller's caller.
	b.add(asm.LoadMem(asm.R3, asm.R6, callerAt, asm.DWord))
	if returnOnStack {
		b.readUser(noteCaller, 8, 0)
	} else {
		b.store(noteCaller, asm.R3)
	}
	b.note(userStack)
}

// idleProgram does nothing: it is for what is attached to only to be counted.
func (t *Tracer) idleProgram() (*ebpf.Program, error) {
	b := &builder{t: t}
	b.end()
	return t.newProgram(&ebpf.ProgramSpec{Name: "gommu_idle", Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, Instructions: b.Instructions, License: "GPL"})
}

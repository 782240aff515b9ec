//go:build amd64 || arm64

package trace

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"gommu/internal/probe"
)

// arguments says which argument of a probe's function is what, from 0; -1 is none.
type arguments struct {
	operation    Operation
	result       int
	source, size int
	ns           int
	domain, iova int
	also         int  // goes into an event where ns is missing
	always       bool // each call is an event
}

var own = map[probe.Point]arguments{
	probe.Map:        {operation: Map, domain: 0, source: 1, iova: 2, size: 3, result: 5, ns: 6, also: -1},
	probe.Unmap:      {operation: Unmap, domain: 0, source: 1, iova: 2, size: 3, result: 5, ns: 6, also: -1},
	probe.Flush:      {operation: Flush, domain: 0, source: 1, iova: -1, size: 3, result: 4, ns: 5, also: -1},
	probe.PoolGrow:   {operation: PoolGrow, domain: -1, source: 0, iova: -1, size: 1, result: -1, ns: 3, also: -1},
	probe.PoolShrink: {operation: PoolShrink, domain: -1, source: 0, iova: -1, size: 1, result: -1, ns: 3, also: -1},
	probe.PoolEmpty:  {operation: PoolEmpty, domain: -1, source: 0, iova: -1, size: 1, result: -1, ns: -1, also: -1},
	probe.Fault:      {operation: Fault, domain: 0, source: 1, iova: 2, size: 5, result: 4, ns: -1, also: 3, always: true},
}

// load puts an argument into a register, or 0.
func (b *builder) load(to asm.Register, argument int) {
	if argument < 0 {
		b.add(asm.Mov.Imm(to, 0))
		return
	}
	b.add(asm.LoadMem(to, asm.R6, argumentAt[argument], asm.DWord))
}

// ownProgram is the program for a probe: it adds the call to its tally, and makes an event of it if it is one that
// shall be told by itself.
func (t *Tracer) ownProgram(a arguments) (*ebpf.Program, error) {
	b := &builder{}
	b.add(asm.Mov.Reg(asm.R6, asm.R1))
	b.clear(cellAt, cellSize)
	b.load(asm.R1, a.source)
	b.add(asm.StoreMem(asm.RFP, cellAt+16, asm.R1, asm.DWord))
	b.load(asm.R1, a.result)
	b.add(asm.StoreMem(asm.RFP, cellAt+2, asm.R1, asm.Half))
	b.load(asm.R9, a.size)
	b.load(asm.R8, a.ns)
	b.count(t, a.operation, a.ns >= 0, a.operation != Fault)
	slow := t.opts.SlowerThan.Nanoseconds()
	switch {
	case a.always:
		b.ownNote(t, a)
	case a.ns >= 0 && slow > 0:
		skip := b.label()
		b.add(asm.LoadImm(asm.R1, slow, asm.DWord), asm.JLT.Reg(asm.R8, asm.R1, skip))
		b.ownNote(t, a)
		b.land(skip)
	}
	b.end()
	return t.newProgram(&ebpf.ProgramSpec{Name: "gommu_own", Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, Instructions: b.Instructions, License: "GPL"})
}

// count adds the call to the tally of its cell, of which the caller has stored the source and the result. R9 is the size, which
// makes the class if sized, R8 the duration if timed.
func (b *builder) count(t *Tracer, o Operation, timed, sized bool) {
	b.add(
		asm.Mov.Imm(asm.R1, int32(o)),
		asm.StoreMem(asm.RFP, cellAt, asm.R1, asm.Half),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, cellAt+8, asm.R0, asm.Word),
	)
	if sized {
		b.add(asm.Mov.Reg(asm.R1, asm.R9))
		b.log2(asm.R2, asm.R1, asm.R3)
		b.add(asm.StoreMem(asm.RFP, cellAt+4, asm.R2, asm.Word))
	}
	found, done := b.label(), b.label()
	b.find(t, found, done)
	b.land(found)
	b.add(asm.Mov.Reg(asm.R7, asm.R0), asm.Mov.Imm(asm.R1, 1))
	b.increase(asm.R7, 0, asm.R1)
	if sized {
		b.increase(asm.R7, 16, asm.R9)
	}
	if timed {
		b.increase(asm.R7, 8, asm.R8)
		inside := b.label()
		b.add(asm.Mov.Reg(asm.R1, asm.R8))
		b.log2(asm.R2, asm.R1, asm.R3)
		b.add(asm.JLT.Imm(asm.R2, Slots, inside), asm.Mov.Imm(asm.R2, Slots-1))
		b.land(inside)
		b.add(asm.LSh.Imm(asm.R2, 3), asm.Add.Reg(asm.R7, asm.R2), asm.Mov.Imm(asm.R1, 1))
		b.increase(asm.R7, 24, asm.R1)
	}
	b.land(done)
}

// find leaves the tally of the cell in R0 and jumps to found; where there is none, and no room, it counts
// that and jumps to done.
func (b *builder) find(t *Tracer, found, done string) {
	b.call(asm.FnMapLookupElem, t.cells.FD(), cellAt)
	b.add(asm.JNE.Imm(asm.R0, 0, found))
	b.clear(tallyAt, tallySize)
	b.add(asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, tallyAt), asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)))
	b.call(asm.FnMapUpdateElem, t.cells.FD(), cellAt)
	b.call(asm.FnMapLookupElem, t.cells.FD(), cellAt) // another processor may have been first
	b.add(asm.JNE.Imm(asm.R0, 0, found))
	b.lose(t, lostCells)
	b.add(asm.Ja.Label(done))
}

// lose counts a loss.
func (b *builder) lose(t *Tracer, what int32) {
	none := b.label()
	b.add(asm.Mov.Imm(asm.R1, what), asm.StoreMem(asm.RFP, noteAt-8, asm.R1, asm.Word))
	b.call(asm.FnMapLookupElem, t.lost.FD(), noteAt-8)
	b.add(asm.JEq.Imm(asm.R0, 0, none), asm.Mov.Imm(asm.R1, 1))
	b.increase(asm.R0, 0, asm.R1)
	b.land(none)
}

// ownNote makes an event of the call.
func (b *builder) ownNote(t *Tracer, a arguments) {
	b.clear(noteAt, noteSize)
	for at, argument := range map[int16]int{24: a.source, 32: a.iova, 72: a.domain} {
		if argument >= 0 {
			b.load(asm.R1, argument)
			b.add(asm.StoreMem(asm.RFP, noteAt+at, asm.R1, asm.DWord))
		}
	}
	if a.also >= 0 {
		b.load(asm.R8, a.also)
	}
	// The function has no frame, so the kernel's unwinder starts at its caller's caller.
	b.add(
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, int32(noteAt+64)),
		asm.Mov.Imm(asm.R2, 8),
	)
	if returnOnStack {
		b.add(asm.LoadMem(asm.R3, asm.R6, callerAt, asm.DWord), asm.FnProbeReadUser.Call())
	} else {
		b.add(asm.LoadMem(asm.R3, asm.R6, callerAt, asm.DWord), asm.StoreMem(asm.RFP, noteAt+64, asm.R3, asm.DWord))
	}
	b.note(t, 1<<8) // BPF_F_USER_STACK
}

// note fills in what all events have and puts the event into the ring buffer.
func (b *builder) note(t *Tracer, stack int32) {
	b.add(
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.RFP, noteAt, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, cellAt, asm.Word), // operation and result
		asm.StoreMem(asm.RFP, noteAt+8, asm.R1, asm.Word),
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, noteAt+20, asm.R0, asm.Word),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, noteAt+16, asm.R0, asm.Word),
		asm.StoreMem(asm.RFP, noteAt+40, asm.R9, asm.DWord),
		asm.StoreMem(asm.RFP, noteAt+48, asm.R8, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, t.stacks.FD()),
		asm.Mov.Imm(asm.R3, stack),
		asm.FnGetStackid.Call(),
		asm.StoreMem(asm.RFP, noteAt+12, asm.R0, asm.Word),
	)
	done := b.label()
	b.add(asm.Mov.Imm(asm.R3, noteSize), asm.Mov.Imm(asm.R4, 0))
	b.call(asm.FnRingbufOutput, t.ring.FD(), noteAt)
	b.add(asm.JEq.Imm(asm.R0, 0, done))
	b.lose(t, lostEvents)
	b.land(done)
}

// idleProgram does nothing: it is for what is attached to only to be counted.
func (t *Tracer) idleProgram() (*ebpf.Program, error) {
	b := &builder{}
	b.end()
	return t.newProgram(&ebpf.ProgramSpec{Name: "gommu_idle", Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, Instructions: b.Instructions, License: "GPL"})
}

//go:build amd64 || arm64

package trace

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// count adds the call to the tally of its cell, of which the caller has cleared all and stored the source and the result. R8 is
// the duration, R9 the size, of operations that have them.
func (b *builder) count(items func(to asm.Register)) {
	kind := b.operation.kind()
	b.add(asm.Mov.Imm(asm.R1, int32(b.operation)), asm.StoreMem(asm.RFP, cellOperation, asm.R1, asm.Half))
	if b.operation != KernelFault {
		b.add(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.StoreMem(asm.RFP, cellProcess, asm.R0, asm.Word))
	}
	if kind.bytes {
		b.add(asm.Mov.Reg(asm.R1, asm.R9))
		b.log2(asm.R2, asm.R1, asm.R3)
		b.add(asm.StoreMem(asm.RFP, cellClass, asm.R2, asm.Word))
	}
	done := b.label()
	b.find(done)
	b.add(asm.Mov.Reg(asm.R7, asm.R0), asm.Mov.Imm(asm.R1, 1))
	b.increase(asm.R7, 8*callsWord, asm.R1)
	if kind.bytes {
		b.increase(asm.R7, 8*bytesWord, asm.R9)
	}
	if kind.items != "" {
		items(asm.R1)
		b.increase(asm.R7, 8*itemsWord, asm.R1)
	}
	if kind.timed {
		b.increase(asm.R7, 8*timeWord, asm.R8)
		inside := b.label()
		b.add(asm.Mov.Reg(asm.R1, asm.R8))
		b.log2(asm.R2, asm.R1, asm.R3)
		b.add(asm.JLT.Imm(asm.R2, Slots, inside), asm.Mov.Imm(asm.R2, Slots-1))
		b.land(inside)
		b.add(asm.LSh.Imm(asm.R2, 3), asm.Add.Reg(asm.R7, asm.R2), asm.Mov.Imm(asm.R1, 1))
		b.increase(asm.R7, 8*heads, asm.R1)
	}
	b.land(done)
}

// find leaves the tally of the cell in R0; where there is none, and no room, it counts
// that and jumps to done. It uses the free words.
func (b *builder) find(done string) {
	cells := b.t.cells.FD()
	found := b.label()
	b.call(asm.FnMapLookupElem, cells, cellAt)
	b.add(asm.JNE.Imm(asm.R0, 0, found))
	b.add(asm.StoreImm(asm.RFP, word(0), 0, asm.Word))
	b.call(asm.FnMapLookupElem, b.t.zero.FD(), word(0))
	b.add(asm.JEq.Imm(asm.R0, 0, done)) // never
	b.add(asm.Mov.Reg(asm.R3, asm.R0), asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)))
	b.call(asm.FnMapUpdateElem, cells, cellAt)
	if b.operation != KernelFault {
		b.name()
	}
	b.call(asm.FnMapLookupElem, cells, cellAt) // another processor may have been first
	b.add(asm.JNE.Imm(asm.R0, 0, found))
	b.lose(lostCells)
	b.add(asm.Ja.Label(done))
	b.land(found)
}

// name notes what the process is called: it may have ended when somebody wants to know.
func (b *builder) name() {
	b.add(
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, int32(word(0))),
		asm.Mov.Imm(asm.R2, nameSize),
		asm.FnGetCurrentComm.Call(),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(word(0))), asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)),
	)
	b.call(asm.FnMapUpdateElem, b.t.names.FD(), cellProcess)
}

// lose counts a loss. It uses the last free word.
func (b *builder) lose(what int32) {
	none := b.label()
	b.add(asm.Mov.Imm(asm.R1, what), asm.StoreMem(asm.RFP, word(free-1), asm.R1, asm.Word))
	b.call(asm.FnMapLookupElem, b.t.lost.FD(), word(free-1))
	b.add(asm.JEq.Imm(asm.R0, 0, none), asm.Mov.Imm(asm.R1, 1))
	b.increase(asm.R0, 0, asm.R1)
	b.land(none)
}

// What note takes for a stack.
const (
	kernelStack = 0
	userStack   = 1 << 8 // BPF_F_USER_STACK
	noStack     = -1
)

// note fills in what all events have, operation, result and source as in the cell, and puts the event into the ring buffer.
// The caller has cleared it, and filled in the rest.
func (b *builder) note(stack int32) {
	b.add(
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.RFP, noteMoment, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, cellOperation, asm.Word), // and the result
		asm.StoreMem(asm.RFP, noteOperation, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, cellProcess, asm.Word),
		asm.StoreMem(asm.RFP, noteProcess, asm.R1, asm.Word),
	)
	if b.operation != KernelFault {
		b.add(asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.RFP, noteThread, asm.R0, asm.Word))
	}
	b.fetch(asm.R1, cellSource)
	b.store(noteSource, asm.R1)
	b.store(noteBytes, asm.R9)
	b.store(noteTime, asm.R8)
	if stack == noStack {
		b.add(asm.Mov.Imm(asm.R0, -1))
	} else {
		b.add(
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.LoadMapPtr(asm.R2, b.t.stacks.FD()),
			asm.Mov.Imm(asm.R3, stack),
			asm.FnGetStackid.Call(),
		)
	}
	b.add(asm.StoreMem(asm.RFP, noteStack, asm.R0, asm.Word))
	done := b.label()
	b.add(asm.Mov.Imm(asm.R3, noteSize), asm.Mov.Imm(asm.R4, 0))
	b.call(asm.FnRingbufOutput, b.t.ring.FD(), noteAt)
	b.add(asm.JEq.Imm(asm.R0, 0, done))
	b.lose(lostEvents)
	b.land(done)
}

// unlessSlow jumps to the label if the call took less than makes an event of it. It reports whether any call does.
func (b *builder) unlessSlow(skip string) bool {
	slow := b.t.opts.SlowerThan.Nanoseconds()
	if slow == 0 || !b.operation.Timed() {
		return false
	}
	b.add(asm.LoadImm(asm.R1, slow, asm.DWord), asm.JLT.Reg(asm.R8, asm.R1, skip))
	return true
}

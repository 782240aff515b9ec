//go:build amd64 || arm64

package trace

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// The registers of a unit that its fault recording takes (VT-d specification, section 11.4).
const (
	faultStatus     = 0x34   // FSTS_REG
	statusPending   = 1 << 1 // PPF
	statusFirst     = 8      // FRI, 8 bits
	capRecordOffset = 24     // FRO, 10 bits, in units of 16 bytes
	capRecords      = 40     // NFR, 8 bits, less one
	recordSize      = 16     // FRCD_REG
	recordReason    = 32     // FR, 8 bits in the upper half
	maxRecords      = 1 << 8
)

// Words of the stack that the program keeps from record to record.
const (
	recordsWord = iota // address
	countWord
	segmentWord
	statusWord
	turnWord
)

// attachFaults attaches to where Intel's driver begins to look at what a unit has recorded: there is no tracepoint, and the line in the
// kernel's log is rate-limited. The program reads the records as they lie in the unit's registers; reading changes nothing.
func (t *Tracer) attachFaults(kernel *btf.Spec) error {
	const name = "dmar_fault"
	if _, _, err := functionOf(kernel, name, ""); err != nil {
		return err
	}
	var regs, caps, segment field
	for member, to := range map[string]*field{"reg": &regs, "cap": &caps, "segment": &segment} {
		var err error
		if *to, err = fieldOf(kernel, "intel_iommu", member); err != nil {
			return fmt.Errorf("%w: %w", errAbsent, err)
		}
	}
	b := &builder{t: t, operation: KernelFault}
	done := b.label()
	b.add(asm.Mov.Reg(asm.R6, asm.R1))
	b.argument(asm.R7, 1) // the struct intel_iommu
	b.unitState(regs, caps, segment, done)
	b.records(done)
	b.land(done)
	b.end()
	_, err := t.attachTracing(b, name, ebpf.AttachTraceFEntry)
	return err
}

// unitState fills in the words for the unit in R7. If it has recorded nothing it jumps to the label.
func (b *builder) unitState(regs, caps, segment field, done string) {
	for _, w := range []struct {
		word int16
		field
	}{{recordsWord, regs}, {countWord, caps}, {segmentWord, segment}} {
		b.add(asm.Mov.Reg(asm.R3, asm.R7))
		b.read(word(w.word), int32(w.size), w.offset)
	}
	b.fetch(asm.R3, word(recordsWord))
	b.read(word(statusWord), 4, faultStatus)
	b.fetch(asm.R1, word(statusWord))
	b.add(asm.And.Imm(asm.R1, statusPending), asm.JEq.Imm(asm.R1, 0, done))
	b.fetch(asm.R1, word(countWord))
	b.add(
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R1, capRecords), asm.And.Imm(asm.R1, 0xff), asm.Add.Imm(asm.R1, 1),
		asm.RSh.Imm(asm.R2, capRecordOffset), asm.And.Imm(asm.R2, 0x3ff), asm.LSh.Imm(asm.R2, 4),
	)
	b.store(word(countWord), asm.R1)
	b.fetch(asm.R1, word(recordsWord))
	b.add(asm.Add.Reg(asm.R1, asm.R2))
	b.store(word(recordsWord), asm.R1)
}

// records tells of each record, from the one that the unit says is the first to one that is not set, as the driver takes them.
func (b *builder) records(done string) {
	next, inside := b.label(), b.label()
	b.add(asm.Mov.Imm(asm.R1, 0))
	b.store(word(turnWord), asm.R1)
	b.land(next)
	b.fetch(asm.R1, word(turnWord))
	b.fetch(asm.R2, word(countWord))
	b.add(asm.JGE.Reg(asm.R1, asm.R2, done), asm.JGE.Imm(asm.R1, maxRecords, done))
	b.fetch(asm.R3, word(statusWord))
	b.add(
		asm.RSh.Imm(asm.R3, statusFirst), asm.And.Imm(asm.R3, 0xff), asm.Add.Reg(asm.R3, asm.R1),
		asm.JLT.Reg(asm.R3, asm.R2, inside), asm.Sub.Reg(asm.R3, asm.R2),
	)
	b.land(inside)
	b.add(asm.Add.Imm(asm.R1, 1))
	b.store(word(turnWord), asm.R1)
	b.add(asm.LSh.Imm(asm.R3, 4))
	b.fetch(asm.R1, word(recordsWord))
	b.add(asm.Add.Reg(asm.R3, asm.R1), asm.Mov.Reg(asm.R7, asm.R3))
	b.clear(noteAt, noteSize)
	// The half with F comes first: once that is set the record stays.
	b.read(noteTime, 8, 8)
	b.fetch(asm.R8, noteTime)
	b.add(asm.JSGE.Imm(asm.R8, 0, done)) // F is the sign
	b.add(asm.Mov.Reg(asm.R3, asm.R7))
	b.read(noteIOVA, 8, 0)
	b.record()
	b.add(asm.Ja.Label(next))
}

// record counts the record in the note, whose upper half is in R8 too, and makes it an event.
func (b *builder) record() {
	b.clearCell()
	b.fetch(asm.R1, word(segmentWord))
	b.add(
		asm.LSh.Imm(asm.R1, 16), asm.Mov.Reg(asm.R2, asm.R8), asm.And.Imm(asm.R2, 0xffff), asm.Or.Reg(asm.R1, asm.R2),
	)
	b.store(cellSource, asm.R1)
	b.add(asm.Mov.Reg(asm.R1, asm.R8), asm.RSh.Imm(asm.R1, recordReason), asm.And.Imm(asm.R1, 0xff), asm.StoreMem(asm.RFP, cellResult, asm.R1, asm.Half))
	b.fetch(asm.R1, word(statusWord))
	b.store(noteExtra, asm.R1)
	b.add(asm.Mov.Imm(asm.R9, 0))
	b.count(nil)
	b.note(noStack)
}

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
	recordReason    = 32     // FR, 8 bits in the upper half
)

// What the program knows of a unit, in words of its stack; its subprogram is given a pointer to them.
const (
	recordsWord = iota // address
	countWord
	segmentWord
	statusWord
)

// faultHook attaches to where Intel's driver begins to look at what a unit has recorded: there is no tracepoint, and the line in the
// kernel's log is rate-limited. The program reads the records as they lie in the unit's registers; reading changes nothing.
func (t *Tracer) faultHook(kernel *btf.Spec) (hook, error) {
	const name = "dmar_fault"
	h := hook{operation: KernelFault, need: intelNeed}
	if _, err := functionOf(kernel, name); err != nil {
		return h, err
	}
	var regs, caps, segment field
	for member, to := range map[string]*field{"reg": &regs, "cap": &caps, "segment": &segment} {
		var err error
		if *to, err = fieldOf(kernel, "intel_iommu", member); err != nil {
			return h, fmt.Errorf("%w: %w", errAbsent, err)
		}
	}
	b := &builder{t: t, operation: KernelFault}
	done := b.label()
	b.add(btf.WithFuncMetadata(asm.Mov.Reg(asm.R6, asm.R1), signature("gommu_kernel")))
	b.argument(asm.R7, 1) // the struct intel_iommu
	b.unitState(regs, caps, segment, done)
	b.fetch(asm.R1, word(countWord))
	b.add(
		asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R2, Src: asm.PseudoFunc, Constant: -1}.WithReference(recordFunction),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(freeAt)),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnLoop.Call(),
	)
	b.land(done)
	b.end()
	b.add(t.record().Instructions...)
	h.programs = []*ebpf.ProgramSpec{b.program(name, ebpf.AttachTraceFEntry)}
	return h, nil
}

const recordFunction = "record"

// signature is the type of a function that bpf_loop calls: the kernel wants to know it, and then one of the program around it, too, which may
// be the same.
func signature(name string) *btf.Func {
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	return &btf.Func{Name: name, Linkage: btf.StaticFunc, Type: &btf.FuncProto{
		Return: long, Params: []btf.FuncParam{{Name: "index", Type: long}, {Name: "unit", Type: &btf.Pointer{Target: &btf.Void{}}}},
	}}
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

// record is the subprogram for one record: the first is the one that the unit says, and the last is before one that is not
// set, as the driver takes them. R6 is the unit.
func (t *Tracer) record() *builder {
	b := &builder{t: t, operation: KernelFault, labels: 1000} // the program around it has its own labels
	unit := func(to asm.Register, word int16) { b.add(asm.LoadMem(to, asm.R6, 8*word, asm.DWord)) }
	last, inside := b.label(), b.label()
	b.add(btf.WithFuncMetadata(asm.Mov.Reg(asm.R6, asm.R2), signature(recordFunction)).WithSymbol(recordFunction))
	unit(asm.R3, statusWord)
	unit(asm.R2, countWord)
	b.add(
		asm.RSh.Imm(asm.R3, statusFirst), asm.And.Imm(asm.R3, 0xff), asm.Add.Reg(asm.R3, asm.R1),
		asm.JLT.Reg(asm.R3, asm.R2, inside), asm.Sub.Reg(asm.R3, asm.R2),
	)
	b.land(inside)
	unit(asm.R1, recordsWord)
	b.add(asm.LSh.Imm(asm.R3, 4), asm.Add.Reg(asm.R3, asm.R1), asm.Mov.Reg(asm.R7, asm.R3))
	b.clear(noteAt, noteSize)
	// The half with F comes first: once that is set the record stays.
	b.read(noteTime, 8, 8)
	b.fetch(asm.R8, noteTime)
	b.add(asm.JSGE.Imm(asm.R8, 0, last)) // F is the sign
	b.add(asm.Mov.Reg(asm.R3, asm.R7))
	b.read(noteIOVA, 8, 0)
	b.clearCell()
	unit(asm.R1, segmentWord)
	b.add(asm.LSh.Imm(asm.R1, 16), asm.Mov.Reg(asm.R2, asm.R8), asm.And.Imm(asm.R2, 0xffff), asm.Or.Reg(asm.R1, asm.R2))
	b.store(cellSource, asm.R1)
	b.add(asm.Mov.Reg(asm.R1, asm.R8), asm.RSh.Imm(asm.R1, recordReason), asm.And.Imm(asm.R1, 0xff), asm.StoreMem(asm.RFP, cellResult, asm.R1, asm.Half))
	unit(asm.R1, statusWord)
	b.store(noteExtra, asm.R1)
	b.add(asm.Mov.Imm(asm.R9, 0))
	b.count(nil)
	b.note(noStack)
	b.end()
	b.land(last)
	b.add(asm.Mov.Imm(asm.R0, 1), asm.Return())
	return b
}

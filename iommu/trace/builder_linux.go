//go:build amd64 || arm64

package trace

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// A builder writes one program. R6 is its context throughout, R8 a duration, R9 a size; R7 is for what
// a call of the kernel's functions must not overwrite.
type builder struct {
	asm.Instructions
	t         *Tracer
	operation Operation
	labels    int
}

func (b *builder) add(ins ...asm.Instruction) { b.Instructions = append(b.Instructions, ins...) }

// label makes a name for a place to jump to.
func (b *builder) label() string {
	b.labels++
	return fmt.Sprintf("l%d", b.labels)
}

// land puts a label here.
func (b *builder) land(label string) {
	b.add(asm.Mov.Reg(asm.R6, asm.R6).WithSymbol(label)) // nothing, with a name
}

// word is where one of the free words is.
func word(i int16) int16 { return freeAt + 8*i }

// store and fetch are for words of the stack.
func (b *builder) store(at int16, from asm.Register) {
	b.add(asm.StoreMem(asm.RFP, at, from, asm.DWord))
}
func (b *builder) fetch(to asm.Register, at int16) { b.add(asm.LoadMem(to, asm.RFP, at, asm.DWord)) }

// argument loads a parameter of a kernel's function.
func (b *builder) argument(to asm.Register, i int) {
	b.add(asm.LoadMem(to, asm.R6, int16(8*i), asm.DWord))
}

// log2 puts the logarithm of v, 0 for 0, into to; it overwrites v and t. There are no branches in it: with them the
// kernel's verifier would have to follow each of the 64 ways.
func (b *builder) log2(to, v, t asm.Register) {
	b.add(asm.Mov.Imm(to, 0))
	for bit := int32(5); bit >= 0; bit-- {
		b.add(
			asm.Mov.Reg(t, v),
			asm.RSh.Imm(t, 1<<bit), // is there something above?
			asm.Neg.Imm(t, 0),
			asm.RSh.Imm(t, 63), // the sign says so: 1 or 0
			asm.LSh.Imm(t, bit),
			asm.RSh.Reg(v, t),
			asm.Or.Reg(to, t),
		)
	}
}

// clear zeroes n bytes of the stack from at up, multiples of 8.
func (b *builder) clear(at int16, n int) {
	b.add(asm.Mov.Imm(asm.R1, 0))
	for i := range n / 8 {
		b.store(at+int16(8*i), asm.R1)
	}
}

// call sets R1 to a map and R2 to a place on the stack, and calls.
func (b *builder) call(fn asm.BuiltinFunc, fd int, key int16) {
	b.add(
		asm.LoadMapPtr(asm.R1, fd),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		fn.Call(),
	)
}

// read copies n bytes of the kernel's memory, or of its devices', from R3 and offset on, into a word of the stack, at most the 8 that
// it has. What cannot be read is 0.
func (b *builder) read(at int16, n int32, offset uint32) {
	b.peek(asm.FnProbeReadKernel, at, n, offset)
}

// readUser is read of the process's memory.
func (b *builder) readUser(at int16, n int32, offset uint32) {
	b.peek(asm.FnProbeReadUser, at, n, offset)
}

func (b *builder) peek(fn asm.BuiltinFunc, at int16, n int32, offset uint32) {
	b.clear(at, 8)
	b.add(
		asm.Add.Imm(asm.R3, int32(offset)),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, int32(at)),
		asm.Mov.Imm(asm.R2, min(n, 8)),
		fn.Call(),
	)
}

// increase adds a register to a word of memory that other programs on this processor may be adding to as well.
func (b *builder) increase(base asm.Register, at int16, by asm.Register) {
	b.add(asm.AddAtomic.Mem(base, by, asm.DWord, at))
}

// end returns 0.
func (b *builder) end() {
	b.add(asm.Mov.Imm(asm.R0, 0), asm.Return())
}

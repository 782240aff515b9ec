#include "textflag.h"

// Only aligned 8-byte stores: each is seen whole by the unit's walks.

// func fill(words []uint64, e, step uint64)
TEXT ·fill(SB), NOSPLIT, $0-40
	MOVQ words_base+0(FP), DI
	MOVQ words_len+8(FP), CX
	MOVQ e+24(FP), AX
	MOVQ step+32(FP), DX
	SUBQ $4, CX
	JLT  tail
	LEAQ (AX)(DX*1), R8
	LEAQ (AX)(DX*2), R9
	LEAQ (R8)(DX*2), R10
	LEAQ (DX*4), R11

four:
	MOVQ AX, (DI)
	MOVQ R8, 8(DI)
	MOVQ R9, 16(DI)
	MOVQ R10, 24(DI)
	ADDQ R11, AX
	ADDQ R11, R8
	ADDQ R11, R9
	ADDQ R11, R10
	ADDQ $32, DI
	SUBQ $4, CX
	JGE  four

tail:
	ADDQ $4, CX
	JZ   done

one:
	MOVQ AX, (DI)
	ADDQ DX, AX
	ADDQ $8, DI
	DECQ CX
	JNZ  one

done:
	RET

// func wipe(words []uint64) int
TEXT ·wipe(SB), NOSPLIT, $0-32
	MOVQ words_base+0(FP), DI
	MOVQ words_len+8(FP), CX
	XORL BX, BX // not zero
	XORL DX, DX
	SUBQ $4, CX
	JLT  tail

four:
	CMPQ (DI), $1  // carry: it is zero
	SBBQ $-1, BX
	MOVQ DX, (DI)
	CMPQ 8(DI), $1
	SBBQ $-1, BX
	MOVQ DX, 8(DI)
	CMPQ 16(DI), $1
	SBBQ $-1, BX
	MOVQ DX, 16(DI)
	CMPQ 24(DI), $1
	SBBQ $-1, BX
	MOVQ DX, 24(DI)
	ADDQ $32, DI
	SUBQ $4, CX
	JGE  four

tail:
	ADDQ $4, CX
	JZ   done

one:
	CMPQ (DI), $1
	SBBQ $-1, BX
	MOVQ DX, (DI)
	ADDQ $8, DI
	DECQ CX
	JNZ  one

done:
	MOVQ BX, ret+24(FP)
	RET

// func inUse(words []uint64) bool
TEXT ·inUse(SB), NOSPLIT, $0-25
	MOVQ words_base+0(FP), DI
	MOVQ words_len+8(FP), CX
	MOVB $1, ret+24(FP)
	SUBQ $8, CX
	JLT  tail

eight:
	MOVQ (DI), AX
	MOVQ 8(DI), BX
	ORQ  16(DI), AX
	ORQ  24(DI), BX
	ORQ  32(DI), AX
	ORQ  40(DI), BX
	ORQ  48(DI), AX
	ORQ  56(DI), BX
	ORQ  BX, AX
	JNZ  done
	ADDQ $64, DI
	SUBQ $8, CX
	JGE  eight

tail:
	ADDQ $8, CX
	JZ   free

one:
	CMPQ (DI), $0
	JNE  done
	ADDQ $8, DI
	DECQ CX
	JNZ  one

free:
	MOVB $0, ret+24(FP)

done:
	RET

// func wipeLeaves(words []uint64) (n, gone int)
TEXT ·wipeLeaves(SB), NOSPLIT, $0-40
	MOVQ words_base+0(FP), DI
	MOVQ words_len+8(FP), CX
	XORL SI, SI // passed
	XORL BX, BX // not zero
	XORL DX, DX
	TESTQ CX, CX
	JZ   done

loop:
	MOVQ (DI)(SI*8), AX
	TESTQ AX, AX
	JZ   next
	TESTQ $0x80, AX
	JZ   done
	MOVQ DX, (DI)(SI*8)
	INCQ BX

next:
	INCQ SI
	CMPQ SI, CX
	JLO  loop

done:
	MOVQ SI, n+24(FP)
	MOVQ BX, gone+32(FP)
	RET

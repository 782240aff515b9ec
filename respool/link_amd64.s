//go:build !race

#include "textflag.h"

// func linkSlots(links []atomic.Uint64, slots []uint32, below, depth uint64)
TEXT ·linkSlots(SB), NOSPLIT, $0-64
	MOVQ links_base+0(FP), DI
	MOVQ slots_base+24(FP), SI
	MOVQ slots_len+32(FP), CX
	MOVQ below+48(FP), R8
	MOVQ depth+56(FP), R9
	SHLQ $24, R9
	TESTQ CX, CX
	JZ   done

loop:
	ADDQ $0x1000000, R9
	MOVL -4(SI)(CX*4), AX
	ORQ  R9, R8
	MOVQ R8, (DI)(AX*8)
	MOVQ AX, R8
	DECQ CX
	JNZ  loop

done:
	RET

#include "textflag.h"

// func flushOpt(words []uint64)
TEXT ·flushOpt(SB), NOSPLIT, $0-24
	MOVQ words_base+0(FP), AX
	MOVQ words_len+8(FP), BX
	TESTQ BX, BX
	JZ    done
	LEAQ (AX)(BX*8), BX // first byte after the words
	ANDQ $~63, AX       // first line

loop:
	CLFLUSHOPT (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JLO  loop

done:
	RET

// func flush(words []uint64)
TEXT ·flush(SB), NOSPLIT, $0-24
	MOVQ words_base+0(FP), AX
	MOVQ words_len+8(FP), BX
	TESTQ BX, BX
	JZ    done
	LEAQ (AX)(BX*8), BX
	ANDQ $~63, AX

loop:
	CLFLUSH (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JLO  loop

done:
	RET

// func flushNow(words []uint64, opt bool)
TEXT ·flushNow(SB), NOSPLIT, $0-25
	MOVQ words_base+0(FP), AX
	MOVQ words_len+8(FP), BX
	TESTQ BX, BX
	JZ    done
	LEAQ (AX)(BX*8), BX
	ANDQ $~63, AX
	CMPB opt+24(FP), $0
	JEQ  old

loop:
	CLFLUSHOPT (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JLO  loop
	SFENCE
	RET

old:
	CLFLUSH (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JLO  old

done:
	SFENCE
	RET

// func fence()
TEXT ·fence(SB), NOSPLIT, $0-0
	SFENCE
	RET

// func hasFlushOpt() bool
TEXT ·hasFlushOpt(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	XORL CX, CX
	CPUID
	CMPL AX, $7
	JLT  done
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $23, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)

done:
	RET

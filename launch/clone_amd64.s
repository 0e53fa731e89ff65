#include "textflag.h"

// func cloneShared(args *cloneArgs, size uintptr, t *table, rows unsafe.Pointer, n int) (r uintptr, e syscall.Errno)
//
// clone3 with CLONE_VM. The child begins on the stack that args names, so what it
// needs is carried over in registers that the kernel leaves alone. It calls the
// same child as a copied one does; g, which the call's wrapper loads, is the
// parent's, and nothing there uses it.
TEXT ·cloneShared(SB), NOSPLIT, $0-56
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	t+16(FP), R12
	MOVQ	rows+24(FP), R13
	MOVQ	n+32(FP), R15
	MOVQ	$435, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, r+40(FP)
	NEGQ	AX
	MOVQ	AX, e+48(FP)
	RET
ok:
	MOVQ	AX, r+40(FP)
	MOVQ	$0, e+48(FP)
	RET
child:
	XORL	BP, BP
	SUBQ	$32, SP
	MOVQ	R12, 0(SP)
	MOVQ	R13, 8(SP)
	MOVQ	R15, 16(SP)
	CALL	·child(SB)
	INT	$3

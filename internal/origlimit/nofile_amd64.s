#include "textflag.h"

// func getrlimit(lim unsafe.Pointer)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVL	$97, AX
	MOVL	$7, DI
	MOVQ	lim+0(FP), SI
	SYSCALL
	RET

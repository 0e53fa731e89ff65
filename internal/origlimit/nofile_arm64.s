#include "textflag.h"

// func getrlimit(lim unsafe.Pointer)
TEXT ·getrlimit(SB), NOSPLIT, $0-8
	MOVD	$0, R0
	MOVD	$7, R1
	MOVD	$0, R2
	MOVD	lim+0(FP), R3
	MOVD	$261, R8
	SVC
	RET

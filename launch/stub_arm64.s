#include "textflag.h"

// func stub()
//
// See stub_amd64.s. The register of a handler's signal, and of 0 at the beginning, is R0.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
begin:
	CBNZ	R0, signal
	MOVD	RSP, R19
	MOVD	0(R19), R20
	ADD	$8, R19, R21
	ADD	R20<<3, R21, R22
	ADD	$8, R22, R22
	MOVD	0(R21), R9
	MOVBU	0(R9), R13
	MOVBU	1(R9), R23
	MOVBU	2(R9), R25
	ADR	begin, R26
	ADD	$768, R26, R26 // stubSize
	MOVWU	0(R26), R9
	CBZ	R9, told
	MOVD	R26, R0
	ADD	$8, R26, R1
	MOVD	$91, R8
	SVC
	CBNZ	R0, refused
	MOVD	R26, R0
	ADD	$32, R26, R1
	MOVD	$91, R8
	SVC
	CBZ	R0, told
refused:
	NEG	R0, R25
	B	report
told:
	CMP	$1, R13
	BEQ	ready
	CMP	$4, R13
	BNE	fork
	SUB	$32, RSP, RSP
	ADR	begin, R9
	MOVD	R9, 0(RSP)
	MOVD	ZR, 8(RSP)
	MOVD	ZR, 16(RSP)
	MOVD	ZR, 24(RSP)
	MOVD	$0x0F030201, R10
handle:
	AND	$0xFF, R10, R0
	MOVD	RSP, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	MOVD	$134, R8
	SVC
	LSR	$8, R10, R10
	CBNZ	R10, handle
	ADD	$32, RSP, RSP
wait:
	SUB	$16, RSP, RSP
	MOVD	R25, R0
	MOVD	RSP, R1
	MOVD	$1, R2
	MOVD	$63, R8
	SVC
	ADD	$16, RSP, RSP
	CMN	$4, R0
	BEQ	wait
	CMP	$1, R0
	BNE	die
	MOVD	R25, R0
	MOVD	$2, R1
	MOVD	$1, R2
	MOVD	$25, R8
	SVC
	CBNZ	R0, die
ready:
	MOVD	R23, R0
	MOVD	$2, R1
	MOVD	$1, R2
	MOVD	$25, R8
	SVC
	CBNZ	R0, die
	ADD	$8, R21, R24
scan:
	MOVD	0(R24), R9
	ADD	$8, R24, R24
	MOVBU	0(R9), R9
	CBNZ	R9, scan
	MOVD	$2, R25
next:
	ADD	$8, R21, R21
	MOVD	0(R21), R0
	MOVBU	0(R0), R9
	CBZ	R9, report
	MOVD	R24, R1
	MOVD	R22, R2
	MOVD	$221, R8
	SVC
	NEG	R0, R0
	CMP	$2, R0
	BEQ	next
	CMP	$20, R0
	BEQ	next
	CMP	$40, R0
	BEQ	next
	MOVD	R0, R25
	CMP	$13, R0
	BEQ	next
report:
	SUB	$16, RSP, RSP
	MOVD	RSP, R9
	MOVD	$5, R10
	MOVD	R10, 0(R9)
	MOVW	R25, 8(R9)
	MOVD	R23, R0
	MOVD	R9, R1
	MOVD	$12, R2
	MOVD	$64, R8
	SVC
die:
	MOVD	$-1, R0
signal:
	ADD	$128, R0, R0
	MOVD	$94, R8
	SVC
	BRK
fork:
	MOVD	$0x8011, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8
	SVC
	CBZ	R0, copy
	TBNZ	$63, R0, refused
	SUB	$16, RSP, RSP
	MOVD	RSP, R9
	MOVD	$4, R10
	MOVW	R10, 0(R9)
	MOVW	R0, 4(R9)
	MOVW	ZR, 8(R9)
	MOVD	R23, R0
	MOVD	R9, R1
	MOVD	$12, R2
	MOVD	$64, R8
	SVC
	MOVD	ZR, R0
	MOVD	$94, R8
	SVC
	BRK
copy:
	MOVD	$157, R8
	SVC
	CMP	$2, R13
	BEQ	ready
	MOVD	ZR, R0
	MOVD	$0x540e, R1
	MOVD	ZR, R2
	MOVD	$29, R8
	SVC
	CBNZ	R0, refused
	B	ready

// func stubCode() unsafe.Pointer
TEXT ·stubCode(SB), NOSPLIT, $0-8
	MOVD	$·stub(SB), R0
	MOVD	R0, ret+0(FP)
	RET

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
	AND	$10, R13, R10
	CMP	$10, R10
	BNE	reports
	MOVBU	3(R9), R23
reports:
	ADR	begin, R26
	ADD	$1280, R26, R26 // stubSize
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
	TBNZ	$1, R13, fork
forked:
	TBNZ	$4, R13, init
	TBZ	$3, R13, ready
	MOVD	0(R21), R9
	MOVBU	2(R9), R25
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
	ADR	begin, R26
	ADD	$1336, R26, R26 // stubSize, and 56 bytes for capset
	MOVHU	0(R26), R9
	CBZ	R9, filtered
	MOVD	$1, R0
	MOVWU	16(R26), R1
	MOVD	R26, R2
	MOVD	$277, R8
	SVC
	CBNZ	R0, refused
filtered:
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
	TBZ	$5, R13, answer
	MOVD	$1, R0
	MOVD	$9, R1
	MOVD	$167, R8
	SVC
	CBNZ	R0, refused
answer:
	SUB	$16, RSP, RSP
	MOVD	R23, R0
	MOVD	RSP, R1
	MOVD	$12, R2
	MOVD	$63, R8
	SVC
	ADD	$16, RSP, RSP
	CMN	$4, R0
	BEQ	answer
	CMP	$12, R0
	BNE	die
	MOVD	$157, R8
	SVC
	TBZ	$2, R13, closes
	MOVD	ZR, R0
	MOVD	$0x540e, R1
	MOVD	ZR, R2
	MOVD	$29, R8
	SVC
	CBNZ	R0, refused
closes:
	TBZ	$3, R13, forked
	MOVD	R23, R0
	MOVD	$57, R8
	SVC
	MOVD	0(R21), R9
	MOVBU	1(R9), R23
	B	forked
init:
	MOVD	$17, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8
	SVC
	CBZ	R0, command
	TBNZ	$63, R0, refused
	MOVD	R0, R25
	MOVD	$3, R0
	MOVD	$0xffffffff, R1
	MOVD	ZR, R2
	MOVD	$436, R8
	SVC
	SUB	$32, RSP, RSP
	MOVD	$0x74696e69, R10 // "init"
	MOVD	R10, 0(RSP)
	MOVD	$15, R0
	MOVD	RSP, R1
	MOVD	$167, R8
	SVC
	MOVD	0(R21), R9
	SUB	$16, R22, R11
	MOVD	0(R11), R11
	MOVD	R9, R12
forget:
	MOVB	ZR, 0(R12)
	ADD	$1, R12, R12
	CMP	R11, R12
	BLO	forget
last:
	MOVBU	0(R12), R10
	CBZ	R10, named
	MOVB	ZR, 0(R12)
	ADD	$1, R12, R12
	B	last
named:
	MOVD	$0x74696e69, R10
	MOVW	R10, 0(R9)
	MOVD	$-1, R10
	MOVD	R10, 8(RSP)
signals:
	ADD	$8, RSP, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	MOVD	$137, R8
	SVC
	CMP	$0, R0
	BLE	signals
	CMP	$17, R0
	BEQ	reap
	MOVD	R0, R1
	MOVD	R25, R0
	MOVD	$129, R8
	SVC
	B	signals
reap:
	MOVD	$-1, R0
	ADD	$16, RSP, R1
	MOVD	$1, R2
	MOVD	ZR, R3
	MOVD	$260, R8
	SVC
	CMP	$0, R0
	BLE	signals
	CMP	R25, R0
	BNE	reap
	MOVWU	16(RSP), R1
	AND	$127, R1, R0
	CBNZ	R0, signal
	LSR	$8, R1, R1
	AND	$255, R1, R0
	MOVD	$94, R8
	SVC
	BRK
command:
	MOVD	$172, R8
	SVC
	SUB	$16, RSP, RSP
	MOVD	R0, 0(RSP)
	MOVD	ZR, 8(RSP)
	MOVD	ZR, R0
	MOVD	ZR, R1
	MOVD	$154, R8
	SVC
	MOVD	ZR, R0
	MOVD	$0x5410, R1
	MOVD	RSP, R2
	MOVD	$29, R8
	SVC
	MOVD	$2, R0
	ADD	$8, RSP, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC
	ADD	$16, RSP, RSP
	B	ready

// func stubCode() unsafe.Pointer
TEXT ·stubCode(SB), NOSPLIT, $0-8
	MOVD	$·stub(SB), R0
	MOVD	R0, ret+0(FP)
	RET

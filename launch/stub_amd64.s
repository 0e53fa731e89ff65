#include "textflag.h"

// func stub()
//
// The program that the stub's image holds. It begins where a process begins: at
// the stack pointer lie argc, argv and envp. It uses no other memory.
//
// Of argv[0] the bits of the first byte say what it is to do, see Exec.lowerStub, the second byte is the descriptor that it reports to, the third the one that it
// waits for, and the fourth, with 2 and 8, the socket to the runtime, which is the second otherwise.
//
//	if the word behind the program, capset(2)'s version, is not 0: capset the sets behind that, then those behind these
//	2: clone(CLONE_PARENT | SIGCHLD), write(argv[0][3], {MsgFork, the pid, 0}) or to [1], and end. The copy goes on, with 32 by prctl(PR_SET_PDEATHSIG, SIGKILL), when it has
//	read the runtime's answer, MsgSync, of which only the length counts. Until then it is in the process group of this one. Then setsid and, with 4, ioctl(0, TIOCSCTTY, 0),
//	and with 8 close(argv[0][3])
//	16: clone(SIGCHLD); the copy goes on in a process group of its own, which has the terminal, and with no signal blocked. This process is the init then:
//	it overwrites its arguments, closes all files but the streams, reaps, passes signals on, and ends as the copy does
//	8: end by SIGHUP, SIGINT, SIGQUIT and SIGTERM, read a byte from argv[0][2], and fcntl(argv[0][2], F_SETFD, FD_CLOEXEC)
//	fcntl(argv[0][1], F_SETFD, FD_CLOEXEC); when any of these fails, end with 127
//	if there are instructions of a filter behind the sets: seccomp(SECCOMP_SET_MODE_FILTER, the flags, them)
//	for each file after argv[0] up to the empty string:
//		execve(file, what follows the empty string, envp)
//		ENOENT, ENOTDIR, ELOOP: next; EACCES: note it, next; anything else: note it, stop
//	write(argv[0][1], {MsgExec, 0, errno}), end with 127
//
// A clone, an ioctl, a capset or a seccomp that fails is reported as an execve is: nothing is executed with other sets than were asked for.
//
// The four signals are those by which people end a program. The first process of a pid namespace gets only what
// it has a handler for: pid_namespaces(7). The handler is this program: the kernel begins a process with DI 0, and
// a handler with the signal in it. It ends with 128 plus that. The execve sets the signals back to their defaults.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
	TESTL	DI, DI
	JNE	signal
	MOVQ	SP, R12
	MOVQ	0(R12), R13
	LEAQ	8(R12), R14
	LEAQ	16(R12)(R13*8), R15
	MOVQ	0(R14), CX
	MOVBLZX	0(CX), R9
	MOVBLZX	1(CX), BX
	MOVL	R9, AX
	ANDL	$10, AX
	CMPL	AX, $10
	JNE	reports
	MOVBLZX	3(CX), BX
reports:
	LEAQ	·stub+1280(SB), DI // stubSize
	CMPL	0(DI), $0
	JEQ	told
	LEAQ	8(DI), SI
	MOVL	$126, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	refused
	ADDQ	$24, SI
	MOVL	$126, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	told
refused:
	NEGQ	AX
	MOVQ	AX, R12
	JMP	report
told:
	TESTL	$2, R9
	JNE	fork
forked:
	TESTL	$16, R9
	JNE	init
	TESTL	$8, R9
	JEQ	ready
	MOVQ	0(R14), CX
	MOVBLZX	2(CX), R12
	SUBQ	$32, SP
	LEAQ	·stub(SB), AX
	MOVQ	AX, 0(SP)
	MOVQ	$0x04000000, 8(SP) // SA_RESTORER, without which no handler is called; this one never returns to it
	MOVQ	$0, 16(SP)
	MOVQ	$0, 24(SP)
	MOVL	$0x0F030201, R8
handle:
	MOVBLZX	R8, DI
	MOVL	$13, AX
	MOVQ	SP, SI
	MOVL	$0, DX
	MOVL	$8, R10
	SYSCALL
	SHRL	$8, R8
	JNE	handle
	ADDQ	$32, SP
wait:
	SUBQ	$16, SP
	MOVL	$0, AX
	MOVQ	R12, DI
	MOVQ	SP, SI
	MOVL	$1, DX
	SYSCALL
	ADDQ	$16, SP
	CMPQ	AX, $-4
	JEQ	wait
	CMPQ	AX, $1
	JNE	die
	MOVL	$72, AX
	MOVQ	R12, DI
	MOVL	$2, SI
	MOVL	$1, DX
	SYSCALL
	TESTQ	AX, AX
	JNE	die
ready:
	MOVL	$72, AX
	MOVQ	BX, DI
	MOVL	$2, SI
	MOVL	$1, DX
	SYSCALL
	TESTQ	AX, AX
	JNE	die
	LEAQ	8(R14), R13
scan:
	MOVQ	0(R13), AX
	ADDQ	$8, R13
	CMPB	0(AX), $0
	JNE	scan
	LEAQ	·stub+1336(SB), DX // stubSize, and 56 bytes for capset
	CMPW	0(DX), $0
	JEQ	filtered
	MOVL	$317, AX
	MOVL	$1, DI
	MOVL	16(DX), SI
	SYSCALL
	TESTQ	AX, AX
	JNE	refused
filtered:
	MOVL	$2, R12
next:
	ADDQ	$8, R14
	MOVQ	0(R14), DI
	CMPB	0(DI), $0
	JEQ	report
	MOVQ	R13, SI
	MOVQ	R15, DX
	MOVL	$59, AX
	SYSCALL
	NEGQ	AX
	CMPQ	AX, $2
	JEQ	next
	CMPQ	AX, $20
	JEQ	next
	CMPQ	AX, $40
	JEQ	next
	MOVQ	AX, R12
	CMPQ	AX, $13
	JEQ	next
report:
	SUBQ	$16, SP
	MOVL	$5, 0(SP)
	MOVL	$0, 4(SP)
	MOVL	R12, 8(SP)
	MOVL	$1, AX
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$12, DX
	SYSCALL
die:
	MOVL	$-1, DI
signal:
	ADDL	$128, DI
	MOVL	$231, AX
	SYSCALL
	INT	$3
fork:
	MOVL	$56, AX
	MOVL	$0x8011, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JLT	refused
	JEQ	copy
	SUBQ	$16, SP
	MOVL	$4, 0(SP)
	MOVL	AX, 4(SP)
	MOVL	$0, 8(SP)
	MOVL	$1, AX
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$12, DX
	SYSCALL
	XORL	DI, DI
	MOVL	$231, AX
	SYSCALL
	INT	$3
copy:
	TESTL	$32, R9
	JEQ	answer
	MOVL	$157, AX
	MOVL	$1, DI
	MOVL	$9, SI
	SYSCALL
	TESTQ	AX, AX
	JNE	refused
answer:
	SUBQ	$16, SP
	MOVL	$0, AX
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$12, DX
	SYSCALL
	ADDQ	$16, SP
	CMPQ	AX, $-4
	JEQ	answer
	CMPQ	AX, $12
	JNE	die
	MOVL	$112, AX
	SYSCALL
	TESTL	$4, R9
	JEQ	closes
	MOVL	$16, AX
	XORL	DI, DI
	MOVL	$0x540e, SI
	XORL	DX, DX
	SYSCALL
	TESTQ	AX, AX
	JNE	refused
closes:
	TESTL	$8, R9
	JEQ	forked
	MOVL	$3, AX
	MOVQ	BX, DI
	SYSCALL
	MOVQ	0(R14), CX
	MOVBLZX	1(CX), BX
	JMP	forked
init:
	MOVL	$56, AX
	MOVL	$17, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JLT	refused
	JEQ	command
	MOVQ	AX, R12
	MOVL	$436, AX
	MOVL	$3, DI
	MOVL	$-1, SI
	XORL	DX, DX
	SYSCALL
	SUBQ	$32, SP
	MOVQ	$0x74696e69, AX // "init"
	MOVQ	AX, 0(SP)
	MOVL	$157, AX
	MOVL	$15, DI
	MOVQ	SP, SI
	SYSCALL
	MOVQ	0(R14), DI
	MOVQ	-16(R15), SI
forget:
	MOVB	$0, 0(DI)
	INCQ	DI
	CMPQ	DI, SI
	JCS	forget
last:
	CMPB	0(DI), $0
	JEQ	named
	MOVB	$0, 0(DI)
	INCQ	DI
	JMP	last
named:
	MOVQ	0(R14), DI
	MOVL	$0x74696e69, 0(DI)
	MOVQ	$-1, 8(SP)
signals:
	MOVL	$128, AX
	LEAQ	8(SP), DI
	XORL	SI, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	signals
	CMPQ	AX, $17
	JEQ	reap
	MOVQ	AX, SI
	MOVQ	R12, DI
	MOVL	$62, AX
	SYSCALL
	JMP	signals
reap:
	MOVL	$61, AX
	MOVQ	$-1, DI
	LEAQ	16(SP), SI
	MOVL	$1, DX
	XORL	R10, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	signals
	CMPQ	AX, R12
	JNE	reap
	MOVL	16(SP), SI
	MOVL	SI, DI
	ANDL	$127, DI
	JNE	signal
	SHRL	$8, SI
	MOVL	SI, DI
	ANDL	$255, DI
	MOVL	$231, AX
	SYSCALL
	INT	$3
command:
	MOVL	$39, AX
	SYSCALL
	SUBQ	$16, SP
	MOVQ	AX, 0(SP)
	MOVQ	$0, 8(SP)
	MOVL	$109, AX
	XORL	DI, DI
	XORL	SI, SI
	SYSCALL
	MOVL	$16, AX
	XORL	DI, DI
	MOVL	$0x5410, SI
	MOVQ	SP, DX
	SYSCALL
	MOVL	$14, AX
	MOVL	$2, DI
	LEAQ	8(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	ADDQ	$16, SP
	JMP	ready

// func stubCode() unsafe.Pointer
TEXT ·stubCode(SB), NOSPLIT, $0-8
	LEAQ	·stub(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

package launch

import (
	"syscall"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

// The Go runtime keeps these three for callers like this one (go.dev/issue/67401).
// A test pins their signatures.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

// cloneChild clones a child that runs t's rows from the first. In the parent it
// returns the child's pid and pidfd. The child is a copy-on-write copy of this
// process, or with shared runs in its memory, on a stack of its own, until its
// execve: then the caller must keep t until the child is through.
//
// All signals are blocked over the clone, and stay so in the child until a row
// changes its mask: no handler of this program may run there. CLONE_CLEAR_SIGHAND
// sets the handlers to their defaults; ignored signals stay ignored.
//
//go:noinline
//go:norace
func cloneChild(t *table, flags uint64, cgroup int, shared bool) (pid, pidfd int, errno syscall.Errno) {
	// In the table, which is on the heap: a variable of this function would move with
	// its stack between here and the clone.
	t.pidfd = -1
	args := &cloneArgs{
		flags:      flags | abi.ClonePIDFD | abi.CloneClearSighand,
		pidfd:      uint64(uintptr(unsafe.Pointer(&t.pidfd))),
		exitSignal: uint64(syscall.SIGCHLD),
	}
	if cgroup >= 0 {
		args.flags |= abi.CloneIntoCgroup
		args.cgroup = uint64(cgroup)
	}
	rows := unsafe.Pointer(unsafe.SliceData(t.rows))
	n := len(t.rows)
	var r uintptr
	var e syscall.Errno
	if shared {
		args.flags |= abi.CloneVM
		t.stack = make([]byte, 32<<10)
		args.stack = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(t.stack)))+15) &^ 15
		args.stackSize = uint64(len(t.stack)-16) &^ 15
		syscall.ForkLock.Lock()
		runtimeBeforeFork()
		r, e = cloneShared(args, unsafe.Sizeof(*args), t, rows, n)
	} else {
		syscall.ForkLock.Lock()
		runtimeBeforeFork()
		// No allocation and no call but RawSyscall6 in the child from here on.
		r, _, e = syscall.RawSyscall6(sysClone3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, 0, 0, 0)
		if e == 0 && r == 0 {
			child(t, rows, n)
		}
	}
	runtimeAfterFork()
	syscall.ForkLock.Unlock()
	return int(r), int(t.pidfd), e
}

// child runs the table and, when a row fails, reports it and ends. It never
// returns.
//
//go:nosplit
//go:norace
func child(t *table, rows unsafe.Pointer, n int) {
	i, errno := childRows(t, rows, n)
	childFail(t, (*row)(unsafe.Add(rows, uintptr(min(i, n-1))*unsafe.Sizeof(row{}))), errno)
}

// childFail reports that a row failed, and ends this process.
//
//go:nosplit
//go:noinline
//go:norace
func childFail(t *table, r *row, errno uintptr) {
	t.msg[0] = plan.MsgError
	t.msg[1] = uint32(r.step)<<16 | uint32(r.index)
	t.msg[2] = uint32(errno)
	syscall.RawSyscall6(sysWrite, uintptr(t.regs[plan.RegSync]), uintptr(unsafe.Pointer(&t.msg)), plan.MsgSize, 0, 0, 0)
	childEnd(127)
}

// childEnd ends this process. A filter that is loaded already may have the kernel refuse that, too, as one that allows nothing
// does: the fault that comes then has no handler, and ends it, be it the first process of a pid namespace.
//
//go:nosplit
//go:norace
func childEnd(code uintptr) {
	syscall.RawSyscall6(sysExitGroup, code, 0, 0, 0, 0, 0)
	*(*int32)(nil) = 0
}

// childRows runs rows until one fails, and returns its index and error; n and 0
// when all are done. It runs in the child, and for the runtime's steps in this
// process: so it may only make raw system calls, and a test holds it to that.
//
//go:nosplit
//go:norace
func childRows(t *table, rows unsafe.Pointer, n int) (int, uintptr) {
	var noted uintptr
	i, tries := 0, 0
	for i < n {
		r := (*row)(unsafe.Add(rows, uintptr(i)*unsafe.Sizeof(row{})))
		if plan.RowKind(r.kind) == plan.RowFail {
			if noted != 0 {
				return i, noted
			}
			return i, uintptr(r.accept[0])
		}
		if skip, e, done := childOwn(t, r); done {
			if e != 0 {
				return i, e
			}
			i += 1 + skip
			continue
		}
		a := r.args
		for k, reg := range r.regs {
			if reg != 0 {
				a[k] = uintptr(*childReg(t, reg))
			}
		}
		v, _, e := syscall.RawSyscall6(uintptr(r.nr), a[0], a[1], a[2], a[3], a[4], a[5])
		if e == 0 {
			if r.message && v != plan.MsgSize {
				return i, uintptr(abi.EPIPE)
			}
			if plan.RowKind(r.kind) == plan.RowClose {
				*childReg(t, r.regs[0]) = -1
			}
			if r.out != 0 {
				*childReg(t, r.out) = int64(v)
			}
			i += 1 + int(r.onOK)
			tries = 0
			continue
		}
		if e == syscall.EINTR && r.message {
			continue
		}
		if e == syscall.EAGAIN && uintptr(r.nr) == sysOpenat2 && tries < maxTries {
			tries++
			continue
		}
		if !childAccepts(r, e) {
			return i, uintptr(e)
		}
		// A part of PATH that is a file, or a link that leads round, says nothing of the name.
		if plan.RowKind(r.kind) == plan.RowNote && e != syscall.Errno(r.accept[0]) && e != syscall.ENOTDIR && e != syscall.ELOOP {
			noted = uintptr(e)
		}
		i += 1 + int(r.onAccept)
	}
	return n, 0
}

// childAccepts reports whether a row takes an error for an answer.
//
//go:nosplit
//go:norace
func childAccepts(r *row, e syscall.Errno) bool {
	for k := range r.accept {
		if e == syscall.Errno(r.accept[k]) {
			return true
		}
	}
	return false
}

// childReg is a register, without a check of the bounds, which would call the Go runtime.
//
//go:nosplit
//go:norace
func childReg(t *table, n uint8) *int64 {
	return (*int64)(unsafe.Add(unsafe.Pointer(&t.regs), uintptr(n)*8))
}

// childMem is the memory that a row is about.
//
//go:nosplit
//go:norace
func childMem(r *row) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&r.args[memArg])) }

// childArg is what an argument points at.
//
//go:nosplit
//go:norace
func childArg(a *uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(a)) }

// childOwn does a row that is no system call with the row's arguments, and says how many rows after it are left out; it is
// not done for one that is.
//
//go:nosplit
//go:norace
func childOwn(t *table, r *row) (skip int, errno uintptr, done bool) {
	switch plan.RowKind(r.kind) {
	case plan.RowStore:
		*(*int32)(childMem(r)) = int32(*childReg(t, r.regs[0]))
	case plan.RowLoad:
		*childReg(t, r.out) = int64(*(*int32)(childMem(r)))
	case plan.RowIf:
		if uintptr(*(*uint32)(childMem(r)))&r.args[1] == r.args[0] {
			skip = int(r.onOK)
		}
	case plan.RowHeld:
		if *childReg(t, r.regs[0]) >= 0 {
			skip = int(r.onOK)
		}
	case plan.RowSkip:
		skip = int(r.onOK)
	case plan.RowOctal:
		childOctal(childArg(&r.args[0]), *(*uint16)(childMem(r)))
	case plan.RowMake:
		base, parent := uintptr(*childReg(t, r.regs[0])), uintptr(*childReg(t, r.regs[2]))
		errno = childMake(base, parent, childArg(&r.args[1]), r.args[3], r.args[4], (*walk)(childMem(r)))
	case plan.RowCloseRest:
		errno = childCloseRest(t, r)
	case plan.RowFork:
		errno = childFork(t)
	case plan.RowInit:
		errno = childInit(t)
	default:
		return 0, 0, false
	}
	return skip, errno, true
}

// childOctal writes the permissions of a file as four digits.
//
//go:nosplit
//go:norace
func childOctal(text unsafe.Pointer, mode uint16) {
	for k := uintptr(0); k < 4; k++ {
		*childAt(text, k) = '0' + byte(mode>>(9-3*k)&7)
	}
}

// childCloseRest closes a range of descriptors but for those that the row's registers hold: from one that stays to the next,
// in the order of their numbers.
//
//go:nosplit
//go:norace
func childCloseRest(t *table, r *row) uintptr {
	for low, last := int64(r.args[0]), int64(r.args[5]); low <= last; {
		next := last + 1
		for _, reg := range r.regs {
			if reg == 0 {
				continue
			}
			if kept := *childReg(t, reg); kept >= low && kept < next {
				next = kept
			}
		}
		if next > low {
			if _, _, e := syscall.RawSyscall6(sysCloseRange, uintptr(low), uintptr(next-1), 0, 0, 0, 0); e != 0 {
				return uintptr(e)
			}
		}
		low = next + 1
	}
	return 0
}

// childFork lets a copy of this process go on, as the runtime's child in the pid
// namespace that was joined, tells the runtime its pid, and ends this one.
//
//go:nosplit
//go:norace
func childFork(t *table) uintptr {
	childForget(t) // before those of the pid namespace see the copy: they may be allowed to look into it
	pid, _, e := syscall.RawSyscall6(sysClone, abi.CloneParent|abi.CloneParentSettid|uintptr(syscall.SIGCHLD), 0, uintptr(unsafe.Pointer(t.copy)), 0, 0, 0)
	if e != 0 || pid == 0 {
		return uintptr(e)
	}
	t.msg[0] = plan.MsgFork
	t.msg[1] = uint32(pid)
	syscall.RawSyscall6(sysWrite, uintptr(t.regs[plan.RegSync]), uintptr(unsafe.Pointer(&t.msg)), plan.MsgSize, 0, 0, 0)
	childEnd(0)
	return 0
}

// childForget overwrites the command line and the environment of this program, which are not
// the container's to read. It is for a copy of its memory: the strings of Go lie there.
//
//go:nosplit
//go:norace
func childForget(t *table) {
	for i := uintptr(0); i < t.args.size; i++ {
		c := byte(0)
		if i < unsafe.Sizeof(t.name) {
			c = *(*byte)(unsafe.Add(unsafe.Pointer(&t.name), i))
		}
		*(*byte)(unsafe.Add(t.args.at, i)) = c
	}
	for i := uintptr(0); i < t.env.size; i++ {
		*(*byte)(unsafe.Add(t.env.at, i)) = 0
	}
}

// childInit lets a child of this process go on as the command, and stays as the
// init of the pid namespace: it reaps every orphan, passes every signal on to
// the command, and ends as the command does. Signals are all blocked here, and
// waited for.
//
//go:nosplit
//go:norace
func childInit(t *table) uintptr {
	childForget(t)
	syscall.RawSyscall6(sysPrctl, abi.PRSetName, uintptr(unsafe.Pointer(&t.name)), 0, 0, 0, 0)
	pid, _, e := syscall.RawSyscall6(sysClone, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return uintptr(e)
	}
	if pid == 0 {
		// In a group of its own, which has the terminal, if there is one: a control
		// character would reach it twice otherwise, the second time by the init.
		const tiocspgrp = 0x5410
		self, _, _ := syscall.RawSyscall6(sysGetpid, 0, 0, 0, 0, 0, 0)
		t.msg[0] = uint32(self)
		syscall.RawSyscall6(sysSetpgid, 0, 0, 0, 0, 0, 0)
		syscall.RawSyscall6(sysIoctl, 0, tiocspgrp, uintptr(unsafe.Pointer(&t.msg)), 0, 0, 0)
		return 0
	}
	syscall.RawSyscall6(sysCloseRange, 3, 0xffffffff, 0, 0, 0, 0)
	t.pid1[0] = ^uint64(0)
	set, status := uintptr(unsafe.Pointer(&t.pid1[0])), unsafe.Pointer(&t.pid1[1])
	for {
		sig, _, e := syscall.RawSyscall6(sysSigtimedwait, set, 0, 0, 8, 0, 0)
		if e != 0 {
			continue
		}
		if sig != uintptr(syscall.SIGCHLD) {
			syscall.RawSyscall6(sysKill, pid, sig, 0, 0, 0, 0)
			continue
		}
		for {
			who, _, e := syscall.RawSyscall6(sysWait4, ^uintptr(0), uintptr(status), uintptr(syscall.WNOHANG), 0, 0, 0)
			if e != 0 || who == 0 {
				break
			}
			if who != pid {
				continue
			}
			code := uintptr(*(*uint32)(status))
			if code&0x7f != 0 {
				code = (128 + code&0x7f) << 8
			}
			childEnd(code >> 8 & 0xff)
		}
	}
}

// runHere runs rows of the runtime's side in this process.
func runHere(t *table) (int, syscall.Errno) {
	if len(t.rows) == 0 {
		return 0, 0
	}
	i, e := childRows(t, unsafe.Pointer(unsafe.SliceData(t.rows)), len(t.rows))
	return i, syscall.Errno(e)
}

package launch

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"sync"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/origlimit"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// clone lowers the container's side, and starts it.
func (r *run) clone(ctx context.Context, i int, c *plan.Clone) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return r.fail(i, "socketpair", err)
	}
	r.sock = pair[0]
	defer unix.Close(pair[1])
	if r.theirs, err = process.FileOf(pair[1]); err != nil {
		return r.fail(i, "", err)
	}
	if err := unix.SetsockoptInt(r.sock, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return r.fail(i, "setsockopt", err)
	}
	copy(r.child.regs[:], r.ours.regs[:])
	r.child.regs[plan.RegSync] = int64(pair[1])
	// Of the clone alone: from a directory of the host's mounts ".." leads to all of the host, and who may trace processes
	// inside gets at what this one has.
	r.child.regs[plan.RegCgroup] = -1
	stdio, closeStdio, err := r.stdio()
	defer closeStdio()
	if err != nil {
		return r.fail(i, "fcntl", err)
	}
	if err := r.lowerChild(i, stdio); err != nil {
		return err
	}
	if err := r.copies(i); err != nil {
		return err
	}
	cgroup := -1
	if fd := r.ours.regs[plan.RegCgroup]; fd >= 0 {
		cgroup = int(fd)
	}
	if r.shares = canShare && mayShare(r.plan); r.shares {
		sharing.enter()
	}
	pid, pidfd, errno := cloneChild(r.child, c.Flags(), cgroup, r.shares)
	if errno != 0 {
		return r.fail(i, "clone3", errno)
	}
	proc := &Process{PID: pid, pidfd: pidfd}
	// By Signal, which knows a process that was waited for, or that forked.
	proc.stop = context.AfterFunc(ctx, func() { proc.Signal(unix.SIGKILL) })
	r.proc = proc
	if r.opts.Cloned != nil {
		r.opts.Cloned(pid)
	}
	// /proc/PID is surely the child's: it is not reaped before Wait.
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return r.fail(i, "open", err)
	}
	r.ours.regs[plan.RegChildProc] = int64(dir)
	return nil
}

// copies prepares what steps need that let a copy of the child go on.
func (r *run) copies(i int) (err error) {
	has := func(is func(plan.Op) bool) bool {
		return slices.ContainsFunc(r.plan.Steps, func(s plan.Step) bool { return is(s.Op) })
	}
	forks := has(func(op plan.Op) bool { _, ok := op.(*plan.Fork); return ok })
	if forks {
		if r.child.copy, err = newWord(); err != nil {
			return r.fail(i, "mmap", err)
		}
	}
	r.hasInit = has(func(op plan.Op) bool { _, ok := op.(*plan.Init); return ok })
	if forks || has(func(op plan.Op) bool { i, ok := op.(*plan.Init); return ok && !i.Stub }) {
		if r.child.args, r.child.env, err = ownWords(); err != nil {
			return r.fail(i, "read", err)
		}
	}
	return nil
}

// sharers counts the launches whose children run in this process's memory. Such a
// child makes itself undumpable, and this process with it; the last launch under
// way undoes that, and none before: it would bare the others' children.
type sharers struct {
	sync.Mutex
	launches int
	dumpable int // of this process before the first one
}

var sharing sharers

func (s *sharers) enter() {
	s.Lock()
	defer s.Unlock()
	if s.launches++; s.launches == 1 {
		s.dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	}
}

func (s *sharers) leave() {
	s.Lock()
	defer s.Unlock()
	if s.launches--; s.launches == 0 && s.dumpable == 1 {
		unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
}

// enough is so much memory that no plan comes near it while it is carried out, in bytes.
const enough = 16 << 20

// mayShare reports whether the child may run in this process's memory, which
// spares copying it: not where a step acts on the memory as a whole.
func mayShare(p plan.Plan) bool {
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case *plan.EnterTime: // the clocks of a time namespace are mapped memory
			if !op.OnExec {
				return false
			}
		case *plan.Setns: // likewise; and who enters a container comes into its control group, where the kernel ends all who share the memory of one
			if op.NS == abi.NSTime || op.NS == abi.NSMount {
				return false
			}
		case *plan.Unshare: // the kernel gives no user namespace to who shares memory
			if slices.Contains(op.New, abi.NSUser) {
				return false
			}
		case *plan.Fork: // forgets this program's words, which this process still needs
			return false
		case *plan.Init: // likewise, but for the stub
			if !op.Stub {
				return false
			}
		case *plan.OOMScoreAdj: // is kept equal for all who share memory
			return false
		case *plan.LimitCgroup: // whom the kernel ends for want of memory, it ends with all who share that
			if n, ok := op.Memory(); ok && n < enough {
				return false
			}
		}
	}
	return true
}

// lowerChild builds the child's table: its streams, then the container's side
// of all steps after the clone.
func (r *run) lowerChild(clone int, stdio [3]int) error {
	var rows []plan.Row
	if r.opts.KeepFDs {
		// But not the other end of its own socket, or it would wait for a runtime that was killed.
		rows = append(rows, plan.Row{Call: abi.CallClose, Args: [6]plan.Arg{{Val: uint64(r.sock)}}, N: 1})
	} else {
		rows = r.closeOthers(stdio)
	}
	for k, fd := range stdio {
		if fd >= 0 {
			rows = append(rows, plan.Row{Call: abi.CallDup3, Args: [6]plan.Arg{{Val: uint64(fd)}, {Val: uint64(k)}}, N: 3})
		}
	}
	rows = append(rows, restoreNoFile())
	for _, reg := range []plan.Reg{plan.RegSync, plan.RegStart, plan.RegStarted} {
		if fd := r.child.regs[reg]; fd > 255 {
			// The stub takes its number as one byte.
			rows = append(rows, plan.Row{
				Call: abi.CallFcntl, Args: [6]plan.Arg{{Val: uint64(fd)}, {Val: unix.F_DUPFD_CLOEXEC}, {Val: 3}}, N: 3, Out: reg,
			})
		}
	}
	// Seven rows and a half a step is the measured mean; growing the slice would touch twice the memory.
	r.child.rows = make([]row, 0, 8*len(r.plan.Steps)+len(rows))
	r.prologue = rows // which holds their memory
	if err := r.child.add(clone, rows); err != nil {
		return r.fail(clone, "", err)
	}
	for i := clone + 1; i < len(r.plan.Steps); i++ {
		s := r.plan.Steps[i]
		if _, ok := s.Op.(*plan.Sync); !ok && s.Side != plan.Container {
			continue
		}
		rows := r.child.asm.Lower(s.Op)
		if isStart(s.Op) && !r.stubForks() {
			wait := slices.Clone(rows)
			rows = append(slices.Clone(r.child.asm.Lower(&plan.Sync{From: plan.Container})), wait...)
		}
		if r.stamps != nil {
			rows = r.stamps.around(i, rows)
		}
		if err := r.child.add(i, rows); err != nil {
			return r.fail(i, "", err)
		}
	}
	return nil
}

// restoreNoFile gives the child the limit of open files that this process was
// started with: the Go runtime has raised it for itself.
func restoreNoFile() plan.Row {
	soft, hard := origlimit.NoFile()
	limit := make([]byte, 16)
	binary.LittleEndian.PutUint64(limit, soft)
	binary.LittleEndian.PutUint64(limit[8:], hard)
	return plan.Row{Call: abi.CallPrlimit, Args: [6]plan.Arg{{}, {Val: unix.RLIMIT_NOFILE}, {Mem: &plan.Mem{Data: limit}}}, N: 4}
}

// closeOthers closes what the child needs nothing of: this process's other
// descriptors, among them the sockets of launches that run beside this one.
func (r *run) closeOthers(stdio [3]int) []plan.Row {
	keep := append(make([]int, 0, 3+plan.NumRegs), stdio[:]...)
	for _, fd := range r.child.regs {
		keep = append(keep, int(fd))
	}
	slices.Sort(keep)
	var rows []plan.Row
	closeRange := func(from, to int) {
		if from <= to {
			rows = append(rows, plan.Row{Call: abi.CallCloseRange, Args: [6]plan.Arg{{Val: uint64(from)}, {Val: uint64(to)}}, N: 3})
		}
	}
	for _, closed := range r.closed() {
		from, to := int(closed.First), int(closed.Last)
		for _, fd := range keep {
			if fd >= from && fd <= to {
				closeRange(from, fd-1)
				from = fd + 1
			}
		}
		closeRange(from, to)
	}
	return rows
}

// closed are the ranges of descriptors that the plan does not leave to the program.
func (r *run) closed() []plan.FDs {
	const last = 1<<31 - 1
	for _, s := range r.plan.Steps {
		if c, ok := s.Op.(*plan.CloseFDs); ok {
			return append(slices.Clone(c.Absent), plan.FDs{First: max(c.First, 3), Last: last})
		}
	}
	return []plan.FDs{{First: 3, Last: last}}
}

// stdio gives the descriptors that become 0, 1 and 2 of the container, -1 for this
// process's own. One of the three here is duplicated first, since it would be
// gone before it is used; closing those is for the caller.
func (r *run) stdio() (fds [3]int, close func(), err error) {
	var made []int
	close = func() { closeAll(made) }
	for k, f := range r.opts.Stdio {
		fds[k] = -1
		if f == nil {
			continue
		}
		if fds[k] = int(f.Fd()); fds[k] <= 2 {
			if fds[k], err = unix.FcntlInt(uintptr(fds[k]), unix.F_DUPFD_CLOEXEC, 3); err != nil {
				return fds, close, err
			}
			made = append(made, fds[k])
		}
	}
	return fds, close, nil
}

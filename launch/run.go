package launch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/origlimit"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Hands does the operations of the runtime's side that are not raw calls, in
// the order in which [Run] meets them, and every operation of an undo.
type Hands interface {
	// Do does op. pid is the container's first process, 0 before there is one.
	Do(ctx context.Context, op plan.Op, pid int) error
}

// FDHands are hands that do operations on descriptors, too: those of [plan.Handed] and [plan.Filled].
type FDHands interface {
	Hands
	// DoFDs does op on the descriptors that its registers hold, and leaves those that it opens
	// for the registers of [plan.Filled] in fds; all of them are the launch's.
	DoFDs(ctx context.Context, op plan.Op, pid int, fds []int) error
}

// Options are what a launch needs besides its plan. The zero value is fine for
// plans whose runtime side is raw calls only.
type Options struct {
	Hands   Hands
	Stdio   [3]*os.File // the container's streams; nil keeps this process's own
	Timings bool        // measure each step
	// KeepFDs leaves the container's side the descriptors that this process has and that are
	// not close-on-exec: what its caller gave it, for another program.
	KeepFDs bool
	// Journal, when set, is called before each step of the runtime's side that has
	// an undo, so that a later process can undo what this one left behind.
	Journal func(n int) error
	// Before, when set, is called before each step is come to, counted from 0: of the container's side, which has steps of its own pace, as well.
	// Tests end the process there.
	Before func(n int)
	// Cloned, when set, is called right after the clone, while the caller may look into the
	// process, unless it is faster and has closed itself to others already.
	Cloned func(pid int)
	// Start, when set, is called when all is built, before the container is told to
	// go on to its execve. An error ends it.
	Start func(pid int) error
	// Terminal, when set, is called just before Start with the master side of the
	// container's new terminal, on which nothing has been written yet.
	Terminal func(master int) error
}

// Run executes p up to and including its execve. Where the plan has the container
// die with its parent, that is the calling thread: lock it until the end. On an error nothing of p is
// left on the host, and the error is an [*Error] when a step failed.
func Run(ctx context.Context, p plan.Plan, o Options) (*Process, error) {
	r := &run{plan: p, opts: o, ours: newTable(), child: newTable(), sock: -1}
	proc, err := r.run(ctx)
	if err == nil {
		return proc, nil
	}
	if end := ctx.Err(); end != nil && !errors.Is(err, end) {
		err = fmt.Errorf("%w: %w", end, err) // which killed the child, whose death is the error
	}
	return nil, errors.Join(err, r.undo())
}

// A run is one launch under way.
type run struct {
	plan   plan.Plan
	opts   Options
	ours   *table // the runtime's registers, and the rows of its current step
	child  *table // the container's rows; its registers at the time of the clone
	sock   int    // our end of the socket
	proc   *Process
	done   int // steps of the runtime's side that ran, for undo
	stamps *stamps
	shares bool // the child runs in this process's memory

	early    [][]int    // descriptors of syncs that came before the word of a fork
	prologue []plan.Row // rows of the child before its steps
}

func (r *run) run(ctx context.Context) (_ *Process, err error) {
	defer r.closeRegisters()
	defer func() {
		if r.shares {
			sharing.leave()
		}
	}()
	if r.opts.Timings {
		if r.stamps, err = newStamps(len(r.plan.Steps)); err != nil {
			return nil, err
		}
	}
	for i, s := range r.plan.Steps {
		if err := ctx.Err(); err != nil {
			r.kill()
			return nil, err
		}
		if err := r.step(ctx, i, s); err != nil {
			err = r.earlier(err)
			r.kill()
			return nil, err
		}
	}
	if r.proc == nil {
		return nil, errors.New("plan without a clone step")
	}
	err = r.waitExec()
	if err == nil {
		err = ctx.Err() // the end of the socket may be that of a killed child
	}
	if err != nil {
		r.kill()
		return nil, err
	}
	// A child that shared this process's memory ran in the table until now.
	runtime.KeepAlive(r.child)
	if r.stamps != nil {
		r.proc.Timings = r.stamps.micros(r.plan)
		r.stamps.free()
	}
	return r.proc, nil
}

// earlier returns, in place of the error of a step of the runtime's side, that of the container's side, when it has
// reported one: it is why there was nobody to do the step to.
func (r *run) earlier(err error) error {
	var failed *Error
	if r.proc == nil || !errors.As(err, &failed) || failed.Step.Side != plan.Runtime {
		return err
	}
	if _, ok := failed.Step.Op.(*plan.Sync); ok {
		return err // of a meeting: it is known already
	}
	for {
		ready := []unix.PollFd{{Fd: int32(r.sock), Events: unix.POLLIN}}
		if n, e := unix.Poll(ready, 0); n != 1 || e != nil {
			return err
		}
		kind, a, b, fds, e := r.message()
		closeAll(fds)
		switch {
		case e != nil:
			return err
		case kind == plan.MsgError:
			return r.childError(a, b)
		}
	}
}

// step does the runtime's part of step i.
func (r *run) step(ctx context.Context, i int, s plan.Step) error {
	if r.opts.Before != nil {
		r.opts.Before(i)
	}
	switch op := s.Op.(type) {
	case *plan.Sync:
		defer r.stamps.ours(i)()
		return r.sync(i, op)
	case *plan.Fork:
		// The process that goes on is known from here on: hands and Start get it.
		_, err := r.receive(i, plan.MsgFork)
		return err
	}
	if s.Side != plan.Runtime {
		return nil
	}
	defer r.stamps.ours(i)()
	if s.Undo != nil {
		r.done = i + 1
		if r.opts.Journal != nil {
			if err := r.opts.Journal(i + 1); err != nil {
				return r.fail(i, "", err)
			}
		}
	}
	switch op := s.Op.(type) {
	case *plan.Clone:
		return r.clone(ctx, i, op)
	case *plan.Stub:
		fd, err := openStub(op.Label)
		if err != nil {
			return r.fail(i, "memfd_create", err)
		}
		r.ours.regs[plan.RegStub] = int64(fd)
		return nil
	case *plan.NewUserNamespace:
		fd, err := userNamespace(ctx, op)
		if err != nil {
			return r.fail(i, "", err)
		}
		r.ours.regs[op.Out] = int64(fd)
		return nil
	}
	rows := r.ours.asm.Lower(s.Op)
	if len(rows) == 0 {
		return r.hand(ctx, i, s.Op)
	}
	return r.do(i, rows)
}

func (r *run) hand(ctx context.Context, i int, op plan.Op) error {
	if r.opts.Hands == nil {
		return r.fail(i, "", errors.New("nothing here can do that"))
	}
	pid := 0
	if r.proc != nil {
		pid = r.proc.PID
	}
	if err := r.handDo(ctx, op, pid); err != nil {
		return r.fail(i, "", err)
	}
	return nil
}

func (r *run) handDo(ctx context.Context, op plan.Op, pid int) error {
	regs := plan.Handed(op)
	filled := plan.Filled(op)
	if len(regs)+len(filled) == 0 {
		return r.opts.Hands.Do(ctx, op, pid)
	}
	h, ok := r.opts.Hands.(FDHands)
	if !ok {
		return errors.New("nothing here can do that to descriptors")
	}
	fds := make([]int, len(regs))
	for k, reg := range regs {
		fds[k] = int(r.ours.regs[reg])
	}
	if len(filled) == 0 {
		err := h.DoFDs(ctx, op, pid, fds)
		for _, reg := range plan.Given(op) {
			unix.Close(int(r.ours.regs[reg]))
			r.ours.regs[reg] = -1
		}
		return err
	}
	fds = slices.Repeat([]int{-1}, len(filled))
	err := h.DoFDs(ctx, op, pid, fds)
	for k, reg := range filled {
		r.ours.regs[reg] = int64(fds[k])
	}
	return err
}

// userNamespace makes a user namespace that a descriptor keeps: the process that it was made
// with ends as soon as it is mapped.
func userNamespace(ctx context.Context, op *plan.NewUserNamespace) (int, error) {
	fd := -1
	made := errors.New("made")
	_, err := Run(ctx, plan.Plan{Steps: []plan.Step{
		{Op: &plan.Clone{New: []abi.Namespace{abi.NSUser}}},
		{Op: &plan.WriteIDMap{Map: op.UIDs}}, {Op: &plan.WriteIDMap{Group: true, Map: op.GIDs}},
		{Op: &plan.Sync{From: plan.Runtime, What: plan.StartWord}}, {Op: &plan.Exec{Args: []string{"/none"}}, Side: plan.Container},
	}}, Options{Start: func(pid int) (err error) {
		if fd, err = unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: "ns/user", Err: err}
		}
		return made
	}})
	if !errors.Is(err, made) {
		return -1, err
	}
	return fd, nil
}

// clone lowers the container's side, and starts it.
func (r *run) clone(ctx context.Context, i int, c *plan.Clone) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return r.fail(i, "socketpair", err)
	}
	r.sock = pair[0]
	defer unix.Close(pair[1])
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
	if slices.ContainsFunc(r.plan.Steps, func(s plan.Step) bool {
		switch s.Op.(type) {
		case *plan.Init, *plan.Fork:
			return true
		}
		return false
	}) {
		if r.child.args, r.child.env, err = ownWords(); err != nil {
			return r.fail(i, "read", err)
		}
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
		case *plan.Setns: // likewise
			if op.NS == abi.NSTime {
				return false
			}
		case *plan.Init, *plan.Fork: // forget this program's words, which this process still needs
			return false
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
		if isStart(s.Op) {
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

func isStart(op plan.Op) bool {
	s, ok := op.(*plan.Sync)
	return ok && s.From == plan.Runtime && s.What == plan.StartWord
}

// start waits until the container's side has come to the start, too. A word that
// was sent ahead would let a container go on whose runtime has died meanwhile,
// before it asked to be told of that.
func (r *run) start(i int) error {
	if _, err := r.receive(i, plan.MsgSync); err != nil {
		return err
	}
	if fd := int(r.ours.regs[plan.RegMaster]); fd >= 0 && r.opts.Terminal != nil {
		if err := r.opts.Terminal(fd); err != nil {
			return r.fail(i, "", err)
		}
	}
	if r.opts.Start == nil {
		return nil
	}
	if err := r.opts.Start(r.proc.PID); err != nil {
		return r.fail(i, "", err)
	}
	return nil
}

// sync does the runtime's half of a meeting.
func (r *run) sync(i int, s *plan.Sync) error {
	if s.From == plan.Runtime {
		if isStart(s) {
			if err := r.start(i); err != nil {
				return err
			}
		}
		msg := make([]byte, plan.MsgSize)
		msg[0] = plan.MsgSync
		var rights []byte
		if len(s.FDs) > 0 {
			fds := make([]int, len(s.FDs))
			for k, reg := range s.FDs {
				fds[k] = int(r.ours.regs[reg])
			}
			rights = unix.UnixRights(fds...)
		}
		err := unix.Sendmsg(r.sock, msg, rights, nil, unix.MSG_NOSIGNAL)
		if err == unix.EPIPE || err == unix.ECONNRESET {
			return r.childGone(i)
		}
		if err != nil {
			return r.fail(i, "sendmsg", err)
		}
		return nil
	}
	fds, err := r.receive(i, plan.MsgSync)
	if err != nil {
		return err
	}
	if len(fds) != len(s.FDs) {
		closeAll(fds)
		return r.fail(i, "recvmsg", fmt.Errorf("%d descriptors came, %d were due", len(fds), len(s.FDs)))
	}
	for k, reg := range s.FDs {
		if old := r.ours.regs[reg]; old >= 0 {
			unix.Close(int(old))
		}
		r.ours.regs[reg] = int64(fds[k])
	}
	return nil
}

// childGone reads why the child went away.
func (r *run) childGone(i int) error {
	if _, err := r.receive(i, plan.MsgSync); err != nil {
		return err
	}
	return r.fail(i, "", errors.New("the container's process went away"))
}

// receive reads messages until one of the wanted kind, a sync or a fork, and
// follows a fork on the way.
func (r *run) receive(i int, want uint32) ([]int, error) {
	if want == plan.MsgSync && len(r.early) > 0 {
		fds := r.early[0]
		r.early = r.early[1:]
		return fds, nil
	}
	var early error // of the copy that a fork made: it may be faster than the word of the fork
	for {
		kind, a, b, fds, err := r.message()
		switch {
		case err == io.EOF && early != nil:
			return nil, early
		case err == io.EOF:
			return nil, r.fail(i, "", r.deathReason())
		case err != nil:
			return nil, r.fail(i, "recvmsg", err)
		case kind == plan.MsgSync && want == plan.MsgFork:
			r.early = append(r.early, fds)
		case kind == plan.MsgSync:
			return fds, nil
		case kind == plan.MsgFork:
			closeAll(fds)
			if err := r.follow(int(a)); err != nil {
				return nil, r.fail(i, "pidfd_open", err)
			}
			if want == plan.MsgFork {
				return nil, early
			}
		default:
			closeAll(fds)
			e := r.childError(a, b)
			if kind == plan.MsgExec {
				e = r.fail(len(r.plan.Steps)-1, "execve", syscall.Errno(b))
			}
			if want != plan.MsgFork {
				return nil, e
			}
			early = e
		}
	}
}

// waitExec waits for the child's end of the socket to close at execve.
func (r *run) waitExec() error {
	last := len(r.plan.Steps) - 1
	for {
		kind, a, b, fds, err := r.message()
		closeAll(fds)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return r.fail(last, "recvmsg", err)
		case kind == plan.MsgFork:
			if err := r.follow(int(a)); err != nil {
				return r.fail(last, "pidfd_open", err)
			}
		case kind == plan.MsgError:
			return r.childError(a, b)
		case kind == plan.MsgExec:
			return r.fail(last, "execve", syscall.Errno(b))
		default:
			return r.fail(last, "", fmt.Errorf("unexpected message %d from the container's side", kind))
		}
	}
}

// message reads one message: io.EOF when the other end is closed.
func (r *run) message() (kind, a, b uint32, fds []int, err error) {
	buf := make([]byte, plan.MsgSize)
	oob := make([]byte, unix.CmsgSpace(4*plan.NumRegs))
	for {
		n, oobn, _, _, err := unix.Recvmsg(r.sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		// ECONNRESET comes once, when the other end closed with a sync unread; what it
		// wrote before is still there, and then the end.
		if err == unix.EINTR || err == unix.ECONNRESET {
			continue
		}
		if err == nil && n == 0 {
			return 0, 0, 0, nil, io.EOF
		}
		if err != nil {
			return 0, 0, 0, nil, err
		}
		if n != plan.MsgSize {
			return 0, 0, 0, nil, fmt.Errorf("message of %d bytes", n)
		}
		if oobn > 0 {
			msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				return 0, 0, 0, nil, err
			}
			for _, m := range msgs {
				if got, err := unix.ParseUnixRights(&m); err == nil {
					fds = append(fds, got...)
				}
			}
		}
		le := binary.LittleEndian
		return le.Uint32(buf), le.Uint32(buf[4:]), le.Uint32(buf[8:]), fds, nil
	}
}

// follow takes pid, a child of this process too, for the container's process.
func (r *run) follow(pid int) error {
	// The number comes from the other side: it has to be a child of this process.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	p := r.proc
	p.mu.Lock()
	forked, forkedFD := p.PID, p.pidfd
	p.PID, p.pidfd = pid, pidfd
	p.mu.Unlock()
	// It has ended, or has nothing else to do.
	unix.PidfdSendSignal(forkedFD, unix.SIGKILL, nil, 0)
	for {
		if _, err := syscall.Wait4(forked, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
	return unix.Close(forkedFD)
}

// childError turns the child's report into an *Error. The numbers come from
// the other side of a socket and are not trusted.
func (r *run) childError(where, errno uint32) error {
	step, index := int(where>>16), int(where&0xffff)
	if step >= len(r.plan.Steps) {
		return fmt.Errorf("the container's side reports step %d of %d", step+1, len(r.plan.Steps))
	}
	call := ""
	for _, row := range r.child.rows {
		if int(row.step) == step && int(row.index) == index {
			call = callName(uintptr(row.nr))
		}
	}
	return r.fail(step, call, syscall.Errno(errno))
}

// deathReason says how a child ended that reported nothing.
func (r *run) deathReason() error {
	st, err := r.proc.Wait()
	switch {
	case err != nil:
		return err
	case st.Signaled():
		return fmt.Errorf("the container's process was ended by signal %s", abi.Signal(st.Signal()))
	}
	return fmt.Errorf("the container's process ended with code %d", st.ExitStatus())
}

func (r *run) fail(i int, call string, err error) error {
	e := &Error{N: i + 1, Of: len(r.plan.Steps), Step: r.plan.Steps[i], Call: call, Err: err}
	e.Hint = hint(e)
	return e
}

// kill ends the child of a failed launch and reaps it.
func (r *run) kill() {
	if r.proc != nil {
		r.proc.Signal(syscall.SIGKILL)
		r.proc.Wait()
		r.proc = nil // so that its terminal is closed as well
	}
	if r.stamps != nil {
		r.stamps.free()
	}
}

// undo gives the host back what steps of the runtime's side took.
func (r *run) undo() error {
	var errs []error
	for _, op := range r.plan.Inverse(r.done) {
		if r.opts.Hands == nil {
			errs = append(errs, fmt.Errorf("undo %v: nothing here can do that", op))
			continue
		}
		if err := r.opts.Hands.Do(context.Background(), op, 0); err != nil {
			errs = append(errs, fmt.Errorf("undo %v: %w", op, err))
		}
	}
	return errors.Join(errs...)
}

// closeRegisters closes what the runtime's registers hold, but for the pidfd and
// the terminal, which the Process keeps.
func (r *run) closeRegisters() {
	if r.sock >= 0 {
		unix.Close(r.sock)
	}
	for _, fds := range r.early {
		closeAll(fds)
	}
	if fd := r.ours.regs[plan.RegMaster]; fd >= 0 && r.proc != nil {
		r.proc.Master = os.NewFile(uintptr(fd), "/dev/ptmx")
		r.ours.regs[plan.RegMaster] = -1
	}
	for i, fd := range r.ours.regs {
		if fd >= 0 {
			unix.Close(int(fd))
			r.ours.regs[i] = -1
		}
	}
}

// closeTemps closes what a step's rows left open when one of them failed: the
// registers after the ones that plans share.
func (r *run) closeTemps() { plan.CloseTemps(r.ours.regs[:], func(fd int) { unix.Close(fd) }) }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func arch() abi.Arch { return abi.Native(runtime.GOARCH) }

func callName(nr uintptr) string {
	if nr == 0 && runtime.GOARCH != "amd64" {
		return ""
	}
	name, _ := abi.SyscallName(arch(), uint32(nr))
	return name
}

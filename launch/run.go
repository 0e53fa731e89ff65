package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/process"
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
	// Stuck, when set, is asked every half second (stopTime) in which nothing comes from the container's side, such as whether its process stands still in a frozen control group. An error
	// ends the launch.
	Stuck func(pid int) error
	// Killed, when set, is called for each process of a failed launch that was sent SIGKILL, before its end is waited for: with version 1 of control groups one that is
	// frozen does not end.
	Killed func(pid int)
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
	ours   *table       // the runtime's registers, and the rows of its current step
	child  *table       // the container's rows; its registers at the time of the clone
	sock   int          // our end of the socket
	theirs process.File // the other end
	sender int          // of the last message: its pid, which the kernel tells
	proc   *Process
	done   int // steps of the runtime's side that ran, for undo
	stamps *stamps
	shares bool // the child runs in this process's memory
	// hasInit is that the child stays as the init, and has one of its own go on as the program.
	hasInit bool

	early    [][]int    // descriptors of syncs that came before the word of a fork
	prologue []plan.Row // rows of the child before its steps
}

func (r *run) run(ctx context.Context) (_ *Process, err error) {
	defer func() { r.child.copy.free() }()
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
// reported one: it is why there was nobody to do the step to. So is its end, where somebody has killed it.
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
		if n, e := unix.Poll(ready, leaving(failed)); n != 1 || e != nil {
			return err
		}
		kind, a, b, fds, e := r.message()
		closeAll(fds)
		switch {
		case e == io.EOF && isMet(r.plan.Steps[failed.N:]):
			return r.fail(failed.N-1, failed.Call, r.deathReason())
		case e != nil:
			return err
		case kind == plan.MsgError:
			return r.childError(a, b)
		}
	}
}

// leaving is how long, in ms, the other side's end may take to close the socket, as an error says that finds nobody there: a process loses its files in /proc
// before that.
func leaving(e *Error) int {
	if errors.Is(e.Err, unix.ENOENT) || errors.Is(e.Err, unix.ESRCH) {
		return 50
	}
	return 0
}

// isMet reports whether the two sides meet in steps: until then only the end of the container's side closes its socket.
func isMet(steps []plan.Step) bool {
	return slices.ContainsFunc(steps, func(s plan.Step) bool {
		_, sync := s.Op.(*plan.Sync)
		return sync
	})
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
		fd, err := openStub(op)
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

func (r *run) fail(i int, call string, err error) error {
	e := &Error{N: i + 1, Of: len(r.plan.Steps), Step: r.plan.Steps[i], Call: call, Err: err}
	if e.Hint = hint(e); e.Errno() == syscall.EPERM || e.Errno() == syscall.EACCES {
		e.Hint = r.restricted(e.Hint)
	}
	// Why an execve is refused has more reasons.
	if _, last := e.Step.Op.(*plan.Exec); e.Hint == "" && !last && (e.Errno() == syscall.EPERM || e.Errno() == syscall.ENOSYS) && slices.ContainsFunc(r.plan.Steps[:i], filters) {
		e.Hint = "the filter of linux.seccomp is in force by then, and has to allow " + call + "; with process.noNewPrivileges it is loaded later"
	}
	return e
}

// filters reports whether a step puts the calls of those behind it under a filter.
func filters(s plan.Step) bool {
	load, ok := s.Op.(*plan.Seccomp)
	return ok && !load.Stub
}

// restricted is a hint where the kernel lets an ordinary user's program do nothing in a user namespace unless a profile of AppArmor says so, as with Ubuntu, and none
// does: whatever step fails first fails for that.
func (r *run) restricted(hint string) string {
	if os.Geteuid() == 0 || !slices.ContainsFunc(r.plan.Steps, func(s plan.Step) bool {
		c, ok := s.Op.(*plan.Clone)
		return ok && slices.Contains(c.New, abi.NSUser)
	}) {
		return hint
	}
	wanted, _ := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") // not there with other kernels
	profile, _ := os.ReadFile("/proc/self/attr/current")
	if lacksProfile(string(wanted), string(profile)) {
		return profileHint
	}
	return hint
}

// kill ends the child of a failed launch and reaps it.
func (r *run) kill() {
	if r.proc != nil {
		if r.stubForks() { // the copy is in the process group of who made it, until it is had go on
			unix.Kill(-r.proc.PID, unix.SIGKILL)
		}
		r.proc.Signal(syscall.SIGKILL)
		copied := r.copied()
		if copied > 0 {
			unix.Kill(copied, unix.SIGKILL)
		}
		r.killed(r.proc.PID, copied)
		r.proc.Wait()
		if r.stubForks() {
			reapKilled(-r.proc.PID)
		}
		if copied = cmp.Or(copied, r.copied()); copied > 0 { // it may have been made at the last moment
			unix.Kill(copied, unix.SIGKILL)
			r.killed(copied)
			reapKilled(copied)
		}
		r.proc = nil // so that its terminal is closed as well
	}
	if r.stamps != nil {
		r.stamps.free()
	}
}

// stubForks reports whether the process that goes on is made by the stub.
func (r *run) stubForks() bool {
	exec, _ := r.plan.Steps[len(r.plan.Steps)-1].Op.(*plan.Exec)
	return exec != nil && exec.Fork
}

func (r *run) killed(pids ...int) {
	for _, pid := range pids {
		if pid > 0 && r.opts.Killed != nil {
			r.opts.Killed(pid)
		}
	}
}

// copied is the copy that a fork has made, where nobody knows of it, else 0: the process that makes it may be killed before it says so, and its word may not have been
// read. It is a child of this process, whose pid namespace would never end with one in it that nobody waits for.
func (r *run) copied() int {
	if r.child.copy == nil {
		return 0
	}
	pid := int(*r.child.copy)
	if pid <= 0 || pid == r.proc.PID || isChild(pid) != nil {
		return 0
	}
	return pid
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
	name, _ := arch().SyscallName(uint32(nr))
	return name
}

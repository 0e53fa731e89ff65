package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Result is how a run ended.
type Result struct {
	Code     int            // exit code: the command's own, or 128 plus the signal that ended it
	Signal   syscall.Signal // that ended it, where this is known of the command itself: of [Engine.Execute]
	Plan     plan.Plan      // what was run
	Timings  []float64      // microseconds a step, when they were asked for
	Warnings []string
}

// Run runs a container to its end. An error is an [*ExitError] with Docker's
// exit code; nothing of the container is left then.
func (e *Engine) Run(ctx context.Context, r Config, s Streams, timings bool) (Result, error) {
	if r.TTY && s.Terminal != nil && r.Rows == 0 && r.Columns == 0 {
		// The command finds the size there; later ones come as signals.
		if size, err := unix.IoctlGetWinsize(int(s.Terminal.Fd()), unix.TIOCGWINSZ); err == nil {
			r.Rows, r.Columns = size.Row, size.Col
		}
	}
	rec, err := e.record(r)
	if err != nil {
		return Result{}, &ExitError{125, err}
	}
	ent, err := e.reserve(rec)
	if err != nil {
		return Result{}, &ExitError{125, err}
	}
	prep, err := e.compile(r, ent.rec)
	if err != nil {
		return Result{}, &ExitError{125, errors.Join(err, ent.remove())}
	}
	res, err := e.runEntry(ctx, prep, s, ent, timings)
	if rmErr := ent.remove(); rmErr != nil && err == nil {
		err = &ExitError{125, rmErr}
	}
	return res, err
}

// runEntry runs what was prepared for an entry. It is left to the caller to remove that.
func (e *Engine) runEntry(ctx context.Context, prep *Prepared, s Streams, ent *entry, timings bool) (Result, error) {
	r := prep.builder.run
	ent.rec = prep.Container
	ent.rec.Created = time.Now()
	if len(ent.rec.Undo) > 0 {
		if err := ent.write(nil); err != nil {
			return Result{}, &ExitError{125, err}
		}
	}
	for _, m := range prep.builder.toMake {
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return Result{}, &ExitError{125, fmt.Errorf("%s: %w", m.Flag, err)}
		}
	}
	uid, gid := prep.hostID()
	io, err := openStreams(r, s, uid, gid)
	if err != nil {
		return Result{}, &ExitError{125, err}
	}
	defer io.close()
	// The container ends with the thread that cloned it: this one stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	note := func(pid int) {
		if !own(r.PID) {
			ent.rec.noteNamespaces(pid)
		}
	}
	proc, err := launch.Run(ctx, prep.Plan, launch.Options{
		Hands: e.hands, Stdio: io.child, Timings: timings,
		Cloned: note,
		Start: func(pid int) error {
			ent.rec.PID = pid
			if ent.rec.Started, err = startTime(pid); err != nil {
				return err
			}
			note(pid)
			return ent.write(nil)
		},
	})
	if err != nil {
		return Result{Plan: prep.Plan, Warnings: prep.Plan.Warnings}, launchError(err)
	}
	return e.attend(ent, prep, proc, s, io)
}

// attend carries a running container to its end: streams, signals, the record
// of its plan, and what killed processes left behind.
func (e *Engine) attend(ent *entry, prep *Prepared, proc *launch.Process, s Streams, io *streams) (Result, error) {
	if ent.rec.PID != proc.PID {
		// The process went on in a joined pid namespace, as another one.
		ent.rec.PID = proc.PID
		if started, err := startTime(proc.PID); err == nil {
			ent.rec.Started = started
			ent.write(nil)
		}
	}
	shared := !own(prep.builder.run.PID)
	if shared && ent.rec.Mounts == "" {
		ent.rec.noteNamespaces(proc.PID)
		ent.write(nil)
	}
	io.start(proc)
	stop := func() {}
	if s.Signals {
		stop = launch.Forward(proc, launch.ForwardOptions{Resize: io.resize, Term: prep.stopSignal()})
	}
	recorded := e.recordLater(ent, prep, proc, s.Started)
	status, err := proc.Wait()
	stop()
	ent.strays = endStrays(ent.rec)
	outErr := io.finish(shared)
	recorded()
	res := Result{Plan: prep.Plan, Timings: proc.Timings, Warnings: prep.Plan.Warnings}
	if err != nil {
		return res, &ExitError{125, fmt.Errorf("wait: %w", err)}
	}
	res.Code = status.ExitStatus()
	if status.Signaled() {
		res.Code = 128 + int(status.Signal())
	}
	switch {
	case ent.strays != nil:
		return res, &ExitError{125, ent.strays}
	case errors.Is(outErr, syscall.EPIPE):
		res.Code = 128 + int(syscall.SIGPIPE) // as for a program that wrote there itself
	case outErr != nil:
		return res, &ExitError{125, outErr}
	}
	return res, nil
}

// recordDelay is how long a container runs before its plan is written down, and
// what killed processes left is looked for: short programs need not wait for it.
const recordDelay = 10 * time.Millisecond

// recordLater starts the guard of a running container, writes its plan into its file,
// tells the caller that it runs, and sweeps. The function it returns waits for that, or
// prevents it when the container ended before.
func (e *Engine) recordLater(ent *entry, prep *Prepared, proc *launch.Process, started func(Container)) (stop func()) {
	done := make(chan struct{})
	release := func() {}
	work := func() {
		defer close(done)
		// Without it the container still asked to end with this process.
		if r, err := proc.Guard(); err == nil {
			release = r
		}
		ent.write(&prep.Plan)
		if started != nil {
			started(ent.rec)
		}
		e.sweep()
	}
	if started != nil {
		go work()
		return func() { <-done; release() }
	}
	t := time.AfterFunc(recordDelay, work)
	return func() {
		if !t.Stop() {
			<-done
			release()
		} else if ent.company {
			e.sweep()
		}
	}
}

// hostID is the host's id of the container's user, who is to own its streams.
func (p *Prepared) hostID() (uid, gid int) {
	u := p.builder.spec.Process.User
	l := p.builder.spec.Linux
	uid, gid = int(u.UID), int(u.GID)
	for _, m := range l.UIDMappings {
		if u.UID >= m.ContainerID && u.UID-m.ContainerID < m.Size {
			uid = int(m.HostID + u.UID - m.ContainerID)
		}
	}
	for _, m := range l.GIDMappings {
		if u.GID >= m.ContainerID && u.GID-m.ContainerID < m.Size {
			gid = int(m.HostID + u.GID - m.ContainerID)
		}
	}
	return uid, gid
}

// launchError gives a failed launch its exit code: 127 for a command that is not
// there, 126 for one that cannot be run, 125 for everything before it.
func launchError(err error) error {
	var step *launch.Error
	if !errors.As(err, &step) {
		return &ExitError{125, err}
	}
	op, ok := step.Step.Op.(*plan.Exec)
	if !ok {
		return &ExitError{125, err}
	}
	switch step.Errno() {
	case syscall.ENOENT, syscall.ENOTDIR:
		if len(op.Path) > 0 {
			return &ExitError{127, fmt.Errorf("exec: %q: executable file not found in $PATH: %w", op.Program(), err)}
		}
		return &ExitError{127, fmt.Errorf("exec: %q: no such file or directory: %w", op.Program(), err)}
	}
	return &ExitError{126, fmt.Errorf("exec: %q: %w", op.Program(), err)}
}

// stopSignal is --stop-signal, 0 where it was not given.
func (p *Prepared) stopSignal() syscall.Signal {
	sig, _ := abi.ParseSignal(p.builder.run.StopSignal)
	return syscall.Signal(sig)
}

package engine

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Result is how a run ended.
type Result struct {
	ID       string         // of the container; with an error, of one that is left
	Code     int            // exit code: the command's own, or 128 plus the signal that ended it
	Signal   syscall.Signal // that ended it, where this is known of the command itself
	Detached bool           // the caller went, by its keys, and the container goes on
	Plan     plan.Plan      // what was run, when timings were asked for
	Timings  []float64      // microseconds a step, when they were asked for
	Warnings []string
}

// RunOptions are those of [Engine.Run].
type RunOptions struct {
	Detach  bool // return when the container runs
	Timings bool // measure each step
}

// sweepDelay is how long a container runs before what killed processes left is looked for: short
// programs need not wait for it.
const sweepDelay = 250 * time.Millisecond

// sweepPause is the shortest time between two sweeps of starts that nobody stays for. A sweep asks about each container
// that runs: without a pause, a start beside many others would take longer than the first.
const sweepPause = time.Second

// Run makes a container and starts it, and unless it is detached stays until its end. An error is an [*ExitError] with Docker's
// exit code. The container stays, or is removed when it has ended, as its Config says.
func (e *Engine) Run(ctx context.Context, cfg Config, s Streams, o RunOptions) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, &ExitError{125, err}
	}
	if err := e.chooseNetwork(&cfg); err != nil { // which is where the monitor is to be
		return Result{}, &ExitError{125, err}
	}
	m, err := e.spawn(ctx, monitor.Spawn, &cfg)
	if err != nil {
		return Result{}, &ExitError{125, err}
	}
	r := launching{e: e, o: o, monitor: m}
	defer r.close()
	if err := r.create(ctx, cfg, s); err != nil {
		return Result{}, &ExitError{125, err}
	}
	if err := r.start(ctx); err != nil {
		return r.res, err
	}
	if s.Started != nil {
		s.Started(r.c)
	}
	if o.Detach {
		r.leave = true
		e.sweepNowAndThen() // what it finds is not the fault of this run
		return r.res, nil
	}
	r.leave, err = e.stay(ctx, &r.c, r.attached, &r.res)
	return r.res, err
}

// A launching is a run on its way.
type launching struct {
	e        *Engine
	o        RunOptions
	monitor  *monitor.Client
	attached *attachment
	c        Container
	lock     *os.File // of the container's directory, until it runs
	res      Result
	leave    bool // without waiting for the monitor's end
	volumes  bool // some go with the container
}

// create makes the container, and attaches to its monitor who is to stay.
func (r *launching) create(ctx context.Context, cfg Config, s Streams) (err error) {
	e := r.e
	if rows, columns, ok := s.size(); ok && cfg.TTY && cfg.Rows == 0 && cfg.Columns == 0 {
		cfg.Rows, cfg.Columns = rows, columns // the command finds the size there; later ones come as signals
	}
	if !r.o.Detach {
		cfg.StdinOnce = cfg.Interactive
	}
	if r.attached, err = e.attachment(cfg, s); err != nil {
		return err
	}
	if r.c, r.lock, err = e.create(ctx, cfg); err != nil {
		return err
	}
	r.volumes = cfg.AutoRemove && !r.o.Detach && len(r.c.Volumes) > 0
	e.event(&r.c, "create", nil)
	r.attached.monitor, r.attached.ended = r.monitor, func() (Exit, error) { return e.endOf(&r.c) }
	if r.o.Detach {
		return nil
	}
	if err := r.monitor.Attach(r.attached.wants()); err != nil {
		r.lock.Close()
		return errors.Join(err, e.discard(&r.c))
	}
	r.attached.forward()
	return nil
}

// start starts the container, or takes it away where that is what its Config says.
func (r *launching) start(ctx context.Context) error {
	defer r.lock.Close()
	r.res.ID = r.c.ID
	started, made, err := r.e.launch(ctx, &r.c, r.lock, r.monitor, r.o.Timings)
	r.res.Warnings = started.Warnings
	if err != nil {
		left, err := r.e.runFailed(&r.c, err)
		if !left {
			r.res.ID = ""
		}
		return err
	}
	if err := r.e.finished(&r.c); err != nil {
		return err
	}
	r.c.PID, r.c.Status = started.PID, monitor.Running
	if r.o.Timings {
		r.res.Timings, r.res.Plan = started.Timings, made
	}
	return nil
}

// close lets go of the monitor and of the caller's streams.
func (r *launching) close() {
	if r.attached != nil {
		r.attached.close()
	}
	r.monitor.Close()
	if !r.leave {
		r.monitor.Reap()
	}
	if r.volumes {
		_ = errors.Join(r.e.sweepVolumes(), r.e.sweepAttached()) // the next command would, too
	}
}

// stay waits for the end of a container and takes away what --rm says, in part while the monitor does its own. It reports whether the
// monitor's end need not be waited for.
func (e *Engine) stay(ctx context.Context, c *Container, a *attachment, res *Result) (leave bool, err error) {
	sweeping := e.sweepLater()
	defer sweeping()
	defer e.mindLater(*c)()
	var released []func() error
	if c.Config.AutoRemove {
		sooner := false
		a.ending = func() { // the monitor takes the control group away meanwhile
			sooner = true
			released = append(released, sideways(func() error { return e.release(c, false) }))
		}
		a.empty = func() { // nobody can write any more
			if !sooner {
				released = append(released, sideways(func() error { return e.release(c, false) }))
			}
			released = append(released, sideways(func() error { return e.removeWritten(c) }))
		}
	}
	last := c.Config.Restart.Never()
	x, err := a.attend(ctx, last)
	for _, wait := range released {
		if err := wait(); err != nil {
			res.Warnings = append(res.Warnings, err.Error()) // the next command looks again
		}
	}
	a.result(res, c, x)
	// A monitor without a place has done all that it has to. That its process is gone nobody waits for: its last socket of nftables
	// closes when all processors have passed a point, after the ports of the container were taken out of the rules.
	return !last || a.detached || err == nil && !exists(monitor.Place(e.dir, c.ID)), err
}

// runFailed takes away a container that did not start, where nobody asked to keep it: with --rm, and where Create would have refused it, so that its name is free for
// the line without the mistake. It reports whether the container is left.
func (e *Engine) runFailed(c *Container, err error) (left bool, _ error) {
	code := exitCodeOf(err)
	refused := errors.As(err, new(refusedError))
	if refused {
		e.event(c, "destroy", nil)
	}
	if refused || c.Config.AutoRemove {
		return false, &ExitError{code, errors.Join(err, e.discard(c))}
	}
	return true, errors.Join(e.startFailed(c, err), e.finished(c))
}

// sideways begins to do something, and returns what waits for it.
func sideways(do func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return func() error { return <-done }
}

// sweepNowAndThen sweeps, unless another start has done so within sweepPause.
func (e *Engine) sweepNowAndThen() {
	if e.sweepDue(time.Now()) {
		e.sweep()
	}
}

// sweepDue reports whether no start has swept for sweepPause, and notes that one does now: the time of Data/lock, to which nothing is written, says
// when. A clock that was set back makes it due.
func (e *Engine) sweepDue(now time.Time) bool {
	mark := e.data + "/lock"
	var last unix.Stat_t
	if unix.Stat(mark, &last) == nil {
		if ago := now.Sub(time.Unix(last.Mtim.Unix())); 0 <= ago && ago < sweepPause {
			return false
		}
	}
	os.Chtimes(mark, time.Time{}, now) // where that cannot be, each start sweeps
	return true
}

// sweepLater sweeps in a moment. The function that it returns waits for that, or prevents it.
func (e *Engine) sweepLater() (stop func()) {
	done := make(chan struct{})
	t := time.AfterFunc(sweepDelay, func() {
		defer close(done)
		e.sweep()
	})
	return func() {
		if !t.Stop() {
			<-done
		}
	}
}

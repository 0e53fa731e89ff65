package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// An attachment connects the caller's streams with those of a container, by its monitor.
type attachment struct {
	caller   Streams
	tty      bool
	input    bool // the caller's goes to the container
	once     bool // the container's ends with it
	sinks    sinks
	failed   [2]error // how writing there ended
	keys     []byte   // that detach
	cooked   func()   // gives the caller's terminal its mode back
	monitor  *monitor.Client
	detached bool

	// ending, where it is set, is called when the process of a container that is to be removed has ended, and empty comes yet.
	ending func()
	// empty, where it is set, is called once, when nobody is left of a container that has ended for good: its monitor still takes away what it has.
	empty func()
	// ended tells from its record how the container ended, when its monitor cannot tell any more.
	ended func() (Exit, error)

	going   chan struct{} // closed when the container runs
	stop    func()
	leaving chan struct{} // closed by leave
	leave   func()        // leaves the container to itself: by the keys that detach
}

// attachment prepares the caller's side.
func (e *Engine) attachment(c Config, s Streams) (*attachment, error) {
	a := &attachment{caller: s, tty: c.TTY, input: c.Interactive && s.In != nil, once: c.Interactive && c.StdinOnce, going: make(chan struct{}), leaving: make(chan struct{}), stop: func() {}}
	a.leave = sync.OnceFunc(func() {
		close(a.leaving)
		a.monitor.Close()
	})
	var err error
	if a.keys, err = ParseDetachKeys(c.DetachKeys); err != nil {
		return nil, err
	}
	a.sinks, err = openSinks(s)
	return a, err
}

var streamNames = [...]string{"standard output", "standard error"}

// sinks are what to write output and errors to, nil for what the caller does not want.
type sinks [2]io.Writer

func openSinks(s Streams) (list sinks, err error) {
	for i, w := range []io.Writer{s.Out, s.Err} {
		if list[i], err = sink(w); err != nil {
			list.close(s)
			return sinks{}, fmt.Errorf("%s: %w", streamNames[i], err)
		}
	}
	return list, nil
}

// close closes those that are not the caller's own.
func (list sinks) close(s Streams) {
	for i, w := range []io.Writer{s.Out, s.Err} {
		if f, ok := list[i].(*os.File); ok && list[i] != w {
			f.Close()
		}
	}
}

// sink is what to write to for the caller's w. At a pipe that nobody reads any more, the Go
// runtime has the process end by SIGPIPE when the descriptor is 1 or 2, with all that it
// would have cleaned up: so those get another number.
func sink(w io.Writer) (io.Writer, error) {
	f, ok := w.(*os.File)
	if !ok {
		return w, nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// to connects them with a container's monitor.
func (a *attachment) to(m *monitor.Client) error {
	a.monitor = m
	return m.Attach(a.wants())
}

// result notes how a container ended, or that the caller went before.
func (a *attachment) result(res *Result, c *Container, x Exit) {
	res.Code, res.Signal, res.Detached = x.Code, syscall.Signal(x.Signal), a.detached
	res.Warnings = append(res.Warnings, c.Config.killedByFilter(res.Code)...)
}

// wants are the streams that are asked of the monitor.
func (a *attachment) wants() (s monitor.Streams) {
	if a.input {
		s |= monitor.Stdin
	}
	if a.sinks[0] != nil {
		s |= monitor.Stdout
	}
	if a.sinks[1] != nil && !a.tty {
		s |= monitor.Stderr
	}
	return s
}

// Signal passes a signal on, as soon as the container runs.
func (a *attachment) Signal(sig syscall.Signal) error {
	<-a.going
	return a.monitor.Signal(sig)
}

// forward begins to pass this process's signals on, where the caller wants that: they wait for the container.
func (a *attachment) forward() {
	if !a.caller.Signals {
		return
	}
	o := launch.ForwardOptions{AtOnce: true}
	if a.tty && a.caller.Terminal != nil {
		o.Resize = func() { <-a.going; a.resize() }
	}
	a.stop = launch.Forward(a, o)
}

// resize gives the container's terminal the size of the caller's.
func (a *attachment) resize() {
	if rows, columns, ok := a.caller.size(); ok {
		a.monitor.Resize(rows, columns)
	}
}

// attend carries a container that runs to its end; last says that there will be no other one, and that the monitor ends then.
func (a *attachment) attend(ctx context.Context, last bool) (Exit, error) {
	if a.tty && a.caller.Terminal != nil {
		a.resize()
		if a.input { // else Ctrl-C is this command's, which passes it on
			a.cooked = makeRaw(a.caller.Terminal, !a.caller.Signals)
		}
	}
	close(a.going)
	defer context.AfterFunc(ctx, func() { a.monitor.Signal(syscall.SIGKILL) })()
	switch {
	case a.input && a.tty:
		go a.feed()
	case a.input: // once its pipe comes
	case a.once:
		a.monitor.InputEnds() // there is none
	}
	exit, err := a.listen(last)
	if exit == nil {
		return Exit{}, err
	}
	for i, err := range a.failed {
		switch {
		case errors.Is(err, syscall.EPIPE):
			exit.Code = abi.SIGPIPE.ExitCode() // as for a program that wrote there itself
		case err != nil:
			return *exit, &ExitError{125, fmt.Errorf("%s: %w", streamNames[i], err)}
		}
	}
	return *exit, nil
}

// listen does what the monitor says until the container's end, which it gives: nil when the caller leaves before.
func (a *attachment) listen(last bool) (exit *Exit, err error) {
	empty := sync.OnceFunc(func() {
		if a.empty != nil {
			a.empty()
		}
	})
	for {
		msg, err := a.monitor.Next()
		if a.isLeaving() {
			return nil, nil
		}
		if err != nil {
			return a.silent(err, exit)
		}
		if msg.Stream != 0 {
			a.write(msg)
		}
		if msg.Stdin != nil {
			go a.feedPipe(msg.Stdin)
		}
		if msg.Ending && a.ending != nil {
			a.ending()
		}
		if msg.Empty {
			empty()
		}
		if msg.Exit != nil {
			exit = msg.Exit
			if !last {
				return exit, nil
			}
			if !exit.Kept {
				empty()
			}
		}
	}
}

// silent is how a container ended whose monitor says no more. heard is what it has said of that.
func (a *attachment) silent(err error, heard *Exit) (*Exit, error) {
	switch {
	case err != io.EOF:
		return nil, &ExitError{125, fmt.Errorf("monitor: %w", err)}
	case heard != nil:
		return heard, nil
	}
	x, err := a.ended()
	if err != nil {
		return nil, &ExitError{125, err}
	}
	return &x, nil // the word of its end did not come through: this process had stood still
}

// endOf is how a container ended whose record is still there. The error is for who has lost its monitor.
func (e *Engine) endOf(c *Container) (Exit, error) {
	now, err := e.read(c.dir)
	switch {
	case errors.Is(err, os.ErrNotExist): // who comes at that moment, with --rm
		return Exit{}, errors.New("the container has ended and is removed, and how it ended was not heard")
	case err != nil || now.Status != monitor.Exited:
		return Exit{}, errors.New("the container's monitor was killed: the container goes on, see kakuri ps")
	}
	return now.exit(), nil
}

func (a *attachment) isLeaving() bool {
	select {
	case <-a.leaving:
		a.detached = true
		return true
	default:
		return false
	}
}

// write passes output on, until it cannot be written any more: that ends the container, as it would end the program if it wrote to a pipe that
// nobody reads any more.
func (a *attachment) write(msg monitor.Message) {
	i := 0
	if msg.Stream == monitor.Stderr {
		i = 1
	}
	if a.failed[i] != nil || a.sinks[i] == nil {
		return
	}
	if _, err := a.sinks[i].Write(msg.Data); err != nil {
		a.failed[i] = err
		a.monitor.Signal(syscall.SIGKILL)
	}
}

// feed passes what is typed on.
func (a *attachment) feed() {
	in, buf := newDetacher(a.caller.In, a.keys), make([]byte, 4<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 && a.monitor.Input(buf[:n]) != nil {
			return
		}
		if errors.Is(err, ErrDetached) {
			a.leave()
		}
		if err != nil {
			a.inputEnded()
			return
		}
	}
}

// inputEnded leaves a container of which nothing but the input was asked for, as Docker does: it goes on with what it was given.
func (a *attachment) inputEnded() {
	if a.wants() == monitor.Stdin {
		a.leave()
	}
}

// feedPipe writes the caller's input to the container's own pipe: a program that does not read holds up nothing else.
func (a *attachment) feedPipe(pipe *os.File) {
	io.Copy(pipe, a.caller.In)
	pipe.Close()
	a.monitor.InputEnds()
	a.inputEnded()
}

// close gives everything back, the caller's terminal mode first.
func (a *attachment) close() {
	a.stop()
	if a.cooked != nil {
		a.cooked()
	}
	a.sinks.close(a.caller)
}

// AttachOptions are those of [Engine.Attach].
type AttachOptions struct {
	Start      bool   // start the container first, or stay with it where it runs
	NoStdin    bool   // leave the container's stdin alone
	DetachKeys string // as in "ctrl-p,ctrl-q", which is the default
}

// Attach connects the caller's streams with those of a running container until its end, or until its terminal gets the keys that detach. The result
// is its end, as that of [Engine.Run].
func (e *Engine) Attach(ctx context.Context, ref string, o AttachOptions, s Streams) (Result, error) {
	c, err := e.Find(ref)
	if err != nil {
		return Result{}, err
	}
	cfg := c.Config
	if o.DetachKeys != "" {
		cfg.DetachKeys = o.DetachKeys
	}
	if o.NoStdin {
		s.In, cfg.StdinOnce = nil, false // who is attached to it later has it, and ends it
	}
	a, err := e.attachment(cfg, s)
	if err != nil {
		return Result{}, err
	}
	defer a.close()
	res := Result{ID: c.ID}
	a.ended = func() (Exit, error) { return e.endOf(&c) }
	running := !o.Start
	if o.Start {
		m, err := e.spawn(ctx, monitor.Spawn, &c.Config)
		if err != nil {
			return res, err
		}
		defer m.Close()
		if err := a.to(m); err != nil {
			return res, err
		}
		started, err := e.start(ctx, c.ID, m)
		if running = errors.Is(err, errActive); err != nil && !running {
			return res, err
		}
		res.Warnings = started.Warnings
		if !running {
			defer e.mindLater(c)()
		}
	}
	if running {
		e.tidy()
		if c, err = e.attachable(c.ID); err != nil {
			return res, err
		}
		m, err := e.dial(c)
		if err != nil {
			return res, err
		}
		defer m.Close()
		defer e.mind(c, m)()
		if err := a.to(m); err != nil {
			return res, err
		}
	}
	if s.Started != nil {
		s.Started(c)
	}
	a.forward()
	x, err := a.attend(ctx, c.Config.Restart.Never())
	a.result(&res, &c, x)
	return res, err
}

// attachable is a container as it is now, where it does something.
func (e *Engine) attachable(id string) (Container, error) {
	c, err := e.Find(id)
	switch {
	case err != nil:
		return c, err
	case !c.Active():
		return c, ErrConflict{"You cannot attach to a stopped container, start it first"}
	case e.paused(c.ID):
		return c, ErrConflict{"You cannot attach to a paused container, unpause it first"}
	}
	return c, nil
}

package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/launch"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// streams are a container's standard streams and the copying between them and
// the caller's. The container never gets the caller's own descriptors: through
// one of a terminal it could read what the caller types.
type streams struct {
	child  [3]*os.File // the container's ends; nil for a terminal's
	in     *os.File    // our ends
	out    [2]*os.File
	caller Streams
	tty    bool
	master *os.File
	copied sync.WaitGroup
	saved  *term.State
	sinks  [2]io.Writer // what is written to for the caller's Out and Err
	failed [2]error     // how writing there ended, after copied
}

// openStreams makes pipes owned by the container's user, so that it can reopen
// /dev/stdout.
func openStreams(r Config, s Streams, uid, gid int) (*streams, error) {
	x := &streams{caller: s, tty: r.TTY}
	if r.TTY && r.Interactive && s.Terminal == nil && s.In == nil {
		return nil, fmt.Errorf("-t with -i needs a terminal as input")
	}
	for i, w := range []io.Writer{s.Out, s.Err} {
		var err error
		if x.sinks[i], err = sink(w); err != nil {
			return nil, fmt.Errorf("%s: %w", streamNames[i], err)
		}
	}
	if r.TTY {
		return x, nil
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	x.child[0] = null
	if r.Interactive && s.In != nil {
		if x.child[0], x.in, err = os.Pipe(); err != nil {
			return nil, err
		}
		null.Close()
		x.child[0].Chown(uid, gid)
	}
	for i, w := range x.sinks {
		if w == nil {
			if x.child[i+1], err = os.OpenFile("/dev/null", os.O_RDWR, 0); err != nil {
				return nil, err
			}
			continue
		}
		if x.out[i], x.child[i+1], err = os.Pipe(); err != nil {
			return nil, err
		}
		x.child[i+1].Chown(uid, gid)
	}
	return x, nil
}

var streamNames = [...]string{"standard output", "standard error"}

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

// start begins to copy, once the container runs.
func (x *streams) start(proc *launch.Process) {
	for _, f := range x.child {
		if f != nil {
			f.Close()
		}
	}
	if x.tty {
		x.startTerminal(proc)
		return
	}
	if x.in != nil {
		go func() {
			io.Copy(x.in, x.caller.In)
			x.in.Close()
		}()
	}
	for i := range x.out {
		if x.out[i] != nil {
			x.copied.Go(func() {
				x.copyOut(i, x.out[i], proc)
				x.out[i].Close()
			})
		}
	}
}

// copyOut copies what the container writes until its end, or until it cannot be written any
// more. A pipe that nobody reads any more would end the program if it wrote there
// itself: so it ends the container.
func (x *streams) copyOut(i int, from *os.File, proc *launch.Process) {
	_, err := io.Copy(x.sinks[i], from)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = x.drain(i, from)
	}
	if errors.Is(err, syscall.EPIPE) {
		proc.Signal(syscall.SIGKILL)
	}
	x.failed[i] = err
}

// drain copies what is in a pipe now, and waits for no more.
func (x *streams) drain(i int, from *os.File) error {
	if err := from.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(int(from.Fd()), unix.TIOCINQ)
	if err != nil {
		return err
	}
	_, err = io.CopyN(x.sinks[i], from, int64(n))
	return err
}

func (x *streams) startTerminal(proc *launch.Process) {
	master := proc.Master
	x.master = master
	if master == nil {
		return
	}
	if t := x.caller.Terminal; t != nil {
		x.resize()
		x.saved, _ = term.MakeRaw(int(t.Fd()))
	}
	if x.caller.In != nil {
		go io.Copy(master, x.caller.In)
	}
	if x.sinks[0] != nil {
		x.copied.Go(func() {
			x.copyOut(0, master, proc)
			if errors.Is(x.failed[0], syscall.EIO) {
				x.failed[0] = nil // the container's side is closed
			}
		})
	}
}

// resize gives the container's terminal the size of the caller's.
func (x *streams) resize() {
	if x.master == nil || x.caller.Terminal == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(x.caller.Terminal.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// finish waits until all output is copied, and returns how that went wrong: an error
// that is EPIPE where a stream had no reader any more. A process that goes on without the
// container, where it shares its pid namespace, may hold a pipe open for ever: after shared,
// only what is in there is waited for.
func (x *streams) finish(shared bool) error {
	if shared {
		for _, f := range x.out {
			if f != nil {
				f.SetReadDeadline(time.Now())
			}
		}
	}
	x.copied.Wait()
	for i, err := range x.failed {
		if err != nil {
			return fmt.Errorf("%s: %w", streamNames[i], err)
		}
	}
	return nil
}

// close gives everything back, the caller's terminal mode first.
func (x *streams) close() {
	if x.saved != nil {
		term.Restore(int(x.caller.Terminal.Fd()), x.saved)
	}
	for i, w := range []io.Writer{x.caller.Out, x.caller.Err} {
		if f, ok := x.sinks[i].(*os.File); ok && x.sinks[i] != w {
			f.Close()
		}
	}
	for _, f := range []*os.File{x.child[0], x.child[1], x.child[2], x.in, x.out[0], x.out[1], x.master} {
		if f != nil {
			f.Close()
		}
	}
}

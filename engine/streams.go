package engine

import (
	"fmt"
	"io"
	"os"
	"sync"

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
}

// openStreams makes pipes owned by the container's user, so that it can reopen
// /dev/stdout.
func openStreams(r Run, s Streams, uid, gid int) (*streams, error) {
	x := &streams{caller: s, tty: r.TTY}
	if r.TTY {
		if r.Interactive && s.Terminal == nil && s.In == nil {
			return nil, fmt.Errorf("-t with -i needs a terminal as input")
		}
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
	for i, w := range []io.Writer{s.Out, s.Err} {
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

// start begins to copy, once the container runs.
func (x *streams) start(proc *launch.Process) {
	for _, f := range x.child {
		if f != nil {
			f.Close()
		}
	}
	if x.tty {
		x.startTerminal(proc.Master)
		return
	}
	if x.in != nil {
		go func() {
			io.Copy(x.in, x.caller.In)
			x.in.Close()
		}()
	}
	for i, w := range []io.Writer{x.caller.Out, x.caller.Err} {
		if x.out[i] != nil {
			x.copied.Add(1)
			go func() {
				defer x.copied.Done()
				io.Copy(w, x.out[i])
				x.out[i].Close()
			}()
		}
	}
}

func (x *streams) startTerminal(master *os.File) {
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
	if x.caller.Out != nil {
		x.copied.Add(1)
		go func() {
			defer x.copied.Done()
			// Ends with EIO once the container's side is closed.
			io.Copy(x.caller.Out, master)
		}()
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

// finish waits until all output is copied. Processes that outlive a container
// without a pid namespace of its own may hold it open; theirs is not waited for.
func (x *streams) finish() { x.copied.Wait() }

// close gives everything back, the caller's terminal mode first.
func (x *streams) close() {
	if x.saved != nil {
		term.Restore(int(x.caller.Terminal.Fd()), x.saved)
	}
	for _, f := range []*os.File{x.child[0], x.child[1], x.child[2], x.in, x.out[0], x.out[1], x.master} {
		if f != nil {
			f.Close()
		}
	}
}

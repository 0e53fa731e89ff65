package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A process that somebody starts in the container and does not wait for is the monitor's child. It would be one of process 1 else, which may never wait for
// its end: what has ended and is not waited for keeps the container's first process from ending.

// An Exec is a process that a monitor is asked to start.
type Exec struct {
	ID     string // what events call it
	Member int    `json:",omitempty"` // see [oci.ExecOptions]
}

// An execed is a process that this one has started in the container, or the program before it.
type execed struct {
	PID   int
	ID    string
	ended chan struct{} // closed when its end has been told of
}

// Exec has the monitor start a process of runtime-spec in the container, with the null device for its streams or on a terminal that nobody reads. The error is a
// [*Failure] where the process did not start, and [errors.ErrUnsupported] of a monitor of an older version, which starts none. The client has to be closed then.
func (c *Client) Exec(x Exec, process *specs.Process) (pid int, err error) {
	by := c.Process()
	if by == nil { // of another pid namespace: its children's pids would mean nothing here
		return 0, errors.ErrUnsupported
	}
	defer by.Close()
	f, err := processFile(process)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	order, err := leanjson.Marshal(x)
	if err != nil {
		return 0, err
	}
	if err := seqpacket.Send(c.conn, append([]byte{mExec}, order...), int(f.Fd())); err != nil {
		return 0, c.cause(err)
	}
	// A monitor that does not know the message says nothing but that it has read to the end.
	if err := seqpacket.CloseWrite(c.conn); err != nil {
		return 0, err
	}
	for {
		kind, data, err := c.read()
		switch {
		case err == io.EOF && by.Witness().Alive():
			return 0, errors.ErrUnsupported
		case err == io.EOF:
			return 0, fmt.Errorf("%w any more, which was to start the process and may have done so: see kakuri top", ErrGone)
		case err != nil:
			return 0, err
		case kind == mStarted:
			var s Started
			err := leanjson.Unmarshal(data, &s)
			return s.PID, err
		case kind == mFailed:
			f := &Failure{}
			if err := leanjson.Unmarshal(data, f); err != nil {
				return 0, err
			}
			return 0, f
		}
	}
}

// processFile is a file in memory with a process of runtime-spec, which may be larger than a message.
func processFile(process *specs.Process) (*os.File, error) {
	data, err := json.Marshal(process)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("process", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "process")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ExecFailure gives a process that did not start in a container Docker's exit code, which is never 125: the container is there.
func ExecFailure(err error) *Failure {
	f := failure(err)
	if f.Code == 125 {
		f.Code = 126
		if errors.Is(err, os.ErrNotExist) {
			f.Code = 127
		}
	}
	return f
}

// exec starts a process for a client, and answers when it runs.
func (m *monitor) exec(c *client, order []byte, process *os.File) {
	defer process.Close()
	m.keeping.Add(1) // this program is the one that knows of it
	defer m.keeping.Add(-1)
	p, err := m.startExec(order, process)
	if err != nil {
		if data, e := leanjson.Marshal(ExecFailure(err)); e == nil {
			m.write(c, append([]byte{mFailed}, data...))
		}
		return
	}
	m.mu.Lock()
	m.rested = false // it is to become small once more
	m.mu.Unlock()
	if data, err := leanjson.Marshal(Started{PID: p.PID}); err == nil {
		m.write(c, append([]byte{mStarted}, data...))
	}
}

// startExec starts a process, and sees to its end.
func (m *monitor) startExec(order []byte, document *os.File) (*launch.Process, error) {
	var x Exec
	if err := leanjson.Unmarshal(order, &x); err != nil {
		return nil, err
	}
	box, err := m.runtime.Open(m.task.ID)
	if err != nil {
		return nil, err
	}
	process, err := box.LoadProcess("/proc/self/fd/" + strconv.Itoa(int(document.Fd())))
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	l := oci.Launch{}
	if !process.Terminal {
		l.Stdio = [3]*os.File{null, null, null}
	}
	type result struct {
		p   *launch.Process
		err error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: what asks to be traced by its parent is let go when the thread that cloned it ends
		p, err := box.LaunchExec(context.Background(), process, oci.ExecOptions{Member: x.Member}, l)
		started <- result{p, err}
	}()
	r := <-started
	if r.err != nil {
		return nil, r.err
	}
	if r.p.Master != nil {
		// Another descriptor, which reads without blocking a thread.
		if fd, err := unix.FcntlInt(r.p.Master.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			m.keepTerminal(fd)
		}
		r.p.Master.Close()
	}
	m.event("exec_start: "+strings.Join(process.Args, " "), map[string]string{"execID": x.ID})
	m.attendExec(&execed{PID: r.p.PID, ID: x.ID}, r.p)
	return r.p, nil
}

// attendExec waits for the end of a process that is this one's child.
func (m *monitor) attendExec(x *execed, p *launch.Process) {
	x.ended = make(chan struct{})
	m.mu.Lock()
	m.execed = append(m.execed, x)
	m.mu.Unlock()
	go func() {
		defer close(x.ended)
		waitEnd(p)
		m.awake.Lock() // from here on this program is the one that knows
		defer m.awake.Unlock()
		status, err := p.Wait()
		m.mu.Lock()
		m.execed = slices.DeleteFunc(m.execed, func(other *execed) bool { return other == x })
		m.mu.Unlock()
		if err == nil {
			m.event("exec_die", map[string]string{"execID": x.ID, "exitCode": strconv.Itoa(launch.ExitCode(status))})
		}
	}()
}

// waitEnd waits until a process has ended, by the poller: there may be more of them than a program can have threads.
func waitEnd(p *launch.Process) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		p.WaitEnd()
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if raw, err := f.SyscallConn(); err == nil {
		raw.Read(func(uintptr) bool { return p.Ended() })
	}
	p.WaitEnd()
}

// lastExecs waits until the ends are told of what ran in a container that has ended, with all of its processes: a moment, since one that shares the pid namespace
// of others may have gone away from it.
func (m *monitor) lastExecs() {
	m.mu.Lock()
	list := slices.Clone(m.execed)
	m.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	for _, x := range list {
		select {
		case <-x.ended:
		case <-t.C:
			return
		}
	}
}

// keepTerminal reads a terminal whose output nobody wants until its process has gone: one that is full would hold it up, and one that is closed would end
// it. It takes the descriptor.
func (m *monitor) keepTerminal(fd int) {
	if unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return
	}
	f := os.NewFile(uintptr(fd), "/dev/ptmx")
	m.keeping.Add(1)
	go func() {
		defer m.keeping.Add(-1)
		defer f.Close()
		io.Copy(io.Discard, f)
	}()
}

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

// An execed is a process that this one has started in the container, and that runs.
type execed struct {
	pid   int
	ended chan struct{} // closed when its end has been told of
}

// mostExecs is how many there may be: each has a thread, of which a Go program has 10,000 at most. What is beyond that is its command's child.
const mostExecs = 2000

// Exec has the monitor start a process of runtime-spec in the container, with the null device for its streams or on a terminal that nobody reads. The error is a
// [*Failure] where the process did not start, and [errors.ErrUnsupported] of a monitor that starts none: one of an older version, or that has enough of them. The client has to be closed then.
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
func (m *monitor) exec(c *client, data []byte, process *os.File) {
	defer process.Close()
	m.keeping.Add(1) // this program is the one that knows of it
	defer m.keeping.Add(-1)
	var order Exec
	if leanjson.Unmarshal(data, &order) != nil || m.running() == nil || !m.roomForExec() {
		return // no answer is one, too: see Client.Exec
	}
	pid, err := m.startExec(order, process)
	kind, answer := byte(mStarted), any(Started{PID: pid})
	if err != nil {
		kind, answer = mFailed, ExecFailure(err)
	}
	if data, err := leanjson.Marshal(answer); err == nil {
		m.write(c, append([]byte{kind}, data...))
	}
}

func (m *monitor) roomForExec() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.execed) < mostExecs
}

// startExec starts a process, and sees to its end.
func (m *monitor) startExec(order Exec, document *os.File) (pid int, err error) {
	box, err := m.runtime.Open(m.task.ID)
	if err != nil {
		return 0, err
	}
	process, err := box.LoadProcess("/proc/self/fd/" + strconv.Itoa(int(document.Fd())))
	if err != nil {
		return 0, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	l := oci.Launch{}
	if !process.Terminal {
		l.Stdio = [3]*os.File{null, null, null}
	}
	x := &execed{ended: make(chan struct{})}
	started := make(chan error)
	go m.parent(x, started, order, func() (*launch.Process, error) {
		return box.LaunchExec(context.Background(), process, oci.ExecOptions{Member: order.Member}, l)
	}, strings.Join(process.Args, " "))
	if err := <-started; err != nil {
		return 0, err
	}
	return x.pid, nil
}

// parent starts a process, tells that it has, and waits for its end: on a thread of its own, which is what a process that asks for a signal at its parent's end
// (PR_SET_PDEATHSIG), or to be traced by its parent, has for one.
func (m *monitor) parent(x *execed, started chan<- error, order Exec, start func() (*launch.Process, error), command string) {
	runtime.LockOSThread()
	p, err := start()
	if err != nil {
		started <- err
		return
	}
	if p.Master != nil {
		// Another descriptor, which reads without blocking a thread.
		if fd, err := unix.FcntlInt(p.Master.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			m.keepTerminal(fd)
		}
		p.Master.Close()
	}
	note := map[string]string{"execID": order.ID}
	m.event("exec_start: "+command, note)
	x.pid = p.PID
	m.mu.Lock()
	m.execed = append(m.execed, x)
	m.mu.Unlock()
	started <- nil
	status, err := p.Wait()
	if err == nil {
		note["exitCode"] = strconv.Itoa(launch.ExitCode(status))
		m.event("exec_die", note)
	}
	m.mu.Lock()
	m.execed = slices.DeleteFunc(m.execed, func(other *execed) bool { return other == x })
	m.rested = false // it is to become small once more
	m.mu.Unlock()
	close(x.ended)
	time.AfterFunc(settled, m.settle)
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

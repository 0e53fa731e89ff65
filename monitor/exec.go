package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
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
	ID     string            // what events call it
	Member int               `json:",omitempty"` // see [oci.ExecOptions]
	Causes map[string]string `json:",omitempty"` // see [oci.ExecOptions]
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
	document, err := json.Marshal(process)
	if err != nil {
		return 0, err
	}
	f, err := files.Memory("process", document) // it may be larger than a message
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
	s, err := c.started()
	switch {
	case err == io.EOF && by.Witness().Alive():
		return 0, errors.ErrUnsupported
	case err == io.EOF:
		return 0, fmt.Errorf("%w any more, which was to start the process and may have done so: see kakuri top", ErrGone)
	}
	return s.PID, err
}

// ExecFailure gives a process that did not start in a container Docker's exit code, and its text. The code is never 125: the container is there.
func ExecFailure(err error) *Failure {
	if errors.Is(err, oci.ErrPaused) { // since it was asked for, or in a control group of its own
		return &Failure{Code: 1, Text: "the container is paused, or has the process in a control group that is: unpause it before exec"}
	}
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
	if leanjson.Unmarshal(data, &order) != nil || m.running(false) == nil || !m.roomForExec() {
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
	// What a client gives is read as it is, and if no read of it waits: a FIFO would never end, and a terminal that is opened anew become the monitor's.
	if _, err := unix.FcntlInt(document.Fd(), unix.F_GET_SEALS, 0); err != nil {
		return 0, errors.New("what is to be started comes in a file in memory")
	}
	process, err := box.ReadProcess(io.NewSectionReader(document, 0, math.MaxInt64), "process")
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
	type result struct {
		pid int
		err error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread() // for good
		p, err := box.LaunchExec(context.Background(), process, oci.ExecOptions{Member: order.Member, Causes: order.Causes}, l)
		if err != nil {
			started <- result{err: err}
			return
		}
		m.event("exec_start: "+strings.Join(process.Args, " "), map[string]string{"execID": order.ID})
		m.parent(order, p, func() { started <- result{pid: p.PID} })
	}()
	r := <-started
	return r.pid, r.err
}

// parent is the life of a process that this thread has started. The thread is its own: what asks for a signal at its parent's end (PR_SET_PDEATHSIG), or to be
// traced by its parent, has a thread for one.
func (m *monitor) parent(order Exec, p *launch.Process, started func()) {
	if p.Master != nil {
		m.keepTerminal(p.Master)
	}
	told := m.execBegins()
	n := ExecNote{ID: order.ID, Own: true}
	if begun := oci.OpenProcess(p.PID); begun != nil {
		n.Process = begun.Witness()
		begun.Close()
	}
	n.Write(m.place) // for a successor: without it goes on
	started()
	code := 255 // not known
	if status, err := p.Wait(); err == nil {
		code = launch.ExitCode(status)
	}
	m.execDied(n, code)
	told()
}

// execEnds forgets a process whose end has been told of.
func (m *monitor) execEnds(ended chan struct{}) {
	m.mu.Lock()
	m.execed = slices.DeleteFunc(m.execed, func(other chan struct{}) bool { return other == ended })
	m.mu.Unlock()
	close(ended)
	m.settleAgain()
}

// lastExecs waits until the ends are told of what ran in a container that has ended, with all of its processes: a moment, since one that shares the pid namespace
// of others may have gone away from it.
func (m *monitor) lastExecs() {
	m.mu.Lock()
	list := slices.Clone(m.execed)
	m.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	for _, ended := range list {
		select {
		case <-ended:
		case <-t.C:
			return
		}
	}
}

package monitor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// adopt goes on with a container whose monitor was killed: its process runs, or has ended meanwhile.
func (m *monitor) adopt() error {
	if m.state.Stopped {
		m.stopped = true
		close(m.stopping)
	}
	c, err := m.runtime.Open(m.task.ID)
	if err != nil && !errors.Is(err, oci.ErrNotExist) {
		return err
	}
	m.state.Monitor = ownWitness()
	m.save()
	r := newRun(m.state.Started)
	r.container = c
	if errors.Is(err, oci.ErrNotExist) || m.state.PID == 0 {
		return m.adoptEnded(r)
	}
	m.run = r
	if r.adopted = m.state.Witness().Open(); r.adopted == nil {
		r.adopted = &oci.Process{}
	}
	r.server = m.findServer()
	m.watchServer(r)
	r.container.RememberOOM()
	m.reopen(r)
	if err := errors.Join(m.resumePorts(), m.resumeNames()); err != nil {
		m.warnings = append(m.warnings, "its networks are not as they were: "+err.Error())
	}
	m.watchHealth(r, true)
	m.adoptExecs()
	return nil
}

// adoptEnded goes on with a container that had ended, or waited for its next start.
func (m *monitor) adoptEnded(r *run) error {
	if m.state.Status == Running {
		m.state.Status, m.state.PID, m.state.Begun, m.state.Finished = Exited, 0, 0, time.Now()
		m.state.ExitCode, m.state.Error = 255, unknownEnd
		m.state.Death = &Death{Cause: "unknown"}
	}
	r.container = nil
	m.run = r
	m.adoptExecs()
	m.lastExecs()
	return nil
}

// reopenFIFOs opens the streams that are FIFOs, by their names.
func (m *monitor) reopenFIFOs(r *run) {
	for _, name := range fifos[1:] {
		if f, err := m.fifo(name, unix.O_RDONLY|unix.O_NONBLOCK); err == nil {
			r.out = append(r.out, f)
		}
	}
}

// unknownEnd is why an exit code is not known.
const unknownEnd = "its monitor was killed, and nobody saw how it ended"

// reopen opens the streams of a run that goes on. What cannot be had is done without.
func (m *monitor) reopen(r *run) {
	w := m.state.Holder
	m.state.Holder = oci.Witness{}
	if m.task.TTY {
		if f, err := held(w); err == nil {
			m.openTerminal(r, f)
		}
	} else {
		m.reopenFIFOs(r)
		if w.PID != 0 {
			m.stdin, _ = held(w)
		}
	}
	if w.PID != 0 {
		endHolder(w)
		m.hold()
	}
}

// waitAdopted waits for the end of a run whose process is not this one's child.
func (r *run) waitAdopted() Exit {
	p := r.adopted
	if p.Witness().PID == 0 {
		close(r.ended)
		return Exit{Code: 255, Error: unknownEnd}
	}
	ended := make(chan struct{})
	go func() {
		for !p.Wait(time.Hour) {
		}
		close(ended)
	}()
	select {
	case <-r.left.known:
		r.container.Over()
		close(r.ended)
		go func() {
			<-ended
			p.Close()
		}()
		return exitOf(r.left.status)
	case <-ended:
	}
	defer p.Close()
	close(r.ended)
	if status, err := exitOfOther(p); err == nil {
		return exitOf(status)
	}
	return Exit{Code: 255, Error: unknownEnd}
}

// NamespaceOf is the path of a namespace of another container, which has to run.
func NamespaceOf(r *oci.Runtime, j Join, kind specs.LinuxNamespaceType) (string, error) {
	c, err := r.Open(j.Container)
	short := files.ShortID(j.Container)
	if errors.Is(err, oci.ErrNotExist) {
		return "", fmt.Errorf("cannot join the %s namespace of container %s: it is not running", kind, short)
	}
	if err != nil {
		return "", err
	}
	w := c.Witness()
	if !w.Alive() {
		return "", fmt.Errorf("cannot join the %s namespace of container %s: it is not running", kind, short)
	}
	pid := w.PID
	if j.Command {
		pid = CommandPID(pid)
	}
	ns, ok := abi.ParseNamespace(string(kind))
	if !ok {
		return "", errors.New("linux.namespaces: unknown type " + string(kind))
	}
	return "/proc/" + strconv.Itoa(pid) + "/ns/" + ns.ProcName(), nil
}

// CommandPID is the process that runs a container's command: its first one, pid, or with an init the first child of that, whose
// namespaces an ordinary user may read where the init's are closed.
func CommandPID(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || string(data) != "init\n" {
		return pid
	}
	data, _ = os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if first := strings.Fields(string(data)); len(first) > 0 {
		if child, err := strconv.Atoi(first[0]); err == nil {
			return child
		}
	}
	return pid
}

package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// Where the kernel cannot put a root file system together, a program serves it: see plan.Server. It is this process's child, lives on when
// this one is killed, and ends by itself when the container has gone. A container whose server ends first has lost its root: every look at a file is
// an error then, so it is ended, and its death certificate says why.

// A server is one, of a run.
type server struct {
	name  string
	ended chan struct{}
	how   string // it ended; valid after ended
	alone bool   // that was not for the end of the mount, which it tells by any code
	kill  func()
}

// saidFile takes what a server says.
const saidFile = "/server"

// startServer starts the server of a run: see oci.Launch.
func (m *monitor) startServer(r *run, program string, start func(log *os.File) (*launch.Process, error)) error {
	log, err := os.OpenFile(m.place+saidFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := start(log)
	if err != nil {
		return err
	}
	m.state.Server, m.state.ServerName = oci.Witness{PID: p.PID}, filepath.Base(program)
	if w := oci.OpenProcess(p.PID); w != nil {
		m.state.Server = w.Witness()
		w.Close()
	}
	r.server = m.ownServer(m.state.ServerName, p)
	return nil
}

// ownServer is a server that is this process's child.
func (m *monitor) ownServer(name string, p *launch.Process) *server {
	s := &server{name: name, ended: make(chan struct{}), kill: func() { p.Signal(unix.SIGKILL) }}
	go func() {
		p.WaitEnd()
		m.awake.Lock() // from here on this process is the one that knows
		defer m.awake.Unlock()
		defer close(s.ended)
		s.how = "ended"
		if status, err := p.Wait(); err == nil && status.Signaled() {
			s.how, s.alone = "was ended by "+abi.Signal(status.Signal()).String(), true
		} else if err == nil {
			s.how = fmt.Sprintf("ended with code %d", status.ExitStatus())
		}
	}()
	return s
}

// findServer goes on with the server of a run that had another monitor, or another program of this one.
func (m *monitor) findServer() *server {
	w, name := m.state.Server, m.state.ServerName
	if w.PID == 0 {
		return nil
	}
	var info unix.Siginfo
	if unix.Waitid(unix.P_PID, w.PID, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil { // a child
		if p, err := launch.Adopt(w.PID); err == nil {
			return m.ownServer(name, p)
		}
	}
	s := &server{name: name, how: "ended", ended: make(chan struct{}), kill: func() {}}
	p := w.Open()
	if p == nil {
		close(s.ended)
		return s
	}
	s.kill = func() {
		if p := w.Open(); p != nil {
			p.Signal(unix.SIGKILL)
			p.Close()
		}
	}
	go func() {
		defer close(s.ended)
		defer p.Close()
		for !p.Wait(time.Hour) {
		}
	}()
	return s
}

// gone reports whether it has ended, and this process knows how.
func (s *server) gone() bool {
	if s == nil {
		return false
	}
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// watchServer ends a run whose server ends.
func (m *monitor) watchServer(r *run) {
	s := r.server
	if s == nil {
		return
	}
	go func() {
		<-s.ended
		if !s.alone {
			// As it does when nobody has the mount any more: then the container is about to be seen to end.
			select {
			case <-r.ended:
				return
			case <-time.After(2 * time.Second):
			}
		}
		m.mu.Lock()
		r.lost = fmt.Sprintf("%s, which showed its root file system, %s", s.name, s.how)
		if said := m.said(); said != "" {
			r.lost += ": " + said
		}
		m.mu.Unlock()
		r.signal(unix.SIGKILL)
	}()
}

// endServer waits until all that a run wrote has gone through its server.
func (m *monitor) endServer(r *run) {
	if r.server == nil {
		return
	}
	late := time.AfterFunc(launch.ServePatience, r.server.kill)
	<-r.server.ended
	late.Stop()
	m.mu.Lock()
	m.state.Server, m.state.ServerName = oci.Witness{}, ""
	m.mu.Unlock()
}

// said is the end of what a server has said.
func (m *monitor) said() string {
	data, err := files.Read(m.place + saidFile)
	if err != nil {
		return ""
	}
	text := strings.ToValidUTF8(strings.TrimSpace(string(data[max(0, len(data)-1024):])), "\ufffd")
	return strings.TrimSpace(strings.ReplaceAll(text, "unknown argument ignored: lazytime", "")) // libfuse's word about itself
}

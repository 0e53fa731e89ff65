package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Denials ask a monitor to tell, in the container's stderr, which system calls the filter refuses: the filter asks it about each
// ([seccomp.Notifying]) at [DenialSocket], and it answers as Profile does.
type Denials struct {
	Profile json.RawMessage   // linux.seccomp as it would be without questions
	Ways    map[string]string `json:",omitempty"` // by the name of a call, the option that lets it through
}

// DenialSocket is the listenerPath of a filter that asks the monitor of a container. The address of a socket has 107 bytes: this is
// not in the monitor's place, whose name alone has 64.
func DenialSocket(run, id string) string { return run + "/ask/" + id[:min(len(id), 32)] }

// mostDenials is how many different refusals are told of one container.
const mostDenials = 100

// A denier answers for a filter, and tells what it refuses.
type denier struct {
	task    *Denials
	program *seccomp.Program
	native  abi.Arch
	tell    func(line string)

	mu   sync.Mutex
	told map[string]bool
}

// startDenier listens for filters that ask. It goes on until this process ends.
func startDenier(d *Denials, path string, tell func(string)) error {
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(d.Profile, &profile); err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	native := abi.Native(runtime.GOARCH)
	program, err := seccomp.Compile(&profile, native)
	if err != nil || program == nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	os.Remove(path) // of a monitor that was killed
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "bind", Path: path, Err: err}
	}
	if err := unix.Listen(fd, 8); err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "listen", Path: path, Err: err}
	}
	dn := &denier{task: d, program: program, native: native, tell: tell, told: map[string]bool{}}
	go dn.accept(fd)
	return nil
}

// accept takes the listener of each filter that is loaded: of the container's first process, and of those that exec starts.
func (d *denier) accept(socket int) {
	for {
		conn, _, err := unix.Accept4(socket, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		if fd, err := receiveListener(conn); err == nil {
			go d.serve(fd)
		}
		unix.Close(conn)
	}
}

// receiveListener takes the descriptor that comes with the state of the process: runtime-spec, "The Container Process State".
func receiveListener(conn int) (int, error) {
	_, fds, err := seqpacket.Recvmsg(conn, make([]byte, 64<<10), 1)
	if err == nil && len(fds) != 1 {
		err = unix.EBADMSG
	}
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// serve answers for one filter until no process has it.
func (d *denier) serve(listener int) {
	defer unix.Close(listener)
	for {
		n, err := launch.Notified(listener)
		if err != nil {
			return
		}
		errno := d.verdict(n)
		d.note(n, errno)
		launch.AnswerNotification(listener, n.ID, errno) // who has gone needs no answer
	}
}

// verdict is the error that the profile itself has for a call.
func (d *denier) verdict(n launch.Notification) syscall.Errno {
	answer, _, err := seccomp.Simulate(d.program.Instructions, seccomp.Data{NR: n.NR, Arch: n.Arch, Args: n.Args})
	if err != nil || answer&abi.SeccompRetActionFull != abi.SeccompRetErrno {
		return unix.EPERM // it is asked about what the profile refuses only
	}
	return syscall.Errno(answer & abi.SeccompRetData)
}

// note tells of a refusal, once of those that are alike. clone3 is none: every program has another way, and takes it.
func (d *denier) note(n launch.Notification, errno syscall.Errno) {
	name, ok := d.native.SyscallName(n.NR)
	if !ok {
		name = fmt.Sprint("system call ", n.NR)
	}
	if name == "clone3" {
		return
	}
	line := name
	if k := selectors(name); k > 0 {
		line = fmt.Sprintf("%s(%s)", name, strings.Trim(fmt.Sprintf("%#x", n.Args[:k]), "[]"))
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n.PID))
	line += fmt.Sprintf(" by %s is refused with %s", quoteName(strings.TrimSpace(string(comm))), unix.ErrnoName(errno))
	way := d.task.Ways[seccomp.Kind(name, n.Args)]
	if way == "" {
		way = d.task.Ways[name]
	}
	if way != "" {
		line += "; " + way + " allows it"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told[line] || len(d.told) > mostDenials {
		return
	}
	d.told[line] = true
	if len(d.told) > mostDenials {
		line = "more than " + fmt.Sprint(mostDenials) + " different calls are refused; no more of them are told"
	}
	d.tell("kakuri: seccomp: " + line + "\n")
}

// selectors is how many of a call's arguments say what kind of call it is.
func selectors(name string) int {
	switch name {
	case "clone", "unshare", "personality", "prctl", "ptrace", "keyctl", "bpf":
		return 1
	case "ioctl", "fcntl", "setns":
		return 2
	case "socket":
		return 3
	}
	return 0
}

// quoteName shows the name of a process, which that has chosen, without what a terminal would take as a command.
func quoteName(name string) string {
	if name == "" {
		return "a process"
	}
	return strings.Trim(fmt.Sprintf("%q", name), `"`)
}

// tellDenial writes a line of the monitor's own into the container's stderr, or its terminal.
func (m *monitor) tellDenial(line string) {
	m.early.mu.Lock()
	defer m.early.mu.Unlock()
	if !m.early.over {
		m.early.lines = append(m.early.lines, line)
		return
	}
	m.say(line)
}

// early is what there is to tell before the one who started the container listens.
type early struct {
	mu    sync.Mutex
	over  bool
	lines []string
}

// tellEarly tells that.
func (m *monitor) tellEarly() {
	m.early.mu.Lock()
	defer m.early.mu.Unlock()
	for _, line := range m.early.lines {
		m.say(line)
	}
	m.early.over, m.early.lines = true, nil
}

func (m *monitor) say(line string) {
	stream, kept, kind := Stderr, log.Stderr, byte(mError)
	if m.task.TTY {
		stream, kept, kind, line = Stdout, log.Stdout, mOutput, strings.ReplaceAll(line, "\n", "\r\n")
	}
	m.sink.Write(kept, []byte(line), time.Now())
	m.output(stream, append([]byte{kind}, line...))
}

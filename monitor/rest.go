package monitor

import (
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor/dns"
	"github.com/kakuri/kakuri/monitor/log"
	"github.com/kakuri/kakuri/network"
	"golang.org/x/sys/unix"
)

// A start leaves a heap behind that no garbage collection makes small again. So a monitor that has nothing to do but wait executes its program once
// more, by execve(2), with what it knows in a memory file: it stays the same process, and the parent of the container.

// A rest is what one program leaves to the next.
type rest struct {
	Order   Order
	State   State
	Lock    int   // descriptors: the place,
	Accept  int   // the socket,
	Root    int   // the container's root directory; -1 for none
	Master  int   // the terminal; -1 for none
	Stdin   int   // the pipe of the container's; -1 for none
	Out     []int `json:",omitempty"` // the output's FIFOs, of which one that nobody has open forgets what is in it
	Stopped bool
	Ran     time.Time
	Backoff time.Duration
	Check   time.Time
	Ending  []byte
	Sent    sent
	Names   *dns.Sockets `json:",omitempty"` // where names are answered
	Ports   []heldPort   `json:",omitempty"`
	Watch   int          `json:",omitempty"` // for rules; 0 for none
}

// rest replaces the program, where that can be done without anybody noticing. It returns when it did not. It is the thread that cloned the container's process that calls it:
// all others end with an execve(2), and the kernel sends their children the signal that those asked for at their parent's end (PR_SET_PDEATHSIG).
func (m *monitor) rest() {
	m.awake.Lock()
	defer m.awake.Unlock()
	m.mu.Lock()
	r := m.run
	m.mu.Unlock()
	if r == nil || r.proc == nil || !m.canRest() || r.proc.Ended() || r.server.gone() {
		return
	}
	// Nobody new, and no output, from here on.
	m.accept.SetReadDeadline(time.Now())
	<-m.accepting
	r.stopCopying(time.Now())
	if m.canRest() && !m.ending.midLine() { // still
		m.restNets(func() { m.replace(r) })
	}
	m.accept.SetReadDeadline(time.Time{})
	fd, err := unix.FcntlInt(m.accept.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		m.accept.Close()
		if listener, err := seqpacket.New(fd); err == nil {
			m.acceptFrom(listener)
		}
	}
	m.copyOut(r)
}

// canRest reports whether all that the monitor does would survive: a buffer, a health check that is under way, the answers to a filter, a terminal that is kept, a process that another thread is the parent of, one that
// has ended and is still to be taken away and a stop that goes on without who asked for it would not.
func (m *monitor) canRest() bool {
	switch m.task.Log.Driver {
	case "", "json-file", "local", "none":
	default:
		return false
	}
	m.mu.Lock()
	execed := len(m.execed)
	soon := m.task.Health.command() != nil && time.Until(m.check) < checkRest-settled
	m.mu.Unlock()
	return m.alone() && execed == 0 && !launch.Unreaped() && m.keeping.Load() == 0 && m.stops.Load() == 0 && !soon && m.task.Denials == nil && m.task.Log.Options["mode"] != "non-blocking"
}

// stayAwake keeps this process from being replaced until what it returns is called.
func (m *monitor) stayAwake() (over func()) {
	m.awake.Lock() // not while it is
	m.keeping.Add(1)
	m.awake.Unlock()
	return func() { m.keeping.Add(-1) }
}

// replace executes the program once more. It returns when that failed.
func (m *monitor) replace(r *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := rest{Order: m.order, State: m.state, Lock: m.lock, Accept: int(m.accept.Fd()), Root: m.root, Master: -1, Stdin: -1, Stopped: m.stopped, Ran: r.began, Check: m.check, Backoff: m.backoff, Ending: m.ending.bytes(), Sent: m.sent}
	keep := []int{x.Lock, x.Accept}
	if x.Root >= 0 {
		keep = append(keep, x.Root)
	}
	if m.master != nil {
		x.Master = int(m.master.Fd())
		keep = append(keep, x.Master)
	}
	if m.master == nil {
		for _, f := range r.out {
			x.Out = append(x.Out, int(f.Fd()))
		}
		keep = append(keep, x.Out...)
	}
	if m.stdin != nil {
		x.Stdin = int(m.stdin.Fd())
		keep = append(keep, x.Stdin)
	}
	if m.nets.resolver != nil {
		s := m.nets.resolver.Sockets()
		x.Names = &s
		keep = append(keep, s.FDs()...)
	}
	x.Ports = m.nets.ports
	for _, h := range x.Ports {
		if h.FD >= 0 {
			keep = append(keep, h.FD)
		}
	}
	if m.nets.watch != nil {
		x.Watch = m.nets.watch.FD()
		keep = append(keep, x.Watch)
	}
	data, err := json.Marshal(x)
	if err != nil {
		return
	}
	memory, err := files.Memory("monitor", data)
	if err != nil {
		return
	}
	defer memory.Close()
	for _, fd := range keep {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		defer unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	}
	// The standard input of a monitor is the null device.
	null, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil || unix.Dup3(int(memory.Fd()), 0, 0) != nil {
		return
	}
	defer unix.Dup3(null, 0, 0)
	// By this name also when another program has the file's place by now.
	syscall.Exec("/proc/self/exe", []string{os.Args[0], verbRest}, os.Environ())
}

// readRest reads what the program before this one left, which is this one's stdin.
func readRest() (x rest, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(0, &st); err != nil {
		return x, err
	}
	data := make([]byte, st.Size)
	n, err := unix.Pread(0, data, 0)
	if err != nil {
		return x, err
	}
	return x, json.Unmarshal(data[:n], &x)
}

// goOn is what the next program does.
func (m *monitor) goOn() int {
	debug.SetGCPercent(20) // of 4 MB: what is attached for a while leaves no more than that
	x, err := readRest()
	if err != nil {
		return 1
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil || unix.Dup3(null, 0, 0) != nil {
		return 1
	}
	unix.Close(null)
	os.WriteFile("/proc/self/comm", []byte(name(os.Args[0])), 0) // it is "exe" else; nobody depends on it
	m.order, m.state, m.lock, m.rested, m.backoff = x.Order, x.State, x.Lock, true, x.Backoff
	m.sent, m.check = x.Sent, x.Check
	for _, fd := range []int{x.Lock, x.Accept} {
		unix.CloseOnExec(fd)
	}
	if x.Stopped {
		m.stay()
	}
	if m.task, err = ReadTask(m.order.Dir); err != nil {
		return 1
	}
	m.place, m.runtime.Root = Place(m.order.Run, m.task.ID), m.order.Run+"/runtime"
	m.ending.add(x.Ending)
	if m.sink, err = log.Open(m.task.Log); err != nil {
		return 1
	}
	r := newRun(x.Ran)
	if r.container, err = m.runtime.Open(m.task.ID); err != nil {
		return 1
	}
	if r.proc, err = launch.Adopt(m.state.PID); err != nil {
		return 1
	}
	m.takeBack(x, r)
	r.server = m.findServer()
	m.run = r
	m.watchServer(r)
	m.watchHealth(r, true)
	m.copyOut(r)
	listener, err := seqpacket.New(x.Accept)
	if err != nil {
		return 1
	}
	m.acceptFrom(listener)
	m.attend()
	return 0
}

// takeBack takes the descriptors of a run, which came over the execve open.
func (m *monitor) takeBack(x rest, r *run) {
	if m.root = x.Root; m.root >= 0 {
		unix.CloseOnExec(m.root)
	}
	if x.Master >= 0 {
		m.openTerminal(r, os.NewFile(uintptr(x.Master), "/dev/ptmx"))
	}
	for i, fd := range x.Out {
		unix.CloseOnExec(fd)
		r.out = append(r.out, os.NewFile(uintptr(fd), fifos[1+i]))
	}
	if x.Stdin >= 0 {
		unix.CloseOnExec(x.Stdin)
		m.stdin = os.NewFile(uintptr(x.Stdin), "stdin")
	}
	if x.Names != nil {
		for _, fd := range x.Names.FDs() {
			unix.CloseOnExec(fd)
		}
		m.answer(*x.Names) // a container without names goes on
	}
	for _, h := range x.Ports {
		if h.FD >= 0 {
			unix.CloseOnExec(h.FD)
		}
		m.takePort(h) // as does one whose port is not passed on
	}
	if x.Watch > 0 {
		if w, err := network.WatchOf(x.Watch); err == nil {
			m.keepRules(w)
		}
	}
}

// name is the last part of a path.
func name(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

package monitor

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/namespace"
	"golang.org/x/sys/unix"
)

// lastLines is how much of the output a death certificate has: so many lines, of so many bytes altogether.
const (
	lastLines = 10
	lastBytes = 4 << 10
)

// An ending is the end of what a container has written, of both its streams.
type ending struct {
	mu  sync.Mutex
	buf []byte // 2*lastBytes at most
}

func (e *ending) add(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(p) > lastBytes {
		p = p[len(p)-lastBytes:]
	}
	if len(e.buf)+len(p) > 2*lastBytes {
		e.buf = append(e.buf[:0], e.buf[len(e.buf)-(lastBytes-len(p)):]...)
	}
	e.buf = append(e.buf, p...)
}

// midLine reports whether the last line has no end yet.
func (e *ending) midLine() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.buf) > 0 && e.buf[len(e.buf)-1] != '\n'
}

// bytes is what there is of it.
func (e *ending) bytes() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Clone(e.buf[max(0, len(e.buf)-lastBytes):])
}

// lines gives the last lines, and forgets them: of one that is longer than all that is kept its end.
func (e *ending) lines() (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	data := e.buf[max(0, len(e.buf)-lastBytes):]
	if len(data) < len(e.buf) || len(data) == lastBytes {
		if _, rest, _ := bytes.Cut(data, []byte("\n")); len(rest) > 0 { // the first one may have begun before
			data = rest
		}
	}
	for line := range strings.Lines(strings.ToValidUTF8(string(data), "\ufffd")) {
		list = append(list, strings.TrimRight(line, "\r\n"))
	}
	e.buf = nil
	return list[max(0, len(list)-lastLines):]
}

// A sent signal is one that somebody asked for.
type sent struct {
	Signal unix.Signal
	By     string
	At     time.Time
}

// sender says who is at the other end of a connection, which told its command line.
func sender(c *client, command string) string {
	peer, err := seqpacket.Peer(c.conn)
	if err != nil {
		return ""
	}
	uids, _ := files.Read("/proc/self/uid_map")
	by := fmt.Sprintf("process %d of uid %d", peer.Pid, namespace.OnHost(peer.Uid, uids))
	if command != "" {
		by += ": " + strings.ToValidUTF8(command, "\ufffd")
	}
	return by
}

// certify writes down how a run ended, as long as its cgroup is there.
func (m *monitor) certify(r *run, x Exit) *Death {
	d := &Death{Cause: "exit", Signal: x.Signal}
	m.mu.Lock()
	lost := r.lost
	m.mu.Unlock()
	switch {
	case lost != "":
		d.Cause, d.By = "root", lost
		return d
	case x.Error != "":
		d.Cause = "unknown"
		return d
	case x.OOMKilled && x.Signal == int(unix.SIGKILL):
		d.Cause = "oom"
	case x.Signal != 0:
		d.Cause = "signal"
	}
	m.mu.Lock()
	last := m.sent
	m.mu.Unlock()
	asked := last.At.After(r.began)
	switch {
	case d.Cause == "oom":
		d.By = "the kernel: the memory of its control group ran out"
	case x.Signal != 0 && asked && int(last.Signal) == x.Signal:
		d.By = last.By
	case x.Signal != 0:
		d.By = usualSender(unix.Signal(x.Signal))
	case asked && last.By != "":
		name := abi.Signal(last.Signal).String()
		d.By = fmt.Sprintf("itself, after %s by %s", name, last.By)
	}
	if x.OOMKilled {
		d.Memory = map[string]uint64{} // what cannot be read is not told
		if s, err := r.container.LastStats(); err == nil {
			d.Memory = memoryFigures(s)
		}
		if n, err := r.container.OOMKills(); err == nil {
			d.Memory["oom_kills"] = n
		}
	}
	return d
}

// usualSender says where signals come from that nobody asked kakuri for: the kernel does not tell who sent one.
func usualSender(s unix.Signal) string {
	switch s {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP:
		return "the kernel, most likely: a fault of the program"
	case unix.SIGABRT, unix.SIGALRM:
		return "itself, most likely"
	case unix.SIGSYS:
		return "the kernel, most likely: a system call that the seccomp filter does not allow"
	case unix.SIGXCPU, unix.SIGXFSZ:
		return "the kernel, most likely: a limit (--ulimit) was reached"
	case unix.SIGPIPE:
		return "the kernel, most likely: it wrote to a pipe that nobody reads"
	}
	return "another process, not by kakuri"
}

// memoryFigures are those of a cgroup's counters that tell why memory ran out, in bytes.
func memoryFigures(s cgroup.Stats) map[string]uint64 {
	f := map[string]uint64{"usage": s.Memory.Usage.Usage}
	for name, v := range map[string]uint64{
		"limit": s.Memory.Usage.Limit, "peak": s.Memory.Usage.Max, "failures": s.Memory.Usage.Failcnt, "swap_limit": s.Memory.Swap.Limit,
		"anon": s.Memory.Raw["anon"] + s.Memory.Raw["rss"], "file": s.Memory.Raw["file"] + s.Memory.Raw["cache"], "kernel": s.Memory.Raw["kernel"] + s.Memory.Kernel.Usage,
	} {
		if v != 0 && v < 1<<62 { // more is no limit
			f[name] = v
		}
	}
	return f
}

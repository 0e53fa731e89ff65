package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
)

// A Process is what /proc says of one process: of its first thread, where threads differ.
// User ids, group ids and cgroup paths are those of the reader's namespaces; an id that
// has none there reads 65534.
type Process struct {
	PID     int      // in the pid namespace of the /proc that was read
	PIDs    []int    // its pid at every level from that namespace, outermost first, to its own
	Parent  int      // pid of its parent; 0 for none, or one outside that namespace
	Comm    string   // its name, at most 15 bytes; untrusted, any byte may be in it
	Args    []string // its command line; empty for kernel threads, ended processes, and those that keep it back ([ErrLate]); untrusted
	State   byte     // as ps(1) has it: R, S, D, T, Z …
	Ended   bool     // it has left all its namespaces but pid and user: a zombie, or about to be one
	Kernel  bool     // whether it is a thread of the kernel
	Threads int
	Start   time.Time

	UIDs, GIDs IDs
	Groups     []uint32 // supplementary ones
	Umask      int      // -1 where the kernel does not say: before 4.7, and of ended processes
	Caps       Caps
	NoNewPrivs bool
	Seccomp    SeccompMode
	Filters    int // seccomp filters that apply; 0 before Linux 5.9
	Cgroups    []Cgroup

	// Inodes are its namespaces by abi.Namespace; 0 for one that cannot be read, that an
	// ended process has left, or that the kernel does not have.
	Inodes [8]uint64
	// Readable is false when the reader may not read the links to the namespaces.
	Readable bool

	filesOf uint32 // who owns its files in /proc
	spaces  [8]*Namespace
	ticks   uint64 // start time in 1/100 s since boot
}

// IDs are the four user ids, or group ids, of a process: see credentials(7).
type IDs struct{ Real, Effective, Saved, FS uint32 }

// Caps are the five capability sets of a process: see capabilities(7).
type Caps struct{ Inheritable, Permitted, Effective, Bounding, Ambient abi.CapSet }

// A SeccompMode is how system calls of a process are filtered.
type SeccompMode uint8

// The modes, with the kernel's numbers.
const (
	SeccompOff SeccompMode = iota
	SeccompStrict
	SeccompFilter
)

func (m SeccompMode) String() string {
	switch m {
	case SeccompOff:
		return "off"
	case SeccompStrict:
		return "strict"
	case SeccompFilter:
		return "filter"
	}
	return "mode " + strconv.Itoa(int(m))
}

// Command returns the command line in one piece, or the name in brackets as ps(1) prints
// it when there is none. It is untrusted text.
func (p *Process) Command() string {
	if len(p.Args) == 0 {
		return "[" + p.Comm + "]"
	}
	return strings.Join(p.Args, " ")
}

// Dumpable tells whether others of the same user may trace the process and read its
// memory, PR_GET_DUMPABLE of prctl(2). It shows in who owns the files of the process,
// which says nothing (known is false) for processes of root.
func (p *Process) Dumpable() (dumpable, known bool) {
	if p.UIDs.Effective == 0 {
		return false, false
	}
	return p.filesOf == p.UIDs.Effective, true
}

// In returns the process's namespace of a type; nil when it is unknown, or when the
// process comes from ReadProcess, which knows Inodes only.
func (p *Process) In(t abi.Namespace) *Namespace {
	if int(t) >= len(p.spaces) {
		return nil
	}
	return p.spaces[t]
}

func (p *Process) String() string { return fmt.Sprintf("process %d (%q)", p.PID, p.Comm) }

// ReadProcess returns one process. Its namespaces are inodes only.
// The error is fs.ErrNotExist when the process is gone, fs.ErrPermission when hidepid
// (proc(5)) hides it.
func ReadProcess(proc *os.File, pid int) (*Process, error) {
	d, done, err := openProcess(proc, pid)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := new(processReader).read(d, pid)
	if err != nil {
		return nil, err
	}
	p.Start = bootTime().Add(time.Duration(p.ticks) * tick)
	return p, nil
}

// tick is the unit of start times.
const tick = time.Second / abi.UserHZ

// bootTime is when the reader's boot clock started, by its wall clock. Between the two clocks this process may have to wait for its turn: of some
// looks at both, the one that took least counts.
func bootTime() (boot time.Time) {
	least := time.Duration(math.MaxInt64)
	for range 5 {
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			return time.Time{}
		}
		if took := time.Since(before); took < least {
			least, boot = took, before.Add(-time.Duration(ts.Nano())).Round(0)
		}
		if least < time.Millisecond {
			break
		}
	}
	return boot
}

// A processReader keeps its buffers from one process to the next.
type processReader struct {
	buf  []byte
	args ArgsReader
}

// read returns the process whose directory is d, whole. One that ends in between is read
// again, and then is an ended process throughout, or not there.
//
// The state does not tell: a process lets go of its namespaces a while before it becomes
// a zombie, in which it still passes for running. So the mount namespace is asked, which
// every kernel has; a process without one has ended, and one that lacks another type
// only is on a kernel without that type.
func (r *processReader) read(d dir, pid int) (*Process, error) {
	p, err := r.attempt(d, pid)
	if err != nil || p.Ended || !p.leaving(d) {
		return p, err
	}
	p, err = r.attempt(d, pid)
	if err != nil || !p.Readable {
		return p, err
	}
	p.Ended = true
	return p.leave(), nil
}

// leaving tells whether a process lacks a namespace because it is ending.
func (p *Process) leaving(d dir) bool {
	if !p.Readable || !slices.Contains(p.Inodes[:], 0) {
		return false
	}
	_, err := d.link("ns/" + abi.NSMount.ProcName())
	return gone(err) // and not just out of reach by now, after a change of user
}

// leave takes from an ended process what it may have had while it was read.
func (p *Process) leave() *Process {
	for _, t := range abi.Namespaces() {
		if t != abi.NSPID && t != abi.NSUser {
			p.Inodes[t] = 0
		}
	}
	return p
}

func (r *processReader) attempt(d dir, pid int) (*Process, error) {
	p := &Process{PID: pid, PIDs: []int{pid}, Umask: -1}
	for _, f := range [...]struct {
		name  string
		parse func([]byte) error
	}{
		{"stat", p.parseStat}, {"status", p.parseStatus}, {"cgroup", p.parseCgroup},
	} {
		if err := r.parse(d, pid, f.name, f.parse); err != nil {
			return nil, err
		}
	}
	if !p.Kernel {
		var err error
		if p.Args, err = r.args.read(d); err != nil && err != ErrLate {
			return nil, &processError{pid, "cmdline", err}
		}
	}
	if p.UIDs.Effective != 0 {
		var st unix.Stat_t
		if err := unix.Fstatat(int(d), "status", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, &processError{pid, "status", err}
		}
		p.filesOf = st.Uid
	}
	if err := p.readLinks(d); err != nil {
		return nil, err
	}
	p.Ended = p.State == 'Z' || p.State == 'X'
	return p, nil
}

func (r *processReader) parse(d dir, pid int, name string, parse func([]byte) error) error {
	data, err := d.read(name, r.buf)
	if err == nil {
		r.buf = data
		err = parse(data)
	} else if name == "cgroup" && err == unix.ENOENT {
		return nil // a kernel without cgroups
	}
	if err != nil {
		return &processError{pid, name, err}
	}
	return nil
}

// readLinks fills Inodes from the links in ns/.
func (p *Process) readLinks(d dir) error {
	p.Readable = true
	for _, t := range abi.Namespaces() {
		link, err := d.link("ns/" + t.ProcName())
		switch {
		case err == nil:
			if _, inode, ok := parseLink(link); ok {
				p.Inodes[t] = inode
			}
		case errors.Is(err, os.ErrPermission):
			p.Readable = false
			p.Inodes = [8]uint64{}
			return nil
		case err != unix.ENOENT:
			return &processError{p.PID, "ns/" + t.ProcName(), err}
		}
	}
	return nil
}

// parseLink takes apart "pid:[4026531836]", and "pid_for_children:[…]" likewise.
func parseLink(s string) (name string, inode uint64, ok bool) {
	name, rest, ok := strings.Cut(s, ":[")
	digits, tail, closed := strings.Cut(rest, "]")
	inode, err := strconv.ParseUint(digits, 10, 64)
	return name, inode, ok && closed && tail == "" && err == nil && inode != 0
}

// ParseStat takes /proc/PID/stat apart, proc_pid_stat(5): the name of the process, and the fields from the third on, at
// least up to the 24th. The name is in parentheses and may have any of them, blanks and line ends in itself; the last one
// ends it.
func ParseStat(data []byte) (comm string, fields []string, err error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return "", nil, fmt.Errorf("%q has no name", data)
	}
	fields = strings.Fields(string(data[end+1:]))
	if len(fields) < 24-2 || len(fields[0]) != 1 {
		return "", nil, fmt.Errorf("%q has too few fields", data)
	}
	return string(data[open+1 : end]), fields, nil
}

func (p *Process) parseStat(data []byte) error {
	comm, f, err := ParseStat(data)
	if err != nil {
		return err
	}
	p.Comm = comm
	const kernelThread = 0x00200000 // PF_KTHREAD
	flags, errFlags := number(f[9-3], 64)
	ticks, errTicks := number(f[22-3], 64)
	if err := errors.Join(errFlags, errTicks); err != nil {
		return err
	}
	p.State, p.Kernel, p.ticks = f[0][0], flags&kernelThread != 0, ticks
	return nil
}

func (p *Process) parseCgroup(data []byte) (err error) {
	p.Cgroups, err = ParseCgroups(data)
	return err
}

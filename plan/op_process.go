package plan

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// Terminal makes a pseudoterminal in the container's devpts and makes it the
// process's controlling terminal and standard streams: pty(7), ioctl_tty(2).
type Terminal struct {
	Rows, Columns uint16 // 0 leaves the kernel's
	UID           uint32 // owner inside; the group is that of devpts
	Later         bool   // the stub has it control the process that it makes: see [Exec]
}

// Name implements [Op].
func (*Terminal) Name() string { return "terminal" }

// String implements [Op].
func (t *Terminal) String() string {
	s := "open /dev/pts/ptmx = " + RegMaster.String()
	if t.Rows != 0 || t.Columns != 0 {
		s += fmt.Sprintf(", %d columns %d rows", t.Columns, t.Rows)
	}
	if t.Later {
		return s + ", stdin stdout stderr"
	}
	return s + ", setsid, stdin stdout stderr"
}

// ioctl numbers of terminals, equal on amd64 and arm64: ioctl_tty(2).
const (
	tiocsctty   = 0x540e
	tiocswinsz  = 0x5414
	tiocsptlck  = 0x40045431
	tiocgptpeer = 0x5441
)

// unchanged is the id that chown(2) leaves as it is.
const unchanged = 0xffffffff

func (t *Terminal) lower(a *Asm) {
	a.call(abi.CallOpenat, fd(RegPts), a.str("ptmx"), num(abi.ORdwr|abi.ONoctty|abi.OCloexec), num(0)).into(RegMaster)
	a.call(abi.CallIoctl, fd(RegMaster), num(tiocsptlck), a.mem(make([]byte, 4)))
	slave := RegSlave
	a.call(abi.CallIoctl, fd(RegMaster), num(tiocgptpeer), num(abi.ORdwr|abi.ONoctty|abi.OCloexec)).into(slave)
	if t.Rows != 0 || t.Columns != 0 {
		size := make([]byte, 8)
		binary.LittleEndian.PutUint16(size, t.Rows)
		binary.LittleEndian.PutUint16(size[2:], t.Columns)
		a.call(abi.CallIoctl, fd(RegMaster), num(tiocswinsz), a.mem(size))
	}
	if t.UID != 0 {
		// Its group is that of devpts's option gid: write(1) and its like rely on that.
		a.call(abi.CallFchownat, fd(slave), a.str(""), num(uint64(t.UID)), num(unchanged), num(abi.AtEmptyPath))
	}
	if !t.Later {
		a.call(abi.CallSetsid).accept(abi.EPERM) // a session of its own was made before
		a.call(abi.CallIoctl, fd(slave), num(tiocsctty), num(0))
	}
	for i := range uint64(3) {
		a.call(abi.CallDup3, fd(slave), num(i), num(0))
	}
}

// OwnStreams gives standard streams to the process's user, who may then open them anew, by /dev/stdout, as he may a terminal
// of his. Their group stays. What the caller does not own, or has from elsewhere, stays as it is: chown(2).
type OwnStreams struct {
	FDs []uint32
	UID uint32 // inside
}

// Name implements [Op].
func (*OwnStreams) Name() string { return "own streams" }

// String implements [Op].
func (o *OwnStreams) String() string {
	return fmt.Sprintf("chown %s to %d", streamNames(o.FDs), o.UID)
}

func streamNames(fds []uint32) string {
	var names []string
	for _, fd := range fds {
		names = append(names, [3]string{"stdin", "stdout", "stderr"}[min(fd, 2)])
	}
	return strings.Join(names, " ")
}

func (o *OwnStreams) lower(a *Asm) {
	for _, fd := range o.FDs {
		a.call(abi.CallFchownat, num(uint64(fd)), a.str(""), num(uint64(o.UID)), num(unchanged), num(abi.AtEmptyPath)).accept(abi.EPERM, abi.EROFS, abi.EINVAL)
	}
}

// OwnNull puts the container's own null device in the place of the machine's. Root inside that is root of the machine owns that one, and
// by a descriptor of it, through the mount of the machine's /dev, could change its mode for all: openat2(2), dup3(2).
type OwnNull struct{ FDs []uint32 }

// Name implements [Op].
func (*OwnNull) Name() string { return "own null" }

// String implements [Op].
func (o *OwnNull) String() string { return "open the container's /dev/null = " + streamNames(o.FDs) }

func (o *OwnNull) lower(a *Asm) {
	null := a.tmp()
	how := a.openHow(abi.ORdwr|abi.ONoctty|a.o.Nofollow|abi.OCloexec, inRoot)
	// Nodes may not work there: a root file system that is nodev, a control group that some other program keeps.
	a.call(abi.CallOpenat2, fd(RegRoot), a.str(below("/dev/null")), how, num(24)).into(null).accept(abi.EACCES, abi.EPERM)
	refused := a.here() - 1
	for _, n := range o.FDs {
		a.call(abi.CallDup3, fd(null), num(uint64(n)), num(0))
	}
	a.skipAccept(refused)
}

// Console binds the terminal on /dev/console, by its fd: its name in /dev/pts is
// never looked up (CVE-2025-52565).
type Console struct{}

// Name implements [Op].
func (*Console) Name() string { return "console" }

// String implements [Op].
func (*Console) String() string { return "bind the terminal on /dev/console" }

func (*Console) lower(a *Asm) {
	tree, to := a.tmp(), a.tmp()
	a.call(abi.CallOpenTree, fd(RegSlave), a.str(""), num(treeFlags(false)|abi.AtEmptyPath)).into(tree)
	a.file("/dev/console", to)
	a.attach(tree, to)
}

// Hostname sets the host name of the container's UTS namespace: sethostname(2).
type Hostname struct{ Host string }

// Name implements [Op].
func (*Hostname) Name() string { return "sethostname" }

// String implements [Op].
func (h *Hostname) String() string { return "sethostname " + h.Host }

func (h *Hostname) lower(a *Asm) {
	a.call(abi.CallSethostname, a.mem([]byte(h.Host)), num(uint64(len(h.Host))))
}

// Domainname sets the NIS domain name: setdomainname(2).
type Domainname struct{ Domain string }

// Name implements [Op].
func (*Domainname) Name() string { return "setdomainname" }

// String implements [Op].
func (d *Domainname) String() string { return "setdomainname " + d.Domain }

func (d *Domainname) lower(a *Asm) {
	a.call(abi.CallSetdomainname, a.mem([]byte(d.Domain)), num(uint64(len(d.Domain))))
}

// LoopbackUp sets the loopback interface of a new network namespace up: netdevice(7).
type LoopbackUp struct{}

// Name implements [Op].
func (*LoopbackUp) Name() string { return "loopback" }

// String implements [Op].
func (*LoopbackUp) String() string { return "ioctl siocsifflags lo UP" }

func (*LoopbackUp) lower(a *Asm) {
	const afInet, sockDgramCloexec, siocsifflags, iffUpRunning = 2, 2 | 0o2000000, 0x8914, 0x1 | 0x40
	s := a.tmp()
	a.call(abi.CallSocket, num(afInet), num(sockDgramCloexec), num(0)).into(s)
	ifr := make([]byte, 40) // struct ifreq
	copy(ifr, "lo")
	binary.LittleEndian.PutUint16(ifr[16:], iffUpRunning)
	a.call(abi.CallIoctl, fd(s), num(siocsifflags), a.mem(ifr))
}

// Rlimit sets a resource limit: getrlimit(2).
type Rlimit struct {
	Resource   abi.Rlimit
	Soft, Hard uint64 // ^0 is unlimited
}

// Name implements [Op].
func (*Rlimit) Name() string { return "setrlimit" }

// String implements [Op].
func (r *Rlimit) String() string {
	return fmt.Sprintf("setrlimit %s %s %s", r.Resource, limitText(r.Soft), limitText(r.Hard))
}

func limitText(v uint64) string {
	if v == ^uint64(0) {
		return "unlimited"
	}
	return fmt.Sprint(v)
}

func (r *Rlimit) lower(a *Asm) {
	b := make([]byte, 16)
	putUint(b, r.Soft)
	putUint(b[8:], r.Hard)
	a.call(abi.CallPrlimit, num(0), num(uint64(r.Resource)), a.mem(b), num(0))
}

// Umask sets the file mode creation mask: umask(2).
type Umask struct{ Mask uint32 }

// Name implements [Op].
func (*Umask) Name() string { return "umask" }

// String implements [Op].
func (u *Umask) String() string { return fmt.Sprintf("umask %04o", u.Mask) }

func (u *Umask) lower(a *Asm) { a.call(abi.CallUmask, num(uint64(u.Mask))) }

// OOMScoreAdj says how readily the kernel ends the process when memory runs out: proc(5).
type OOMScoreAdj struct{ Value int }

// Name implements [Op].
func (*OOMScoreAdj) Name() string { return "oom_score_adj" }

// String implements [Op].
func (o *OOMScoreAdj) String() string { return fmt.Sprintf("write oom_score_adj %d", o.Value) }

func (o *OOMScoreAdj) lower(a *Asm) { a.writeProc("oom_score_adj", fmt.Append(nil, o.Value)) }

// OpenSelf keeps the process's directory in the host's procfs, for files that
// the container's own procfs may hide.
type OpenSelf struct{}

// Name implements [Op].
func (*OpenSelf) Name() string { return "open self" }

// String implements [Op].
func (*OpenSelf) String() string { return "open /proc/self = " + RegSelf.String() }

func (*OpenSelf) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str("/proc/self"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(RegSelf)
}

// OpenNull keeps the host's null device, to mask files with.
type OpenNull struct{}

// Name implements [Op].
func (*OpenNull) Name() string { return "open null" }

// String implements [Op].
func (*OpenNull) String() string { return "open /dev/null = " + RegNull.String() }

func (*OpenNull) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str("/dev/null"), num(abi.OPath|abi.OCloexec), num(0)).into(RegNull)
}

// Chdir changes to the working directory, below the container's root and
// nowhere else (CVE-2024-21626): openat2(2), fchdir(2).
type Chdir struct{ Path string }

// Name implements [Op].
func (*Chdir) Name() string { return "chdir" }

// String implements [Op].
func (c *Chdir) String() string { return "chdir " + c.Path }

func (c *Chdir) lower(a *Asm) {
	dir := a.tmp()
	a.lookup(c.Path, a.o.Directory, dir)
	a.call(abi.CallFchdir, fd(dir))
}

// TryChdir is Chdir as root of the container, which another user's directory of a file system that does not know him may be closed to: of a network, or one
// whose group the user namespace lacks. Then Dir stays empty, and [LateChdir] is what counts.
type TryChdir struct {
	Path string
	Dir  Reg
}

// Name implements [Op].
func (*TryChdir) Name() string { return "try chdir" }

// String implements [Op].
func (c *TryChdir) String() string { return "chdir " + c.Path + " where root may" }

func (c *TryChdir) lower(a *Asm) {
	if c.Dir == RegNone {
		(&Chdir{Path: c.Path}).lower(a)
		return
	}
	a.lookup(c.Path, a.o.Directory, c.Dir).accept(abi.EACCES, abi.EPERM)
	closed := a.here() - 1
	a.call(abi.CallFchdir, fd(c.Dir)).accept(abi.EACCES, abi.EPERM)
	entered := a.here() - 1
	a.close(c.Dir)
	a.skipOK(entered)
	a.skipAccept(closed)
}

// LateChdir is Chdir as the process's user, where [TryChdir] had no right to it.
type LateChdir struct {
	Path string
	Dir  Reg // of TryChdir
}

// Name implements [Op].
func (*LateChdir) Name() string { return "late chdir" }

// String implements [Op].
func (c *LateChdir) String() string { return "chdir " + c.Path + ", unless root did" }

func (c *LateChdir) lower(a *Asm) {
	if c.Dir == RegNone {
		(&Chdir{Path: c.Path}).lower(a)
		return
	}
	done := a.ifHeld(c.Dir)
	a.lookup(c.Path, a.o.Directory, c.Dir)
	a.call(abi.CallFchdir, fd(c.Dir))
	a.skipOK(done)
}

// Personality sets the execution domain: personality(2).
type Personality struct{ Domain uint64 }

// Name implements [Op].
func (*Personality) Name() string { return "personality" }

// String implements [Op].
func (p *Personality) String() string { return fmt.Sprintf("personality %#x", p.Domain) }

func (p *Personality) lower(a *Asm) { a.call(abi.CallPersonality, num(p.Domain)) }

// RegisterBinfmt registers an interpreter for a format of programs, at a mounted
// binfmt_misc: the kernel's admin guide, "binfmt_misc".
type RegisterBinfmt struct {
	Dir    string // where it is mounted
	Interp string // ":name:type:offset:magic:mask:interpreter:flags"
}

// Name implements [Op].
func (*RegisterBinfmt) Name() string { return "register binfmt" }

// String implements [Op].
func (r *RegisterBinfmt) String() string { return "write register of " + r.Dir + " " + quote(r.Interp) }

func (r *RegisterBinfmt) lower(a *Asm) {
	dir, file := a.tmp(), a.tmp()
	a.lookup(r.Dir, a.o.Directory, dir)
	a.call(abi.CallOpenat, fd(dir), a.str("register"), num(abi.OWronly|abi.OCloexec), num(0)).into(file)
	text := []byte(r.Interp)
	a.call(abi.CallWrite, fd(file), a.mem(text), size(text))
}

// Keyring gives the process a session keyring of its own: keyctl(2). It has no name: by one the kernel would give it a keyring that another
// user, or a container, has made before, and lets others search.
type Keyring struct{}

// Name implements [Op].
func (*Keyring) Name() string { return "keyring" }

// String implements [Op].
func (*Keyring) String() string { return "keyctl join_session_keyring" }

func (*Keyring) lower(a *Asm) {
	// ENOSYS: a kernel without keys. EDQUOT comes only to who has a session keyring, and would go on with that.
	a.call(abi.CallKeyctl, num(1), num(0), num(0), num(0), num(0)).accept(abi.ENOSYS)
}

// Setsid starts a new session: setsid(2).
type Setsid struct{}

// Name implements [Op].
func (*Setsid) Name() string { return "setsid" }

// String implements [Op].
func (*Setsid) String() string { return "setsid" }

func (*Setsid) lower(a *Asm) { a.call(abi.CallSetsid).accept(abi.EPERM) }

// DieWithParent has the kernel send the process a signal when the thread that cloned it
// ends: PR_SET_PDEATHSIG. A parent that is gone already is noticed at the next [Sync].
type DieWithParent struct {
	Signal abi.Signal // 0 is SIGKILL
}

// Name implements [Op].
func (*DieWithParent) Name() string { return "die with parent" }

// String implements [Op].
func (d *DieWithParent) String() string {
	return "prctl pdeathsig " + strings.TrimPrefix(d.signal().String(), "SIG")
}

func (d *DieWithParent) signal() abi.Signal {
	if d.Signal == 0 {
		return abi.SIGKILL
	}
	return d.Signal
}

func (d *DieWithParent) lower(a *Asm) {
	a.call(abi.CallPrctl, num(abi.PRSetPdeathsig), num(uint64(d.signal())), num(0), num(0), num(0))
}

// DefaultSignals lets signals do again what they do by default. The clone resets
// handlers, but what the caller ignores (nohup(1)) stays ignored over it and over an
// execve: sigaction(2).
type DefaultSignals struct{ Signals []abi.Signal }

// Name implements [Op].
func (*DefaultSignals) Name() string { return "default signals" }

// String implements [Op].
func (d *DefaultSignals) String() string {
	s := "rt_sigaction default"
	for _, sig := range d.Signals {
		s += " " + sig.String()
	}
	return s
}

func (d *DefaultSignals) lower(a *Asm) {
	act := a.mem(make([]byte, 32)) // struct sigaction of the kernel: all zero is SIG_DFL
	for _, sig := range d.Signals {
		a.call(abi.CallRtSigaction, num(uint64(sig)), act, num(0), num(8))
	}
}

// Sigmask unblocks the signals, which are all blocked since the clone: sigprocmask(2).
// Those that the program is to find blocked or ignored, because its caller had them so,
// are bits, signal 1 the lowest: sigaction(2).
type Sigmask struct {
	Blocked, Ignored uint64
}

// Name implements [Op].
func (*Sigmask) Name() string { return "sigmask" }

// String implements [Op].
func (s *Sigmask) String() string {
	text := "rt_sigprocmask, no signal blocked"
	if s.Blocked != 0 {
		text = "rt_sigprocmask, blocked " + signalText(s.Blocked)
	}
	if s.Ignored != 0 {
		text += ", ignored " + signalText(s.Ignored)
	}
	return text
}

// signalText lists the signals of a set: "HUP USR1".
func signalText(set uint64) string {
	var list []string
	for sig := abi.Signal(1); sig <= abi.SIGRTMAX; sig++ {
		if set>>(sig-1)&1 != 0 {
			list = append(list, strings.TrimPrefix(sig.String(), "SIG"))
		}
	}
	return strings.Join(list, " ")
}

func (s *Sigmask) lower(a *Asm) {
	const sigSetmask, sigIgn, sizeofSet = 2, 1, 8
	if s.Ignored != 0 {
		// struct sigaction as the kernel has it: the handler is first, and all that counts here.
		action := a.alloc(32)
		binary.LittleEndian.PutUint64(action, sigIgn)
		mem := a.newMem(action)
		for sig := range uint64(64) {
			if s.Ignored>>sig&1 != 0 {
				a.call(abi.CallRtSigaction, num(sig+1), memArg(mem), num(0), num(sizeofSet)).accept(abi.EINVAL)
			}
		}
	}
	mask := make([]byte, sizeofSet)
	binary.LittleEndian.PutUint64(mask, s.Blocked)
	a.call(abi.CallRtSigprocmask, num(sigSetmask), a.mem(mask), num(0), num(sizeofSet))
}

// CloseFDs closes all but the first First descriptors and those in Keep, which are marked close-on-exec, and those of the first
// that are Absent: close_range(2). What this process has of the host, its own or the caller's, must not be there at the execve, not even
// as /proc/self/fd/N in the program's name (CVE-2024-21626).
type CloseFDs struct {
	First  uint
	Absent []FDs // below First: where the caller has nothing, and this process may have
	Keep   []Reg // at most three, beside the socket to the runtime, which the execve closes
}

// FDs are descriptors from one number to another.
type FDs struct{ First, Last uint }

// Name implements [Op].
func (*CloseFDs) Name() string { return "close_range" }

// String implements [Op].
func (c *CloseFDs) String() string {
	var absent strings.Builder
	for _, n := range c.Absent {
		fmt.Fprintf(&absent, "%d to %d, ", n.First, n.Last)
	}
	return fmt.Sprintf("close_range %s%d to the last", absent.String(), c.First)
}

func (c *CloseFDs) lower(a *Asm) {
	for _, n := range c.Absent {
		c.lowerRange(a, n.First, n.Last)
	}
	c.lowerRange(a, c.First, 0xffffffff)
}

func (c *CloseFDs) lowerRange(a *Asm, from, to uint) {
	rest := Row{Kind: RowCloseRest, Call: abi.CallCloseRange, Args: [6]Arg{0: num(uint64(from)), 1: fd(RegSync), 5: num(uint64(to))}, N: 6}
	for k, r := range c.Keep[:min(len(c.Keep), 3)] {
		rest.Args[2+k] = fd(r)
	}
	a.row(rest)
	a.call(abi.CallCloseRange, num(uint64(from)), num(uint64(to)), num(abi.CloseRangeCloexec))
}

// Stub prepares a tiny sealed program, in memory or where that may not be executed in a file without a name, that makes the last execve in
// this program's place. Without it /proc/self/exe is this program at that moment,
// and a command or interpreter of that name would run it inside, where it could be
// opened and later written to (CVE-2019-5736).
type Stub struct {
	hands
	Label string // of SELinux, so that the container's domain may be entered by it; empty is none
	// None, one or two, which it sets in turn before anything else: its own execve takes from another user than root whatever is
	// not ambient, so the sets that the program's execve is to find are carried to it as ambient ones. Two take from the
	// inheritable set, and so from the ambient one, what the second has there.
	Caps []Capset `json:",omitempty"`
	// A program for seccomp(2), which it loads right before the program's execve: see [Seccomp.Stub].
	Filter      []byte `json:",omitempty"`
	FilterFlags uint64 `json:",omitempty"`
}

// Name implements [Op].
func (*Stub) Name() string { return "stub" }

// String implements [Op].
func (s *Stub) String() string {
	label := ""
	if s.Label != "" {
		label = ", label " + quote(s.Label)
	}
	for _, caps := range s.Caps {
		label += ", with " + caps.String()
	}
	if len(s.Filter) > 0 {
		label += ", with the filter"
	}
	return "memfd_create" + label + ", seal = " + RegStub.String()
}

// Exec runs the program: execve(2). A name without a slash is tried in each
// directory of Path in turn, as execvp(3) does.
type Exec struct {
	File string // the program, where Args[0] is another name: a login shell's begins with "-"
	Args []string
	Env  []string
	Path []string // directories to search; empty for a name with a slash
	Stub bool     // by way of the stub: see [Stub]
	Wait bool     // the stub waits for a byte from [RegStart] first, and reports to [RegStarted]
	// Fork has the stub make the process that goes on, in the pid namespace that was joined, as [Fork] does: those who may look into it there find the stub,
	// with no more rights than the program has, and not this one. It goes on when the runtime, which knows it by then, says so by the [Sync] of that.
	Fork      bool
	Terminal  bool // of Fork: standard input controls the process
	Pdeathsig bool // of Fork: it ends with its parent, as by [DieWithParent], which a copy does not inherit
	// Init leaves the stub behind as the [Init]. All signals are blocked until it has made the process that goes on.
	Init bool
}

// Name implements [Op].
func (*Exec) Name() string { return "execve" }

// String implements [Op].
func (e *Exec) String() string {
	quoted := make([]string, len(e.Args))
	for i, s := range e.Args {
		quoted[i] = quote(s)
	}
	what := "execve "
	if e.Wait {
		what = "wait for start, execve "
	}
	if e.Fork {
		what = "fork into the pid namespace, " + what
	}
	if e.File != "" {
		what += quote(e.File) + " as "
	}
	return what + strings.Join(quoted, " ")
}

// quote prints an argument as a shell would need it.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune("\"'\\$`*?;&|<>()", r) || r == 0x7f }) {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func (e *Exec) lower(a *Asm) {
	if e.Stub {
		e.lowerStub(a)
		return
	}
	argv, envp := a.vector(e.Args), a.vector(e.Env)
	if len(e.Path) == 0 {
		a.call(abi.CallExecve, a.str(e.Program()), argv, envp)
		return
	}
	for _, file := range e.candidates() {
		r := a.call(abi.CallExecve, a.str(file), argv, envp).accept(abi.ENOENT, abi.ENOTDIR, abi.ELOOP, abi.EACCES)
		r.Kind = RowNote
	}
	a.fail(abi.CallExecve, abi.ENOENT)
}

// Program is the name of what is executed.
func (e *Exec) Program() string {
	if e.File != "" {
		return e.File
	}
	return e.Args[0]
}

// candidates are the files to try, in order.
func (e *Exec) candidates() []string {
	if len(e.Path) == 0 {
		return []string{e.Program()}
	}
	files := make([]string, len(e.Path))
	for i, dir := range e.Path {
		if dir == "" {
			dir = "."
		}
		files[i] = dir + "/" + e.Program()
	}
	return files
}

// What the stub does before its execve. stubExec is always set, since a byte 0 would end the string; then: make the process that goes on, which has standard
// input for its terminal, and ends with its parent; wait; stay as init, and make the process that goes on.
const (
	stubExec = 1 << iota
	stubFork
	stubTerminal
	StubWait
	stubInit
	stubPdeathsig
)

// lowerStub runs the stub, which closes the descriptor it reports to at its execve, or
// writes why that failed. Its arguments: a string whose bytes are what it does, the number of that
// descriptor, that of the one to wait for, and that of the runtime's socket where it forks, too; the files to
// try; an empty string; the program's own arguments.
func (e *Exec) lowerStub(a *Asm) {
	list := append([]string{"what and descriptors"}, e.candidates()...)
	list = append(append(list, ""), e.Args...)
	argv := a.vector(list)
	first := a.newMem(a.alloc(8))
	argv.Mem.Refs[0].To = first
	report := RegSync
	first.Data[0] = stubExec
	for _, f := range []struct {
		asked bool
		bit   byte
	}{{e.Fork, stubFork}, {e.Terminal, stubTerminal}, {e.Wait, StubWait}, {e.Init, stubInit}, {e.Pdeathsig, stubPdeathsig}} {
		if f.asked {
			first.Data[0] |= f.bit
		}
	}
	pass := func(r Reg, at int) {
		a.row(Row{Kind: RowStore, Args: [6]Arg{fd(r)}, N: 1, Mem: first, Off: at})
		a.keepOpen(r)
	}
	if e.Wait {
		report = RegStarted
	}
	pass(report, 1)
	if e.Wait {
		pass(RegStart, 2)
	}
	if e.Wait && e.Fork {
		pass(RegSync, 3)
	}
	a.call(abi.CallExecveat, fd(RegStub), a.str(""), argv, a.vector(e.Env), num(abi.AtEmptyPath))
}

// keepOpen has a descriptor survive the next execve.
func (a *Asm) keepOpen(r Reg) {
	const fSetfd = 2
	a.call(abi.CallFcntl, fd(r), num(fSetfd), num(0))
}

// FindProgram fails when [Exec] would find no program to run: a container that is only
// created tells so at once, not at its start.
type FindProgram struct {
	Program string   // args[0]
	Path    []string // as in Exec
}

// Name implements [Op].
func (*FindProgram) Name() string { return "find program" }

// String implements [Op].
func (f *FindProgram) String() string { return "faccessat2 " + quote(f.Program) + ", executable" }

func (f *FindProgram) lower(a *Asm) {
	const xOK, eaccess = 1, 0x200
	e := Exec{Args: []string{f.Program}, Path: f.Path}
	if len(f.Path) == 0 {
		a.call(abi.CallFaccessat2, cwd(), a.str(f.Program), num(xOK), num(eaccess))
		// Of a directory, execve says only that it is not permitted, when it is too late.
		a.call(abi.CallFaccessat2, cwd(), a.str(f.Program+"/."), num(0), num(eaccess)).accept(abi.ENOTDIR, abi.EACCES)
		file := a.here() - 1
		a.fail(abi.CallFaccessat2, abi.EISDIR)
		a.skipAccept(file)
		return
	}
	const most = 200 // rows lead on over 255 at most
	var found []int
	for _, file := range e.candidates() {
		if len(found) == most {
			others := a.jump()
			for _, row := range found {
				a.skipOK(row)
			}
			found = []int{a.jump()}
			a.skipOK(others)
		}
		r := a.call(abi.CallFaccessat2, cwd(), a.str(file), num(xOK), num(eaccess)).accept(abi.ENOENT, abi.ENOTDIR, abi.ELOOP, abi.EACCES)
		r.Kind = RowNote
		found = append(found, a.here()-1)
	}
	a.fail(abi.CallFaccessat2, abi.ENOENT)
	for _, row := range found {
		a.skipOK(row)
	}
}

// OpenPts opens the /dev/pts of a container that was joined, for a terminal in it. Only
// a terminal's master takes the calls that follow, whatever the container put there.
type OpenPts struct{}

// Name implements [Op].
func (*OpenPts) Name() string { return "open pts" }

// String implements [Op].
func (*OpenPts) String() string { return "open /dev/pts = " + RegPts.String() }

func (*OpenPts) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str("/dev/pts"), num(abi.OPath|a.o.Directory|abi.OCloexec), num(0)).into(RegPts)
}

package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// Clone makes the container's first process, in new namespaces: clone3(2). The
// child starts to run the container's side of the plan.
type Clone struct {
	New []abi.Namespace
}

// Name implements [Op].
func (*Clone) Name() string { return "clone" }

// String implements [Op].
func (c *Clone) String() string { return words("clone", names(c.New)) }

func (*Clone) lower(*Asm) {}

// Flags returns the CLONE_NEW* bits.
func (c *Clone) Flags() uint64 { return cloneFlags(c.New) }

func cloneFlags(list []abi.Namespace) uint64 {
	var flags uint64
	for _, ns := range list {
		flags |= ns.CloneFlag()
	}
	return flags
}

func names(list []abi.Namespace) string {
	s := make([]string, len(list))
	for i, ns := range list {
		s[i] = ns.String()
	}
	return strings.Join(s, " ")
}

// OpenNamespace opens a namespace to join, by path. The kernel checks at setns(2)
// that it is of the wanted kind.
type OpenNamespace struct {
	NS     abi.Namespace
	Path   string
	Parent bool // open the user namespace that owns the one at Path: ioctl_nsfs(2)
	Out    Reg
}

// Name implements [Op].
func (*OpenNamespace) Name() string { return "open namespace" }

// String implements [Op].
func (o *OpenNamespace) String() string {
	if o.Parent {
		return fmt.Sprintf("open %s namespace that owns %s = %s", o.NS, o.Path, o.Out)
	}
	return fmt.Sprintf("open %s namespace %s = %s", o.NS, o.Path, o.Out)
}

func (o *OpenNamespace) lower(a *Asm) {
	const nsGetUserns = 0xb701
	to := o.Out
	if o.Parent {
		to = a.tmp()
	}
	// Non-blocking: a fifo in its place would wait for a writer.
	a.call(abi.CallOpenat, cwd(), a.str(o.Path), num(abi.OCloexec|abi.ONonblock), num(0)).into(to)
	if o.Parent {
		a.call(abi.CallIoctl, fd(to), num(nsGetUserns)).into(o.Out)
	}
}

// OpenSocketNamespace opens the network namespace of a socket that another process
// has: pidfd_getfd(2), SIOCGSKNS of socket(7).
type OpenSocketNamespace struct {
	PID    int
	Socket int // the number of its descriptor in that process
	Out    Reg
}

// Name implements [Op].
func (*OpenSocketNamespace) Name() string { return "open socket namespace" }

// String implements [Op].
func (o *OpenSocketNamespace) String() string {
	return fmt.Sprintf("open network namespace of socket %d of process %d = %s", o.Socket, o.PID, o.Out)
}

func (o *OpenSocketNamespace) lower(a *Asm) {
	const siocgskns = 0x894c
	process, socket := a.tmp(), a.tmp()
	a.call(abi.CallPidfdOpen, num(uint64(o.PID)), num(0)).into(process)
	a.call(abi.CallPidfdGetfd, fd(process), num(uint64(o.Socket)), num(0)).into(socket)
	a.call(abi.CallIoctl, fd(socket), num(siocgskns)).into(o.Out)
}

// OpenFD opens a path of the host before the clone, so that the container's
// side can use it later: open(2).
type OpenFD struct {
	Path  string
	Flags uint64 // O_CLOEXEC is added
	Out   Reg
}

// Name implements [Op].
func (*OpenFD) Name() string { return "open" }

// String implements [Op].
func (o *OpenFD) String() string { return fmt.Sprintf("open %s = %s", o.Path, o.Out) }

func (o *OpenFD) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str(o.Path), num(o.Flags|abi.OCloexec), num(0)).into(o.Out)
}

// Setns joins a namespace: setns(2). For pid it acts on children only, so a
// [Fork] follows.
type Setns struct {
	NS abi.Namespace
	FD Reg
}

// Name implements [Op].
func (*Setns) Name() string { return "setns" }

// String implements [Op].
func (s *Setns) String() string { return fmt.Sprintf("setns %s %s", s.NS, s.FD) }

func (s *Setns) lower(a *Asm) {
	a.call(abi.CallSetns, fd(s.FD), num(s.NS.CloneFlag()))
}

// Unshare leaves namespaces for new ones: unshare(2).
type Unshare struct {
	New []abi.Namespace
}

// Name implements [Op].
func (*Unshare) Name() string { return "unshare" }

// String implements [Op].
func (u *Unshare) String() string { return words("unshare", names(u.New)) }

func (u *Unshare) lower(a *Asm) { a.call(abi.CallUnshare, num(cloneFlags(u.New))) }

// EnterTime makes a time namespace with clock offsets and enters it, without a
// second fork: time_namespaces(7). Offsets are in nanoseconds.
type EnterTime struct {
	Boottime, Monotonic int64
	OnExec              bool // the execve enters it: see [Facts]
}

// Name implements [Op].
func (*EnterTime) Name() string { return "enter time" }

// String implements [Op].
func (e *EnterTime) String() string {
	return fmt.Sprintf("unshare time, boottime %s monotonic %s", offset(e.Boottime), offset(e.Monotonic))
}

// offset prints nanoseconds as seconds: "+86400", "-0.5".
func offset(ns int64) string {
	s := strconv.FormatFloat(float64(ns)/1e9, 'f', -1, 64)
	if ns >= 0 {
		s = "+" + s
	}
	return s + "s"
}

// clockOffset is a line of timens_offsets: seconds and nanoseconds >= 0.
func clockOffset(clock string, ns int64) string {
	sec, rest := ns/1e9, ns%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return fmt.Sprintf("%s %d %d\n", clock, sec, rest)
}

func (e *EnterTime) lower(a *Asm) {
	a.call(abi.CallUnshare, num(abi.CloneNewTime))
	if e.Monotonic != 0 || e.Boottime != 0 {
		a.writeProc("timens_offsets", []byte(clockOffset("monotonic", e.Monotonic)+clockOffset("boottime", e.Boottime)))
	}
	if e.OnExec {
		return
	}
	ns := a.tmp()
	a.call(abi.CallOpenat, fd(RegSelf), a.str("ns/time_for_children"), num(abi.OCloexec), num(0)).into(ns)
	a.call(abi.CallSetns, fd(ns), num(abi.CloneNewTime))
}

// writeProc writes to a file below /proc/self of the host's procfs.
func (a *Asm) writeProc(name string, text []byte) {
	f := a.tmp()
	a.call(abi.CallOpenat, fd(RegSelf), a.str(name), num(abi.OWronly|abi.OCloexec), num(0)).into(f)
	a.call(abi.CallWrite, fd(f), a.mem(text), size(text))
}

// Fork makes the process that goes on in a joined pid namespace: clone(2) with
// CLONE_PARENT, so that it is the runtime's child as well; this one ends.
type Fork struct{}

// Name implements [Op].
func (*Fork) Name() string { return "fork" }

// String implements [Op].
func (*Fork) String() string { return "clone CLONE_PARENT, to be in the joined pid namespace" }

func (*Fork) lower(a *Asm) {
	// It is of the process that ends, and leads to the host's /proc and all above it, where those of the pid namespace see the copy.
	a.close(RegSelf)
	a.row(Row{Kind: RowFork, Call: abi.CallClone})
}

// Init leaves pid 1 behind as an init that reaps orphans and passes signals
// on; a child of it goes on as the command.
type Init struct {
	Stub bool // the stub does it: see [Exec]
}

// Name implements [Op].
func (*Init) Name() string { return "init" }

// String implements [Op].
func (*Init) String() string { return "clone, pid 1 stays as init and reaps" }

func (i *Init) lower(a *Asm) {
	if !i.Stub {
		a.row(Row{Kind: RowInit, Call: abi.CallClone})
	}
}

// KeepNamespace keeps a namespace of the container's first process alive by a
// bind mount of its file: namespaces(7). The mount stays until someone unmounts it.
type KeepNamespace struct {
	NS   abi.Namespace
	Path string // an existing file of the host
}

// Name implements [Op].
func (*KeepNamespace) Name() string { return "keep namespace" }

// String implements [Op].
func (k *KeepNamespace) String() string {
	return fmt.Sprintf("bind the %s namespace on %s", k.NS, k.Path)
}

func (k *KeepNamespace) lower(a *Asm) {
	tree := a.tmp()
	name := k.NS.ProcName()
	if k.NS == abi.NSTime {
		// The process may be in it from its execve on only: time_namespaces(7).
		name = "time_for_children"
	}
	a.call(abi.CallOpenTree, fd(RegChildProc), a.str("ns/"+name), num(treeFlags(false))).into(tree)
	a.call(abi.CallMoveMount, fd(tree), a.str(""), cwd(), a.str(k.Path), num(abi.MoveMountFEmptyPath|abi.MoveMountTSymlinks))
}

// OpenRoot takes a directory for the root that later steps look paths up below.
type OpenRoot struct{ Path string }

// Name implements [Op].
func (*OpenRoot) Name() string { return "open root" }

// String implements [Op].
func (o *OpenRoot) String() string { return fmt.Sprintf("open %s = %s", o.Path, RegRoot) }

func (o *OpenRoot) lower(a *Asm) {
	a.call(abi.CallOpenat, cwd(), a.str(o.Path), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(RegRoot)
}

// Chroot makes the directory of RegRoot the root directory: chroot(2).
type Chroot struct{}

// Name implements [Op].
func (*Chroot) Name() string { return "chroot" }

// String implements [Op].
func (*Chroot) String() string { return "fchdir, chroot " + RegRoot.String() }

func (*Chroot) lower(a *Asm) {
	a.call(abi.CallFchdir, fd(RegRoot))
	a.call(abi.CallChroot, a.str("."))
}

// Fchdir changes to a directory that is open: fchdir(2).
type Fchdir struct{ FD Reg }

// Name implements [Op].
func (*Fchdir) Name() string { return "fchdir" }

// String implements [Op].
func (f *Fchdir) String() string { return "fchdir " + f.FD.String() }

func (f *Fchdir) lower(a *Asm) { a.call(abi.CallFchdir, fd(f.FD)) }

// PlainChdir changes to a directory by its name, as it is seen from there: chdir(2).
type PlainChdir struct{ Path string }

// Name implements [Op].
func (*PlainChdir) Name() string { return "plain chdir" }

// String implements [Op].
func (c *PlainChdir) String() string { return "chdir " + c.Path }

func (c *PlainChdir) lower(a *Asm) { a.call(abi.CallChdir, a.str(c.Path)) }

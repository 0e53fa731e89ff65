package plan

import (
	"fmt"
	"sort"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// An Op is one operation of a plan: a small value with the arguments of one
// system call of the manual (or of the few that together make one change). The
// set is closed; op_*.go hold one family each, [Ops] lists them all.
type Op interface {
	// Name is the operation's tag in JSON and the first words of its text.
	Name() string
	// String is the operation with its arguments, on one line.
	String() string
	// lower adds the raw calls. An operation which only the runtime's hands
	// can do (another program, D-Bus, netlink) adds none.
	lower(a *Asm)
}

// Ops returns a zero value of every operation there is, by name.
func Ops() []Op {
	ops := []Op{
		&Clone{}, &OpenNamespace{}, &OpenSocketNamespace{}, &OpenFD{}, &Setns{}, &Unshare{}, &EnterTime{}, &Fork{}, &Init{}, &KeepNamespace{}, &OpenRoot{}, &Chroot{}, &Fchdir{}, &PlainChdir{},
		&WriteIDMap{}, &HelperIDMap{}, &DenySetgroups{}, &Setgroups{}, &Setresgid{}, &Setresuid{},
		&DropBounding{}, &Capset{}, &Ambient{}, &KeepCaps{}, &NoNewPrivs{}, &Seccomp{}, &Undumpable{},
		&Propagation{}, &OpenTree{}, &IDMapTree{}, &OpenHost{}, &OpenSource{}, &OpenOwnSource{}, &BorrowMount{}, &AttachRoot{}, &Scratch{}, &Overlay{}, &LayerDir{}, &Whiteout{}, &PublicLayer{}, &ImageRoot{}, &MountFUSE{}, &AttachFUSE{}, &ServeRoot{}, &MountIndex{}, &Unmount{}, &EmptyRoot{}, &EmptyDir{}, &Mount{}, &Bind{}, &Mask{}, &ReadonlyPath{},
		&NewMount{}, &OpenFS{}, &Device{}, &Symlink{}, &Mtab{}, &Dockerenv{}, &Workdir{}, &Remount{}, &PivotRoot{}, &LeaveChroot{}, &OpenProc{}, &Terminal{}, &Console{}, &OwnStreams{}, &OwnNull{},
		&OpenSelf{}, &OpenNull{}, &LoopbackUp{}, &Keyring{},
		&Hostname{}, &Domainname{}, &Sysctl{}, &Rlimit{}, &Umask{}, &OOMScoreAdj{}, &Chdir{}, &TryChdir{}, &LateChdir{}, &Personality{},
		&Setsid{}, &DieWithParent{}, &DefaultSignals{}, &Sigmask{}, &CloseFDs{}, &Stub{}, &FindProgram{}, &OpenPts{}, &Exec{}, &Sync{}, &MakeCgroup{}, &OpenCgroup{}, &JoinCgroup{}, &LimitCgroup{}, &DeviceRules{}, &DelegateCgroup{}, &RemoveCgroup{}, &RegisterBinfmt{}, &EnterCgroup{},
		&Scheduler{}, &IOPriority{}, &MemoryPolicy{}, &Affinity{}, &KeyLabel{}, &SecurityLabel{},
		&RunHook{}, &HookBundle{}, &WriteConfig{}, &MoveNetDevice{}, &CopyUp{}, &SendListener{}, &JoinResctrl{}, &RemoveResctrl{}, &NewUserNamespace{},
		&SetForwarding{}, &MakeBridge{}, &RemoveBridge{}, &MakeParent{}, &MakeRules{}, &HoldPorts{}, &PublishPorts{}, &UnpublishPorts{}, &ServeNames{}, &LimitEgress{},
		&World{}, &UplinkPorts{},
		&MakeVeth{}, &MakeMacvlan{}, &MakeIPvlan{}, &DeviceSysctl{}, &LinkUp{}, &AddAddress{}, &Announce{}, &AddRoute{},
	}
	sort.Slice(ops, func(i, j int) bool { return ops[i].Name() < ops[j].Name() })
	return ops
}

// words joins the parts that are not empty.
func words(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, " ")
}

// hands is for operations that have no raw calls of their own.
type hands struct{}

func (hands) lower(*Asm) {}

// A Sync is a meeting of both sides: the side From says What has happened and
// hands over FDs; the other waits for it. Both sides run it at its place in
// the list.
type Sync struct {
	From Side
	What string // "id maps written"
	FDs  []Reg  // registers that get the same descriptors on the other side
	Fork bool   `json:",omitempty"` // the copy that the stub makes waits for it: see [Exec]
}

// Name implements [Op].
func (*Sync) Name() string { return "sync" }

// String implements [Op].
func (s *Sync) String() string {
	to := Container
	if s.From == Container {
		to = Runtime
	}
	var fds []string
	for _, r := range s.FDs {
		fds = append(fds, r.String())
	}
	text := words(fmt.Sprintf("sync %s to %s: %s", s.From, to, s.What), strings.Join(fds, " "))
	if s.Fork {
		text += ", when it has forked"
	}
	return text
}

// lower is the container's half; the runtime's is in package launch.
func (s *Sync) lower(a *Asm) {
	switch {
	case s.Fork: // it is the stub's
	case s.From == Container:
		a.sendSync(s.FDs)
	default:
		a.recvSync(s.FDs)
	}
}

// A message on the socket is 12 bytes, three words of 32 bits: kind, step (high
// half) and row, error. The container writes all kinds, the runtime only MsgSync.
const (
	MsgSync  = 1 // the sync is reached; descriptors may come along
	MsgError = 2 // a row of a step failed
	MsgFork  = 4 // this process ends, and its copy, whose pid is the second word, goes on
	MsgExec  = 5 // the stub's execve failed; the third word is the error

	// MsgSize is the size of a message in bytes.
	MsgSize = 12
)

// message lays out struct msghdr with one iovec and room for n descriptors.
// The control message's descriptors begin at offset 16 of control.
func (a *Asm) message(payload []byte, n int) (hdr, control *Mem) {
	iov := a.newMem(a.alloc(16))
	iov.Refs = []Ref{{Off: 0, To: a.newMem(payload)}}
	putUint(iov.Data[8:], uint64(len(payload)))
	hdr = a.newMem(a.alloc(56))
	hdr.Refs = append(make([]Ref, 0, 2), Ref{Off: 16, To: iov})
	putUint(hdr.Data[24:], 1)
	if n > 0 {
		control = a.newMem(a.alloc((16 + 4*n + 7) &^ 7))
		hdr.Refs = append(hdr.Refs, Ref{Off: 32, To: control})
		putUint(hdr.Data[40:], uint64(len(control.Data)))
	}
	return hdr, control
}

func (a *Asm) sendSync(fds []Reg) {
	hdr, control := a.message([]byte{MsgSync, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, len(fds))
	if control != nil {
		putUint(control.Data, uint64(16+4*len(fds)))
		putUint(control.Data[8:], 1|1<<32) // SOL_SOCKET, SCM_RIGHTS
		putUint(hdr.Data[40:], uint64(16+4*len(fds)))
	}
	for i, r := range fds {
		a.row(Row{Kind: RowStore, Args: [6]Arg{fd(r)}, N: 1, Mem: control, Off: 16 + 4*i})
	}
	// MSG_NOSIGNAL: a runtime that went away is an error, not a signal.
	a.call(abi.CallSendmsg, fd(RegSync), memArg(hdr), num(0x4000))
}

// recvSync waits for the runtime. A runtime that went away gives 0 bytes: the
// row's result must be MsgSize, which package launch checks for recvmsg rows.
func (a *Asm) recvSync(fds []Reg) {
	hdr, control := a.message(make([]byte, MsgSize), len(fds))
	// MSG_CMSG_CLOEXEC
	a.call(abi.CallRecvmsg, fd(RegSync), memArg(hdr), num(0x40000000))
	for i, r := range fds {
		a.row(Row{Kind: RowLoad, Mem: control, Off: 16 + 4*i, Out: r})
	}
}

func putUint(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

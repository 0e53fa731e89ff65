package plan

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// A root file system that the kernel cannot put together is served by a program: fuse(4). The container's side mounts it, since
// the kernel wants its descriptor to be of the user namespace that the mount belongs to; the program on the runtime's side gets the
// descriptor and answers on it. It sees the host's directories, and the container sees the mount alone.

// A Server is a program that serves the root file system of a container.
type Server struct {
	Program string   // its path
	Args    []string // without its name. Its standard input is the descriptor on which the kernel asks
	// UIDs and GIDs are those of a user namespace that it is root of; none leaves it where the runtime is.
	UIDs, GIDs []IDMapping
}

// MountFUSE makes a mount that a program will serve, attached nowhere yet.
type MountFUSE struct {
	Subtype string // the program's name, as mounts show it
	Nodev   bool   // device nodes in it are of no use
	Out     Reg    // the descriptor on which the kernel asks
}

// Name implements [Op].
func (*MountFUSE) Name() string { return "mount fuse" }

// String implements [Op].
func (m *MountFUSE) String() string {
	return words("mount fuse."+m.Subtype+" allow_other,default_permissions, asking on "+m.Out.String(), "=", RegRoot.String(), nodev(m.Nodev))
}

func (m *MountFUSE) lower(a *Asm) {
	asks := m.Out
	if asks == RegNone {
		asks = a.tmp()
	}
	a.call(abi.CallOpenat, cwd(), a.str("/dev/fuse"), num(abi.ORdwr|abi.OCloexec), num(0)).into(asks)
	// The kernel takes the descriptor's number as text; with a 0 at its begin it is an octal one. It is below 0777: all others are closed.
	number, text := a.newMem(a.alloc(4)), a.newMem([]byte("0000\x00"))
	a.row(Row{Kind: RowStore, Args: [6]Arg{fd(asks)}, N: 1, Mem: number})
	a.row(Row{Kind: RowOctal, Args: [6]Arg{memArg(text)}, N: 1, Mem: number})
	fs := a.tmp()
	a.call(abi.CallFsopen, a.str("fuse"), num(abi.FsopenCloexec)).into(fs)
	set := func(key string, value Arg) {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetString), a.str(key), value, num(0))
	}
	set("source", a.str(m.Subtype))
	set("subtype", a.str(m.Subtype))
	set("fd", memArg(text))
	set("rootmode", a.str("40000"))
	set("user_id", a.str("0"))
	set("group_id", a.str("0"))
	for _, flag := range []string{"allow_other", "default_permissions"} {
		a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigSetFlag), a.str(flag), num(0), num(0))
	}
	a.call(abi.CallFsconfig, fd(fs), num(abi.FsconfigCmdCreate), num(0), num(0), num(0))
	attrs := uint64(0)
	if m.Nodev {
		attrs = abi.MountAttrNodev
	}
	a.call(abi.CallFsmount, fd(fs), num(abi.FsmountCloexec), num(attrs)).into(RegRoot)
}

// AttachFUSE makes the mount of [MountFUSE] the root, when the program has the descriptor: this side's copy is closed, or a program that
// ends would be waited for.
type AttachFUSE struct{ FD Reg }

// Name implements [Op].
func (*AttachFUSE) Name() string { return "attach fuse" }

// String implements [Op].
func (f *AttachFUSE) String() string { return fmt.Sprintf("close %s, attach %s on /", f.FD, RegRoot) }

func (f *AttachFUSE) lower(a *Asm) {
	if f.FD != RegNone {
		a.close(f.FD)
	}
	a.call(abi.CallMoveMount, fd(RegRoot), a.str(""), cwd(), a.str("/"), num(abi.MoveMountFEmptyPath))
}

// ServeRoot starts the program that answers on the descriptor of [MountFUSE]. It ends by itself when nobody has the mount any more.
type ServeRoot struct {
	hands
	Server
	FD Reg
}

// Name implements [Op].
func (*ServeRoot) Name() string { return "serve root" }

// String implements [Op].
func (s *ServeRoot) String() string {
	text := fmt.Sprintf("execve %s %s, answering on %s", quote(s.Program), strings.Join(s.Args, " "), s.FD)
	if len(s.UIDs) > 0 {
		text += fmt.Sprintf(", clone user, uids %s gids %s", mapText(s.UIDs, ", "), mapText(s.GIDs, ", "))
	}
	return OneLine(text)
}

// Given are those of the registers of [Handed] that the launch has no use for after op, and closes.
func Given(op Op) []Reg {
	if op, ok := op.(*ServeRoot); ok {
		return []Reg{op.FD}
	}
	return nil
}

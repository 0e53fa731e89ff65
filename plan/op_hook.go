package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// RunHook runs a hook of the container's life, with the container's state on its
// standard input: runtime-spec, config.md, "POSIX-platform Hooks".
type RunHook struct {
	hands
	Point     string // "createRuntime"
	N         int    // its place in that list, from 0
	Path      string
	Args, Env []string
	Timeout   int  // seconds; 0 waits without end
	Inside    bool // in the container's namespaces, with the runtime's root directory
}

// Name implements [Op].
func (*RunHook) Name() string { return "run hook" }

// String implements [Op].
func (h *RunHook) String() string {
	text := fmt.Sprintf("run %s hook #%d: %s", h.Point, h.N, quote(h.Path))
	for _, a := range h.Args[min(1, len(h.Args)):] {
		text += " " + quote(a)
	}
	if h.Timeout > 0 {
		text += fmt.Sprintf(", for at most %d s", h.Timeout)
	}
	if h.Inside {
		text += ", in the container's namespaces"
	}
	return text
}

// HookBundle shows to hooks in the container's namespaces what they look for: a bundle with the container's root, which has its place in "/" until then, and a config.json.
// It lies in a tmpfs over a directory of the caller's own, where root of a user namespace comes to it, and is gone with the host's tree.
type HookBundle struct {
	Over    string // a directory of the host above Root,
	Place   Reg    // which was opened before the root was attached
	Root    string // the bundle's root.path
	Scratch bool   // a scratch lies over "/", too, and goes there with it
	Config  Reg    // its config.json, to be written
}

// Name implements [Op].
func (*HookBundle) Name() string { return "hook bundle" }

// String implements [Op].
func (b *HookBundle) String() string {
	and := ""
	if b.Scratch {
		and = " and " + RegScratch.String() + " beside it"
	}
	return fmt.Sprintf("mount tmpfs on %s %s, move_mount %s to %s%s, open config.json = %s", b.Place, b.Over, RegRoot, b.Root, and, b.Config)
}

func (b *HookBundle) lower(a *Asm) {
	tree, root := a.tmp(), a.tmp()
	a.newFS("tmpfs", "tmpfs", []string{"mode=0755"}, abi.MountAttrNosuid|abi.MountAttrNodev|abi.MountAttrNoexec, tree)
	a.attach(tree, b.Place)
	below := strings.TrimPrefix(b.Root, b.Over+"/")
	for i := range below {
		if below[i] == '/' {
			a.call(abi.CallMkdirat, fd(tree), a.str(below[:i]), num(0o755))
		}
	}
	a.call(abi.CallMkdirat, fd(tree), a.str(below), num(0o755))
	a.call(abi.CallOpenat, fd(tree), a.str(path.Dir(below)+"/config.json"), num(abi.OWronly|abi.OCreat|abi.OExcl|abi.OCloexec), num(0o400)).into(b.Config)
	a.call(abi.CallOpenat, fd(tree), a.str(below), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(root)
	a.attach(RegRoot, root)
	if b.Scratch {
		scratch := a.tmp()
		a.call(abi.CallMkdirat, fd(tree), a.str("scratch"), num(0o700))
		a.call(abi.CallOpenat, fd(tree), a.str("scratch"), num(abi.OPath|abi.OCloexec|a.o.Directory), num(0)).into(scratch)
		a.attach(RegScratch, scratch)
	}
}

// WriteConfig writes the container's config.json.
type WriteConfig struct {
	hands
	FD Reg
}

// Name implements [Op].
func (*WriteConfig) Name() string { return "write config" }

// String implements [Op].
func (w *WriteConfig) String() string { return fmt.Sprintf("write config.json to %s", w.FD) }

// MoveNetDevice moves a network device of the host into the network namespace of the
// container's process, with its global permanent addresses, and sets it up:
// rtnetlink(7), IFLA_NET_NS_FD.
type MoveNetDevice struct {
	hands
	Device string // on the host
	To     string // inside; may hold %d for a number that the kernel chooses
}

// Name implements [Op].
func (*MoveNetDevice) Name() string { return "move network device" }

// String implements [Op].
func (m *MoveNetDevice) String() string {
	return fmt.Sprintf("rtm_newlink %s into the container as %s, up", quote(m.Device), quote(m.To))
}

// CopyUp copies what a mount covers into it: the option tmpcopyup.
type CopyUp struct {
	hands
	From, To Reg // directories
	Dest     string
}

// Name implements [Op].
func (*CopyUp) Name() string { return "copy up" }

// String implements [Op].
func (c *CopyUp) String() string {
	return fmt.Sprintf("copy what is below %s from %s to %s", c.Dest, c.From, c.To)
}

// SendListener sends the descriptor on which a seccomp filter asks to the agent that answers:
// runtime-spec, config-linux.md, "The Container Process State".
type SendListener struct {
	hands
	Path     string // of the agent's socket
	Metadata string
	FD       Reg
}

// Name implements [Op].
func (*SendListener) Name() string { return "send listener" }

// String implements [Op].
func (s *SendListener) String() string {
	return fmt.Sprintf("send %s to the agent at %s", s.FD, quote(s.Path))
}

// JoinResctrl puts the container's process into a group of the resctrl file system:
// runtime-spec, config-linux.md, "IntelRdt".
type JoinResctrl struct {
	hands
	Group    string   // below the mounted file system; "/" is the default group
	Make     bool     // the group may be made
	Schemata []string // lines to write, or to compare with those of a group that is there
	Monitor  string   // a monitoring group of it to be made, or empty
}

// Name implements [Op].
func (*JoinResctrl) Name() string { return "join resctrl" }

// String implements [Op].
func (j *JoinResctrl) String() string {
	text := "write tasks of resctrl group " + quote(j.Group)
	if j.Make {
		text = "mkdir, " + text
	}
	if len(j.Schemata) > 0 {
		text += ", schemata " + strings.Join(j.Schemata, " ")
	}
	if j.Monitor != "" {
		text += ", monitoring group " + quote(j.Monitor)
	}
	return OneLine(text)
}

// RemoveResctrl removes what [JoinResctrl] made.
type RemoveResctrl struct {
	hands
	Group   string // empty when it was there before, or is to stay
	Of      string // the group that Monitor is of
	Monitor string
}

// Name implements [Op].
func (*RemoveResctrl) Name() string { return "remove resctrl" }

// String implements [Op].
func (r *RemoveResctrl) String() string {
	return words("rmdir resctrl", quote(r.Of), quote(r.Group), quote(r.Monitor))
}

// NewUserNamespace makes a user namespace without a process, for mounts to be mapped with:
// mount_setattr(2), MOUNT_ATTR_IDMAP. It takes a process that lives until it is mapped.
type NewUserNamespace struct {
	hands
	UIDs, GIDs []IDMapping
	Out        Reg
}

// Name implements [Op].
func (*NewUserNamespace) Name() string { return "new user namespace" }

// String implements [Op].
func (n *NewUserNamespace) String() string {
	return fmt.Sprintf("clone user, uids %s gids %s = %s", mapText(n.UIDs, ", "), mapText(n.GIDs, ", "), n.Out)
}

// Filled are the registers in which the hands leave descriptors by op. Closing them is the launch's.
func Filled(op Op) []Reg {
	o, ok := op.(*OpenCgroup)
	if !ok {
		return nil
	}
	if o.Into == RegNone {
		return o.Tasks
	}
	return append([]Reg{o.Into}, o.Tasks...)
}

// Handed are the registers whose descriptors the hands need for op.
func Handed(op Op) []Reg {
	switch op := op.(type) {
	case *CopyUp:
		return []Reg{op.From, op.To}
	case *SendListener:
		return []Reg{op.FD}
	case *WriteConfig:
		return []Reg{op.FD}
	case *ServeRoot:
		return []Reg{op.FD}
	}
	return nil
}

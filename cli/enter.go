package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

// enterFlags are nsenter(1)'s options.
type enterFlags struct {
	target             string
	all                bool
	kinds              [8]string
	netSocket          string
	userParent         bool
	setuid, setgid     string
	preserve, keepCaps bool
	noFork, env        bool
	joinCgroup         bool
	followContext      bool
	root, wd, wdns     string
	given              func(string) bool
}

func newEnter(io IO) *cobra.Command {
	f := &enterFlags{}
	c := enterCommand(f, func(c *cobra.Command, args []string) error {
		e, p, err := f.plan(c, args, false)
		if err != nil {
			return likeUtilLinux(err)
		}
		return likeUtilLinux(executePlan(c, io, e, p, engine.InPlace))
	})
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return likeUtilLinux(c.Parent().FlagErrorFunc()(c, err))
	})
	return c
}

func enterCommand(f *enterFlags, run func(*cobra.Command, []string) error) *cobra.Command {
	c := &cobra.Command{
		Use:   "enter [OPTIONS] [NAME] [PROGRAM [ARG...]]",
		Short: "Run a program in the namespaces of a process or container, as nsenter(1)",
		Long: `Run a program (the shell, when none is named) in namespaces that exist. The
target is -t PID, -t NAME of a container, or a container's NAME as the first
argument, which enters all of its namespaces. Other options are those of
util-linux's nsenter. The program has the privileges that root has in these
namespaces, not the container's smaller ones: it is for looking into them.`,
		Example: "  kakuri enter web sh\n  kakuri enter -t 4711 -n ss -ltn", ValidArgsFunction: completeTarget,
	}
	f.register(c)
	likeGetopt(c, true, run)
	return c
}

func explainEnter(io IO, o *explainFlags) *cobra.Command {
	f := &enterFlags{}
	c := enterCommand(f, o.printing(io, f.plan))
	c.Short = "Print the plan of an enter"
	c.Long = `Print the plan that "kakuri enter" with the same options would execute, and run
nothing: each kernel operation, the side it happens on, and the option that it is
there for. The target has to be there: the plan names its namespaces.`
	c.Example = "  kakuri explain enter web sh\n  kakuri explain --calls enter -t 4711 -n true"
	return c
}

func (f *enterFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.SetInterspersed(false)
	s.SortFlags = false
	optional := func(to *string, long, short, help string) {
		s.StringVarP(to, long, short, "", help)
		s.Lookup(long).NoOptDefVal = noFile
	}
	s.StringVarP(&f.target, "target", "t", "", "process or container to enter: `PID|NAME`")
	s.BoolVarP(&f.all, "all", "a", false, "enter all namespaces of the target")
	for _, ns := range abi.Namespaces() {
		optional(&f.kinds[ns], nsFlags[ns].long, nsFlags[ns].short, "enter the "+ns.String()+" namespace of the target, or of `FILE`")
	}
	s.StringVarP(&f.netSocket, "net-socket", "N", "", "enter the network namespace of the target's socket with descriptor `FD`")
	s.BoolVar(&f.userParent, "user-parent", false, "enter the user namespace around the target's")
	s.StringVarP(&f.setuid, "setuid", "S", "", "set this `UID` inside, or with follow the target's (default 0 in another user namespace)")
	s.StringVarP(&f.setgid, "setgid", "G", "", "set this `GID` inside, or with follow the target's (default 0 in another user namespace)")
	s.BoolVar(&f.preserve, "preserve-credentials", false, "do not touch uid and gid")
	s.BoolVar(&f.keepCaps, "keep-caps", false, "keep the capabilities of the user namespace over the execve")
	optional(&f.root, "root", "r", "set the root directory: that of the target, or `DIR`")
	optional(&f.wd, "wd", "w", "set the working directory: that of the target, or `DIR`")
	optional(&f.wdns, "wdns", "W", "set the working directory to `DIR`, as it is named inside")
	s.BoolVarP(&f.env, "env", "e", false, "take over the target's environment")
	s.BoolVarP(&f.noFork, "no-fork", "F", false, "do not fork after a pid namespace was entered: only children are in it")
	s.BoolVarP(&f.joinCgroup, "join-cgroup", "c", false, "join the target's control group (version 2)")
	s.BoolVarP(&f.followContext, "follow-context", "Z", false, "take over the target's SELinux context; without SELinux there is none")
}

func (f *enterFlags) plan(c *cobra.Command, args []string, look bool) (*engine.Engine, plan.Plan, error) {
	fail := func(err error) (*engine.Engine, plan.Plan, error) {
		return nil, plan.Plan{}, &engine.ExitError{Code: 125, Err: err}
	}
	e, err := engine.Open(engine.Options{Look: look})
	if err != nil {
		return fail(err)
	}
	f.given = c.Flags().Changed
	if f.target == "" && len(args) > 0 && f.noFiles() {
		f.target, args, f.all = args[0], args[1:], f.all || f.noKinds()
	}
	o, err := f.options(e)
	if err != nil {
		return fail(err)
	}
	o.File, o.Args = program(args)
	p, err := plan.CompileEnter(o, e.Host())
	if err != nil {
		return fail(err)
	}
	return e, p, nil
}

// noFiles reports whether no namespace or directory is given by a name of its own: then
// the first argument is the target's.
func (f *enterFlags) noFiles() bool {
	for _, k := range append(f.kinds[:], f.root, f.wd) {
		if k != "" && k != noFile {
			return false
		}
	}
	return true
}

func (f *enterFlags) noKinds() bool {
	return f.kinds == [8]string{} && f.netSocket == "" && !f.userParent
}

// pid finds the target process.
func (f *enterFlags) pid(e *engine.Engine) (int, error) {
	if f.target == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(f.target); err == nil {
		return n, nil
	}
	c, err := runningTarget(e, f.target)
	if err != nil {
		return 0, err
	}
	return c.CommandPID(), nil
}

func (f *enterFlags) options(e *engine.Engine) (plan.EnterOptions, error) {
	o := plan.EnterOptions{Fork: !f.noFork, KeepCaps: f.keepCaps, Env: os.Environ(), Signals: engine.Inherited(), Because: f.because}
	pid, err := f.pid(e)
	if err != nil {
		return o, err
	}
	if err := f.check(pid); err != nil {
		return o, usageError{err}
	}
	if err := f.joins(&o, pid, e.Host()); err != nil {
		return o, err
	}
	if o.Root = f.root; o.Root == noFile {
		o.Root = fmt.Sprintf("/proc/%d/root", pid)
	}
	if o.Wd = f.wd; o.Wd == noFile {
		o.Wd = fmt.Sprintf("/proc/%d/cwd", pid)
	}
	if o.WdInside = f.wdns; o.WdInside == noFile {
		o.WdInside = ""
	}
	if f.joinCgroup {
		if o.Cgroup, err = cgroupOf(pid); err != nil {
			return o, err
		}
	}
	if f.env {
		if o.Env, err = environOf(pid); err != nil {
			return o, err
		}
	}
	return o, f.ids(&o, pid)
}

// check refuses what goes together in no way, or needs a target that is not named.
func (f *enterFlags) check(pid int) error {
	for ns, k := range f.kinds {
		if k == "" && f.given(nsFlags[ns].long) {
			return fmt.Errorf("--%s: the name of the file is empty", nsFlags[ns].long)
		}
	}
	if f.given("wd") && f.given("wdns") {
		return fmt.Errorf("--wd and --wdns: only one of them can be the working directory")
	}
	needs := f.all || f.root == noFile || f.wd == noFile || f.env || f.netSocket != "" || f.joinCgroup || f.setuid == follow || f.setgid == follow
	needs = needs || slices.Contains(f.kinds[:], noFile) || (f.userParent && f.kinds[abi.NSUser] == "")
	if needs && pid == 0 {
		return fmt.Errorf("which process? Name one with -t PID or -t NAME")
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); f.followContext && err == nil {
		return fmt.Errorf("--follow-context: kakuri sets no SELinux contexts")
	}
	return nil
}

// follow is the value of --setuid and --setgid that stands for the target's own.
const follow = "follow"

// joins lists the namespaces to join.
func (f *enterFlags) joins(o *plan.EnterOptions, pid int, host plan.Facts) error {
	var rest []abi.Namespace
	for _, ns := range abi.Namespaces() {
		switch k := f.kinds[ns]; {
		case k == noFile:
			o.Join = append(o.Join, plan.JoinNamespace{NS: ns, Path: engine.NamespaceFile(pid, ns)})
		case k != "":
			o.Join = append(o.Join, plan.JoinNamespace{NS: ns, Path: k})
		case f.all:
			rest = append(rest, ns)
		}
	}
	others, err := engine.Joins(pid, rest, host.Privileged())
	if err != nil {
		return err
	}
	o.Join = append(o.Join, others...)
	if f.netSocket != "" {
		fd, err := strconv.ParseUint(f.netSocket, 10, 31)
		if err != nil {
			return usageError{fmt.Errorf("--net-socket %s: want the number of a descriptor", f.netSocket)}
		}
		o.Join = replaced(o.Join, plan.JoinNamespace{NS: abi.NSNetwork, PID: pid, Socket: int(fd)})
	}
	if f.userParent {
		inner := f.kinds[abi.NSUser]
		if inner == "" || inner == noFile {
			inner = engine.NamespaceFile(pid, abi.NSUser)
		}
		o.Join = replaced(o.Join, plan.JoinNamespace{NS: abi.NSUser, Path: inner, Parent: true})
	}
	return nil
}

// replaced is list with j in the place of another namespace of its kind.
func replaced(list []plan.JoinNamespace, j plan.JoinNamespace) []plan.JoinNamespace {
	list = slices.DeleteFunc(list, func(other plan.JoinNamespace) bool { return other.NS == j.NS })
	return append(list, j)
}

// cgroupOf is the directory of a process's control group of version 2, below where that is mounted.
func cgroupOf(pid int) (string, error) {
	groups, err := namespace.ReadCgroups(nil, pid)
	if err != nil {
		return "", fmt.Errorf("--join-cgroup: %w", err)
	}
	i := slices.IndexFunc(groups, func(g namespace.Cgroup) bool { return g.Hierarchy == 0 })
	if i < 0 {
		return "", fmt.Errorf("--join-cgroup: process %d is in no control group of version 2", pid)
	}
	mounts, err := namespace.ReadMounts(nil, os.Getpid())
	if err != nil {
		return "", fmt.Errorf("--join-cgroup: %w", err)
	}
	for _, m := range slices.Backward(mounts) {
		if m.Type != "cgroup2" {
			continue
		}
		if rel, err := filepath.Rel(m.Root, groups[i].Path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.Join(m.Point, rel), nil
		}
	}
	return "", fmt.Errorf("--join-cgroup: the control group %s is not mounted here: mount a cgroup2 on /sys/fs/cgroup", groups[i].Path)
}

func environOf(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil, err
	}
	return splitNul(data), nil
}

func splitNul(data []byte) []string {
	var list []string
	for start, i := 0, 0; i < len(data); i++ {
		if data[i] == 0 {
			list = append(list, string(data[start:i]))
			start = i + 1
		}
	}
	return list
}

// ids sets uid and gid: those asked for, and 0 in another user namespace.
func (f *enterFlags) ids(o *plan.EnterOptions, pid int) error {
	zero := uint32(0)
	for _, j := range o.Join {
		if j.NS == abi.NSUser && !f.preserve {
			o.SetUID, o.SetGID = &zero, &zero
		}
	}
	uid, gid := f.setuid, f.setgid
	if uid == follow || gid == follow {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if uid == follow {
			uid = fmt.Sprint(owner.Uid)
		}
		if gid == follow {
			gid = fmt.Sprint(owner.Gid)
		}
	}
	for _, x := range []struct {
		flag, value string
		to          **uint32
	}{{"--setuid", uid, &o.SetUID}, {"--setgid", gid, &o.SetGID}} {
		id, err := parseID(x.flag, x.value)
		if err != nil {
			return usageError{err}
		}
		if id != nil {
			*x.to = id
		}
	}
	return nil
}

func (f *enterFlags) because(part string) string {
	if ns, ok := abi.ParseNamespace(part); ok {
		switch {
		case ns == abi.NSNetwork && f.netSocket != "":
			return "--net-socket"
		case ns == abi.NSUser && f.userParent:
			return "--user-parent"
		case f.given(nsFlags[ns].long):
			return "--" + nsFlags[ns].long
		}
		return "all namespaces of " + f.target
	}
	switch {
	case part == "command":
		return "command"
	case part == "no fork":
		return "the program ends with this command"
	case f.given(part):
		return "--" + part
	case part == "setuid" || part == "setgid":
		return "default: root of the joined user namespace"
	}
	return ""
}

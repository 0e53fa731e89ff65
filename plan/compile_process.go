package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// unapplied warns of what a container is without.
func (c *compiler) unapplied() error {
	if r := c.linux.Resources; r != nil && c.o.Cgroup == nil && !c.o.Joined {
		if r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || len(r.HugepageLimits) > 0 || r.Network != nil || len(r.Rdma) > 0 || len(r.Unified) > 0 {
			c.warn("linux.resources is not applied: the container has no control group of its own")
		}
	}
	if c.spec.Process.SelinuxLabel != "" && !c.host.SELinux {
		c.warn("%s is not applied: SELinux is not enabled in this kernel", c.from("process.selinuxLabel"))
	}
	return nil
}

// limits sets what the process is bounded by, and where it starts.
func (c *compiler) limits() error {
	for i, l := range c.spec.Process.Rlimits {
		if err := c.rlimit(i, l); err != nil {
			return err
		}
	}
	if p := c.linux.Personality; p != nil {
		domain := map[specs.LinuxPersonalityDomain]uint64{specs.PerLinux: 0, specs.PerLinux32: 8}
		d, ok := domain[p.Domain]
		if !ok {
			return specErr("linux.personality.domain", "unknown domain %q: there are LINUX and LINUX32", p.Domain)
		}
		c.inside(&Personality{Domain: d}, c.cause("linux.personality"), &PersonalityCheck{Domain: d})
	}
	if err := c.scheduling(); err != nil {
		return err
	}
	if !c.builds() && c.o.Chroot == "" {
		// Not by its name: /proc/self/fd would lead to what this process has open of the host's (CVE-2024-21626).
		c.inside(&OpenRoot{Path: "/"}, because("the working directory is looked up below it"), nil)
	}
	var enter Op = &Chdir{Path: c.cwd()}
	if c.spec.Process.User.UID != 0 && path.Clean(c.cwd()) != "/" {
		// With all registers in use the first try is the only one.
		if dir, err := c.reg(); err == nil {
			c.tried, enter = dir, &TryChdir{Path: c.cwd(), Dir: dir}
		}
	}
	c.inside(enter, c.cause("process.cwd"), nil)
	return nil
}

// cwd is the working directory of the process.
func (c *compiler) cwd() string { return cmp.Or(c.spec.Process.Cwd, "/") }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (c *compiler) rlimit(i int, l specs.POSIXRlimit) error {
	field := fmt.Sprintf("process.rlimits[%d]", i)
	res, ok := abi.ParseRlimit(l.Type)
	if !ok {
		return specErr(field+".type", "unknown limit %q", l.Type)
	}
	if l.Soft > l.Hard {
		return specErr(field+".soft", "%d is above the hard limit %d", l.Soft, l.Hard)
	}
	have := c.host.Rlimits[res]
	cause := c.cause(field)
	// Raising a hard limit needs CAP_SYS_RESOURCE in the first user namespace.
	if l.Hard > have.Hard && !c.host.Caps.Has(abi.CapSysResource) && c.o.DefaultLimits && strings.HasPrefix(cause.Reason, "default") {
		c.warn("%s stays at %s: raising it to %s needs CAP_SYS_RESOURCE", res, limitText(have.Hard), limitText(l.Hard))
		l.Hard, l.Soft = have.Hard, min(l.Soft, have.Hard)
	}
	c.inside(&Rlimit{Resource: res, Soft: l.Soft, Hard: l.Hard}, cause, &RlimitCheck{Resource: res, Soft: l.Soft, Hard: l.Hard})
	return nil
}

// credentials drops privileges and ends in execve. The order lets a filter see
// as few calls of ours as can be: with no_new_privs only execve follows it.
func (c *compiler) credentials() error {
	p := c.spec.Process
	sets := c.capSets()
	capCause := c.cause("process.capabilities")
	if p.Capabilities != nil {
		c.inside(&DropBounding{Keep: sets.Bounding, Last: c.host.LastCap}, capCause, nil)
	}
	c.umask(p.User.Umask)
	filter, err := c.filter()
	if err != nil {
		return err
	}
	early := filter != nil && !p.NoNewPrivileges
	if filter != nil {
		if err := c.lastCalls(early); err != nil {
			return err
		}
	}
	// Another user than root has lost CAP_SYS_ADMIN when the filter is to be loaded.
	kept := early && p.Capabilities == nil && p.User.UID != 0
	if len(c.o.Streams) > 0 && !p.Terminal {
		c.inside(&OwnStreams{FDs: c.o.Streams, UID: p.User.UID}, because("default: its user may open its streams anew"), nil)
	}
	c.user(p.User, p.Capabilities != nil || kept)
	if c.tried != RegNone {
		c.inside(&LateChdir{Path: c.cwd(), Dir: c.tried}, c.cause("process.cwd"), nil)
	}
	dirs := searchPath(p)
	if c.o.File != "" {
		dirs = nil
	}
	if len(dirs) > maxDirs {
		return specErr("process.env", "PATH has %d directories in which %s would be looked for, and %d is the most: name the program by its whole path, or give PATH another value", len(dirs), p.Args[0], maxDirs)
	}
	if c.o.Wait != "" {
		c.findProgram(sets, early, dirs)
	}
	if err := c.labels(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		c.inside(&NoNewPrivs{}, c.cause("process.noNewPrivileges"), &NoNewPrivsCheck{})
	}
	c.inside(&CloseFDs{First: 3 + c.o.KeepFDs, Absent: c.o.Absent, Keep: c.kept()}, because("default: no descriptor of the caller"), nil)
	if c.o.Foreground {
		c.inside(&DieWithParent{}, because("default: a container without its runtime would be nobody's"), nil)
	}
	// Before a filter that may know nothing of sockets.
	if c.stubForks {
		c.settle()
	} else {
		c.lastWord()
	}
	if early {
		if p.Capabilities != nil || kept {
			with := sets.Permitted.With(abi.CapSysAdmin)
			c.inside(&Capset{Effective: with, Permitted: with}, because("the filter has to be loaded with CAP_SYS_ADMIN"), nil)
		}
		c.listener(filter)
	}
	if kept {
		c.inside(&Capset{}, because("capabilities end with the change of user"), nil)
	}
	if p.Capabilities != nil {
		c.inside(&Capset{Effective: sets.Effective, Permitted: sets.Permitted, Inheritable: sets.Inheritable}, capCause,
			&CapsCheck{Bounding: sets.Bounding, Permitted: sets.Permitted, Effective: sets.Effective, Inheritable: sets.Inheritable, Ambient: sets.Ambient})
		c.inside(&Ambient{Caps: sets.Ambient}, capCause, nil)
		c.carry(sets)
	}
	if filter != nil && !early {
		if c.stubFilters {
			filter.Stub, c.stub.Filter, c.stub.FilterFlags = true, filter.Filter, filter.Flags
		}
		c.listener(filter)
	}
	// Where root inside could look into an init of this program's, and write to its file, the stub is it. One that waits has another use for it.
	stays := c.o.Init && c.needsStub() && c.o.Wait == ""
	if c.o.Init {
		c.inside(&Init{Stub: stays}, because("--init"), nil)
	}
	if !stays {
		c.inside(&Sigmask{}, because("signals were blocked over the clone"), nil)
	}
	c.execve(&Exec{File: c.o.File, Args: p.Args, Env: p.Env, Path: dirs, Stub: c.needsStub(), Wait: c.o.Wait != "", Init: stays})
	return nil
}

// execve is the last step. Where the stub forks before it the runtime has its last word behind that.
func (c *compiler) execve(exec *Exec) {
	if exec.Fork = c.stubForks; exec.Fork {
		exec.Terminal, exec.Pdeathsig = c.spec.Process.Terminal, c.o.Foreground
		c.outside(&Sync{From: Runtime, What: StartWord, Fork: true}, because("all is built"), nil)
	}
	c.inside(exec, c.cause("process.args"), nil)
}

func (c *compiler) umask(asked *uint32) {
	if asked != nil {
		c.inside(&Umask{Mask: *asked}, c.cause("process.user.umask"), &UmaskCheck{Mask: *asked})
	} else if c.builds() {
		c.inside(&Umask{Mask: 0o022}, because("default: umask 0022"), &UmaskCheck{Mask: 0o022})
	}
}

// lastWord is what the runtime says when all is done on its side.
func (c *compiler) lastWord() {
	switch {
	case c.o.Foreground, c.o.Attended, c.o.Wait != "", c.o.Joined:
		c.outside(&Sync{From: Runtime, What: StartWord}, because("all is built"), nil)
	case c.connecting:
		c.outside(&Sync{From: Runtime, What: connectedWord}, because("the program finds its network"), nil)
	}
}

// carried are the capabilities that another user than root would lose by the stub's own execve, which takes what is not ambient:
// by them the kernel lets the user execute what is root's alone, and a file with capabilities give them under no_new_privs. What is
// not in the bounding set can't be made inheritable, and a filter has to let the stub set back what it was given.
func (c *compiler) carried(sets CapsCheck) abi.CapSet {
	if c.stub == nil || c.noCapset || c.spec.Process.User.UID == 0 {
		return 0
	}
	return sets.Permitted & sets.Bounding &^ sets.Ambient
}

// carry has the program's execve find the sets that the container is to have, as it would without a stub.
func (c *compiler) carry(sets CapsCheck) {
	extra := c.carried(sets)
	if extra == 0 {
		return
	}
	why := because("the stub's execve takes what is not ambient; the stub sets it as asked for")
	c.inside(&Capset{Effective: sets.Effective, Permitted: sets.Permitted, Inheritable: sets.Inheritable | extra}, why, nil)
	c.inside(&Ambient{Caps: sets.Ambient | extra}, why, nil)
	last := Capset{Permitted: sets.Ambient | extra, Inheritable: sets.Inheritable}
	last.Effective = sets.Effective & last.Permitted
	if last.Inheritable&extra != 0 {
		first := last
		first.Inheritable &^= extra
		c.stub.Caps = append(c.stub.Caps, first)
	}
	c.stub.Caps = append(c.stub.Caps, last)
}

// findProgram looks for the program as its execve will: by the user, and by what capabilities that user has then.
func (c *compiler) findProgram(sets CapsCheck, early bool, dirs []string) {
	p := c.spec.Process
	if effective := sets.Effective & (sets.Ambient | c.carried(sets)); p.User.UID != 0 && effective != 0 {
		permitted := sets.Permitted | sets.Inheritable // which are to be set yet
		if early {
			permitted = permitted.With(abi.CapSysAdmin)
		}
		c.inside(&Capset{Effective: effective, Permitted: permitted}, because("the program is looked for by what it is executed by"), nil)
	}
	c.inside(&FindProgram{Program: p.Args[0], Path: dirs}, c.cause("process.args"), nil)
}

// kept lists the registers that the execve itself needs.
func (c *compiler) kept() (list []Reg) {
	if c.needsStub() {
		list = append(list, RegStub)
	}
	if c.o.Wait != "" {
		list = append(list, RegStart, RegStarted)
	}
	return list
}

// annotationKeepGroups is crun's. Podman and buildah set it for --group-add keep-groups, whatever their runtime is called.
const annotationKeepGroups = "run.oci.keep_original_groups"

// toldOf are the capabilities that the container asked for, who was told then which of them it has not.
func (c *compiler) toldOf() abi.CapSet { return mayHave(c.o.Told) }

// mayHave are the capabilities that a process with these sets, or one that it makes, can have; names that are none count for nothing.
func mayHave(p *specs.LinuxCapabilities) (set abi.CapSet) {
	if p == nil {
		return 0
	}
	for _, name := range slices.Concat(p.Bounding, p.Permitted) {
		if capability, ok := abi.ParseCapability(name); ok {
			set = set.With(capability)
		}
	}
	return set
}

// keepsGroups tells whether the process has the supplementary groups of the caller in the place of its own. They are what lets a user's container
// read what the user may read by a group alone, which no map of ids can show.
func (c *compiler) keepsGroups() bool {
	v, ok := c.spec.Annotations[annotationKeepGroups]
	return ok && v != "0"
}

// user becomes the process's user.
func (c *compiler) user(u specs.User, keep bool) {
	cause := c.cause("process.user")
	gids := c.gids
	if c.o.Joined && c.joined != RegNone {
		gids = mappings(c.linux.GIDMappings) // of the container that is joined
	}
	single := c.host.NoSetgroups || len(gids) == 1 && gids[0].Size == 1 && !c.host.MapsIDs()
	if c.joined != RegNone && len(gids) == 0 && !c.host.MapsIDs() && (c.host.NewGIDMap == "" || len(c.host.SubGIDs) == 0) {
		single = true // a caller who has one id made it of that, whose it is
	}
	leaves := c.keepsGroups()
	switch { // a user's own group alone is no loss
	case leaves:
	case single && slices.ContainsFunc(u.AdditionalGids, func(gid uint32) bool { return gid != u.GID }):
		c.warn("supplementary groups are not set: a single mapped id allows none")
	case !single:
		c.inside(&Setgroups{Groups: u.AdditionalGids}, cause, nil)
	}
	if keep && u.UID != 0 {
		c.inside(&KeepCaps{On: true}, because("capabilities are set after the change of user"), nil)
	}
	c.inside(&Setresgid{GID: u.GID}, cause, nil)
	check := &IDCheck{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids, Callers: leaves}
	if single || leaves {
		check.Groups = nil
	}
	c.inside(&Setresuid{UID: u.UID}, cause, check)
	if keep && u.UID != 0 {
		c.inside(&KeepCaps{}, because("capabilities are set after the change of user"), nil)
	}
}

// filter compiles the filter, once; nil is none.
func (c *compiler) filter() (*Seccomp, error) {
	if c.linux.Seccomp == nil || c.loaded != nil {
		return c.loaded, nil
	}
	prog, err := seccomp.Compile(c.linux.Seccomp, c.host.Arch)
	if err != nil {
		return nil, err
	}
	if prog == nil {
		return nil, nil // a profile that allows everything
	}
	c.profile = prog
	c.stubFilters = c.mayStubFilter()
	c.noCapset = !c.stubFilters && !c.takes("capset")
	notify := RegNone
	if prog.Notify {
		if err := c.canSend(prog); err != nil {
			return nil, err
		}
		if notify, err = c.reg(); err != nil {
			return nil, err
		}
	}
	allowed := 0
	for _, s := range c.linux.Seccomp.Syscalls {
		if s.Action == specs.ActAllow {
			allowed += len(s.Names)
		}
	}
	summary := "default " + strings.ToLower(strings.TrimPrefix(string(c.linux.Seccomp.DefaultAction), "SCMP_ACT_"))
	if allowed > 0 {
		summary += fmt.Sprintf(", %d names allowed", allowed)
	}
	c.loaded = &Seccomp{Filter: prog.Bytes(), Flags: uint64(prog.Flags), Summary: summary, Notify: notify}
	return c.loaded, nil
}

// mayStubFilter reports whether the stub is to load the filter, since that does not let all through by which the stub is executed, and what it does before the
// program's execve. A profile that was written for another runtime has execve, and often not execveat. Without no_new_privs loading it takes
// a capability that the stub may not have, and an init that stays behind the stub's copy has the filter, too.
func (c *compiler) mayStubFilter() bool {
	if !c.spec.Process.NoNewPrivileges || !c.needsStub() || c.profile.Notify || c.o.Init {
		return false
	}
	return !c.takes("execveat") || !c.takes("fcntl") || !c.takes("rt_sigprocmask") || c.o.Wait != "" && (!c.takes("read") || !c.takes("rt_sigaction"))
}

// lastCalls refuses a filter that refuses what has to come between it and the program's execve.
func (c *compiler) lastCalls(early bool) error {
	var needed []string
	if c.needsStub() && !c.stubFilters {
		needed = append(needed, "execveat", "fcntl")
		if c.o.Wait != "" {
			needed = append(needed, "read")
		}
	}
	if early {
		needed = append(needed, "rt_sigprocmask")
	}
	needed = slices.DeleteFunc(needed, func(name string) bool { return !c.refuses(name) })
	if len(needed) == 0 {
		return nil
	}
	return specErr("linux.seccomp.syscalls", "what comes between the filter and the program's execve has to be allowed: %s. With process.noNewPrivileges, and neither an init nor SCMP_ACT_NOTIFY, execve is enough", strings.Join(needed, ", "))
}

// takes reports whether the filter lets a call through, whatever its arguments.
func (c *compiler) takes(name string) bool { return c.always(name, passes) }

// refuses reports whether the filter refuses a call, whatever its arguments, and nobody is asked.
func (c *compiler) refuses(name string) bool {
	return c.always(name, func(answer uint32) bool {
		switch answer & abi.SeccompRetActionFull {
		case abi.SeccompRetErrno, abi.SeccompRetTrap, abi.SeccompRetKillThread, abi.SeccompRetKillProcess:
			return true
		}
		return false
	})
}

// always reports whether each answer that the filter may give to a call is of a kind.
func (c *compiler) always(name string, kind func(answer uint32) bool) bool {
	nr, known := c.host.Arch.Syscall(name)
	return known && !slices.ContainsFunc(seccomp.Reach(c.profile.Instructions, c.host.Arch, nr), func(answer uint32) bool { return !kind(answer) })
}

// takesWith is takes for these arguments, and 0 for all others.
func (c *compiler) takesWith(name string, args ...uint64) bool {
	nr, known := c.host.Arch.Syscall(name)
	return known && passes(c.profile.Decide(c.host.Arch, nr, args...))
}

// passes reports whether a filter's answer lets a call through.
func passes(answer uint32) bool { return answer == abi.SeccompRetAllow || answer == abi.SeccompRetLog }

// searchPath gives the directories in which a name without a slash is looked for.
func searchPath(p *specs.Process) []string {
	if strings.Contains(p.Args[0], "/") || p.Args[0] == "" {
		return nil
	}
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	list := make([]string, 0, 8)
	seen := map[string]bool{} // an image may name one a hundred thousand times
	for dir := range strings.SplitSeq(dirs, ":") {
		if !seen[dir] {
			seen[dir] = true
			list = append(list, dir)
		}
	}
	return list
}

// maxDirs bounds the directories in which a program is looked for: a step has less rows than can be counted in 16 bits. More do not fit into a variable that a
// program can be given, where a page of memory has 4 kB.
const maxDirs = 60000

// capSets parses the five sets and takes from them what the caller lacks.
func (c *compiler) capSets() CapsCheck {
	var s CapsCheck
	if c.spec.Process.Capabilities == nil {
		return s
	}
	p := c.spec.Process.Capabilities
	var effective abi.CapSet
	var unknown []string // one warning for each, whatever sets it is in
	for _, set := range []struct {
		field string
		names []string
		to    *abi.CapSet
	}{
		{"bounding", p.Bounding, &s.Bounding},
		{"permitted", p.Permitted, &s.Permitted},
		{"effective", p.Effective, &effective},
		{"inheritable", p.Inheritable, &s.Inheritable},
		{"ambient", p.Ambient, &s.Ambient},
	} {
		for i, name := range set.names {
			capability, ok := abi.ParseCapability(name)
			if !ok || capability > c.host.LastCap {
				if !slices.Contains(unknown, name) {
					unknown = append(unknown, name)
					c.warn("capability %s is left out: this kernel does not know it (%s)", name, c.from(fmt.Sprintf("process.capabilities.%s[%d]", set.field, i)))
				}
				continue
			}
			*set.to = set.to.With(capability)
		}
	}
	if !c.userNS {
		missing := (s.Bounding | s.Permitted) &^ c.host.Caps
		if missing&^c.toldOf() != 0 {
			c.warn("capabilities left out, since the caller lacks them: %s", capText(missing))
		}
		for _, set := range []*abi.CapSet{&s.Bounding, &s.Permitted, &s.Inheritable, &s.Ambient, &effective} {
			*set &= c.host.Caps
		}
	}
	s.Effective = effective & s.Permitted
	if lost := s.Ambient &^ (s.Permitted & s.Inheritable); lost != 0 {
		c.warn("can't raise ambient capability %s: only what is permitted and inheritable can be", lost)
		s.Ambient &^= lost
	}
	return s
}

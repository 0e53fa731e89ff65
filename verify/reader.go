package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// A reader has one container before it: what many checks need is read once.
type reader struct {
	plan      plan.Plan
	checks    []plan.NumberedCheck
	container int      // its first process
	pid       int      // the one that is looked at
	dir       *os.File // /proc/PID; a process's directory never shows another process
	its       *namespace.Process
	self      *namespace.Process
	first     [8]uint64 // namespaces of the reader's pid 1, 0 where that is not readable

	root      *os.File // the process's root directory
	rootErr   error
	mounts    []namespace.Mount
	mountsErr error
}

func open(p plan.Plan, pid int) (*reader, error) {
	r := &reader{plan: p, checks: p.Checks(), container: pid, pid: command(p, pid)}
	var err error
	if r.dir, err = os.OpenFile(fmt.Sprintf("/proc/%d", r.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	if r.its, err = namespace.ReadProcess(nil, r.pid); err == nil && r.its.Ended {
		err = fmt.Errorf("process %d: it has ended: %w", pid, fs.ErrNotExist)
	}
	if err == nil {
		r.self, err = namespace.ReadProcess(nil, os.Getpid())
	}
	if err != nil {
		r.dir.Close()
		return nil, err
	}
	if one, err := namespace.ReadProcess(nil, 1); err == nil {
		r.first = one.Inodes
	}
	r.root, r.rootErr = os.OpenFile(fmt.Sprintf("/proc/%d/root", r.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r.mounts, r.mountsErr = namespace.ReadMounts(nil, r.pid)
	stack(r.mounts)
	return r, nil
}

func (r *reader) close() {
	r.dir.Close()
	if r.root != nil {
		r.root.Close()
	}
}

// gone tells whether the process has ended by now: its directory is empty, or it has left
// its namespaces. While it has not, its pid cannot have been another's.
func (r *reader) gone() bool {
	var link [64]byte
	_, err := unix.Readlinkat(int(r.dir.Fd()), "ns/mnt", link[:])
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// command returns the process that ends in the plan's execve: pid itself or, where an init
// stays as pid 1, its first child. The init ends with it, so it has no elder one.
func command(p plan.Plan, pid int) int {
	for _, s := range p.Steps {
		if _, ok := s.Op.(*plan.Init); !ok {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		eldest, _, _ := strings.Cut(string(data), " ")
		if child, notNumber := strconv.Atoi(eldest); err == nil && notNumber == nil {
			return child
		}
	}
	return pid
}

// measure reads the property of checks[i], and compares.
func (r *reader) measure(i int, check plan.Check) answer {
	switch c := check.(type) {
	case *plan.NewNamespacesCheck:
		return judgeNew(c.New, r.its.Inodes, r.self.Inodes, r.first)
	case *plan.NamespaceCheck:
		return r.joined(c)
	case *plan.IDMapCheck:
		return r.idMap(c)
	case *plan.TimeCheck:
		return r.clocks(c)
	case *plan.RootCheck:
		return r.rootMount(r.plan.Steps[r.checks[i].N-1].Op)
	case *plan.MountCheck:
		return r.mount(i, c)
	case *plan.MaskCheck:
		return r.at(c.Path, judgeMask)
	case *plan.HiddenCheck:
		return r.hidden(c)
	case *plan.ReadonlyCheck:
		return r.at(c.Path, judgeReadonly)
	case *plan.DeviceCheck:
		return r.at(c.Path, func(p place) answer { return judgeDevice(c, p) })
	case *plan.HostnameCheck:
		return r.hostname(c)
	case *plan.SysctlCheck:
		return r.sysctl(c)
	case *plan.LinkCheck:
		return r.link(c)
	case *plan.PropagationCheck:
		return r.propagation(c)
	case *plan.NetDeviceCheck:
		return r.netDevice(c)
	case *plan.SetgroupsCheck:
		return r.setgroups()
	case *plan.SeccompCheck:
		return r.filter(r.plan.Steps[r.checks[i].N-1].Op)
	}
	if a, ok := r.network(check); ok {
		return a
	}
	if a, ok := r.group(check); ok {
		return a
	}
	if a, ok := r.scheduling(check); ok {
		return a
	}
	return r.credential(check)
}

// filter is measure for seccomp. A filter of the stub's is loaded with the program's start: until then
// the process runs the stub, which is in a file without a name.
func (r *reader) filter(op plan.Op) answer {
	if load, ok := op.(*plan.Seccomp); ok && load.Stub && r.its.Seccomp == namespace.SeccompOff {
		var exe unix.Stat_t
		if err := unix.Fstatat(int(r.dir.Fd()), "exe", &exe, 0); err != nil {
			return cannot(err)
		}
		if exe.Nlink == 0 {
			return unknown("the container waits for its start, which loads the filter right before its program's execve")
		}
	}
	return answer{measured: r.its.Seccomp.String(), ok: r.its.Seccomp == namespace.SeccompFilter}
}

// group is measure for control groups and their like.
func (r *reader) group(check plan.Check) (answer, bool) {
	switch c := check.(type) {
	case *plan.CgroupCheck:
		return r.member(c), true
	case *plan.CgroupFileCheck:
		return r.cgroupFile(c), true
	case *plan.DeviceRulesCheck:
		return r.deviceRules(c), true
	case *plan.CgroupOwnerCheck:
		return r.cgroupOwner(c), true
	case *plan.ResctrlCheck:
		return r.resctrl(c), true
	}
	return answer{}, false
}

// credential is measure for what belongs to the process alone.
func (r *reader) credential(check plan.Check) answer {
	switch c := check.(type) {
	case *plan.IDCheck:
		return r.ids(c)
	case *plan.CapsCheck:
		uids, _, err := r.maps()
		if err != nil {
			return cannot(err)
		}
		uid, ok := uids.Inside(r.its.UIDs.Effective)
		return judgeCaps(c, r.its.Caps, ok && uid == 0, r.its.NoNewPrivs)
	case *plan.NoNewPrivsCheck:
		if r.its.NoNewPrivs {
			return yes("1")
		}
		return no("0")
	case *plan.RlimitCheck:
		limits, err := namespace.ReadLimits(nil, r.pid)
		if err != nil {
			return cannot(err)
		}
		return judgeLimit(c, limits)
	case *plan.UmaskCheck:
		if r.its.Umask < 0 {
			return unknown("the kernel does not tell")
		}
		got := plan.UmaskCheck{Mask: uint32(r.its.Umask)}
		return answer{measured: got.Asked(), ok: got == *c}
	case *plan.SessionCheck:
		return r.session()
	case *plan.TerminalCheck:
		return r.terminal()
	case *plan.LabelCheck:
		return r.label(c)
	case *plan.OOMCheck:
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", r.pid))
		if err != nil {
			return cannot(err)
		}
		measured := strings.TrimSpace(string(data))
		return answer{measured: measured, ok: measured == c.Asked()}
	}
	return unknown("there is no reader for " + check.Kind())
}

// joined compares a namespace of the process with the file by which it was to be joined.
func (r *reader) joined(c *plan.NamespaceCheck) answer {
	its, err := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", r.pid, c.NS.ProcName()))
	if err != nil {
		return cannot(err)
	}
	pid, ofProcess := processOf(c.Path)
	target, err := os.Stat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && ofProcess:
		return unknown(fmt.Sprintf("process %d, whose it was, has ended", pid))
	case err != nil:
		return cannot(err)
	case os.SameFile(its, target):
		return yes(c.Asked())
	}
	if ofProcess {
		// One that began after the container cannot be the one that was joined. Start
		// times are in hundredths of a second.
		if p, err := namespace.ReadProcess(nil, pid); err != nil || p.Start.After(r.its.Start.Add(5*time.Millisecond)) {
			return unknown(fmt.Sprintf("process %d, whose it was, has ended, and another has its number", pid))
		}
	}
	return no(fmt.Sprintf("another one, %s:[%d]", c.NS.ProcName(), r.its.Inodes[c.NS]))
}

// processOf takes the pid out of "/proc/4711/ns/net".
func processOf(path string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(path, "/proc/")
	number, rest, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(number)
	return pid, ok && err == nil && strings.HasPrefix(rest, "ns/")
}

func (r *reader) idMap(c *plan.IDMapCheck) answer {
	uids, gids, err := namespace.ReadIDMaps(nil, r.pid)
	if err != nil {
		return cannot(err)
	}
	if slices.ContainsFunc(r.plan.Steps, func(s plan.Step) bool { _, ok := s.Op.(*plan.World); return ok }) {
		// A reader in the network world is shown the ids of that; the plan has those of the machine.
		ours, groups, err := namespace.ReadIDMaps(nil, os.Getpid())
		if err != nil {
			return cannot(err)
		}
		uids, gids = through(uids, ours), through(gids, groups)
	}
	if c.Group {
		return judgeIDMap(c, gids)
	}
	return judgeIDMap(c, uids)
}

// through gives a map to the ids of a namespace, whose map is own, as one to those outside of it.
func through(m, own namespace.IDMap) (out namespace.IDMap) {
	for _, r := range m {
		for _, o := range own {
			first, end := max(r.Outside, o.Inside), min(r.Outside+r.Count, o.Inside+o.Count)
			if first < end {
				out = append(out, namespace.IDRange{Inside: r.Inside + (first - r.Outside), Outside: o.Outside + (first - o.Inside), Count: end - first})
			}
		}
	}
	return out
}

// maps returns the id maps between the process's user namespace and the reader's. Where
// these are one, every id is itself: the kernel's files show the map to its parent then.
func (r *reader) maps() (uids, gids namespace.IDMap, err error) {
	ours, its := r.self.Inodes[abi.NSUser], r.its.Inodes[abi.NSUser]
	if its == 0 {
		return nil, nil, errUnreadable
	}
	if its == ours {
		same := namespace.IDMap{{Count: 1<<32 - 1}}
		return same, same, nil
	}
	return namespace.ReadIDMaps(nil, r.pid)
}

func (r *reader) ids(c *plan.IDCheck) answer {
	uids, gids, err := r.maps()
	if err != nil {
		return cannot(err)
	}
	deny, _ := os.ReadFile(fmt.Sprintf("/proc/%d/setgroups", r.pid)) // before Linux 3.19 nothing could be denied
	return judgeIDs(c, r.its, uids, gids, strings.TrimSpace(string(deny)) == "deny")
}

func (r *reader) clocks(c *plan.TimeCheck) answer {
	its, ours := r.its.Inodes[abi.NSTime], r.self.Inodes[abi.NSTime]
	if its == 0 {
		return cannot(errUnreadable)
	}
	offsets, err := namespace.ReadTimeOffsets(nil, r.pid)
	if err != nil {
		return cannot(err)
	}
	var next unix.Stat_t
	if err := unix.Fstatat(int(r.dir.Fd()), "ns/time_for_children", &next, 0); err != nil {
		return cannot(err)
	}
	if next.Ino != its {
		return unknown("it made another time namespace for its children, and the kernel shows that one's")
	}
	return judgeClocks(c, offsets, its != ours)
}

// errUnreadable is for links of namespaces that only others may read.
var errUnreadable = fmt.Errorf("its namespaces: %w", fs.ErrPermission)

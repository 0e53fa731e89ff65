package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// scheduling is measure for how the process is scheduled, and where its memory comes from.
func (r *reader) scheduling(check plan.Check) (answer, bool) {
	switch c := check.(type) {
	case *plan.SchedulerCheck:
		a, err := unix.SchedGetAttr(r.pid, 0)
		if err != nil {
			return cannot(err), true
		}
		return judgeScheduler(c, a), true
	case *plan.IOPriorityCheck:
		got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, abi.IoprioWhoProcess, uintptr(r.pid), 0)
		if errno != 0 {
			return cannot(errno), true
		}
		const level = 1<<abi.IoprioClassShift - 1
		have := plan.IOPriorityCheck{Class: uint8(got >> abi.IoprioClassShift), Level: uint8(got & level)}
		return answer{measured: have.Asked(), ok: have == *c}, true
	case *plan.MemoryPolicyCheck:
		text, err := r.file("numa_maps")
		if errors.Is(err, fs.ErrNotExist) {
			return unknown("this kernel is built without memory nodes, and does not tell"), true
		}
		if err != nil {
			return cannot(err), true
		}
		return judgeMemoryPolicy(c, text), true
	case *plan.AffinityCheck:
		return r.affinity(c), true
	case *plan.PersonalityCheck:
		text, err := r.file("personality")
		if err != nil {
			return cannot(err), true
		}
		n, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		if err != nil {
			return cannot(err), true
		}
		got := plan.PersonalityCheck{Domain: n}
		return answer{measured: got.Asked(), ok: got == *c}, true
	}
	return answer{}, false
}

// file reads a small file of the process.
func (r *reader) file(name string) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.pid, name))
	return string(data), err
}

// head is the first so many bytes of such a file.
func (r *reader) head(name string, most int64) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", r.pid, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	return string(data), err
}

// judgeScheduler compares what the policy that was asked for has a meaning for: the kernel tells
// other values as well. What a flag leaves as it was has no value that was asked for.
func judgeScheduler(c *plan.SchedulerCheck, a *unix.SchedAttr) answer {
	asked := *c
	if c.Flags&abi.SchedFlagKeepPolicy != 0 {
		asked.Policy = a.Policy
		asked.Flags = asked.Flags&^abi.SchedFlagResetOnFork | a.Flags&abi.SchedFlagResetOnFork // part of the policy
	}
	if c.Flags&abi.SchedFlagKeepParams != 0 {
		asked.Nice, asked.Priority = int(a.Nice), a.Priority
		asked.Runtime, asked.Deadline, asked.Period = a.Runtime, a.Deadline, a.Period
	}
	c = &asked
	const kept = abi.SchedFlagResetOnFork | abi.SchedFlagReclaim | abi.SchedFlagDLOverrun
	want := plan.SchedulerCheck{Policy: c.Policy, Flags: c.Flags & kept}
	got := plan.SchedulerCheck{Policy: a.Policy, Flags: a.Flags & kept}
	switch c.Policy {
	case abi.SchedDeadline:
		want.Runtime, want.Deadline, want.Period = c.Runtime, c.Deadline, c.Period
		if want.Period == 0 {
			want.Period = c.Deadline
		}
		got.Runtime, got.Deadline, got.Period = a.Runtime, a.Deadline, a.Period
	case abi.SchedFIFO, abi.SchedRR:
		want.Priority, got.Priority = c.Priority, a.Priority
	case abi.SchedOther, abi.SchedBatch:
		want.Nice, got.Nice = c.Nice, int(a.Nice)
		if c.Runtime != 0 && a.Runtime != 0 { // a slice, since Linux 6.12; before, nobody kept it
			want.Runtime, got.Runtime = min(max(c.Runtime, 100_000), 100_000_000), a.Runtime
		}
	}
	return answer{measured: got.Asked(), ok: got == want}
}

// judgeMemoryPolicy looks at the mappings' policies in a numa_maps. A mapping shows the process's where
// it has none of its own, of mbind(2).
func judgeMemoryPolicy(c *plan.MemoryPolicyCheck, text string) answer {
	want := c.Word()
	if want == "" {
		return unknown("this mode has no name here")
	}
	if len(c.Nodes) == 0 && c.Mode == abi.MpolPreferred {
		want = "local" // which is what the kernel makes of it
	}
	seen := ""
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		policy := rest
		for _, end := range []string{" file=", " heap", " stack", " huge", " anon=", " mapped=", " N0="} {
			policy, _, _ = strings.Cut(policy, end)
		}
		if seen == "" {
			seen = policy
		}
		mode, nodes, _ := strings.Cut(policy, ":")
		mode, balancing := strings.CutSuffix(mode, "|balancing")
		if !balancing {
			mode = strings.TrimSuffix(mode, "=balancing")
		}
		if mode == want && nodesWithin(nodes, c.Nodes) {
			return yes(policy)
		}
	}
	if seen == "" {
		return unknown("the process has no memory of its own yet")
	}
	return no(seen)
}

// nodesWithin tells whether the process has no node that was not asked for: those that the machine lacks, or the
// control group, are left out.
func nodesWithin(list string, asked []plan.Range) bool {
	set, ok := numberSet(list)
	for _, n := range set {
		ok = ok && slices.ContainsFunc(asked, func(r plan.Range) bool { return int(r.First) <= n && n <= int(r.Last) })
	}
	return ok && (len(set) > 0 || len(asked) == 0)
}

// affinity compares the processors of the process with those asked for, of which the kernel leaves the ones that its
// control group has.
func (r *reader) affinity(c *plan.AffinityCheck) answer {
	text, err := r.file("status")
	if err != nil {
		return cannot(err)
	}
	_, rest, ok := strings.Cut(text, "\nCpus_allowed_list:")
	line, _, _ := strings.Cut(rest, "\n")
	got, okGot := numberSet(line)
	if !ok || !okGot {
		return unknown("the kernel does not tell")
	}
	allowed, why := r.allowedCPUs()
	if why.unknown != "" {
		return why
	}
	return judgeAffinity(c, got, allowed)
}

func judgeAffinity(c *plan.AffinityCheck, got, allowed []int) answer {
	want := allowed
	if len(c.CPUs) > 0 {
		want = slices.DeleteFunc(slices.Clone(allowed), func(n int) bool {
			return !slices.ContainsFunc(c.CPUs, func(r plan.Range) bool { return int(r.First) <= n && n <= int(r.Last) })
		})
	}
	measured := numberText(got)
	if !slices.Equal(want, allowed) || !slices.Equal(got, want) {
		measured += " of " + numberText(allowed)
	}
	return answer{measured: measured, ok: slices.Equal(got, want)}
}

// allowedCPUs are the processors of the process's control group, or all that are online where none
// shares them out.
func (r *reader) allowedCPUs() ([]int, answer) {
	files := []string{"/sys/devices/system/cpu/online"}
	if dir, why := r.cgroupDir("cpuset"); why.unknown == "" {
		files = []string{dir + "/cpuset.effective_cpus", dir + "/effective_cpus"}
	} else if dir, why := r.cgroupDir(""); why.unknown == "" {
		// A cgroup without the controller has the processors of the one above.
		var own []string
		for top := dir; len(top) > 1; top = top[:max(strings.LastIndexByte(top, '/'), 1)] {
			own = append(own, top+"/cpuset.cpus.effective")
		}
		files = append(own, files...)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, cannot(err)
		}
		if set, ok := numberSet(string(data)); ok && len(set) > 0 {
			return set, answer{}
		}
	}
	return nil, unknown("the kernel does not tell which processors its control group has")
}

// session compares field 6 of /proc/PID/stat with the container's first process, which leads the session; the
// command below an init may have one of its own.
func (r *reader) session() answer {
	f, err := r.stat()
	if err != nil {
		return cannot(err)
	}
	switch id, _ := strconv.Atoi(f[6-3]); id {
	case r.pid, r.container:
		return yes("its own")
	case 0:
		return no("one from outside of this pid namespace")
	default:
		return no(fmt.Sprintf("that of process %d", id))
	}
}

// terminal looks at field 7 of /proc/PID/stat. Pseudoterminals have the major numbers from 136 to 143.
func (r *reader) terminal() answer {
	f, err := r.stat()
	if err != nil {
		return cannot(err)
	}
	dev, _ := strconv.Atoi(f[7-3])
	major, minor := uint32(dev)>>8&0xfff, uint32(dev)&0xff|uint32(dev)>>12&0xfff00
	if dev == 0 {
		return no("none")
	}
	return answer{measured: fmt.Sprintf("c %d:%d", major, minor), ok: major >= 136 && major <= 143}
}

// stat gives the fields of /proc/PID/stat from the third on.
func (r *reader) stat() ([]string, error) {
	text, err := r.file("stat")
	if err != nil {
		return nil, err
	}
	_, f, err := namespace.ParseStat([]byte(text))
	return f, err
}

// label reads the domain of a security module. AppArmor writes its mode behind it.
func (r *reader) label(c *plan.LabelCheck) answer {
	text, err := r.file(c.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		return unknown("the security module is not there")
	}
	if err != nil {
		return cannot(err)
	}
	got := strings.TrimRight(text, "\x00\n ")
	return answer{measured: got, ok: underLabel(got, c.Label)}
}

// underLabel reports whether a label is the one that was asked for. What AppArmor writes has the mode behind the profile, others that it is stacked on beside it, and by an
// execve of the program's a child of the profile in its place: in complain mode one that it makes itself, "PROFILE//null-/bin/sh".
func underLabel(got, asked string) bool {
	if got == asked {
		return true
	}
	names, _, _ := strings.Cut(got, " (")
	for name := range strings.SplitSeq(names, "//&") {
		if name == asked || strings.HasPrefix(name, asked+"//") {
			return true
		}
	}
	return false
}

// setgroups reads whether setgroups(2) is denied.
func (r *reader) setgroups() answer {
	text, err := r.file("setgroups")
	if err != nil {
		return cannot(err)
	}
	got := strings.TrimSpace(text)
	return answer{measured: got, ok: got == (&plan.SetgroupsCheck{}).Asked()}
}

// link reads a symbolic link of the container. What an image or a bound directory has in its place stays.
func (r *reader) link(c *plan.LinkCheck) answer {
	if r.rootErr != nil {
		return cannot(r.rootErr)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(r.root.Fd()), c.Path, &how)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return no("missing")
	}
	if err != nil {
		return cannot(fmt.Errorf("%s: %w", c.Path, err))
	}
	defer unix.Close(fd)
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err == nil {
		return answer{measured: "link to " + string(target[:n]), ok: string(target[:n]) == c.Target}
	}
	p, err := r.examine(fd)
	if err != nil {
		return cannot(fmt.Errorf("%s: %w", c.Path, err))
	}
	if p.fs != "tmpfs" {
		return yes(p.describe() + ", which was there before")
	}
	return no(p.describe())
}

// propagation compares the type of a mount's propagation.
func (r *reader) propagation(c *plan.PropagationCheck) answer {
	if r.mountsErr != nil {
		return cannot(r.mountsErr)
	}
	return judgePropagation(c, r.mounts)
}

func judgePropagation(c *plan.PropagationCheck, mounts []namespace.Mount) answer {
	for _, m := range slices.Backward(mounts) {
		if m.Point == c.Path {
			got := m.Propagation()
			return answer{measured: got, ok: slices.Contains(strings.Split(got, ","), c.Mode)}
		}
	}
	return no("not a mount")
}

// netDevice looks for a device in the process's network namespace: every reader may see which there are, and only one
// who joins it whether they are up.
func (r *reader) netDevice(c *plan.NetDeviceCheck) answer {
	text, err := r.file("net/dev")
	if err != nil {
		return cannot(err)
	}
	name, found := findDevice(c.Name, text)
	if !found {
		return no("missing")
	}
	if !c.Up {
		return yes("there")
	}
	if name == "lo" {
		// The route to 127.255.255.255 is the kernel's own as long as the device is up, that to 127.0.0.1 as long as it has the address: everybody may
		// see that. Who may make routes can make a million of them.
		if text, err := r.head("net/fib_trie", 1<<20); err == nil && strings.Contains(text, " 127.255.255.255\n") {
			return yes("up")
		}
	}
	got, err := r.inside(abi.NSNetwork, func() (string, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(name)
		if err != nil {
			return "", err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
			return "", err
		}
		if req.Uint16()&unix.IFF_UP != 0 {
			return "up", nil
		}
		return "down", nil
	})
	if err != nil {
		return cannot(err)
	}
	return answer{measured: got, ok: got == "up"}
}

// findDevice finds a name in a /proc/net/dev, where %d stands for a number.
func findDevice(name, text string) (string, bool) {
	before, after, pattern := strings.Cut(name, "%d")
	for line := range strings.Lines(text) {
		have, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		rest, okBefore := strings.CutPrefix(have, before)
		number, okAfter := strings.CutSuffix(rest, after)
		_, err := strconv.ParseUint(number, 10, 32)
		if have == name || pattern && okBefore && okAfter && err == nil {
			return have, true
		}
	}
	return "", false
}

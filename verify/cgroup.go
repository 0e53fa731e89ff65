package verify

import (
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// cgroupDir finds the directory of the process's cgroup in the hierarchy of a controller,
// in the reader's mount namespace; version 2's for the empty name. An answer that is not
// zero says why there is none.
func (r *reader) cgroupDir(controller string) (string, answer) {
	mounts, err := namespace.ReadMounts(nil, os.Getpid())
	if err != nil {
		return "", cannot(err)
	}
	return cgroupDirOf(controller, r.its.Cgroups, mounts)
}

// cgroupDirOf joins a line of /proc/PID/cgroup and a mount of its hierarchy. Both have their paths
// from the root of the reader's cgroup namespace.
func cgroupDirOf(controller string, its []namespace.Cgroup, mounts []namespace.Mount) (string, answer) {
	what := "controller " + controller
	if controller == "" {
		what = "control groups of version 2"
	}
	i := slices.IndexFunc(its, func(c namespace.Cgroup) bool {
		return controller == "" && c.Hierarchy == 0 || slices.Contains(c.Controllers, controller)
	})
	if i < 0 {
		return "", unknown("the process has no place in a hierarchy for " + what)
	}
	mounted := false
	for _, m := range mounts {
		of := m.Type == "cgroup2" && controller == "" || m.Type == "cgroup" && slices.Contains(strings.Split(m.Super, ","), controller)
		if !of {
			continue
		}
		mounted = true
		root := strings.TrimSuffix(m.Root, "/")
		if rest, ok := strings.CutPrefix(its[i].Path, root); ok && (rest == "" || rest[0] == '/') && !slices.Contains(strings.Split(rest, "/"), "..") {
			return path.Join(m.Point, rest), answer{}
		}
	}
	if mounted {
		return "", unknown(fmt.Sprintf("%s is not below what is mounted here", its[i].Path))
	}
	return "", unknown("no hierarchy is mounted here for " + what)
}

// member compares the process's places with the directories that it was put into. A process
// may move on to cgroups below.
func (r *reader) member(c *plan.CgroupCheck) answer {
	var others []string
	for _, d := range c.Dirs {
		dir, why := r.cgroupDir(d.Controller)
		if why.unknown != "" {
			return why
		}
		if !within(dir, d.Dir) && !slices.Contains(others, dir) {
			others = append(others, dir)
		}
	}
	if len(others) > 0 {
		return no(strings.Join(others, ", "))
	}
	return yes(fmt.Sprintf("there, in %s", count(len(c.Dirs), "hierarchy", "hierarchies")))
}

func within(dir, top string) bool {
	return dir == path.Clean(top) || strings.HasPrefix(dir, path.Clean(top)+"/")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// cgroupFile reads a file of the cgroup. Where the kernel has not got it, another one may
// be meant, or none.
func (r *reader) cgroupFile(c *plan.CgroupFileCheck) answer {
	switch base := path.Base(c.Path); {
	case base == "cgroup.procs", base == "cgroup.threads", base == "cgroup.kill", base == "memory.reclaim", strings.HasSuffix(base, ".pressure"):
		return unknown("what is written to this file is an order, and no value that stays")
	}
	text, err := readCgroupFile(c.Path)
	if errors.Is(err, fs.ErrNotExist) && c.ElsePath != "" {
		other := plan.CgroupFileCheck{Path: c.ElsePath, Value: c.ElseValue, Optional: c.Optional}
		a := r.cgroupFile(&other)
		a.measured = strings.TrimSuffix(path.Base(c.ElsePath)+" "+a.measured, " ")
		return a
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(path.Dir(c.Path)); gone != nil {
			return no("there is no such control group")
		}
		if c.Optional {
			return yes("this kernel has no such file, and needs none")
		}
		return no("there is no such file")
	}
	if err != nil {
		return cannot(err)
	}
	return judgeCgroupFile(c, text, uint64(os.Getpagesize()))
}

// readCgroupFile reads a file of a cgroup file system, and of no other.
func readCgroupFile(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return "", err
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC && st.Type != unix.CGROUP_SUPER_MAGIC {
		return "", errors.New("it is on no cgroup file system")
	}
	data := make([]byte, 1<<20)
	n, err := unix.Read(int(f.Fd()), data)
	if err != nil {
		return "", err
	}
	return string(data[:n]), nil
}

// deviceRules reads version 1's list, or asks for version 2's programs.
func (r *reader) deviceRules(c *plan.DeviceRulesCheck) answer {
	want, err := limits.ParseDevices(c.Policy)
	if err != nil {
		return unknown(err.Error())
	}
	if c.BPF {
		list, err := cgroup.Filters(c.Dir)
		if errors.Is(err, fs.ErrPermission) {
			return unknown("the kernel tells of programs only who has CAP_BPF and CAP_NET_ADMIN")
		}
		if err != nil {
			return cannot(err)
		}
		return judgeFilters(want, list)
	}
	text, err := readCgroupFile(path.Join(c.Dir, "devices.list"))
	if err != nil {
		return cannot(err)
	}
	return judgeDeviceList(want, text)
}

// judgeDeviceList compares with a devices.list, which shows what is allowed.
func judgeDeviceList(want limits.Devices, text string) answer {
	got, err := limits.ParseDevicesList(text)
	if err != nil {
		return unknown(err.Error())
	}
	if want.Denylist() && !want.AllowAll() && got.AllowAll() {
		return unknown("devices.list says that all is allowed; which exceptions there are, the kernel does not tell")
	}
	return answer{measured: got.String(), ok: got.Equal(want)}
}

// judgeFilters looks for our program among those of the cgroup, and compares it by its tag. All
// programs have to allow an access; what others' say cannot be read.
func judgeFilters(want limits.Devices, list []cgroup.Filter) answer {
	others := len(list)
	for _, f := range list {
		if f.Unread != nil {
			return unknown(fmt.Sprintf("program %d is there; what it is cannot be read: %v", f.ID, f.Unread))
		}
		if !f.Ours() {
			continue
		}
		also := ""
		if others--; others > 0 {
			also = fmt.Sprintf(", beside %s whose rules cannot be read", count(others, "program", "programs"))
		}
		code := want.Program().Bytes()
		older, newer := sha1.Sum(code), sha256.Sum256(code)
		if [8]byte(older[:8]) == f.Tag || [8]byte(newer[:8]) == f.Tag {
			return yes(fmt.Sprintf("program %d, tag %x, which is that of this policy%s", f.ID, f.Tag, also))
		}
		return no(fmt.Sprintf("program %d, tag %x, which is another policy's%s", f.ID, f.Tag, also))
	}
	switch {
	case want.AllowAll():
		return yes("no program of this runtime, and so nothing is denied by one")
	case others > 0:
		return no(fmt.Sprintf("no program of this runtime, and %s whose rules cannot be read", count(others, "other", "others")))
	}
	return no("no program: nothing is denied")
}

// cgroupOwner reads who owns the directory and the file that processes are moved by.
func (r *reader) cgroupOwner(c *plan.CgroupOwnerCheck) answer {
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		var st unix.Stat_t
		if err := unix.Lstat(path.Join(c.Dir, name), &st); err != nil {
			return cannot(err)
		}
		if st.Uid != c.UID {
			return no(strings.TrimSuffix(fmt.Sprintf("uid %d: %s", st.Uid, name), ": "))
		}
	}
	return yes(c.Asked())
}

// resctrl reads the process's groups.
func (r *reader) resctrl(c *plan.ResctrlCheck) answer {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cpu_resctrl_groups", r.pid))
	if errors.Is(err, fs.ErrNotExist) {
		return unknown("this kernel does not tell a process's groups")
	}
	if err != nil {
		return cannot(err)
	}
	return judgeResctrl(c, string(data))
}

// judgeResctrl compares with a cpu_resctrl_groups: "res:GROUP" and "mon:GROUP", the default group is "/".
func judgeResctrl(c *plan.ResctrlCheck, text string) answer {
	got := plan.ResctrlCheck{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "res":
			got.Group = value
		case "mon":
			got.Monitor = value
		}
	}
	if got.Group == "" {
		return unknown("resctrl is not mounted")
	}
	ok := strings.Trim(got.Group, "/") == strings.Trim(c.Group, "/") && (c.Monitor == "" || got.Monitor == c.Monitor)
	return answer{measured: got.Asked(), ok: ok}
}

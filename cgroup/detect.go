package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup/limits"
)

// A Hierarchy is a tree of cgroups that is mounted.
type Hierarchy struct {
	Version     limits.Version
	Controllers []string // by the kernel's names; "name=systemd" for a version 1 hierarchy that has none
	Mount       string   // where it is mounted
	Root        string   // which of its cgroups is mounted there: "/", or a container's own
	Own         string   // the caller's cgroup below Mount: "/", "/user.slice"; empty when it is not below it
	NoPrefix    bool     // the files of cpuset have no "cpuset." before their names
}

// key names the hierarchy in a record of paths: a controller of it, nothing for version 2.
func (h *Hierarchy) key() string {
	if h.Version == limits.V2 {
		return ""
	}
	return h.Controllers[0]
}

func (h *Hierarchy) has(controller string) bool { return slices.Contains(h.Controllers, controller) }

// A Host is the hierarchies that the caller's mount namespace has.
type Host struct {
	Hierarchies []Hierarchy
	tree        tree
}

// A tree is where files are looked up: the machine's own, or one that a test has made.
type tree struct {
	root int // AT_FDCWD for the machine's
}

// Unified reports whether version 2 alone is mounted.
func (h *Host) Unified() bool {
	return len(h.Hierarchies) == 1 && h.Hierarchies[0].Version == limits.V2
}

// Controllers says at which version each controller is, for limits.Compile. Devices are a matter of
// version 2 where version 1 has no hierarchy for them.
func (h *Host) Controllers() limits.Controllers {
	c := limits.Controllers{}
	for _, hi := range h.Hierarchies {
		for _, name := range hi.Controllers {
			switch {
			case strings.HasPrefix(name, "name="):
			case hi.Version == limits.V1:
				c[name] = limits.V1
			case c[kernelName(name)] == limits.Absent:
				c[kernelName(name)] = limits.V2
			}
		}
	}
	for _, hi := range h.Hierarchies {
		if hi.Version == limits.V2 && c["devices"] == limits.Absent {
			c["devices"] = limits.V2
		}
	}
	return c
}

// kernelName is the name that version 1 has for a controller.
func kernelName(name string) string {
	if name == "io" {
		return "blkio"
	}
	return name
}

// ErrNone is the error of a host without any cgroup file system.
var ErrNone = errors.New("no cgroup file system is mounted: mount one on /sys/fs/cgroup, see cgroups(7)")

// Detect finds the hierarchies that are mounted, and the caller's place in each.
func Detect() (*Host, error) { return detect(tree{root: unix.AT_FDCWD}) }

func detect(t tree) (*Host, error) {
	mounts, err := t.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := t.read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	h := &Host{tree: t}
	h.Hierarchies, err = parse(mounts, own, func(hi *Hierarchy) bool {
		fd, err := t.openMount(hi)
		if err != nil {
			return false // covered by another mount, or not to be reached by this caller
		}
		if hi.Version == limits.V2 {
			names, _ := readFile(fd, "cgroup.controllers")
			hi.Controllers = strings.Fields(names)
		}
		unix.Close(fd)
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(h.Hierarchies) == 0 {
		return nil, ErrNone
	}
	return h, nil
}

// A mount is a cgroup file system in /proc/self/mountinfo: proc_pid_mountinfo(5).
type mount struct {
	root, point string
	fstype      string
	options     []string // of the superblock
}

// parse pairs the mounts of /proc/self/mountinfo with the lines of /proc/self/cgroup: of a hierarchy's mounts that are reached, the best one.
func parse(mountinfo, own string, reached func(*Hierarchy) bool) ([]Hierarchy, error) {
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		if m, ok := parseMount(strings.TrimSuffix(line, "\n")); ok {
			mounts = append(mounts, m)
		}
	}
	var list []Hierarchy
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: line %q has not three fields", line)
		}
		h := Hierarchy{Version: limits.V1, Controllers: strings.Split(f[1], ",")}
		if f[0] == "0" && f[1] == "" {
			h = Hierarchy{Version: limits.V2}
		}
		for left := mounts; ; {
			best, ok := choose(left, h, f[2])
			if !ok {
				break
			}
			h.Mount, h.Root, h.Own = best.point, best.root, below(best.root, f[2])
			h.NoPrefix = slices.Contains(best.options, "noprefix")
			if reached(&h) {
				list = append(list, h)
				break
			}
			left = slices.DeleteFunc(slices.Clone(left), func(m mount) bool { return m.point == best.point && m.root == best.root && m.fstype == best.fstype })
		}
	}
	return list, nil
}

// choose finds the mount of a hierarchy: rather one that shows the caller's cgroup, then the
// one nearest to its root.
func choose(mounts []mount, h Hierarchy, own string) (best mount, found bool) {
	for _, m := range mounts {
		if m.fstype == "cgroup2" != (h.Version == limits.V2) {
			continue
		}
		if slices.ContainsFunc(h.Controllers, func(c string) bool { return !slices.Contains(m.options, c) }) {
			continue
		}
		shows, did := below(m.root, own) != "", below(best.root, own) != ""
		if !found || shows && !did || shows == did && len(m.root) < len(best.root) {
			best, found = m, true
		}
	}
	return best, found
}

// below gives a cgroup's place below the cgroup root, empty when it is not below it. A path
// that leads out of the caller's cgroup namespace ("/../x") is not below any.
func below(root, own string) string {
	if !strings.HasPrefix(own, "/") || slices.Contains(strings.Split(own, "/"), "..") || strings.HasPrefix(root, "/..") {
		return ""
	}
	own = path.Clean(own)
	if root == "/" || root == "" {
		return own
	}
	rest, ok := strings.CutPrefix(own, root)
	if !ok || rest != "" && rest[0] != '/' {
		return ""
	}
	return path.Clean("/" + rest)
}

// parseMount reads a line of mountinfo, if it is of a cgroup file system.
func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 3 || right[0] != "cgroup" && right[0] != "cgroup2" {
		return mount{}, false
	}
	return mount{root: abi.UnescapeMount(left[3]), point: abi.UnescapeMount(left[4]), fstype: right[0], options: strings.Split(abi.UnescapeMount(right[2]), ",")}, true
}

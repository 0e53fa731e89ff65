package nstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A hierarchy is a mounted tree of cgroups: cgroups(7).
type hierarchy struct {
	point   string // where it is mounted
	kind    string // cgroup or cgroup2
	options string // that select it: "cpu,cpuacct"; "name=systemd"; empty for version 2
	own     string // directory of this process's cgroup
	back    int    // its cgroup.procs, opened before this process has a cgroup namespace: a mount with nsdelegate takes no other
	above   int    // directory of the cgroup that the new one is made in, opened
	name    string // of the new cgroup in it
}

// testGroup is the child of the version 2 cgroup in which the tests are: a cgroup with
// processes could give its children no controllers.
const testGroup = "tests"

// ownCgroups puts this process into a new cgroup of each hierarchy, and shows that as the root: containers
// that tests make are below it, whatever their path, and packages under test at the same time do not see each other's. What it
// returns goes back, and removes them. It keeps the calling thread, whose cgroup namespace is another one.
func ownCgroups() (leave func(), err error) {
	list, err := hierarchies()
	if err != nil {
		return nil, err
	}
	leave = func() {
		for _, h := range list {
			h.leave()
		}
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	now := bootNanos()
	sweepGroups(list, now)
	name := groupName + strconv.FormatInt(int64(os.Getpid()), 10) + "-" + strconv.FormatInt(now, 36)
	for i := range list {
		if err := list[i].enter(name); err != nil {
			return leave, fmt.Errorf("a cgroup for the tests: %w", err)
		}
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return leave, fmt.Errorf("a cgroup namespace for the tests: %w", err)
	}
	for _, h := range list {
		if err := unix.Unmount(h.point, unix.MNT_DETACH); err != nil {
			return leave, fmt.Errorf("unmount %s: %w", h.point, err)
		}
		if err := unix.Mount("cgroup", h.point, h.kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, h.options); err != nil {
			return leave, fmt.Errorf("mount %s on %s: %w", h.kind, h.point, err)
		}
		if h.kind == "cgroup2" {
			dir := filepath.Join(h.point, testGroup)
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)); err != nil {
				return leave, err
			}
		}
	}
	return leave, nil
}

func bootNanos() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}

// hierarchies lists what is mounted below /sys/fs/cgroup, and can be written to.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var list []hierarchy
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 3 || (g[0] != "cgroup" && g[0] != "cgroup2") || !strings.HasPrefix(f[4], "/sys/fs/cgroup") {
			continue
		}
		h := hierarchy{point: f[4], kind: g[0], back: -1, above: -1}
		if g[0] == "cgroup" {
			var chosen []string
			for _, o := range strings.Split(g[2], ",") {
				if o != "rw" && o != "ro" && o != "xattr" && o != "clone_children" && o != "noprefix" && !strings.HasPrefix(o, "release_agent=") {
					chosen = append(chosen, o)
				}
			}
			h.options = strings.Join(chosen, ",")
		}
		own, ok := ownPath(string(groups), h.options)
		if !ok || unix.Access(h.point, unix.W_OK) != nil {
			continue
		}
		rel, err := filepath.Rel(f[3], own)
		if err != nil || strings.HasPrefix(rel, "..") {
			rel = "."
		}
		h.own = filepath.Join(h.point, rel)
		list = slices.DeleteFunc(list, func(o hierarchy) bool { return o.point == h.point }) // covered
		list = append(list, h)
	}
	return list, nil
}

// ownPath finds a hierarchy's line in /proc/self/cgroup.
func ownPath(groups, options string) (string, bool) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && (f[1] == options || f[1] != "" && strings.Contains(","+options+",", ","+strings.Split(f[1], ",")[0]+",")) {
			return f[2], true
		}
	}
	return "", false
}

// enter makes the cgroup name below this process's, and moves this process there. On version 2 that is below the nearest
// one which can give it controllers.
func (h *hierarchy) enter(name string) error {
	var err error
	above := h.own
	if h.kind == "cgroup2" {
		above = h.giving()
	}
	for _, d := range []struct {
		path  string
		flags int
		fd    *int
	}{{filepath.Join(h.own, "cgroup.procs"), unix.O_WRONLY, &h.back}, {above, unix.O_RDONLY | unix.O_DIRECTORY, &h.above}} {
		if *d.fd, err = unix.Open(d.path, d.flags|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: d.path, Err: err}
		}
	}
	dir := filepath.Join(above, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	h.name = name
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if have, err := os.ReadFile(filepath.Join(h.own, file)); err == nil && h.kind == "cgroup" {
			if err := os.WriteFile(filepath.Join(dir, file), have, 0); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// giving finds the nearest cgroup, from this process's own upward, that gives all of its controllers to its children. One
// with processes cannot, but for the root.
func (h *hierarchy) giving() string {
	for dir := h.own; dir != h.point; dir = filepath.Dir(dir) {
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err == nil && give(dir, strings.Fields(string(controllers))) {
			return dir
		}
	}
	controllers, _ := os.ReadFile(filepath.Join(h.point, "cgroup.controllers"))
	for c := range strings.FieldsSeq(string(controllers)) {
		give(h.point, []string{c}) // what it cannot give, tests find missing
	}
	return h.point
}

// give lets the cgroup's children have controllers, all or none: some of them a cgroup with processes
// can give, and would take no process back after that.
func give(dir string, controllers []string) bool {
	return len(controllers) > 0 && os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+strings.Join(controllers, " +")), 0) == nil
}

// leave goes back to where this process was, and removes what enter made.
func (h *hierarchy) leave() {
	if h.back < 0 || h.above < 0 {
		unix.Close(h.back)
		return
	}
	defer unix.Close(h.back)
	defer unix.Close(h.above)
	unix.Write(h.back, []byte("0"))
	if h.name == "" {
		return
	}
	patiently(func() bool { return removeGroup(h.above, h.name) == nil })
}

// removeGroup removes a cgroup with all below it, as far as they have no process. What it is in is a descriptor: the
// path leads elsewhere by now.
func removeGroup(above int, name string) error {
	fd, err := unix.Openat(above, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	list, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.IsDir() {
			if err := removeGroup(fd, e.Name()); err != nil {
				return err
			}
		}
	}
	return unix.Unlinkat(above, name, unix.AT_REMOVEDIR)
}

// groupName begins the names of the cgroups of tests: the pid in its namespace and the time follow.
const groupName = "kakuri-nstest-"

// sweepAfter is how old a cgroup of tests has to be to be taken away: older than the moment between its making and its first process.
const sweepAfter = 10 * time.Minute

// sweepGroups removes the cgroups of test runs that were killed, beside which this one's are about to be made. Whether there are processes
// in one only version 2 says of all pid namespaces; without it, what is left stays.
func sweepGroups(list []hierarchy, now int64) {
	alive := map[string]bool{}
	known := false
	for _, h := range list {
		if h.kind != "cgroup2" {
			continue
		}
		known = true
		names, _ := filepath.Glob(filepath.Join(h.giving(), groupName+"*"))
		for _, dir := range names {
			events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
			alive[filepath.Base(dir)] = err != nil || !strings.Contains(string(events), "populated 0")
		}
	}
	if !known {
		return
	}
	for _, h := range list {
		above := h.own
		if h.kind == "cgroup2" {
			above = h.giving()
		}
		names, _ := filepath.Glob(filepath.Join(above, groupName+"*"))
		for _, dir := range names {
			name := filepath.Base(dir)
			_, text, _ := strings.Cut(strings.TrimPrefix(name, groupName), "-")
			if made, err := strconv.ParseInt(text, 36, 64); err == nil && !alive[name] && now-made > int64(sweepAfter) {
				if fd, err := unix.Open(above, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
					removeGroup(fd, name)
					unix.Close(fd)
				}
			}
		}
	}
}

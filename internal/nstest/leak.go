package nstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A State is what can leak: the descriptors of this process, the mounts and
// processes of its namespaces, cgroups and files of kakuri, network links.
type State struct {
	lines []string
	dirs  []string
}

// Take reads the state; dirs are directories of records whose files count.
func Take(dirs ...string) State {
	s := State{dirs: dirs}
	add := func(kind string, list []string) {
		for _, l := range list {
			s.lines = append(s.lines, kind+" "+l)
		}
	}
	add("fd", descriptors())
	add("mount", mountLines())
	add("process", processes())
	add("link", links())
	for _, d := range dirs {
		add("file", files(d))
	}
	return s
}

// Since lists what is there now, and was not when s was taken.
func (s State) Since() []string { return missing(Take(s.dirs...).lines, s.lines, "") }

// NoLeaks fails the test when, at its end, something is there that was not when NoLeaks was
// called. What ends by itself is given a moment for it.
func NoLeaks(t testing.TB, dirs ...string) {
	t.Helper()
	before := Take(dirs...)
	t.Cleanup(func() {
		t.Helper()
		for _, l := range before.Left() {
			t.Errorf("left behind: %s", l)
		}
	})
}

// Left lists what is there, and was not when s was taken, after it had some time to go: a minute, since the kernel takes network
// namespaces apart one after the other, those of all the machine, and waits for all processors for each.
func (s State) Left() []string {
	var left []string
	for end := time.Now().Add(time.Minute); !patiently(func() bool { left = s.Since(); return len(left) == 0 }) && time.Now().Before(end); {
	}
	return left
}

// patiently repeats done until it is true, for three seconds at most: the kernel tells
// nobody of mounts and processes of others that went away.
func patiently(done func() bool) bool {
	for wait := time.Millisecond; wait < time.Second; wait = wait * 3 / 2 {
		if done() {
			return true
		}
		time.Sleep(wait)
	}
	return done()
}

// Until repeats done until it is true, and fails the test when that takes longer
// than a minute: an emulated machine on a busy one is slow.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !patiently(done); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// Kill kills processes, and waits until the kernel has taken the last thread of each apart: what one had open is closed then, and its locks are gone. That
// its command line is empty says less.
func Kill(t testing.TB, pids ...int) {
	t.Helper()
	wait := Ends(t, pids...)
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
	wait()
}

// Ends gives a function that waits for the end of processes, as [Kill] does, whoever ends them.
func Ends(t testing.TB, pids ...int) (wait func()) {
	t.Helper()
	var open []int
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // or it has ended
			open = append(open, fd)
		}
	}
	return func() {
		t.Helper()
		for _, fd := range open {
			defer unix.Close(fd)
			Until(t, "the end of a process", func() bool {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
				return err == nil && n == 1
			})
		}
	}
}

// Catches reports whether a process has a handler for a signal: until then the signal does what it does by default, and to the first process of
// a pid namespace nothing.
func Catches(pid int, sig syscall.Signal) bool {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, _ := strings.Cut(string(data), "SigCgt:\t")
	text, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(text, 16, 64)
	return err == nil && set>>(sig-1)&1 != 0
}

// missing lists the elements of list that have is short of, counted.
func missing(list, have []string, prefix string) []string {
	count := map[string]int{}
	for _, h := range have {
		count[h]++
	}
	var out []string
	for _, l := range list {
		if count[l]--; count[l] < 0 {
			out = append(out, prefix+l)
		}
	}
	return out
}

// descriptors lists what this process has open, but for what the Go runtime keeps.
func descriptors() []string {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return []string{err.Error()}
	}
	var list []string
	for _, n := range names {
		to, err := os.Readlink("/proc/self/fd/" + n)
		if err != nil || n == strconv.Itoa(int(dir.Fd())) || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			continue
		}
		list = append(list, to)
	}
	return list
}

// mountLines lists the mounts of this process's namespace by what names them.
func mountLines() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 5 {
			list = append(list, fmt.Sprintf("%s of %s %s %s", f[4], f[2], f[3], f[5]))
		}
	}
	return list
}

// processes lists "PID state name" of the pid namespace's processes, but this one.
func processes() []string {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return []string{err.Error()}
	}
	var list []string
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			continue // ended meanwhile
		}
		text := string(data)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		pid := strings.TrimSpace(text[:max(open, 0)])
		if open < 0 || end < open || pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		state := ""
		if f := strings.Fields(text[end+1:]); len(f) > 0 && f[0] == "Z" {
			state = " zombie"
		}
		list = append(list, pid+" "+text[open+1:end]+state)
	}
	return list
}

// links lists the network links of this process's namespace. Package net would
// make the binary a dynamic one where cgo is on.
func links() []string {
	data, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return []string{err.Error()}
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name, _, ok := strings.Cut(line, ":")
		// The bridge of an engine's default network stays, as those of other engines do.
		if name = strings.TrimSpace(name); ok && !strings.HasPrefix(name, "kakuri") {
			names = append(names, name)
		}
	}
	return names
}

func files(dir string) []string {
	var list []string
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && p != dir {
			list = append(list, p)
		}
		return nil
	})
	return list
}

// cgroups lists the cgroups below those of the tests.
func cgroups() []string {
	var list []string
	filepath.WalkDir("/sys/fs/cgroup", func(p string, e fs.DirEntry, err error) error {
		// The one that an engine's containers have theirs in stays, as those of other engines do.
		if err == nil && e.IsDir() && e.Name() != "kakuri" {
			list = append(list, p)
		}
		return nil
	})
	return list
}

// leftCgroups lists those that are there after a while, besides the ones known.
func leftCgroups(known []string) []string {
	var list []string
	patiently(func() bool {
		list = cgroups()
		return len(missing(list, known, "")) == 0
	})
	return list
}

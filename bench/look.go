package main

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sight is what a command had made by the time its program ran, read from the kernel
// on the host's side. It keeps the comparison honest: who does less is seen to do less.
type sight struct {
	Err          string
	Namespaces   []string // kinds that differ from the bench's own
	Mounts       int
	Cgroup       bool // in another cgroup than the bench, in at least one hierarchy
	Seccomp      bool // a filter is loaded
	NoNewPrivs   bool
	Capabilities int // effective ones
}

// stayCommand is a program that stays until it is killed, or for a minute if it is forgotten.
func stayCommand() []string { return []string{"sleep", "60"} }

// lookArgv turns the command line of a row into one that stays: the same bundle or root
// with another /bin/true, or, for what runs the host's true, another command.
func lookArgv(argv []string, ends, stays string) []string {
	out := slices.Clone(argv)
	for i, arg := range out {
		if strings.HasPrefix(arg, ends+"/") {
			out[i] = stays + strings.TrimPrefix(arg, ends)
		}
	}
	if last := len(out) - 1; slices.Equal(out, argv) && out[last] == "true" {
		out = append(out[:last], stayCommand()...)
	}
	return out
}

// look runs argv, finds the program that stays among the bench's descendants, reads
// it, and ends it.
func (s *stand) look(argv []string) sight {
	argv = s.named([][]string{argv})[0]
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: s.env, Files: []*os.File{s.null, s.null, s.null}})
	if err != nil {
		return sight{Err: err.Error()}
	}
	seen, err := watchFor(stayCommand()[0], p)
	if err != nil {
		seen.Err = err.Error()
		p.Kill()
	}
	p.Wait()
	reapOrphans(time.Now().Add(patience), s.held)
	return seen
}

// watchFor waits until a descendant of the bench runs the program comm, reads what it is
// in, and kills it. One that ends earlier than it appears is p's fault.
func watchFor(comm string, p *os.Process) (sight, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pid, found := descendant(os.Getpid(), comm)
		if !found {
			continue
		}
		seen, err := readSight(fmt.Sprintf("/proc/%d", pid), "/proc/self")
		return seen, errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
	}
	return sight{}, fmt.Errorf("process %d showed no %s within %v", p.Pid, comm, patience)
}

// descendant finds a process below root by its name: proc_pid_stat(5).
func descendant(root int, comm string) (pid int, found bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	parents := make(map[int]int, len(files))
	var candidates []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		id, name, parent, ok := parseStat(string(data))
		if !ok {
			continue
		}
		parents[id] = parent
		if name == comm {
			candidates = append(candidates, id)
		}
	}
	for _, id := range candidates {
		for up := parents[id]; up != 0; up = parents[up] {
			if up == root {
				return id, true
			}
		}
	}
	return 0, false
}

// parseStat takes pid, name and parent from a stat line; the name may hold blanks and brackets.
func parseStat(line string) (pid int, name string, parent int, ok bool) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return 0, "", 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line[:open]))
	rest := strings.Fields(line[end+1:])
	if err != nil || len(rest) < 2 {
		return 0, "", 0, false
	}
	parent, err = strconv.Atoi(rest[1])
	return pid, line[open+1 : end], parent, err == nil
}

// readSight compares the process at proc with the one at self, both directories of /proc.
func readSight(proc, self string) (sight, error) {
	var seen sight
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		theirs, err1 := os.Readlink(filepath.Join(proc, "ns", kind))
		ours, err2 := os.Readlink(filepath.Join(self, "ns", kind))
		if err1 == nil && err2 == nil && theirs != ours {
			seen.Namespaces = append(seen.Namespaces, kind)
		}
	}
	mounts, err1 := os.ReadFile(filepath.Join(proc, "mountinfo"))
	status, err2 := os.ReadFile(filepath.Join(proc, "status"))
	theirs, err3 := os.ReadFile(filepath.Join(proc, "cgroup"))
	ours, err4 := os.ReadFile(filepath.Join(self, "cgroup"))
	seen.Mounts = strings.Count(string(mounts), "\n")
	seen.Cgroup = string(theirs) != string(ours)
	seen.readStatus(string(status))
	return seen, errors.Join(err1, err2, err3, err4)
}

// readStatus takes what it needs from proc_pid_status(5).
func (seen *sight) readStatus(status string) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Seccomp":
			seen.Seccomp = value == "2" // SECCOMP_MODE_FILTER
		case "NoNewPrivs":
			seen.NoNewPrivs = value == "1"
		case "CapEff":
			mask, _ := strconv.ParseUint(value, 16, 64)
			seen.Capabilities = bits.OnesCount64(mask)
		}
	}
}

package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// callerEnv holds the namespaces and process group of who compares probes.
const callerEnv = "PROBE_CALLER"

// links lists what /proc/self/ns has of this process, one "name=link" each.
func links() []string {
	var list []string
	for name := range strings.FieldsSeq("cgroup ipc mnt net pid pid_for_children time time_for_children user uts") {
		to, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			to = err.Error()
		}
		list = append(list, name+"="+to)
	}
	return list
}

// probe prints what a process sees of itself, so that the output of two runs can be
// compared: namespaces are "own" or "shared", not numbers.
func probe(args []string) {
	fmt.Printf("args %q\n", args)
	caller := strings.Fields(os.Getenv(callerEnv))
	for _, l := range links() {
		name, to, _ := strings.Cut(l, "=")
		state := "own"
		switch {
		case slices.Contains(caller, l):
			state = "shared"
		case !strings.Contains(to, ":["):
			state = to
		}
		fmt.Println("namespace", name, state)
	}
	fmt.Println("pid is 1:", os.Getpid() == 1, "parent is 0:", os.Getppid() == 0)
	fmt.Println("process group shared:", slices.Contains(caller, fmt.Sprint("pgrp=", unix.Getpgrp())))
	wd, err := os.Getwd()
	fmt.Println("directory", wd, err)
	host, err := os.Hostname()
	fmt.Println("host", host, err)
	probeStatus()
	for _, name := range []string{"uid_map", "gid_map", "setgroups", "timens_offsets"} {
		data, err := os.ReadFile("/proc/self/" + name)
		fmt.Println(name, strings.Join(strings.Fields(string(data)), " "), err != nil)
	}
	probeFiles()
	var boot, mono, realtime unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	unix.ClockGettime(unix.CLOCK_REALTIME, &realtime)
	// To the hour, against the caller's clocks: the offset.
	var before [2]int64
	fmt.Sscan(os.Getenv("PROBE_CLOCKS"), &before[0], &before[1])
	fmt.Println("hours ahead", (boot.Sec-before[0]+60)/3600, (mono.Sec-before[1]+60)/3600)
}

// probeStatus prints ids, capabilities and signals.
func probeStatus() {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "ShdPnd":
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	keep, err := unix.PrctlRetInt(unix.PR_GET_KEEPCAPS, 0, 0, 0, 0)
	fmt.Println("keep capabilities", keep, err)
}

// probeFiles prints descriptors, mounts and who /proc lists.
func probeFiles() {
	fds, _ := os.ReadDir("/proc/self/fd")
	var open []string
	for _, f := range fds {
		to, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err == nil && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/sys/fs/cgroup/") { // the Go runtime's
			open = append(open, f.Name())
		}
	}
	fmt.Println("descriptors", open)
	data, _ := os.ReadFile("/proc/self/mountinfo")
	shared, slave, procs := 0, 0, 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " shared:") {
			shared++
		}
		if strings.Contains(line, " master:") {
			slave++
		}
		if strings.Contains(line, " - proc ") {
			f := strings.Fields(line)
			fmt.Println("proc on", f[4], f[5])
			procs++
		}
	}
	fmt.Println("mounts", strings.Count(string(data), "\n"), "shared", shared, "slave", slave, "proc", procs)
	list, _ := os.ReadDir("/proc")
	var pids []string
	for _, e := range list {
		if strings.Trim(e.Name(), "0123456789") == "" {
			pids = append(pids, e.Name())
		}
	}
	if len(pids) < 3 {
		fmt.Println("processes", len(pids))
	} else {
		fmt.Println("processes: the caller's")
	}
}

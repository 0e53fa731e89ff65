package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// facts are what a reader has to know about the machine to judge the figures.
type facts struct {
	Date     time.Time
	Kernel   string
	Arch     string
	CPU      string
	Cores    int
	Memory   string
	Cgroups  string
	FS       string    // file system of the bundle
	Load     [2]string // before and after the rounds
	Commit   string    // of kakuri
	Versions []string  // one line a program
	Left     []string  // what commands left behind
	Created  []footprint
	Size     int64 // of kakuri-runtime's file, in bytes
}

func readFacts(dir string) facts {
	return facts{
		Date:   time.Now().UTC(),
		Kernel: firstLine(readText("/proc/sys/kernel/osrelease")),
		Arch:   runtime.GOARCH,
		CPU:    cpuModel(readText("/proc/cpuinfo")),
		Cores:  runtime.NumCPU(),
		Memory: field(readText("/proc/meminfo"), "MemTotal"),
		FS:     fileSystem(dir),
		Load:   [2]string{loadAverage(), ""},
		Versions: versions([][]string{
			{"crun", "--version"}, {"runc", "--version"}, {"bwrap", "--version"}, {"unshare", "--version"},
			{"gcc", "--version"}, {"go", "version"},
		}),
	}
}

func (c cgroups) describe(replaced bool) string {
	switch {
	case c.V2:
		return strings.TrimSpace("v2 " + c.Controllers)
	case replaced:
		return "v1: " + strings.Join(c.Hierarchies, " ") +
			" (a hybrid host; its cgroup2 mount is out of sight in the bench, because crun refuses it)"
	case c.Unified:
		return "hybrid: " + strings.Join(c.Hierarchies, " ") + " and cgroup2 without controllers"
	}
	return "v1: " + strings.Join(c.Hierarchies, " ")
}

// versions asks each program for its version and keeps the first line.
func versions(commands [][]string) []string {
	var lines []string
	for _, argv := range commands {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		line := firstLine(string(bytes.TrimSpace(out)))
		switch {
		case err != nil:
			line = argv[0] + ": not installed"
		case !strings.HasPrefix(line, argv[0]) && argv[0] != "bwrap":
			line = argv[0] + ": " + line
		}
		lines = append(lines, line)
	}
	return lines
}

func readText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

// field is the value of the first line "name: value" of a /proc file.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// cpuModel is what /proc/cpuinfo says; arm64 gives numbers only.
func cpuModel(cpuinfo string) string {
	if name := field(cpuinfo, "model name"); name != "" {
		return name
	}
	if maker := field(cpuinfo, "CPU implementer"); maker != "" {
		return "implementer " + maker + " part " + field(cpuinfo, "CPU part")
	}
	return "unknown"
}

// loadAverage is that of one, five and fifteen minutes: proc_loadavg(5).
func loadAverage() string {
	numbers := strings.Fields(readText("/proc/loadavg"))
	return strings.Join(numbers[:min(3, len(numbers))], " ")
}

// fileSystem names what dir lies on, for the types that a temporary directory usually has: statfs(2).
func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	switch uint32(st.Type) {
	case 0xef53:
		return "ext4"
	case 0x01021994:
		return "tmpfs"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x794c7630:
		return "overlay"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("type %#x", uint32(st.Type))
}

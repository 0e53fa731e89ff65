package ps

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"golang.org/x/sys/unix"
)

// A task is what /proc tells of a process.
type task struct {
	pid, ppid, pgid, sid, tpgid int
	comm, state                 string
	args                        []string
	uid, gid                    uint32
	tty                         int
	used                        time.Duration
	begun                       int64 // clock ticks after the boot
	threads, nice               int64
	vsize, rss                  int64 // bytes
	locked                      bool
}

// readTask reads /proc/PID/stat and status, and cmdline where it is given what reads that: proc_pid_stat(5).
func readTask(pid int, args *namespace.ArgsReader) (task, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return task{}, err
	}
	p, err := parseStat(data)
	if err != nil {
		return p, fmt.Errorf("%s/stat: %w", dir, err)
	}
	p.pid = pid
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch {
		case key == "Uid" && len(f) > 1: // the effective one
			n, _ := strconv.ParseUint(f[1], 10, 32)
			p.uid = uint32(n)
		case key == "Gid" && len(f) > 1:
			n, _ := strconv.ParseUint(f[1], 10, 32)
			p.gid = uint32(n)
		case key == "VmLck" && len(f) > 0:
			p.locked = f[0] != "0"
		}
	}
	if args != nil {
		p.args, _ = args.Read(nil, pid) // one whose arguments do not come is shown by its name
	}
	return p, nil
}

// parseStat is all of a task that stat has, but for its pid.
func parseStat(data []byte) (task, error) {
	comm, f, err := namespace.ParseStat(data)
	if err != nil {
		return task{}, err
	}
	n := make([]int64, len(f))
	for i := range f[1:] {
		n[i+1], _ = strconv.ParseInt(f[i+1], 10, 64) // those above int64 are of no interest
	}
	return task{
		comm: comm, state: f[0], ppid: int(n[1]), pgid: int(n[2]), sid: int(n[3]), tty: int(n[4]), tpgid: int(n[5]),
		used: time.Duration(n[11]+n[12]) * (time.Second / abi.UserHZ), nice: n[16], threads: n[17], begun: n[19], vsize: n[20], rss: n[21] * int64(os.Getpagesize()),
	}, nil
}

// A machine is what times and shares are computed from.
type machine struct {
	now    time.Time
	boot   time.Time
	memory uint64
}

func machineNow() *machine {
	m := &machine{now: time.Now()}
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) == nil {
		m.boot = m.now.Add(-time.Duration(t.Nano()))
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.memory = uint64(info.Totalram) * uint64(info.Unit)
	}
	return m
}

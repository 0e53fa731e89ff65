package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/engine/ps"
	"github.com/kakuri/kakuri/oci"
	"golang.org/x/sys/unix"
)

// Stats are a container's counters at one moment. Those of a container that does not run are 0.
type Stats struct {
	ID, Name string
	Read     time.Time
	Running  bool

	CPU       uint64 // nanoseconds that all its processes have had
	SystemCPU uint64 // nanoseconds that all processors of the machine have been there, idle or not
	CPUs      int    // processors that are there

	Memory      uint64 // bytes, without files that the kernel would give up first: Docker's figure
	MemoryLimit uint64 // bytes; the machine's where the container has none

	NetRead, NetWritten     uint64 // bytes of all interfaces but the loopback; 0 where the network is the machine's
	BlockRead, BlockWritten uint64 // bytes

	Pids, PidsLimit uint64 // tasks; a limit of 0 is none

	Cgroup cgroup.Stats // all that the control group counts
}

// CPUPercent is how much of one processor the container had since an earlier reading: two of them are 200.
func (s Stats) CPUPercent(before Stats) float64 {
	if s.CPU <= before.CPU || s.SystemCPU <= before.SystemCPU {
		return 0
	}
	return float64(s.CPU-before.CPU) / float64(s.SystemCPU-before.SystemCPU) * float64(s.CPUs) * 100
}

// MemoryPercent is how much of its limit the container has.
func (s Stats) MemoryPercent() float64 {
	if s.MemoryLimit == 0 {
		return 0
	}
	return float64(s.Memory) / float64(s.MemoryLimit) * 100
}

// Stats reads a container's counters.
func (e *Engine) Stats(ctx context.Context, ref string) (Stats, error) {
	c, box, err := e.running(ref)
	s := Stats{ID: c.ID, Name: c.Name, Read: time.Now()}
	if errors.As(err, new(ErrNotRunning)) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Cgroup, _ = box.Stats() // what cannot be read is 0
	s.Running = true
	s.CPU, s.Pids, s.PidsLimit = s.Cgroup.CPU.Usage.Total, s.Cgroup.Pids.Current, s.Cgroup.Pids.Limit
	if s.SystemCPU, s.CPUs, err = systemCPU(); err != nil {
		return s, err
	}
	s.Memory = usedMemory(&s.Cgroup.Memory)
	if s.Pids == 0 {
		e.addUp(&s, c, box)
	}
	s.MemoryLimit = s.Cgroup.Memory.Usage.Limit
	total, err := totalMemory()
	if err != nil {
		return s, err
	}
	if s.MemoryLimit == 0 || s.MemoryLimit > total {
		s.MemoryLimit = total
	}
	s.BlockRead, s.BlockWritten = blockBytes(s.Cgroup.BlockIO.ServiceBytes)
	if c.Config.networkMode() != "host" {
		s.NetRead, s.NetWritten = netBytes(c.PID)
	}
	return s, nil
}

// addUp is for a container without a control group, as an ordinary user's may be: its processes that are there are added up, and those
// that have ended are not counted.
func (e *Engine) addUp(s *Stats, c Container, box *oci.Container) {
	pids, err := e.processes(c, box)
	if err == nil {
		all := ps.Sum(pids)
		s.CPU, s.Memory, s.Pids = s.CPU+uint64(all.CPU), s.Memory+all.Memory, all.Threads
	}
	s.Running = s.Pids > 0
}

// usedMemory leaves out files that have not been used lately, by either version's name for them.
func usedMemory(m *cgroup.Memory) uint64 {
	used := m.Usage.Usage
	inactive, ok := m.Raw["total_inactive_file"]
	if !ok {
		inactive = m.Raw["inactive_file"]
	}
	if inactive < used {
		used -= inactive
	}
	return used
}

func blockBytes(list []cgroup.BlockIOEntry) (read, written uint64) {
	for _, b := range list {
		switch strings.ToLower(b.Op) {
		case "read":
			read += b.Value
		case "write":
			written += b.Value
		}
	}
	return read, written
}

// systemCPU reads /proc/stat, as Docker does: without the time that guests had, which is that of users, too.
func systemCPU() (nanoseconds uint64, cpus int, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 8 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] != "cpu":
			cpus++
		default:
			for _, v := range f[1:8] {
				n, err := strconv.ParseUint(v, 10, 64)
				if err != nil {
					return 0, 0, fmt.Errorf("/proc/stat: %w", err)
				}
				nanoseconds += n * uint64(time.Second/abi.UserHZ)
			}
		}
	}
	return nanoseconds, cpus, nil
}

// totalMemory is the machine's, in bytes.
func totalMemory() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, os.NewSyscallError("sysinfo", err)
	}
	return uint64(info.Totalram) * uint64(info.Unit), nil
}

// netBytes reads what went through the interfaces of a process's network namespace: proc_pid_net(5).
func netBytes(pid int) (read, written uint64) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return 0, 0 // it has ended
	}
	for line := range bytes.Lines(data) {
		name, rest, ok := strings.Cut(string(line), ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 16 || strings.TrimSpace(name) == "lo" {
			continue
		}
		in, _ := strconv.ParseUint(f[0], 10, 64)
		out, _ := strconv.ParseUint(f[8], 10, 64)
		read, written = read+in, written+out
	}
	return read, written
}

// sortedPids is a list without repetitions, in the order of the numbers.
func sortedPids(pids []int) []int {
	slices.Sort(pids)
	return slices.Compact(pids)
}

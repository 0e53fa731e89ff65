package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/kakuri/kakuri/abi"
)

// A Cgroup is a process's place in one cgroup hierarchy, see cgroups(7).
type Cgroup struct {
	Hierarchy   int      // 0 for cgroup v2
	Controllers []string // of a v1 hierarchy, or its "name=…"; nil for v2
	Path        string   // from the root of the reader's cgroup namespace: "/../x" is beside it
}

// ReadCgroups returns the cgroups of the process pid, one a hierarchy.
// The error is fs.ErrNotExist when the process is gone.
func ReadCgroups(proc *os.File, pid int) ([]Cgroup, error) {
	return readFile(proc, pid, "cgroup", ParseCgroups)
}

// ParseCgroups parses a /proc/PID/cgroup.
func ParseCgroups(data []byte) ([]Cgroup, error) {
	var list []Cgroup
	err := lines(data, func(line []byte) error {
		f := strings.SplitN(string(line), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return fmt.Errorf("cgroup: line %q: want hierarchy:controllers:/path", line)
		}
		n, err := integer(f[0])
		if err != nil {
			return fmt.Errorf("cgroup: line %q: %w", line, err)
		}
		c := Cgroup{Hierarchy: n, Path: f[2]}
		if f[1] != "" {
			c.Controllers = strings.Split(f[1], ",")
		}
		list = append(list, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// A Limit is one resource limit, see getrlimit(2), in the resource's own unit (bytes,
// seconds, files …). abi.RlimitInfinity stands for none.
type Limit struct {
	Resource   abi.Rlimit
	Soft, Hard uint64
}

// ReadLimits returns the resource limits of the process pid, in the order of their numbers.
// The error is fs.ErrNotExist when the process is gone.
func ReadLimits(proc *os.File, pid int) ([]Limit, error) {
	return readFile(proc, pid, "limits", ParseLimits)
}

// ParseLimits parses a /proc/PID/limits: a title, then one line a resource, in the order
// of the resources' numbers, with columns of fixed width.
func ParseLimits(data []byte) ([]Limit, error) {
	const soft, hard, unit = 26, 47, 68 // where the columns begin
	title, rest, _ := bytes.Cut(data, []byte("\n"))
	if !bytes.HasPrefix(title, []byte("Limit ")) {
		return nil, fmt.Errorf("limits: title %q", title)
	}
	var list []Limit
	err := lines(rest, func(line []byte) error {
		l := Limit{Resource: abi.Rlimit(len(list))}
		if len(list) >= len(abi.Rlimits()) || len(line) < hard {
			return fmt.Errorf("limits: line %q is not a limit", line)
		}
		var errSoft, errHard error
		l.Soft, errSoft = limit(line[soft:hard])
		l.Hard, errHard = limit(line[hard:min(unit, len(line))])
		if err := errors.Join(errSoft, errHard); err != nil {
			return fmt.Errorf("limits: line %q: %w", line, err)
		}
		list = append(list, l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func limit(column []byte) (uint64, error) {
	s := string(bytes.TrimSpace(column))
	if s == "unlimited" {
		return abi.RlimitInfinity, nil
	}
	return number(s, 64)
}

// TimeOffsets are what a time namespace adds to the clocks of the first one, see
// time_namespaces(7).
type TimeOffsets struct {
	Monotonic, Boottime time.Duration
}

// ReadTimeOffsets returns the offsets of the time namespace that children of the process
// pid get, which is its own unless it has just made another.
// The error is fs.ErrNotExist when the process is gone, or the kernel is older than 5.6.
func ReadTimeOffsets(proc *os.File, pid int) (TimeOffsets, error) {
	return readFile(proc, pid, "timens_offsets", ParseTimeOffsets)
}

// ParseTimeOffsets parses a timens_offsets: clock, seconds, nanoseconds on a line. Clocks
// that it does not know are skipped.
func ParseTimeOffsets(data []byte) (TimeOffsets, error) {
	var t TimeOffsets
	err := lines(data, func(line []byte) error {
		var clock string
		var sec, nsec int64
		if _, err := fmt.Sscan(string(line), &clock, &sec, &nsec); err != nil {
			return fmt.Errorf("time offsets: line %q: want clock, seconds and nanoseconds", line)
		}
		const most = int64(math.MaxInt64/time.Second) - 1
		if sec < -most || sec > most || nsec < 0 || nsec >= int64(time.Second) {
			return fmt.Errorf("time offsets: line %q: out of range", line)
		}
		d := time.Duration(sec)*time.Second + time.Duration(nsec)
		switch clock {
		case "monotonic", "1": // numbers before Linux 5.7
			t.Monotonic = d
		case "boottime", "7":
			t.Boottime = d
		}
		return nil
	})
	if err != nil {
		return TimeOffsets{}, err
	}
	return t, nil
}

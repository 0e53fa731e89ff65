package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/engine/ps"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/oci"
)

// A Table is what ps(1) prints.
type Table = ps.Table

// Top lists the processes of a running container as the machine sees them, by options of ps(1): none is -ef. Nothing of the container is executed. Formats that
// are not known here are asked of the machine's own ps, as Docker does.
func (e *Engine) Top(ctx context.Context, ref string, args []string) (Table, error) {
	c, box, err := e.running(ref)
	if err != nil {
		if none := (ErrNotRunning{}); errors.As(err, &none) && !none.Restarting {
			return Table{}, ErrConflict{fmt.Sprintf("container %s is not running", c.ID)}
		}
		return Table{}, err
	}
	pids, err := e.processes(c, box)
	if err != nil {
		return Table{}, err
	}
	return ps.List(ctx, args, pids)
}

// processes lists a container's processes: by its control group, or where it has none by its pid namespace.
func (e *Engine) processes(c Container, box *oci.Container) ([]int, error) {
	pids, err := box.Processes()
	if err == nil && len(pids) > 0 {
		return sortedPids(pids), nil
	}
	own, e1 := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/pid")
	ours, e2 := os.Readlink("/proc/self/ns/pid")
	if e1 != nil || e2 != nil || own == ours {
		return []int{c.PID}, nil // all that is known
	}
	names, err := files.List("/proc")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + name + "/ns/pid"); err == nil && ns == own {
			pids = append(pids, pid)
		}
	}
	return sortedPids(pids), nil
}

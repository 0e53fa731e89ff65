package engine

import (
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
)

// What exec has started is noted in the place of the container's monitor, which goes with the container's end: a link exec.ID that leads to the
// process's number and the time it began at.
const execPrefix = "exec."

// noteExec notes a process that exec has started, and gives who takes the note away. That it cannot be noted is no reason to end it.
func (e *Engine) noteExec(c *Container, id string, pid int) (done func()) {
	done = func() {}
	p := oci.OpenProcess(pid)
	if p == nil {
		return done // it has ended already
	}
	defer p.Close()
	place := monitor.Place(e.dir, c.ID)
	name := place + "/" + execPrefix + id
	e.execIDs(c.ID) // takes away those of detached ones that have ended
	if os.Symlink(fmt.Sprintf("%d:%d", pid, p.Witness().Begun), name) == nil {
		done = func() { os.Remove(name) }
	}
	return done
}

// execIDs lists what exec has started in a container and that runs; notes of others are taken away.
func (e *Engine) execIDs(id string) (list []string) {
	place := monitor.Place(e.dir, id)
	names, err := files.List(place)
	if err != nil {
		return nil
	}
	for _, name := range names {
		exec, ok := strings.CutPrefix(name, execPrefix)
		if !ok {
			continue
		}
		var w oci.Witness
		to, err := os.Readlink(place + "/" + name)
		if err != nil {
			continue
		}
		if _, err := fmt.Sscanf(to, "%d:%d", &w.PID, &w.Begun); err == nil && w.Alive() {
			list = append(list, exec)
		} else {
			os.Remove(place + "/" + name)
		}
	}
	return list
}

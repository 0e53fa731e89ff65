package engine

import (
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
)

// noteExec notes a process that exec has started, and gives who takes the note away. That it cannot be noted is no reason to end it.
func (e *Engine) noteExec(c *Container, id string, pid int) (done func()) {
	done = func() {}
	p := oci.OpenProcess(pid)
	if p == nil {
		return done // it has ended already
	}
	defer p.Close()
	place := monitor.Place(e.dir, c.ID)
	e.execIDs(c.ID) // takes away those of detached ones that have ended
	n := monitor.ExecNote{ID: id, Process: p.Witness()}
	if n.Write(place) == nil {
		done = func() { n.Remove(place) }
	}
	return done
}

// execIDs lists what exec has started in a container and that runs; notes of others are taken away, but for those that the monitor, or its successor, does that with.
func (e *Engine) execIDs(id string) (list []string) {
	place := monitor.Place(e.dir, id)
	for _, n := range monitor.ExecNotes(place) {
		if n.Process.Alive() {
			list = append(list, n.ID)
		} else if !n.Own {
			n.Remove(place)
		}
	}
	return list
}

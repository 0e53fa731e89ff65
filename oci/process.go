package oci

import "github.com/kakuri/kakuri/internal/process"

// A Witness is a process that another command may find again: its pid and the time it began at.
type Witness = process.Witness

// A Process is a container's first process, or another one, surely that one.
type Process = process.Process

// OpenProcess opens a process, nil when there is none or it has ended.
func OpenProcess(pid int) *Process { return process.Open(pid) }

// Witness names the container's first process, running or not; its PID is 0 before there is one.
func (c *Container) Witness() Witness { return Witness{PID: c.state.PID, Begun: c.state.Begun} }

// process returns the container's first process when it runs, else nil.
func (c *Container) process() *Process { return c.Witness().Open() }

// follow records that the container's first process went on as another one.
func (c *Container) follow(pid int) error {
	p := OpenProcess(pid)
	if p == nil {
		return nil // it has ended already, and who waits for it learns that
	}
	defer p.Close()
	c.state.PID, c.state.Begun = pid, p.Witness().Begun
	return c.save()
}

// Ending reports whether the container's first process has ended, or does nothing but end: what an exec then fails by is its root or another namespace that is
// gone, or a pid namespace that takes nobody (ENOMEM) while it waits for the others there.
func (c *Container) Ending() bool { return c.endedOr((*Process).Ending) }

// doomed reports whether the container's first process has ended, or got a SIGKILL that it has not ended by yet.
func (c *Container) doomed() bool { return c.endedOr((*Process).Doomed) }

func (c *Container) endedOr(is func(*Process) bool) bool {
	p := c.process()
	if p == nil {
		return true
	}
	defer p.Close()
	return is(p)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// A monitor that was stopped by a signal takes what it is sent and does not answer: who asks it for something would wait without a word. Nobody stops one but by hand
// or by mistake (kill -STOP -1), and the container it has goes on meanwhile. The same goes for the uplink of an ordinary user's networks, which
// monitors wait for: see package uplink.

// lookAgain is how often somebody who waits for a monitor looks whether that can answer.
const lookAgain = 2 * time.Second

// wake has a monitor go on that was stopped by a signal, and tells of it.
func (e *Engine) wake(c Container, m *monitor.Client) {
	if p := m.Process(); p != nil {
		e.wakeProcess(c, p)
		p.Close()
	}
}

// wakeProcess is wake of a monitor that is a process.
func (e *Engine) wakeProcess(c Container, p *oci.Process) {
	p.Wake(fmt.Sprintf("container %s: its monitor, process %d", c.label(), p.Witness().PID), e.warn)
}

// label is a container's name, or its id where only that is known of it.
func (c *Container) label() string {
	if c.Name == "" {
		return c.ID
	}
	return c.Name
}

// mind wakes a monitor now and for as long as it is waited for, which done ends.
func (e *Engine) mind(c Container, m *monitor.Client) (done func()) {
	look := func() { e.wake(c, m); e.wakeUplink() }
	look()
	return process.Again(lookAgain, look)
}

// wakeUplink has an uplink go on that was stopped by a signal, and tells of it: a monitor may wait for that.
func (e *Engine) wakeUplink() {
	if e.rootless() {
		uplink.Wake(uplink.Dir(e.dir), e.warn)
	}
}

// mindLater is mind for who has started the monitor: the socket that it has does not say which process that is, and one that ends soon is not asked.
func (e *Engine) mindLater(c Container) (done func()) {
	var w oci.Witness
	return process.Again(lookAgain, func() {
		if w.PID == 0 {
			m, err := e.dial(c)
			if err != nil {
				return
			}
			if p := m.Process(); p != nil {
				w = p.Witness()
				p.Close()
			}
			m.Close()
		}
		if p := w.Open(); p != nil {
			e.wakeProcess(c, p)
			p.Close()
		}
		e.wakeUplink()
	})
}

// awaitRoot waits until nobody has the root of a container that has ended, as its monitor has for as long as the disk takes to write it down, and tells of it
// where that is long.
func (e *Engine) awaitRoot(ctx context.Context, c *Container) error {
	s, err := monitor.ReadState(c.dir) // as it is by now: between two runs nobody has it
	if err != nil {
		return err
	}
	p := s.RootHolder()
	if p == nil {
		return nil
	}
	defer p.Close()
	told := false
	defer process.Again(lookAgain, func() {
		e.wakeProcess(*c, p)
		if !told && e.warn != nil {
			told = true
			e.warn(fmt.Sprintf("container %s: the disk has not taken yet what was written when it ended: it is waited for", c.label()))
		}
	})()
	const step = 50 * time.Millisecond // in which who waits may be told to stop
	for !p.Wait(step) {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// lockOf locks a container's directory, and tells who has it where that is long: a command that copies much, or one that was stopped, by ^Z for one.
func (e *Engine) lockOf(c *Container) (*os.File, error) {
	f, err := lockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return f, err
	}
	told := e.warn == nil
	defer process.Again(lookAgain, func() {
		if !told {
			told = true
			e.warn(fmt.Sprintf("container %s: %s: it is waited for", c.label(), atWork(files.LockHolder(c.dir))))
		}
	})()
	return lockDir(c.dir, unix.LOCK_EX)
}

// atWork says what a command is that has a container for itself; pid is 0 where that is not known.
func atWork(pid int) string {
	p := oci.OpenProcess(pid)
	if p == nil {
		return "another command is at work on it"
	}
	defer p.Close()
	text := fmt.Sprintf("process %d", pid)
	if about, err := namespace.ReadProcess(nil, pid); err == nil {
		text += " (" + about.Command() + ")"
	}
	text += " is at work on it"
	if p.Stopped() {
		text += fmt.Sprintf(", and was stopped by a signal: `kill -CONT %d` has it go on", pid)
	}
	return text
}

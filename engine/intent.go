package engine

import (
	"context"
	"os"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// An intent is what a command is about to change of a container that runs, where that is several files and the kernel's matter, which are right together only. It is
// written down before the first of them, and taken away after the last. One at whose container nobody is, is of a command that was killed: who finds it brings it to
// its end. It does not outlive a boot, and need not: a start makes all of that anew.
type intent struct {
	Off    *offNetwork `json:",omitempty"`
	Update *updating   `json:",omitempty"`
}

// intents is the directory of all, each by the id of its container, whose lock is that of its intent.
func (e *Engine) intents() string { return e.dir + "/intents" }

// intend writes down what the caller, who has the container's lock, is about to do.
func (e *Engine) intend(id string, in intent) error {
	if err := os.MkdirAll(e.intents(), 0o700); err != nil {
		return err
	}
	return monitor.WriteJSON(e.intents(), id, &in)
}

// fulfilled says that it is done.
func (e *Engine) fulfilled(id string) error { return removeIfThere(e.intents() + "/" + id) }

// bringToEnd does what a killed command was about to do to a container, whose lock the caller has.
func (e *Engine) bringToEnd(c *Container) error {
	var in intent
	err := monitor.ReadJSON(e.intents()+"/"+c.ID, &in)
	if err != nil {
		return ignoreMissing(err)
	}
	if in.Off != nil {
		return e.takeOff(context.Background(), c, in.Off, true)
	}
	if in.Update != nil && c.Active() {
		_, err = e.updateLive(c, in.Update)
		return err
	}
	return e.fulfilled(c.ID)
}

// eachIntent calls found for each container that a killed command was changing, and has that come to its end by mend.
func (e *Engine) eachIntent(found func(id string, mend func() error)) error {
	list, err := files.ListOwn(e.intents())
	for _, name := range list {
		if id, _ := strings.CutSuffix(name, ".new"); files.IsID(id) {
			e.oneIntent(id, name, found)
		}
	}
	return ignoreMissing(err)
}

func (e *Engine) oneIntent(id, name string, found func(id string, mend func() error)) {
	dir := e.find(id)
	if dir == "" {
		found(id, func() error { return removeIfThere(e.intents() + "/" + name) })
		return
	}
	lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody is at it, or it goes away just now
	}
	defer lock.Close()
	switch {
	case !exists(e.intents() + "/" + name): // it was done meanwhile
	case name != id: // half written: nothing was changed yet
		found(id, func() error { return removeIfThere(e.intents() + "/" + name) })
	default:
		found(id, func() error {
			c, err := e.read(dir)
			if err != nil {
				return err
			}
			return e.bringToEnd(&c)
		})
	}
}

// sweepIntents brings to their end what killed commands were changing.
func (e *Engine) sweepIntents() error {
	return mendEach(e.eachIntent, "which a killed command was changing")
}

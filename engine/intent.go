package engine

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// An intent is what a command is about to change of a container, where that is several files and the kernel's matter, which are right together only. It is
// written down before the first of them, and taken away after the last. One at whose container nobody is, is of a command that was killed: who finds it brings it to
// its end. It does not outlive a boot, and need not: a start makes all of that anew.
type intent struct {
	Off    *offNetwork `json:",omitempty"`
	Update *updating   `json:",omitempty"`
	Rename *renaming   `json:",omitempty"`
}

// A renaming is a container's name before and after.
type renaming struct{ Was, Name string }

// errUnsettled is for a container of which a change that was begun could not be brought to its end, behind which another one would be lost.
type errUnsettled struct{ name string }

func (e errUnsettled) Error() string {
	return fmt.Sprintf("container %s: an earlier change of it is not at its end: kakuri system check --repair", e.name)
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
	if in.Rename != nil {
		return e.settleName(c, in.Rename)
	}
	if in.Update != nil && c.Active() {
		_, err = e.updateLive(c, in.Update)
		return err
	}
	return e.fulfilled(c.ID)
}

// settleName has a container have the name that its record says, and no other one.
func (e *Engine) settleName(c *Container, r *renaming) error {
	c.written, _ = leanjson.Marshal(&c.Record)
	if err := e.renamed(c); err != nil {
		return err
	}
	return e.giveUpRename(c.ID, c.Name, r)
}

// giveUpRename gives back what a rename has reserved for a container, or not given back, but for the name that it has.
func (e *Engine) giveUpRename(id, has string, r *renaming) error {
	for _, name := range []string{r.Was, r.Name} {
		if name != has {
			if err := e.giveBack(e.names(), name, id); err != nil {
				return err
			}
		}
	}
	return e.fulfilled(id)
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
		if exists(e.intents() + "/" + name) { // else it was done before the container went
			found(id, func() error { return e.dropIntent(id, name) })
		}
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

// dropIntent takes away what a command that was killed was about to do to a container that is gone by now.
func (e *Engine) dropIntent(id, name string) error {
	var in intent
	if monitor.ReadJSON(e.intents()+"/"+name, &in) == nil && in.Rename != nil {
		if err := e.giveUpRename(id, "", in.Rename); err != nil {
			return err
		}
	}
	return removeIfThere(e.intents() + "/" + name)
}

// sweepIntents brings to their end what killed commands were changing.
func (e *Engine) sweepIntents() error {
	return mendEach(e.eachIntent, "which a killed command was changing")
}

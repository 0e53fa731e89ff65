package monitor

import (
	"errors"
	"sync"
)

// StandIn is what the runtime calls the process that stands in for a container's own where somebody looks at the files of one that does not run.
func StandIn(id string) string { return id + "-files" }

// An interval is the time between two runs of a container that its policy starts again. Who needs the container as it is then, to look at its files or to change
// what it is started with, has it last longer: as long as they are connected.
type interval struct {
	mu       sync.Mutex
	open     bool
	by       map[*client]bool
	free     chan struct{} // closed when nobody is in by any more; nil while nobody waits for that
	starting chan struct{} // closed when the start after it is over; nil while none is under way
}

var errNoInterval = errors.New("the container does not wait for its next start")

func (i *interval) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open = true
}

// end ends the interval, unless somebody has it last longer: then it gives what is closed when nobody does any more.
func (i *interval) end() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.by) == 0 {
		i.open, i.starting = false, make(chan struct{})
		return nil
	}
	i.free = make(chan struct{})
	return i.free
}

// postpone has the interval last for as long as a client is connected.
func (i *interval) postpone(c *client) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.open {
		return errNoInterval
	}
	i.add(c)
	return nil
}

// hold is postpone also of an interval that is to come. A start that is under way it waits for: what that has read of the container's files is what they were.
func (i *interval) hold(c *client) {
	i.mu.Lock()
	i.add(c)
	starting := i.starting
	i.mu.Unlock()
	if starting != nil {
		<-starting
	}
}

func (i *interval) add(c *client) {
	if i.by == nil {
		i.by = map[*client]bool{}
	}
	i.by[c] = true
}

// started says that the start after the interval is over.
func (i *interval) started() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.starting != nil {
		close(i.starting)
		i.starting = nil
	}
}

// drop forgets a client, which has gone.
func (i *interval) drop(c *client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.by, c)
	if len(i.by) == 0 && i.free != nil {
		close(i.free)
		i.free = nil
	}
}

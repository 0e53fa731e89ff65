package monitor

import (
	"errors"
	"sync"
)

// StandIn is what the runtime calls the process that stands in for a container's own where somebody looks at the files of one that does not run.
func StandIn(id string) string { return id + "-files" }

// An interval is the time between two runs of a container that its policy starts again. Who needs the container as it is then, to look at its files, has it last
// longer: as long as they are connected.
type interval struct {
	mu   sync.Mutex
	open bool
	by   map[*client]bool
	free chan struct{} // closed when nobody is in by any more; nil while nobody waits for that
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
		i.open = false
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
	if i.by == nil {
		i.by = map[*client]bool{}
	}
	i.by[c] = true
	return nil
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

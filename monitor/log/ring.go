package log

import (
	"errors"
	"sync"
)

// A ring keeps entries in memory, and has another goroutine hand them to a driver: mode=non-blocking. What does not fit is lost: the
// newest, as in Docker.
type ring struct {
	out counter
	max int64 // bytes

	mu     sync.Mutex
	wake   sync.Cond // there is something to do
	empty  sync.Cond // all is done
	queue  []entry
	bytes  int64
	closed bool
	done   chan struct{}
}

var errFull = errors.New("the buffer of mode=non-blocking was full: raise max-buffer-size")

func newRing(d driver, max int64) *ring {
	r := &ring{out: counter{driver: d}, max: max, done: make(chan struct{})}
	r.wake.L, r.empty.L = &r.mu, &r.mu
	go r.run()
	return r
}

// keep takes what fits. An entry larger than the whole buffer goes through an empty one.
func (r *ring) keep(list []entry) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake.Signal() // of one that does not fit as a whole, too: what of it is here has to go, or nothing would ever fit again
	for i := range list {
		n := int64(len(list[i].line)) + entryCost
		if r.bytes > 0 && r.bytes+n > r.max {
			return i, errFull
		}
		e := list[i]
		e.line = append([]byte(nil), e.line...)
		r.queue = append(r.queue, e)
		r.bytes += n
	}
	return len(list), nil
}

// entryCost is what an entry takes besides its line: empty lines fill the buffer, too.
const entryCost = 96

func (r *ring) run() {
	defer close(r.done)
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.wake.Wait()
		}
		list := r.queue
		r.queue = nil
		r.mu.Unlock()
		if len(list) == 0 {
			return
		}
		r.out.keep(list)
		r.mu.Lock()
		// Until now: what is being written fills memory as well.
		for i := range list {
			r.bytes -= int64(len(list[i].line)) + entryCost
		}
		if r.bytes == 0 {
			r.empty.Broadcast()
		}
		r.mu.Unlock()
	}
}

// drain waits until everything is with the driver.
func (r *ring) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.bytes > 0 {
		r.empty.Wait()
	}
}

func (r *ring) close() error {
	r.mu.Lock()
	r.closed = true
	r.wake.Signal()
	r.mu.Unlock()
	<-r.done
	return r.out.close()
}

package image

import (
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// An Event tells how far a pull, push, load or save is. An event with an ID replaces what was said of that ID before; one
// without is a line of its own. The words are Docker's.
type Event struct {
	ID      string // twelve digits of a blob, a tag, or a registry that is to be asked again
	Status  string // Downloading, Pull complete, Digest: sha256:…
	Current int64  // bytes; with Total it is a bar
	Total   int64  // 0 where it is not known
	Aux     *Aux   // of the last event of a push
}

// Aux says what a push put where.
type Aux struct {
	Tag    string
	Digest digest.Digest
	Size   int64 // of the manifest, in bytes
}

// A Progress is called with events, by one goroutine at a time. Nil is nobody.
type Progress func(Event)

// reporter calls a Progress from many goroutines.
type reporter struct {
	mu sync.Mutex
	to Progress
}

func (r *reporter) tell(e Event) {
	if r.to == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to(e)
}

func shortID(d digest.Digest) string {
	return d.Encoded()[:12]
}

// A meter reports what is read through it, ten times a second at most.
type meter struct {
	r    io.Reader
	rep  *reporter
	e    Event
	last time.Time
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.e.Current += int64(n)
	if now := time.Now(); now.Sub(m.last) >= 100*time.Millisecond || err == io.EOF {
		m.last = now
		m.rep.tell(m.e)
	}
	return n, err
}

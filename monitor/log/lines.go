package log

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pieceSize is how much of a line goes into one entry, as in Docker: whoever reads the log of either finds the same pieces.
const pieceSize = 16 << 10

// lines is the sink of every driver: it finds the lines.
type lines struct {
	mu      sync.Mutex
	out     counter
	streams [2]begun
	batch   []entry
	serial  uint32
	last    time.Time // the latest stamp that was given
	closed  bool
}

// begun is what there is of a stream's last line.
type begun struct {
	rest   []byte    // not kept yet; shorter than a piece
	part   int       // pieces that were kept
	at     time.Time // when the first of them came
	serial uint32
}

func (l *lines) Write(s Stream, p []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	b := &l.streams[0]
	if s == Stderr {
		b = &l.streams[1]
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		switch {
		case len(b.rest) > 0:
			// A line that began in an earlier write: its pieces are put together, and kept at once, so that the room can be used again.
			n := min(len(p), pieceSize-len(b.rest))
			if i >= 0 && i < n {
				b.rest = append(b.rest, p[:i]...)
				p = p[i+1:]
				l.add(s, b, b.rest, false, at)
			} else {
				b.rest = append(b.rest, p[:n]...)
				p = p[n:]
				if len(b.rest) < pieceSize {
					continue
				}
				l.add(s, b, b.rest, true, at)
			}
			l.flush()
			b.rest = b.rest[:0]
		case i >= 0 && i < pieceSize:
			l.add(s, b, p[:i], false, at)
			p = p[i+1:]
		case len(p) >= pieceSize:
			l.add(s, b, p[:pieceSize], true, at)
			p = p[pieceSize:]
		default:
			b.rest = append(b.rest, p...)
			p = nil
		}
	}
	l.flush()
}

// add puts the next entry of a stream into the batch.
func (l *lines) add(s Stream, b *begun, line []byte, more bool, at time.Time) {
	e := entry{stream: s, at: at, line: line, more: more}
	if b.part == 0 {
		// The lines of one write came at one time. Each has a stamp of its own all the same, so that --since and --until can divide them.
		if !at.After(l.last) {
			at = l.last.Add(1)
		}
		l.last, e.at = at, at
	}
	if more && b.part == 0 {
		l.serial++
		b.at, b.serial = at, l.serial
	}
	if more || b.part > 0 {
		b.part++
		e.at, e.part, e.serial = b.at, b.part, b.serial
	}
	if !more {
		b.part = 0
	}
	l.batch = append(l.batch, e)
}

// flush has the driver keep the batch.
func (l *lines) flush() {
	if len(l.batch) > 0 {
		l.out.keep(l.batch)
		l.batch = l.batch[:0]
	}
}

// A counter has a driver keep entries, and counts those that it could not keep.
type counter struct {
	driver driver
	lost   int
	why    error // of the last
}

// keep has entries kept, and before them the line about those that were lost, if any.
func (c *counter) keep(list []entry) {
	if c.lost > 0 && !c.confess(list[0].at) {
		c.lost += len(list)
		return
	}
	if n, err := c.driver.keep(list); n < len(list) {
		c.lost, c.why = len(list)-n, err
	}
}

func (c *counter) confess(at time.Time) bool {
	n, err := c.driver.keep([]entry{{stream: Stderr, at: at, line: lostLine(c.lost, c.why)}})
	if n == 0 {
		c.why = err
		return false
	}
	c.lost, c.why = 0, nil
	return true
}

func (c *counter) close() error {
	if r, ok := c.driver.(*ring); ok {
		r.drain() // which has room then for the line about what is lost
	}
	var err error
	if c.lost > 0 && !c.confess(time.Now()) {
		err = fmt.Errorf("%d lines are missing from the log: %w", c.lost, c.why)
	}
	return errors.Join(err, c.driver.close())
}

// A tee has two drivers keep the same, whatever becomes of the other.
type tee [2]counter

func (t *tee) keep(list []entry) (int, error) {
	t[0].keep(list)
	t[1].keep(list)
	return len(list), nil
}

func (t *tee) close() error { return errors.Join(t[0].close(), t[1].close()) }

func lostLine(n int, why error) []byte {
	what := "lines are"
	if n == 1 {
		what = "line is"
	}
	return fmt.Appendf(nil, "kakuri: %d %s missing from the log here: %v", n, what, why)
}

func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for i := range l.streams {
		b := &l.streams[i]
		if len(b.rest) > 0 {
			// As Docker does: what has no end is kept without one.
			l.add(Stream(i+1), b, b.rest, true, time.Now())
		}
	}
	l.flush()
	return l.out.close()
}

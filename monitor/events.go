package monitor

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"golang.org/x/sys/unix"
)

// An Event is something that happened to an object, as Docker's events have it.
type Event struct {
	// Docker's older form of the same, of containers and images.
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"` // the container's image

	Type   string // container, image, volume, network
	Action string // create, start, die, health_status: healthy …
	Actor  Actor

	Scope    string `json:"scope"` // local
	Time     int64  `json:"time"`  // seconds
	TimeNano int64  `json:"timeNano"`
}

// An Actor is what an event is of.
type Actor struct {
	ID         string
	Attributes map[string]string
}

// maxEvents bounds the file of events, in bytes. There is an older one beside it, FILE.1, and no more.
const maxEvents = 1 << 20

// Tell appends an event of now to a file, one line each. Any number of processes may do so at once.
func Tell(file, kind, action, id string, attributes map[string]string) error {
	now := time.Now()
	e := Event{Type: kind, Action: action, Actor: Actor{ID: id, Attributes: attributes}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano()}
	if e.Actor.Attributes == nil {
		e.Actor.Attributes = map[string]string{}
	}
	if kind == "container" || kind == "image" {
		e.Status, e.ID, e.From = action, id, attributes["image"]
	}
	line, err := leanjson.Marshal(e)
	if err != nil {
		return err
	}
	return appendLine(file, append(line, '\n'))
}

// appendLine writes a line at the end of a file, whole or not at all; one that is full has become the older one before.
func appendLine(file string, line []byte) error {
	for {
		// A FIFO would have it wait for who reads.
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return err
		}
		// Whoever renames it waits for those who are about to write.
		size, err := lockedSize(f, file)
		switch {
		case err == nil && size >= maxEvents:
			err = os.Rename(file, file+".1")
			f.Close()
		case err == nil:
			err = writeWhole(f, line, size)
			return errors.Join(err, f.Close())
		default:
			f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// lockedSize locks a file, and wants that it still has its name: fs.ErrNotExist if not.
func lockedSize(f *os.File, name string) (int64, error) {
	if err := files.Flock(f, unix.LOCK_EX); err != nil {
		return 0, err
	}
	ours, err := f.Stat()
	if err != nil {
		return 0, err
	}
	now, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if !os.SameFile(ours, now) {
		return 0, fs.ErrNotExist
	}
	return ours.Size(), nil
}

// writeWhole takes half a line away again, which a full disk left.
func writeWhole(f *os.File, line []byte, size int64) error {
	n, err := f.Write(line)
	if err != nil && n > 0 {
		err = errors.Join(err, f.Truncate(size))
	}
	return err
}

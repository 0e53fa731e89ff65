package logread

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// follow tells of what comes, over changes of the file, until More or ctx ends it.
func (r *reader) follow(ctx context.Context) error {
	// The end that is named ends the wait, and not the reading: what came until then is told of.
	until := ctx
	if !r.o.Until.IsZero() {
		var stop context.CancelFunc
		until, stop = context.WithDeadline(ctx, r.o.Until)
		defer stop()
	}
	stop := context.AfterFunc(until, r.watch.end)
	defer stop()
	for {
		over := until.Err() != nil
		// Asked before the last look: what was written before an end is read.
		more := r.o.More == nil || r.o.More()
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		if !more || over || ctx.Err() != nil {
			return nil
		}
		if err := r.watch.wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if until.Err() == nil {
				return err
			}
		}
	}
}

// catchUp reads up to the present end of the log.
func (r *reader) catchUp(ctx context.Context) error {
	if len(r.sources) == 0 {
		return r.reopen(ctx)
	}
	s := r.sources[0]
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < s.offset {
		// A log of one file begins anew.
		if err := s.seek(0); err != nil {
			return err
		}
	}
	if err := r.drain(ctx, s); err != nil {
		return err
	}
	now, err := os.Stat(r.name)
	if errors.Is(err, os.ErrNotExist) || err == nil && os.SameFile(now, s.info) {
		return nil
	}
	if err != nil {
		return err
	}
	// It has another name by now, and who wrote to it has another file: what came in between is its last.
	if err := r.drain(ctx, s); err != nil {
		return err
	}
	return r.reopen(ctx)
}

// reopen goes on with the file that comes after the one that was read: the next newer, or if that is not
// known any more, with what is newer than the last line.
func (r *reader) reopen(ctx context.Context) error {
	list, err := openAll(r.name, r.last)
	if err != nil {
		return err
	}
	from := -1
	for i, s := range list {
		if len(r.sources) > 0 && os.SameFile(s.info, r.sources[0].info) {
			from = i
		}
	}
	for _, s := range r.sources {
		s.close()
	}
	r.sources = list
	if from < 0 && !r.last.IsZero() && len(list) > 1 {
		// Packed, or gone.
		r.o.Since, r.again = maxTime(r.o.Since, r.last), r.same
	}
	for range from + 1 {
		r.sources[0].close()
		r.sources = r.sources[1:]
	}
	for len(r.sources) > 0 {
		if err := r.drain(ctx, r.sources[0]); err != nil || len(r.sources) == 1 {
			return err
		}
		r.sources[0].close()
		r.sources = r.sources[1:]
	}
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A watch tells of changes in a directory: inotify(7).
type watch struct{ events *os.File }

func newWatch(file string) (*watch, error) {
	const what = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	events, err := wait.Changes(func(inotify int) error {
		dir := filepath.Dir(file)
		if _, err := unix.InotifyAddWatch(inotify, dir, what); err != nil {
			return &os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &watch{events}, nil
}

// wait waits for the next changes. Which they are is of no interest.
func (w *watch) wait() error {
	buf := make([]byte, 16<<10)
	_, err := w.events.Read(buf)
	return err
}

// end has wait return an error.
func (w *watch) end() { w.events.SetReadDeadline(time.Unix(1, 0)) }

func (w *watch) close() { w.events.Close() }

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// pausing is a directory with the names of containers that commands pause for a while. Such a command holds its lock, shared: a name there that nobody can be
// at is of one that was killed, and whose container would stand still for good.
func (e *Engine) pausing() string { return e.dir + "/pausing" }

// pauseFor pauses a container until resume is called. Should this process be killed meanwhile, the next command lets it go on. The errors are those of [Engine.Pause].
func (e *Engine) pauseFor(ctx context.Context, id string) (resume func() error, err error) {
	if err := os.MkdirAll(e.pausing(), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(e.pausing(), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	mark := e.pausing() + "/" + id
	err = os.Mkdir(mark, 0o700)
	ours := err == nil
	if ours || errors.Is(err, os.ErrExist) {
		err = e.Pause(ctx, id)
	}
	if err != nil {
		if ours {
			err = errors.Join(err, removeIfThere(mark))
		}
		lock.Close()
		return nil, err
	}
	return func() error {
		defer lock.Close()
		return e.resume(id)
	}, nil
}

// resume lets a container go on that a command has paused, unless it ended, or somebody else was faster.
func (e *Engine) resume(id string) error {
	err := e.Unpause(context.Background(), id)
	if errors.As(err, new(ErrConflict)) || errors.As(err, new(ErrNoSuchContainer)) {
		err = nil
	}
	if err != nil {
		return err
	}
	return removeIfThere(e.pausing() + "/" + id)
}

// eachPaused calls found for each container that a command has paused which is no more, and has it go on by mend.
func (e *Engine) eachPaused(found func(id string, mend func() error)) error {
	list, err := files.ListOwn(e.pausing())
	if err != nil || len(list) == 0 {
		return ignoreMissing(err)
	}
	lock, err := lockDir(e.pausing(), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // somebody is at one of them
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if list, err = files.ListOwn(e.pausing()); err != nil {
		return err
	}
	for _, id := range list {
		if !files.IsID(id) {
			continue
		}
		found(id, func() error { return e.resume(id) })
	}
	return nil
}

// sweepPaused lets the containers go on that killed commands have paused.
func (e *Engine) sweepPaused() error {
	return mendEach(e.eachPaused, "which a killed command has paused")
}

// mendEach mends all containers that each finds, and goes on where that fails for one.
func mendEach(each func(found func(id string, mend func() error)) error, what string) error {
	var errs []error
	err := each(func(id string, mend func() error) {
		if err := mend(); err != nil {
			errs = append(errs, fmt.Errorf("container %s, %s: %w", files.ShortID(id), what, err))
		}
	})
	return errors.Join(append(errs, err)...)
}

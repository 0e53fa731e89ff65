package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
)

// errMeanwhile says that a container has ended, or was stopped, while it was held or something of it was changed, which was taken back.
var errMeanwhile = errors.New("it starts and ends all the time: stop it")

// changing calls change with a container whose lock is held, and that does not run, runs, or waits for its next start by its policy, which then waits for change. What change
// could not do since that is otherwise by now, [errMeanwhile], is tried again.
func (e *Engine) changing(ctx context.Context, ref string, change func(*Container) error) error {
	for range 1000 { // an end may take some seconds: the last of the output, processes of exec
		c, release, err := e.still(ctx, ref)
		if err == nil {
			if err = change(&c); c.gone(err) {
				err = errMeanwhile // with --rm it went, and its files under the change
			}
			release()
		}
		if !errors.Is(err, errMeanwhile) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ErrConflict{fmt.Sprintf("container %s: %v", ref, errMeanwhile)}
}

// still locks a container until release, and has its policy not start it meanwhile. The error is [errMeanwhile] where it is ending, or has lost its monitor, and is to be asked for
// again.
func (e *Engine) still(ctx context.Context, ref string) (c Container, release func(), err error) {
	c, lock, err := e.lock(ref)
	if err != nil {
		return c, nil, err
	}
	if release = func() { lock.Close() }; exists(e.intents() + "/" + c.ID) {
		release()
		return c, nil, errUnsettled{c.Name}
	}
	if !c.Active() {
		return c, release, nil
	}
	m, err := e.dial(c)
	switch gone := errors.As(err, new(ErrNotRunning)); {
	case gone && c.Witness().Alive():
		return c, release, nil // the next monitor goes by what is written down
	case gone:
		release()
		if err := e.adopt(c.ID); err != nil {
			return c, nil, err
		}
		return c, nil, errMeanwhile
	case err != nil:
		release()
		return c, nil, err
	}
	release = func() { m.Close(); lock.Close() }
	awake := e.mind(c, m)
	stop := context.AfterFunc(ctx, func() { m.Close() })
	err = m.Hold()
	stop()
	awake()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) { // of an older version, or a start that hangs: then it goes on without
		c.State, err = monitor.ReadState(c.dir)
	}
	if err != nil || c.PID != 0 && ending(c.Witness()) {
		release()
		if ctx.Err() != nil {
			return c, nil, ctx.Err()
		}
		return c, nil, errMeanwhile
	}
	return c, release, nil
}

// ending reports whether a process has ended, or does nothing but end: its namespaces are gone before it is.
func ending(w oci.Witness) bool {
	p := w.Open()
	if p == nil {
		return true
	}
	defer p.Close()
	return p.Ending()
}

// meanwhile is [errMeanwhile] where a container is not any more as it was when it was held.
func (c *Container) meanwhile() error {
	now, err := monitor.ReadState(c.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil || now.Status != c.Status || now.PID != c.PID || c.PID != 0 && ending(c.Witness()) {
		return errMeanwhile
	}
	return nil
}

package engine

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/oci"
)

// Errors that callers tell apart. Their texts are Docker's, which scripts look for.
type (
	// ErrNoSuchContainer is a reference to a container that there is not.
	ErrNoSuchContainer struct{ Ref string }
	// ErrAmbiguous is the beginning of several ids.
	ErrAmbiguous struct{ Ref string }
	// ErrNotRunning is a container that does not run, where it has to.
	ErrNotRunning struct {
		ID         string
		Restarting bool // its policy is about to start it again
	}
	// ErrConflict is a container in a state in which that cannot be done, or a name that is taken.
	ErrConflict struct{ Text string }
	// ErrDamaged is a container whose record cannot be read: it can be removed by force, and nothing else.
	ErrDamaged struct {
		ID  string
		Err error
	}
)

func (e ErrNoSuchContainer) Error() string {
	if e.Ref == "" {
		return "invalid container name or ID: value is empty"
	}
	return "No such container: " + e.Ref
}

func (e ErrAmbiguous) Error() string {
	return fmt.Sprintf("multiple IDs found with provided prefix: %s: give more of it", e.Ref)
}

func (e ErrNotRunning) Error() string {
	if e.Restarting {
		return fmt.Sprintf("Container %s is restarting, wait until the container is running", e.ID)
	}
	return fmt.Sprintf("container %s is not running", files.ShortID(e.ID))
}

func (e ErrConflict) Error() string { return e.Text }

func (e ErrDamaged) Error() string {
	return fmt.Sprintf("container %s: its record cannot be read: %v: kakuri rm -f %[1]s removes it, with what it has written", files.ShortID(e.ID), e.Err)
}

func (e ErrDamaged) Unwrap() error { return e.Err }

// hasEnded reports whether an error of the runtime says that the container has ended, or went with its end.
func hasEnded(err error) bool {
	return errors.Is(err, oci.ErrNotRunning) || errors.Is(err, oci.ErrNotExist)
}

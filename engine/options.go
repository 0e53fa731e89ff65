package engine

import (
	"io"
	"os"
)

// Streams are the caller's side of a container's standard streams. Nil ones are
// the null device.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal is the caller's terminal, whose mode and size a container's
	// terminal follows; nil without one.
	Terminal *os.File
	// Signals has the signals that this process gets passed on to the container.
	Signals bool
	// Started, when not nil, is called once the container runs.
	Started func(Container)
}

// An ExitError is a refusal or a fault of the engine, or of the command's start,
// with Docker's exit code for it: 125, 126 or 127.
type ExitError struct {
	Code int
	Err  error
}

// Error is that of the cause.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

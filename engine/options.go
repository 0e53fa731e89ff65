package engine

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
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

// size is that of the caller's terminal, where there is one.
func (s Streams) size() (rows, columns uint16, ok bool) {
	if s.Terminal == nil {
		return 0, 0, false
	}
	w, err := unix.IoctlGetWinsize(int(s.Terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return w.Row, w.Col, true
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

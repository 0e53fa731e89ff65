package launch

import (
	"fmt"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

// An Error is a step of a plan that failed. It unwraps to the errno, so that
// errors.Is(err, fs.ErrPermission) and the like work.
type Error struct {
	N, Of int       // the step's number, from 1, and how many there are
	Step  plan.Step // what was tried
	Call  string    // the system call that failed: "fsmount"; empty when a hand failed
	Err   error     // a syscall.Errno, or what the hand said
	Hint  string    // what the reader can do; may be empty
}

// Error is one line: which step, what, why it was there, what the kernel said,
// and what can be done.
func (e *Error) Error() string {
	s := fmt.Sprintf("step %d of %d: %s (%s): ", e.N, e.Of, e.Step.Op, e.Step.Cause)
	if e.Call != "" {
		s += e.Call + ": "
	}
	if errno, ok := e.Err.(syscall.Errno); ok {
		n := abi.Errno(errno)
		s += n.Name() + ": " + n.Error()
	} else {
		s += e.Err.Error()
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return plan.OneLine(s) // names come from images and flags
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errno returns the kernel's error number, 0 when it was not the kernel.
func (e *Error) Errno() syscall.Errno {
	n, _ := e.Err.(syscall.Errno)
	return n
}

package uplink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"golang.org/x/sys/unix"
)

// Names in the directory of an uplink: what [MakeDir] makes.
const (
	ControlName = "control" // the socket
	LockName    = "lock"    // locked as long as the program runs
	portsDir    = "ports"   // a file for each owner
)

// What is asked of the program: a message of SOCK_SEQPACKET each, with the owner behind a space.
const (
	AskStatus     = "status"
	AskNamespaces = "namespaces" // the answer brings both, the user namespace first
	AskPublish    = "publish"    // what the owner's file has
	AskUnpublish  = "unpublish"
	AskOwn        = "own" // whether the machine has an address, which stands in the owner's place
	AskEnd        = "end"
)

// answerMax is the size of an answer's text, in bytes.
const answerMax = 32 << 10

// An Answer is what the program says.
type Answer struct {
	Error  string `json:",omitempty"`
	Errno  int    `json:",omitempty"`
	Own    bool   `json:",omitempty"`
	Status Status
}

// An Error is what the program could not do. It unwraps to the kernel's number, where that is the cause.
type Error struct {
	Text  string
	Errno syscall.Errno
}

// Error is the program's sentence.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the number, for errors.Is.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func (a Answer) err() error {
	if a.Error == "" {
		return nil
	}
	return &Error{a.Error, syscall.Errno(a.Errno)}
}

// AnswerOf is the answer of a program that met an error, or none.
func AnswerOf(err error, s Status) Answer {
	a := Answer{Status: s}
	if err != nil {
		a.Error = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			a.Errno = int(errno)
		}
	}
	return a
}

// ask sends a question, and gives the answer and its descriptors.
func (u *Uplink) ask(what, owner string) (a Answer, fds []int, err error) {
	if owner != "" {
		what += " " + owner
	}
	fail := func(err error) (Answer, []int, error) {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, io.EOF) {
			return a, nil, fmt.Errorf("%w any more in %s", ErrGone, u.run)
		}
		if errors.Is(err, ErrSilent) {
			return a, nil, err
		}
		return a, nil, fmt.Errorf("uplink in %s: %w", u.run, err)
	}
	if u.silent {
		return a, nil, silent(u.run)
	}
	if err := seqpacket.Send(u.conn, []byte(what)); err != nil {
		return fail(err)
	}
	buf := make([]byte, answerMax)
	n, fds, err := u.receive(buf)
	if err != nil {
		return fail(err)
	}
	if err := leanjson.Unmarshal(buf[:n], &a); err != nil {
		return a, fds, fmt.Errorf("uplink in %s: %w", u.run, err)
	}
	return a, fds, a.err()
}

// receive waits for an answer, has a stopped uplink go on meanwhile, and does not wait for ever.
func (u *Uplink) receive(buf []byte) (n int, fds []int, err error) {
	look := lookAgain
	if u.warn == nil {
		look *= 2 // who has somebody to tell is first
	}
	for until := time.Now().Add(patience); ; Wake(u.run, u.warn) {
		u.conn.SetReadDeadline(time.Now().Add(look))
		n, fds, err = seqpacket.Receive(u.conn, buf, 2)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, fds, err
		}
		if time.Now().After(until) {
			u.silent = true
			return 0, nil, silent(u.run)
		}
	}
}

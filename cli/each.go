package cli

import (
	"fmt"

	"github.com/kakuri/kakuri/cli/format"
)

// atOnce is how many objects one command works on at the same time.
const atOnce = 50

// A skipped object is one that there was nothing to do to. What there is to say of it is said in its turn, and it is no failure.
type skipped struct{ error }

// each does something to all that have the names, and prints the name of each it was
// done to. Those it failed for are told of one by one, and make the exit code 1.
func each(io IO, names []string, do func(name string) error) error {
	done := make([]chan error, len(names))
	turns := make(chan struct{}, atOnce)
	for i := range done {
		done[i] = make(chan error, 1)
	}
	go func() {
		for i, name := range names {
			turns <- struct{}{}
			go func() {
				done[i] <- do(name)
				<-turns
			}()
		}
	}()
	return inTurn(io, names, func(i int) error { return <-done[i] })
}

// inTurn is each, one after the other.
func inTurn(io IO, names []string, do func(i int) error) error {
	failed := false
	for i, name := range names {
		err := do(i)
		if skip, ok := err.(skipped); ok {
			if skip.error != nil {
				io.report(skip.error)
			}
			continue
		}
		if err != nil {
			io.report(err)
			failed = true
			continue
		}
		fmt.Fprintln(io.Out, format.Lines(name))
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// arguments refuses fewer arguments than least, or more than most where that is not
// negative, in Docker's words.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		n := len(args)
		if n >= least && (n <= most || most < 0) {
			return nil
		}
		bound, number := "", least
		switch {
		case most == 0:
			return fmt.Errorf("'%s' accepts no arguments\nSee '%s --help'", c.CommandPath(), c.CommandPath())
		case most < 0:
			bound = "at least "
		case least > 0 && least != most:
			bound, number = fmt.Sprintf("at least %d and at most ", least), most
		case least != most && n > most:
			bound, number = "at most ", most
		case least != most:
			bound = "at least "
		}
		plural := "s"
		if number == 1 {
			plural = ""
		}
		return fmt.Errorf("'%s' requires %s%d argument%s\n\nUsage:  %s\n\nSee '%s --help'", c.CommandPath(), bound, number, plural, useLine(c), c.CommandPath())
	}
}

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

// A cancelledError is what was not done because nobody said yes to it: no failure, for exit codes.
type cancelledError string

func (c cancelledError) Error() string { return string(c) + " has been cancelled" }

// ask says what is about to happen, and waits for a yes. Anything else is a
// [cancelledError]; Ctrl-C and SIGTERM end the command with 0 and no word, as with Docker.
func ask(io IO, warning, what string) error {
	stop := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) {
			signal.Notify(stop, s)
		}
	}
	defer signal.Stop(stop)
	fmt.Fprintf(io.Out, "%s\nAre you sure you want to continue? [y/N] ", warning)
	answered := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(io.In).ReadString('\n')
		if err != nil {
			fmt.Fprintln(io.Out) // nobody has ended the line
		}
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
			answered <- nil
			return
		}
		answered <- cancelledError(what)
	}()
	select {
	case err := <-answered:
		return err
	case <-stop:
		fmt.Fprintln(io.Out)
		return exitCode(0)
	}
}

const withKey = ", with a key of "

// filterFlag makes --filter, which gathers NAME=VALUE. One that is empty is none: what a script's variable was for.
func filterFlag(s *pflag.FlagSet, short string, keys string) map[string][]string {
	filters := map[string][]string{}
	s.FuncP("filter", short, "only those that this is true of: `KEY=VALUE`"+withKey+keys, func(v string) error {
		if v == "" {
			return nil
		}
		key, value, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("bad format of filter (expected name=value)")
		}
		key = strings.ToLower(strings.TrimSpace(key))
		filters[key] = append(filters[key], strings.TrimSpace(value))
		return nil
	})
	return filters
}

// formatFlag makes --format of a command that prints rows.
func formatFlag(s *pflag.FlagSet, to *string) {
	s.StringVar(to, "format", "", "table, json, or a Go `TEMPLATE`; 'table TEMPLATE' with headings")
}

// pairText is a map as K=V,K=V, sorted.
func pairText(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// openImages opens the images of that engine.
func openImages(io IO) (*image.Store, error) {
	e, err := openEngine(io)
	if err != nil {
		return nil, err
	}
	return e.Images()
}

// openEngine opens the engine of this machine, or of this user, whose warnings are told.
func openEngine(io IO) (*engine.Engine, error) { return engine.Open(engine.Options{Warn: io.warn}) }

// lookEngine opens it for who asks it for something on the way: nothing is written, and no warning told.
func lookEngine() (*engine.Engine, error) { return engine.Open(engine.Options{Look: true}) }

// inWorld runs the command again where an ordinary user's networks are, for one that reads them: of the container ref, or with an empty one of all.
// Where it did, done is true, and the error its exit code.
func inWorld(ctx context.Context, e *engine.Engine, ref string) (done bool, err error) {
	code, done, err := e.AgainInWorld(ctx, ref)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return done, err
}

package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// A pruning is what all prunes have: filters, and a question before anything goes.
type pruning struct {
	what    string // the words of the command
	force   bool
	filters map[string][]string
}

func newPruning(s *pflag.FlagSet, what, keys string) *pruning {
	p := &pruning{what: what, filters: filterFlag(s, "", keys)}
	s.BoolVarP(&p.force, "force", "f", false, "do not ask")
	return p
}

// withSettings adds the filters that all prunes of the caller have, such as a label of what stays. One that the command line says the opposite of is left out.
func (p *pruning) withSettings(io IO) {
	opposite := map[string]string{"label": "label!", "label!": "label"}
	for _, f := range dockerSettings(io).PruneFilters {
		key, value, ok := strings.Cut(f, "=")
		if ok && !slices.Contains(p.filters[opposite[key]], value) {
			p.filters[key] = append(p.filters[key], value)
		}
	}
}

// confirm asks whether to do that, "remove all of something", unless nobody wants to be asked.
func (p *pruning) confirm(io IO, that string) error {
	if p.force {
		return nil
	}
	return ask(io, "WARNING! This will "+that, p.what)
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

// printPruned lists what a prune removed.
func printPruned(io IO, title string, list []string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(io.Out, title)
	for _, name := range list {
		fmt.Fprintln(io.Out, name)
	}
	fmt.Fprintln(io.Out)
}

// printImages lists what a prune of images removed.
func printImages(io IO, list []image.Removed) {
	var lines []string
	for _, r := range list {
		if r.Deleted != "" {
			lines = append(lines, "deleted: "+r.Deleted)
		} else {
			lines = append(lines, "untagged: "+format.Lines(r.Untagged))
		}
	}
	printPruned(io, "Deleted Images:", lines)
}

// printReclaimed says how many bytes went.
func printReclaimed(io IO, bytes int64) {
	fmt.Fprintln(io.Out, "Total reclaimed space:", format.Size(float64(bytes)))
}

package cli

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newRM(io IO) *cobra.Command {
	var o engine.RemoveOptions
	c := &cobra.Command{Use: "rm [OPTIONS] CONTAINER [CONTAINER...]", Short: "Remove containers", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(down), -1)}
	s := c.Flags()
	s.BoolVarP(&o.Force, "force", "f", false, "end it first if it runs; no error for one that is not there")
	s.BoolVarP(&o.Link, "link", "l", false, "remove a link, named OTHER/ALIAS, and no container")
	s.BoolVarP(&o.Volumes, "volumes", "v", false, "remove its volumes without a name, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return each(io, args, func(ref string) error {
			err := e.Remove(c.Context(), ref, o)
			if o.Force && ref != "" && errors.As(err, new(engine.ErrNoSuchContainer)) {
				return skipped{err} // not so of an empty variable
			}
			return err
		})
	}
	return c
}

func newContainerPrune(io IO) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove all containers that do not run", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	filters := filterFlag(c.Flags(), "", "label, until")
	c.RunE = func(c *cobra.Command, _ []string) error {
		withPruneFilters(io, *filters)
		if !force {
			if err := ask(io, "WARNING! This will remove all stopped containers.", "container prune"); err != nil {
				return err
			}
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		keep, err := engine.Filters(*filters).PruneMatch()
		if err != nil {
			return err
		}
		removed, bytes, err := e.PruneContainers(c.Context(), keep)
		printPruned(io, "Deleted Containers:", removed)
		if err != nil {
			return err
		}
		fmt.Fprintln(io.Out, "Total reclaimed space:", format.Size(float64(bytes)))
		return nil
	}
	return c
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

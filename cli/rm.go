package cli

import (
	"errors"

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
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove all containers that do not run", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	p := newPruning(c.Flags(), "container prune", "label, until")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p.withSettings(io)
		if err := p.confirm(io, "remove all stopped containers."); err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		keep, err := engine.Filters(p.filters).PruneMatch()
		if err != nil {
			return err
		}
		removed, bytes, err := e.PruneContainers(c.Context(), keep)
		printPruned(io, "Deleted Containers:", removed)
		if err != nil {
			return err
		}
		printReclaimed(io, bytes)
		return nil
	}
	return c
}

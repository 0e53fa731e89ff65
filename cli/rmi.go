package cli

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

func newRMI(io IO) *cobra.Command {
	var force, noPrune bool
	var platforms []string
	c := &cobra.Command{Use: "rmi [OPTIONS] IMAGE [IMAGE...]", Short: "Remove images", Args: arguments(1, -1), ValidArgsFunction: names(storedNames, -1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "remove images of several repositories, and of stopped containers; no error for one that is not there")
	c.Flags().BoolVar(&noPrune, "no-prune", false, "keep parents without a name")
	c.Flags().StringSliceVar(&platforms, "platform", nil, "take the image for `OS/ARCH[/VARIANT]` alone out of one for several platforms")
	c.RunE = func(c *cobra.Command, args []string) error {
		list, err := parsePlatforms(platforms)
		if err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		failed := false
		for _, name := range args {
			removed, err := e.RemoveImage(c.Context(), name, force, list...)
			printRemoved(io, removed)
			if err != nil {
				io.report(err)
				var none *image.NotFoundError
				failed = failed || !force || !errors.As(err, &none)
			}
		}
		if failed {
			return exitCode(1)
		}
		return nil
	}
	return c
}

func printRemoved(io IO, list []image.Removed) {
	for _, r := range list {
		if r.Deleted != "" {
			fmt.Fprintln(io.Out, "Deleted:", r.Deleted)
		} else {
			fmt.Fprintln(io.Out, "Untagged:", format.Lines(r.Untagged))
		}
	}
}

func newImagePrune(io IO) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove images that nobody uses", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove those with a name, too, that no container uses")
	p := newPruning(c.Flags(), "image prune", "label, until")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p.withSettings(io)
		what := "remove all dangling images."
		if all {
			what = "remove all images without at least one container associated to them."
		}
		if err := p.confirm(io, what); err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		done, err := e.PruneImages(c.Context(), all, p.filters)
		printImages(io, done.Removed)
		if err == nil {
			printReclaimed(io, done.SpaceReclaimed)
		}
		return err
	}
	return c
}

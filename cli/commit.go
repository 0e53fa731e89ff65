package cli

import (
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

func newCommit(io IO) *cobra.Command {
	var o engine.CommitOptions
	pause := true
	c := &cobra.Command{
		Use: "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Short: "Make an image of a container", Args: arguments(1, 2), ValidArgsFunction: names(containerNames(anyState), 1),
		Long: `Make an image of a container: its image, what it has changed, and what it runs.
Volumes are not part of it. The container is paused meanwhile, if that can be done.`,
	}
	s := c.Flags()
	s.StringVarP(&o.Author, "author", "a", "", "who made it")
	s.StringArrayVarP(&o.Changes, "change", "c", nil, "apply an `INSTRUCTION` of a Dockerfile to it")
	s.StringVarP(&o.Message, "message", "m", "", "comment of the image")
	s.BoolVar(&o.Running, "no-pause", false, "do not pause the container")
	s.BoolVarP(&pause, "pause", "p", true, "")
	s.MarkHidden("pause")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("pause") {
			if c.Flags().Changed("no-pause") {
				return fmt.Errorf("conflicting options: --no-pause and --pause cannot be used together")
			}
			o.Running, o.Pause = !pause, pause
		}
		o.Name = strings.Join(args[1:], "")
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		img, err := e.Commit(c.Context(), args[0], o)
		if err != nil {
			return err
		}
		fmt.Fprintln(io.Out, img.ID)
		return nil
	}
	return c
}

func newDiff(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Short: "List what a container has changed of its image", Args: arguments(1, 1), ValidArgsFunction: names(containerNames(anyState), 1),
		Long: `List what a container has changed of its image: A is added, C changed, D deleted.`,
		RunE: func(c *cobra.Command, args []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			list, err := e.Diff(c.Context(), args[0])
			if err != nil {
				return err
			}
			for _, change := range list {
				if _, err := fmt.Fprintln(io.Out, changeText(change, io.onTerminal())); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// changeText is the line of a change. On a terminal a name with a newline is no second one.
func changeText(c engine.Change, terminal bool) string {
	if terminal {
		c.Path = ui.Escape(c.Path)
	}
	return c.String()
}

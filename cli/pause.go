package cli

import (
	"context"
	"fmt"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newPause(io IO) *cobra.Command {
	return plain(io, "pause CONTAINER [CONTAINER...]", "Stop all processes of containers for a while", up, func(ctx context.Context, e *engine.Engine, ref string) error { return e.Pause(ctx, ref) })
}

func newUnpause(io IO) *cobra.Command {
	return plain(io, "unpause CONTAINER [CONTAINER...]", "Let the processes of paused containers go on", up, func(ctx context.Context, e *engine.Engine, ref string) error { return e.Unpause(ctx, ref) })
}

// plain makes a command without flags that does something to each container it is given.
func plain(io IO, use, short string, which state, do func(context.Context, *engine.Engine, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: arguments(1, -1), ValidArgsFunction: names(containerNames(which), -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			return each(io, args, func(ref string) error { return do(c.Context(), e, ref) })
		},
	}
}

func newWait(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "wait CONTAINER [CONTAINER...]", Short: "Wait until containers end, and print their exit codes", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(up), -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			failed := false
			for _, ref := range args {
				x, err := e.Wait(c.Context(), ref, engine.NotRunning)
				if err != nil {
					io.report(err)
					failed = true
					continue
				}
				fmt.Fprintln(io.Out, x.Code)
			}
			if failed {
				return exitCode(1)
			}
			return nil
		},
	}
}

func newRename(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NEW_NAME", Short: "Give a container another name", Args: arguments(2, 2), ValidArgsFunction: names(containerNames(anyState), 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			return e.Rename(c.Context(), args[0], args[1])
		},
	}
}

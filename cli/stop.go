package cli

import (
	"context"
	"fmt"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newStop(io IO) *cobra.Command {
	return stopCommand(io, "stop", "Stop containers", up, func(ctx context.Context, e *engine.Engine, ref string, o engine.StopOptions) error {
		return e.Stop(ctx, ref, o)
	})
}

func newRestart(io IO) *cobra.Command {
	return stopCommand(io, "restart", "Stop containers, and start them again", anyState, func(ctx context.Context, e *engine.Engine, ref string, o engine.StopOptions) error {
		return e.Restart(ctx, ref, o)
	})
}

func stopCommand(io IO, name, short string, which state, do func(context.Context, *engine.Engine, string, engine.StopOptions) error) *cobra.Command {
	var o engine.StopOptions
	var seconds int
	c := &cobra.Command{
		Use: name + " [OPTIONS] CONTAINER [CONTAINER...]", Short: short, Args: arguments(1, -1), ValidArgsFunction: names(containerNames(which), -1),
		Long: short + `: a container gets its stop signal (TERM, unless its image or
creator chose another), and after a while a KILL.`,
	}
	s := c.Flags()
	s.StringVarP(&o.Signal, "signal", "s", "", "send this signal first")
	s.IntVarP(&seconds, "timeout", "t", 0, "`SECONDS` until it is killed, -1 is without end (default: the container's own, else 10)")
	s.IntVar(&seconds, "time", 0, "")
	s.MarkHidden("time")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("time") && c.Flags().Changed("timeout") {
			return fmt.Errorf("conflicting options: cannot specify both --timeout and --time")
		}
		if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
			o.Timeout = &seconds
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return each(io, args, func(ref string) error { return do(c.Context(), e, ref, o) })
	}
	return c
}

func newKill(io IO) *cobra.Command {
	var signal string
	c := &cobra.Command{Use: "kill [OPTIONS] CONTAINER [CONTAINER...]", Short: "Send a signal to containers", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(up), -1)}
	c.Flags().StringVarP(&signal, "signal", "s", "", "send this signal, by name or number (default KILL)")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return each(io, args, func(ref string) error { return e.Kill(c.Context(), ref, signal) })
	}
	return c
}

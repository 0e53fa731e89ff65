package cli

import (
	"fmt"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newCreate(io IO) *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use: "create [OPTIONS] IMAGE [COMMAND [ARG...]]", Short: "Make a container, and do not start it",
		Long: `Make a container, and do not start it: "kakuri start" does. The flags are those of
"kakuri run". What it prints is the container's id.`,
		Args: f.needsImage, ValidArgsFunction: names(imageNames, 1),
	}
	f.register(c.Flags())
	c.RegisterFlagCompletionFunc("network", networkModes)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := f.finish(c, io, args); err != nil {
			return &engine.ExitError{Code: 125, Err: err}
		}
		e, pulled, err := f.open(io)
		if err != nil {
			return err
		}
		defer pulled()
		cid, err := f.openCidfile()
		if err != nil {
			return err
		}
		defer cid.done()
		made, err := e.Create(c.Context(), f.run)
		if err != nil {
			return err
		}
		if err := cid.write(made.ID); err != nil {
			return err
		}
		fmt.Fprintln(io.Out, made.ID)
		return nil
	}
	return c
}

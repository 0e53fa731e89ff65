package cli

import (
	"fmt"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newUpdate(io IO) *cobra.Command {
	var u engine.UpdateConfig
	var pids int64
	c := &cobra.Command{
		Use: "update [OPTIONS] CONTAINER [CONTAINER...]", Short: "Change limits and the restart policy of containers", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(anyState), -1),
		Long: `Change limits and the restart policy of containers, running ones too. What is not
named stays as it is.`,
	}
	limitFlags(c.Flags(), &u.Resources, &pids)
	restart := c.Flags().String("restart", "", "start again when it ends: `POLICY`, one of no, always, unless-stopped, on-failure[:N]")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().NFlag() == 0 {
			return fmt.Errorf("you must provide one or more flags when using this command\nSee '%s --help'", c.CommandPath()) // 1, as with Docker
		}
		if c.Flags().Changed("restart") {
			r, err := parseRestart(*restart)
			if err != nil {
				return err // 1, as with Docker
			}
			u.Restart = &r
		}
		if pids != 0 { // 0 leaves the limit as it is, as with the other flags, and with Docker
			u.Resources.PidsLimit = &pids
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		return each(io, args, func(ref string) error {
			warnings, err := e.Update(c.Context(), ref, u)
			for _, w := range warnings {
				io.warn(w)
			}
			return err
		})
	}
	return c
}

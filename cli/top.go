package cli

import (
	"github.com/kakuri/kakuri/cli/format"
	"github.com/spf13/cobra"
)

func newTop(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "top CONTAINER [ps OPTIONS]", Short: "List the processes of a container", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(up), 1),
		Long: `List the processes of a container as the machine sees them. Options are those of
ps(1), as in -o pid,comm or aux; without one it is -ef.`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
				return c.Help()
			}
			if err := arguments(1, -1)(c, args); err != nil {
				return err
			}
			e, err := openEngine(io)
			if err != nil {
				return err
			}
			t, err := e.Top(c.Context(), args[0], args[1:])
			if err != nil {
				return err
			}
			lines := append([][]string{t.Titles}, t.Rows...)
			return format.Table(io.Out, lines, 20)
		},
	}
}

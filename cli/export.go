package cli

import "github.com/spf13/cobra"

func newExport(io IO) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "export [OPTIONS] CONTAINER", Short: "Write the files of a container as a tar", Args: arguments(1, 1), ValidArgsFunction: names(containerNames(anyState), 1),
		Long: `Write a container's root file system as a tar, without what is mounted in it.`,
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` in place of stdout")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if _, err := e.Find(args[0]); err != nil {
			return err
		}
		return writeOutput(io, output, "export", func(w writer) error { return e.Export(c.Context(), args[0], w) })
	}
	return c
}

package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newPS(io IO) *cobra.Command {
	var quiet, noTrunc bool
	var format string
	c := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List running containers",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := engine.Open(engine.Options{})
			if err != nil {
				return err
			}
			list, err := e.List(engine.ListOptions{})
			if err != nil {
				return err
			}
			return printContainers(io, list, quiet, noTrunc, format)
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not cut ids and commands")
	c.Flags().StringVar(&format, "format", "table", "table or json")
	return c
}

func printContainers(io IO, list []engine.Container, quiet, noTrunc bool, format string) error {
	id := func(c engine.Container) string {
		if noTrunc {
			return c.ID
		}
		return c.ID[:12]
	}
	if quiet {
		for _, c := range list {
			fmt.Fprintln(io.Out, id(c))
		}
		return nil
	}
	switch format {
	case "json":
		for _, c := range list {
			line, err := json.Marshal(map[string]any{"ID": c.ID, "Name": c.Name, "Image": c.Image, "Command": c.Command, "PID": c.PID, "Created": c.Created})
			if err != nil {
				return err
			}
			fmt.Fprintln(io.Out, string(line))
		}
		return nil
	case "table", "":
	default:
		return usageError{fmt.Errorf("--format %s: there are table and json", format)}
	}
	w := tabwriter.NewWriter(io.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tPID\tNAME")
	for _, c := range list {
		command := fmt.Sprintf("%q", strings.Join(c.Command, " "))
		if r := []rune(command); len(r) > 20 && !noTrunc {
			command = string(r[:19]) + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s ago\t%d\t%s\n", id(c), c.Image, command, age(time.Since(c.Created)), c.PID, c.Name)
	}
	return w.Flush()
}

// age is a duration in Docker's words.
func age(d time.Duration) string {
	n, unit := int(d.Seconds()), "second"
	switch {
	case d >= 48*time.Hour:
		n, unit = int(d.Hours()/24), "day"
	case d >= time.Hour:
		n, unit = int(d.Hours()), "hour"
	case d >= time.Minute:
		n, unit = int(d.Minutes()), "minute"
	case n < 1:
		return "Less than a second"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

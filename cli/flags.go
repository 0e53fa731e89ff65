package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arguments refuses fewer arguments than least, or more than most where that is not
// negative, in Docker's words.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		n := len(args)
		if n >= least && (n <= most || most < 0) {
			return nil
		}
		bound, number := "", least
		switch {
		case most == 0:
			return fmt.Errorf("'%s' accepts no arguments\nSee '%s --help'", c.CommandPath(), c.CommandPath())
		case most < 0:
			bound = "at least "
		case least > 0 && least != most:
			bound, number = fmt.Sprintf("at least %d and at most ", least), most
		case least != most && n > most:
			bound, number = "at most ", most
		case least != most:
			bound = "at least "
		}
		plural := "s"
		if number == 1 {
			plural = ""
		}
		return fmt.Errorf("'%s' requires %s%d argument%s\n\nUsage:  %s\n\nSee '%s --help'", c.CommandPath(), bound, number, plural, useLine(c), c.CommandPath())
	}
}

const withKey = ", with a key of "

// filterFlag makes --filter, which gathers NAME=VALUE. One that is empty is none: what a script's variable was for.
func filterFlag(s *pflag.FlagSet, short string, keys string) map[string][]string {
	filters := map[string][]string{}
	s.FuncP("filter", short, "only those that this is true of: `KEY=VALUE`"+withKey+keys, func(v string) error {
		if v == "" {
			return nil
		}
		key, value, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("bad format of filter (expected name=value)")
		}
		key = strings.ToLower(strings.TrimSpace(key))
		filters[key] = append(filters[key], strings.TrimSpace(value))
		return nil
	})
	return filters
}

// formatFlag makes --format of a command that prints rows.
func formatFlag(s *pflag.FlagSet, to *string) {
	s.StringVar(to, "format", "", "table, json, or a Go `TEMPLATE`; 'table TEMPLATE' with headings")
}

package cli

import (
	"strconv"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
)

// A searchRow is a repository as a search shows it.
type searchRow struct{ Description, IsAutomated, IsOfficial, Name, StarCount string }

func newSearch(io IO) *cobra.Command {
	var layout string
	var limit int
	var noTrunc bool
	c := &cobra.Command{
		Use: "search [OPTIONS] TERM", Short: "Search a registry for images", Args: arguments(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Search Docker Hub for images, or with HOST/TERM the registry on HOST, where that
has Docker's search.`,
		Example: "  kakuri search --filter is-official=true redis\n  kakuri search registry.example:5000/app",
	}
	s := c.Flags()
	filters := filterFlag(s, "f", "is-automated, is-official, stars")
	formatFlag(s, &layout)
	s.IntVar(&limit, "limit", 0, "print `NUMBER` results at most, of 100 (default: 25)")
	s.BoolVar(&noTrunc, "no-trunc", false, "do not cut descriptions")
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		list, err := store.Search(c.Context(), args[0], limit, image.Filters(filters), nil)
		if err != nil {
			return err
		}
		rows := make([]searchRow, len(list))
		for i, r := range list {
			rows[i] = searchRow{format.Lines(r.Description), mark(r.Automated), mark(r.Official), r.Name, strconv.Itoa(r.Stars)}
			if !noTrunc {
				rows[i].Description = format.Ellipsis(rows[i].Description, 45)
			}
		}
		return format.Rows(io.Out, format.Spec{
			Table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
			Heads: map[string]string{"Description": "DESCRIPTION", "IsAutomated": "AUTOMATED", "IsOfficial": "OFFICIAL", "Name": "NAME", "StarCount": "STARS"},
		}, format.Options{Format: layout, Terminal: io.onTerminal()}, rows)
	}
	return c
}

// mark is Docker's mark of what is so.
func mark(is bool) string {
	if is {
		return "[OK]"
	}
	return ""
}

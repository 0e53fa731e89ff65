package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unknownCommand says that there is no command name below the command path, and which of names may have been meant: any, where they are few.
func unknownCommand(path, name string, names []string) error {
	text := fmt.Sprintf("unknown command %q", path+" "+name)
	if meant := near(name, names); meant != nil {
		for i, m := range meant {
			meant[i] = "'" + path + " " + m + "'"
		}
		text += ": did you mean " + strings.Join(meant, " or ") + "?"
	} else if few := 5; len(names) > 1 && len(names) <= few {
		text += ": there are " + strings.Join(names, ", ")
	}
	return fmt.Errorf("%s\nSee '%s --help'", text, path)
}

// nearFlags are the flags of c that may have been meant by the one that err says there is not.
func nearFlags(c *cobra.Command, err error) (list []string) {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return nil
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	for _, n := range near(name, names) {
		list = append(list, "--"+n)
	}
	return list
}

// near are those of names that are as few slips away from name as any, and not so many that the word is another; else those that it is the beginning of.
func near(name string, names []string) (list []string) {
	least := 2
	if len(name) < 6 {
		least = 1 // two of five letters make "logs" of "bogus"
	}
	for _, n := range names {
		if d := slips(name, n); d <= least {
			if d < least {
				list, least = nil, d
			}
			list = append(list, n)
		}
	}
	if list == nil && len(name) > 2 {
		for _, n := range names {
			if strings.HasPrefix(n, name) {
				list = append(list, n)
			}
		}
	}
	return list
}

// slips is how many letters are wrong, missing, too many, or changed with their neighbour, to make b of a.
func slips(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := range rows[i] {
			switch {
			case i == 0:
				rows[i][j] = j
			case j > 0:
				wrong := 1
				if a[i-1] == b[j-1] {
					wrong = 0
				}
				rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+wrong)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
				}
			}
		}
	}
	return rows[len(a)][len(b)]
}

package docgen

import (
	"strings"

	"github.com/spf13/cobra"
)

// A section is one that cobra has no place for.
type section struct{ title, text string }

// sections gives what a page has beside its command's own texts.
func sections(page string) []section {
	const (
		runs = `The exit code is that of the program, or 128 plus the number of the signal that ended
it. It is 125 when kakuri refuses or fails, 126 when the program is there and cannot be
executed, 127 when it is not there.`
		looks = `0, or 1 when something is wrong, and 125 for a command line that cannot be understood.`
	)
	switch page {
	case "kakuri":
		return []section{
			{"EXIT STATUS", `Of run, unshare and enter: the exit code of the program, or 128 plus the number of the
signal that ended it; 125 when kakuri refuses or fails, 126 when the program cannot be
executed, 127 when it is not there. Of verify and tour: 1 when a property differs or an
observation does not hold.`},
			{"ENVIRONMENT", `LC_ALL, LC_MESSAGES and LANG choose the language of tour, ns and verify (English or Japanese).
NO_COLOR, or TERM=dumb, leaves colours away. SHELL is the program of unshare and enter when none
is named. XDG_RUNTIME_DIR is where the records of an ordinary user's containers are.`},
			{"FILES", `/run/kakuri/containers has a file for each running container of root. For an ordinary user
it is $XDG_RUNTIME_DIR/kakuri/containers, or /tmp/kakuri-UID/containers where that variable is not set.`},
		}
	case "kakuri-run", "kakuri-unshare", "kakuri-enter":
		return []section{{"EXIT STATUS", runs}}
	case "kakuri-ns", "kakuri-ps", "kakuri-explain":
		return []section{{"EXIT STATUS", looks}}
	}
	return nil
}

// seeAlso names the pages around a command's, and those of the kernel and of the
// tools that it resembles.
func seeAlso(root, c *cobra.Command) string {
	var pages []string
	if c != root {
		pages = append(pages, title(root)+"(1)")
	}
	for _, sub := range shown(root) {
		if sub.Name() != c.Name() {
			pages = append(pages, title(sub)+"(1)")
		}
	}
	pages = append(pages, "kakuri-runtime(8)")
	switch c.Name() {
	case "unshare":
		pages = append(pages, "unshare(1)")
	case "enter":
		pages = append(pages, "nsenter(1)")
	case "ns":
		pages = append(pages, "lsns(8)")
	}
	pages = append(pages, "namespaces(7)")
	return strings.Join(pages, ", ")
}

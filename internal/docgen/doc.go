// Package docgen writes the pages of docs that must agree with the code, and runs
// the commands that the README shows.
//
// [Manual] makes the man pages from the tree of commands. [Lists] reads the lists of
// paths and capabilities out of the engine's source, and [Fill] puts them where a page
// has room for them. [Blocks] finds the commands of a page.
//
//	for _, p := range docgen.Manual(cli.Root(cli.IO{})) {
//		os.WriteFile(filepath.Join("docs/man", p.Name), p.Text, 0o644)
//	}
//
// Its tests fail when a page is stale; they write them anew with
//
//	go test ./internal/docgen -update
//
// What it may not do: be imported by a room.
package docgen

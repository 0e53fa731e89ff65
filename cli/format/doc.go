// Package format prints what commands answer with, in Docker's manners: tables, JSON
// lines and Go templates of rows, and whole objects.
//
//	rows := []struct{ ID, Names string }{{"f00", "web"}}
//	s := format.Spec{Table: "{{.ID}}\t{{.Names}}", Heads: map[string]string{"ID": "CONTAINER ID", "Names": "NAMES"}}
//	err := format.Rows(os.Stdout, s, format.Options{Format: `table {{.Names}}\t{{.ID | lower}}`}, rows)
//
// A row is a struct of strings, so a template names what the JSON has. Sizes are worded by
// [Size], [Short] and [Binary], and a [Terminal] keeps what strangers wrote from acting on a
// terminal.
//
// What it may not do: know what a container is.
package format

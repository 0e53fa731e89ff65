// Package dirs says where an engine keeps what it knows, and whether others could have a say there: a record has programs
// run, and files mounted, with the caller's rights.
//
//	data, err := dirs.Data(facts, "", false) // ~/.local/share/kakuri
//	run, err := dirs.Run(facts, data, false) // $XDG_RUNTIME_DIR/kakuri
//
// Who only looks makes nothing, and gets the same answers.
//
// What it may not do: know what is kept there.
package dirs

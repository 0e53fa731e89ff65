// Package engine runs containers with Docker's words: it turns what a person
// asks for into an OCI spec and a plan, keeps the record of what runs, and
// carries streams, terminal and signals. Command line and API are fronts of it.
//
//	e, err := engine.Open(engine.Options{})
//	res, err := e.Run(ctx, engine.Config{Image: "host", Command: []string{"true"}}, engine.Streams{}, engine.RunOptions{})
//
// [Engine.Prepare] gives the plan of a run without running it, [Engine.List] what
// runs. Any number of processes may use the same engine's directory at once.
//
// What it may not do: print, exit, or read flags.
package engine

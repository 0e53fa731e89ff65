// Package cli is kakuri's command line: it parses flags, calls the engine or the
// microscope's rooms, and prints.
//
//	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
//
// Answers go to Out, everything else to Err. Exit codes are Docker's: 125 for a
// refusal or fault of kakuri, 126 for a command that cannot be run, 127 for one
// that is not there, else the container's own. It holds no logic that another
// front would need too.
package cli

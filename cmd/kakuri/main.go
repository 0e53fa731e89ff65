// The Go runtime need not read the cgroup's CPU limit to start one command.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command kakuri runs programs in isolated environments, and shows how.
package main

import (
	"context"
	"os"

	"github.com/kakuri/kakuri/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

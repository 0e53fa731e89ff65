// The Go runtime need not follow the cgroup's CPU limit while one command runs. (Go 1.26 looks once all the same.)

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

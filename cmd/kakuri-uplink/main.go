// Command kakuri-uplink connects a network namespace of a user with the machine's network, for containers of a user without rights over
// that. It is a program of its own since it has a TCP/IP stack, which no other one pays for.
package main

import (
	"os"

	"github.com/kakuri/kakuri/uplink/serve"
	"github.com/kakuri/kakuri/uplink/stack"
)

func main() { os.Exit(serve.Main(os.Args, stack.New)) }

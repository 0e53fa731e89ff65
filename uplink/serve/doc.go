// Package serve is the program kakuri-uplink, but for its TCP/IP stack: package [github.com/kakuri/kakuri/uplink] starts it and speaks to it.
//
// It is two processes. One is in the machine's network namespace: it holds published ports, answers callers, and carries packets, by the stack that
// [Main] is given or by pasta(1). The other is in the user's namespaces: it makes the device that leads out, and passes on what comes to ports.
//
//	kakuri ── uplink ──▶ server ── words ──▶ inside
//	                     │ stack, pasta      │ relay
//	                     ▼                   ▼
//	                     machine's network   user's network
//
//	func main() { os.Exit(serve.Main(os.Args, stack.New)) }
//
// What it may not do: know what a container is; link the stack.
package serve

// Command bare is the least Go program: what a process of this language costs before
// any of ours begins. The bench starts it beside kakuri's commands.
package main

import "syscall"

func main() { syscall.Exit(0) }

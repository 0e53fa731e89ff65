package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
)

var killVerb = verb{"kill", "ID [SIGNAL]", "send a signal to a container's process, default TERM", func(c *command) ([]flag, func([]string) (int, error)) {
	var all bool
	flags := []flag{yes("all a", &all, "send it to all processes of a container that has no pid namespace of its own")}
	return flags, func(args []string) (int, error) {
		if len(args) == 0 || len(args) > 2 {
			return 1, errors.New("kill: a container ID is needed, and maybe a signal: see kakuri-runtime kill --help")
		}
		sig := abi.Signal(syscall.SIGTERM)
		if len(args) == 2 {
			var ok bool
			if sig, ok = abi.ParseSignal(args[1]); !ok {
				return 1, fmt.Errorf("unknown signal %q", args[1])
			}
		}
		x, err := c.runtime.Open(args[0])
		if err == nil {
			err = x.Kill(syscall.Signal(sig), all)
		}
		if err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var deleteVerb = verb{"delete", "ID", "take away what a stopped container left", func(c *command) ([]flag, func([]string) (int, error)) {
	var force bool
	flags := []flag{yes("force f", &force, "end it first, if it runs; none of that name is no error")}
	return flags, func(args []string) (int, error) {
		id, err := one("delete", args)
		if err != nil {
			return 1, err
		}
		if err := c.runtime.Delete(background, id, force); err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var explainVerb = verb{"explain", "DIR", "print the plan of a bundle", func(c *command) ([]flag, func([]string) (int, error)) {
	var calls bool
	flags := []flag{yes("calls", &calls, "print the system calls below each step, too")}
	return flags, func(args []string) (int, error) {
		if len(args) != 1 {
			return 1, errors.New("explain: one bundle is needed: see kakuri-runtime explain --help")
		}
		b, err := c.load(args[0])
		if err != nil {
			return 1, err
		}
		facts, err := host.Read(b.Needs())
		if err != nil {
			return 1, err
		}
		p, err := b.Plan(facts)
		if err != nil {
			return 1, err
		}
		if calls {
			_, err = os.Stdout.WriteString(p.TextCalls(facts.Arch))
		} else {
			_, err = os.Stdout.WriteString(p.Text())
		}
		return 0, err
	}
}}

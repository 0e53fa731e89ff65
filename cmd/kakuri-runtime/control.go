package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
)

var killVerb = verb{"kill", "ID [SIGNAL]", "send a signal to a container's process, default TERM", func(c *command) ([]flag, func([]string) (int, error)) {
	var all bool
	flags := []flag{yes("all a", &all, "send it to all processes of a container that has no pid namespace of its own")}
	return flags, func(args []string) (int, error) {
		if len(args) == 0 || len(args) > 2 {
			return 1, errors.New("kill: a container ID is needed, and maybe a signal: see kakuri-runtime kill --help")
		}
		sig := abi.Signal(syscall.SIGTERM)
		if len(args) == 2 && args[1] != "" { // empty is the default, too, as of a caller's variable that is not set
			var ok bool
			if sig, ok = abi.ParseSignal(args[1]); !ok && args[1] != "0" { // which asks whether there is a process
				return 1, fmt.Errorf("unknown signal %q", args[1])
			}
		}
		x, err := c.runtime.Open(args[0])
		if err == nil {
			err = x.Kill(background, syscall.Signal(sig), all)
		}
		if all && errors.Is(err, oci.ErrNotRunning) {
			return 0, nil // then nothing is left to do
		}
		if err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var deleteVerb = verb{"delete", "ID", "take away what a stopped container left, or one that was not started", func(c *command) ([]flag, func([]string) (int, error)) {
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

// simple is a verb with an ID and nothing else.
func simple(name, help string, do func(x *oci.Container) error) verb {
	return verb{name, "ID", help, func(c *command) ([]flag, func([]string) (int, error)) {
		return nil, func(args []string) (int, error) {
			id, err := one(name, args)
			if err != nil {
				return 1, err
			}
			x, err := c.runtime.Open(id)
			if err == nil {
				err = do(x)
			}
			if err != nil {
				return 1, err
			}
			return 0, nil
		}
	}}
}

var startVerb = simple("start", "start a created container", func(x *oci.Container) error { return x.Start(background) })

var pauseVerb = simple("pause", "stop all processes of a container", func(x *oci.Container) error { return x.Pause(background) })

var resumeVerb = simple("resume", "let a paused container go on", func(x *oci.Container) error { return x.Resume() })

var explainVerb = verb{"explain", "DIR", "print the plan of a bundle", func(c *command) ([]flag, func([]string) (int, error)) {
	var calls, foreground bool
	flags := []flag{
		yes("calls", &calls, "print the system calls below each step, too"),
		yes("foreground", &foreground, "the plan of run, which does not wait for a start; else that of create"),
	}
	return flags, func(args []string) (int, error) {
		if len(args) != 1 {
			return 1, errors.New("explain: one bundle is needed: see kakuri-runtime explain --help")
		}
		b, err := c.load(place{dir: args[0]})
		if err != nil {
			return 1, err
		}
		p, facts, err := c.runtime.Plan(filepath.Base(b.Dir), b, !foreground)
		if err != nil {
			return 1, err
		}
		as := plan.Layout{Width: oci.Columns(os.Stdout)}
		if calls {
			as.Calls = facts.Arch
		}
		_, err = os.Stdout.WriteString(p.TextAs(as) + b.LaterHooks())
		return 0, err
	}
}}

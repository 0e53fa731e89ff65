package main

import (
	"errors"
	"syscall"

	"github.com/kakuri/kakuri/oci"
)

// processFlags are those that create, run and exec share.
func processFlags(o *oci.ProcessOptions) []flag {
	return []flag{
		text("console-socket", &o.ConsoleSocket, "PATH", "unix socket that gets the terminal's master side, and takes it within 30 s"),
		text("pidfd-socket", &o.PIDFDSocket, "PATH", "unix socket that gets a pidfd of the process"),
		text("pid-file", &o.PIDFile, "FILE", "file that gets the process's pid"),
		number("preserve-fds", &o.KeepFDs, "N", "pass N descriptors after stderr on"),
	}
}

// A place is where a bundle lies, and its config.json.
type place struct{ dir, config string }

// bundleFlags are those of create and run.
func bundleFlags(p *place, o *oci.ProcessOptions) []flag {
	p.dir, o.Keyring = ".", true
	var noPivot bool
	return append(processFlags(o),
		text("bundle b", &p.dir, "DIR", "the bundle, default the working directory"),
		// crun's; its "config.json" is the bundle's.
		flag{names: "config f", arg: "FILE", help: "another file in the place of the bundle's config.json", value: func(s string) error {
			if p.config = s; s == "config.json" {
				p.config = ""
			}
			return nil
		}},
		flag{names: "no-new-keyring", bool: true, help: "leave the caller's session keyring in place", value: func(string) error { o.Keyring = false; return nil }},
		yes("no-pivot", &noPivot, "not needed: a root on a ramdisk is pivoted as well"),
	)
}

// load reads a bundle, and warns of what is odd in it.
func (c *command) load(p place) (*oci.Bundle, error) {
	b, err := oci.LoadConfig(p.dir, p.config)
	if err != nil {
		return nil, err
	}
	for _, w := range b.Warnings {
		c.log.warn(w.Error())
	}
	return b, nil
}

var createVerb = verb{"create", "ID", "create a container up to its start", func(c *command) ([]flag, func([]string) (int, error)) {
	var p place
	var o oci.ProcessOptions
	return bundleFlags(&p, &o), func(args []string) (int, error) {
		id, err := one("create", args)
		if err != nil {
			return 1, err
		}
		oci.Dedicate()
		b, err := c.load(p)
		if err != nil {
			return 1, err
		}
		if _, err = c.runtime.Create(background, id, b, o); err != nil {
			return 1, err
		}
		return 0, nil
	}
}}

var runVerb = verb{"run", "ID", "create a container and start it", func(c *command) ([]flag, func([]string) (int, error)) {
	var p place
	var o oci.RunOptions
	var subreaper bool
	flags := append(bundleFlags(&p, &o.ProcessOptions),
		yes("detach d", &o.Detach, "return when the process runs"),
		yes("keep", &o.Keep, "leave the state behind when the process has ended"),
		yes("no-subreaper", &subreaper, "not needed: this program adopts no processes"),
	)
	return flags, func(args []string) (int, error) {
		id, err := one("run", args)
		if err != nil {
			return 1, err
		}
		oci.Dedicate()
		b, err := c.load(p)
		if err != nil {
			return 1, err
		}
		code, err := c.runtime.Run(background, id, b, o)
		switch {
		case errors.Is(err, syscall.ENOEXEC):
			return execFailed, err // as the first process of runc's, which ends with that
		case err != nil:
			return 1, err
		}
		return code, nil
	}
}}

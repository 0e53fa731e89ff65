// The Go runtime need not follow the cgroup's CPU limit: a monitor that waits is to wake for
// nothing. (At the start Go 1.26 looks once all the same.)

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command kakuri-runtime runs OCI bundles, with the command line of runc. It parses
// that by hand: each import is paid for at every start of a container.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The version of this program and the commit it is made from; the build sets them.
var (
	version = "0.1.0-dev"
	commit  = "unknown"
)

// like is the version of runc whose command line this is.
const like = "1.5.0"

// room is how many files a command may have to open at once, on version 1 of control groups, with all kinds of namespace.
const room = 48

// noSuchCommand is the exit code for a word that is none, as runc's.
const noSuchCommand = 3

// A command is what a command line asks for.
type command struct {
	runtime oci.Runtime
	log     log
}

// A verb is one of the commands, with its flags and what it does with the arguments after them.
type verb struct {
	name, args, help string
	// new makes a verb's flags and its action, which returns an exit code.
	new func(c *command) (flags []flag, do func(args []string) (int, error))
}

// verbs returns all of them, in the order of a container's life.
func verbs() []verb {
	return []verb{createVerb, startVerb, runVerb, execVerb, stateVerb, listVerb, killVerb, deleteVerb, pauseVerb, resumeVerb, checkpointVerb, restoreVerb, updateVerb, eventsVerb, psVerb, specVerb, featuresVerb, explainVerb}
}

func main() {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], monitorVerb) {
		os.Exit(monitor.Main())
	}
	c := &command{}
	code, err := c.run(os.Args[1:])
	if err != nil {
		c.log.fail(err)
		code = max(code, 1) // a command that could not write its answer, as list to a full disk, has failed too
	}
	os.Exit(code)
}

func (c *command) run(args []string) (int, error) {
	var logFile, logFormat, ignored string
	var showVersion, help bool
	c.runtime.Root = oci.DefaultRoot()
	c.runtime.Warn, c.runtime.Debug = c.log.warn, c.log.debugf
	c.runtime.Notice = func(s string) { c.log.debugf("%s", s) } // run and exec write to the container's streams: runc and crun are silent
	global := []flag{
		flag{names: "root", arg: "DIR", help: "where the state of containers is kept", value: func(s string) error {
			if c.runtime.Root = s; s == "" {
				return errors.New("it is a directory")
			}
			return nil
		}},
		text("log", &logFile, "FILE", "write errors and warnings there too"),
		text("log-format", &logFormat, "FORMAT", "text (default) or json"),
		yes("debug", &c.log.debug, "log more"),
		yes("systemd-cgroup", &c.runtime.Systemd, "have systemd make control groups"),
		flag{names: "cgroup-manager", arg: "MANAGER", help: "cgroupfs (default), systemd, or disabled: none is made", value: func(s string) error {
			c.runtime.Systemd, c.runtime.NoCgroup = s == "systemd", s == "disabled"
			if s != "cgroupfs" && !c.runtime.Systemd && !c.runtime.NoCgroup {
				return errors.New("it is cgroupfs, systemd or disabled")
			}
			return nil
		}},
		text("rootless", &ignored, "BOOL", "auto (default), true or false: found out in any case"),
		text("criu", &ignored, "PATH", "not used: criu is looked for in PATH"),
		yes("version v", &showVersion, "print the version"),
		yes("help h", &help, "print this help"),
	}
	rest, err := parse(args, global)
	if err != nil {
		return 1, err
	}
	if err := c.log.open(logFile, logFormat); err != nil {
		return 1, err
	}
	switch {
	case showVersion:
		// Callers look for these words, and for the first line to end with a version of runc.
		fmt.Printf("kakuri-runtime version %s, with the commands of runc version %s\ncommit: %s\nspec: %s\n", version, like, commit, specs.Version)
		return 0, nil
	case len(rest) > 1 && (rest[0] == "help" || rest[0] == "h"):
		rest = []string{rest[1], "--help"}
	case help, len(rest) == 0, rest[0] == "help", rest[0] == "h":
		fmt.Print(usage(global))
		return 0, nil
	}
	if err := errors.Join(files.Room(room), files.Calls()); err != nil {
		return 1, err
	}
	list := verbs()
	i := slices.IndexFunc(list, func(v verb) bool { return v.name == rest[0] })
	if i < 0 {
		return noSuchCommand, fmt.Errorf("no such command: No help topic for '%s'; see kakuri-runtime --help", rest[0])
	}
	v := list[i]
	flags, do := v.new(c)
	flags = append(flags, yes("help h", &help, "print this help"))
	take := parseAll
	if v.name == execVerb.name || v.name == psVerb.name {
		take = parse // what follows is another program's
	}
	left, err := take(rest[1:], flags)
	if err != nil {
		return 1, fmt.Errorf("%s: %w", v.name, err)
	}
	if help {
		fmt.Printf("NAME:\n   kakuri-runtime %s - %s\n\nUSAGE:\n   kakuri-runtime %[1]s %[3]s\n\nOPTIONS:\n%[4]s\nGLOBAL OPTIONS:\n%[5]s", v.name, v.help, strings.TrimSpace("[options] "+v.args), helpText(flags), helpText(global))
		return 0, nil
	}
	return do(left)
}

// usage has runc's headings and its first line, which other programs look for.
func usage(global []flag) string {
	var s strings.Builder
	s.WriteString("NAME:\n   kakuri-runtime in the place of runc - Open Container Initiative runtime\n\nUSAGE:\n   kakuri-runtime [global options] COMMAND [options] [arguments]\n\nVERSION:\n   " + version + "\n\nCOMMANDS:\n")
	for _, v := range verbs() {
		fmt.Fprintf(&s, "   %-11s %s\n", v.name, v.help)
	}
	s.WriteString("\nGLOBAL OPTIONS:\n" + helpText(global))
	s.WriteString(`
A bundle is a directory with a config.json of the OCI runtime-spec and the root
file system that it names. Exit code of run and exec: the process's own, 128 plus
the signal that ended it; 1 when something failed, and exec's 255, which is
run's, too, of a program that is in no format that the kernel knows.
`)
	return s.String()
}

// one wants a container's ID as the only argument.
func one(verb string, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("%s: one container ID is needed, and nothing after it: see kakuri-runtime %[1]s --help", verb)
	}
	if args[0] == "" {
		return "", errors.New("container id cannot be empty")
	}
	return args[0], nil
}

// none wants no arguments.
func none(verb string, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: it takes no arguments: see kakuri-runtime %[1]s --help", verb)
	}
	return nil
}

// background is the context of all commands: a signal ends the process itself.
var background = context.Background()

// The Go runtime need not read the cgroup's CPU limit to run one container: ten
// system calls fewer at each start.

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

	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// version is the version of this program; the build sets it.
var version = "0.1.0-dev"

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
	return []verb{createVerb, startVerb, runVerb, execVerb, stateVerb, listVerb, killVerb, deleteVerb, pauseVerb, resumeVerb, updateVerb, eventsVerb, psVerb, specVerb, featuresVerb, explainVerb}
}

func main() {
	c := &command{}
	code, err := c.run(os.Args[1:])
	if err != nil {
		c.log.fail(err)
	}
	os.Exit(code)
}

func (c *command) run(args []string) (int, error) {
	var logFile, logFormat, ignored string
	var showVersion, help bool
	c.runtime.Root = stateDir()
	c.runtime.Warn = c.log.warn
	global := []flag{
		text("root", &c.runtime.Root, "DIR", "where the state of containers is kept"),
		text("log", &logFile, "FILE", "write errors and warnings there too"),
		text("log-format", &logFormat, "FORMAT", "text (default) or json"),
		yes("debug", &c.log.debug, "log more"),
		yes("systemd-cgroup", &c.runtime.Systemd, "have systemd make control groups"),
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
		fmt.Printf("kakuri-runtime version %s\nspec: %s\n", version, specs.Version)
		return 0, nil
	case help, len(rest) == 0, rest[0] == "help":
		fmt.Print(usage(global))
		return 0, nil
	}
	list := verbs()
	i := slices.IndexFunc(list, func(v verb) bool { return v.name == rest[0] })
	if i < 0 {
		return 1, fmt.Errorf("no such command: %q: see kakuri-runtime --help", rest[0])
	}
	v := list[i]
	flags, do := v.new(c)
	flags = append(flags, yes("help h", &help, "print this help"))
	left, err := parse(rest[1:], flags)
	if err != nil {
		return 1, fmt.Errorf("%s: %w", v.name, err)
	}
	if help {
		fmt.Printf("kakuri-runtime %s: %s\n\nUsage:\n  kakuri-runtime %[1]s [flags] %[3]s\n\nFlags:\n%[4]s", v.name, v.help, v.args, helpText(flags))
		return 0, nil
	}
	return do(left)
}

// stateDir is the default of --root: below /run for root, else in the caller's own runtime directory.
func stateDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); os.Geteuid() != 0 && dir != "" {
		return dir + "/kakuri-runtime"
	}
	return "/run/kakuri-runtime"
}

func usage(global []flag) string {
	var s strings.Builder
	s.WriteString("kakuri-runtime runs OCI bundles\n\nUsage:\n  kakuri-runtime [global flags] COMMAND [flags] [arguments]\n\nCommands:\n")
	for _, v := range verbs() {
		fmt.Fprintf(&s, "  %-10s %s\n", v.name, v.help)
	}
	s.WriteString("\nGlobal flags:\n" + helpText(global))
	s.WriteString(`
A bundle is a directory with a config.json of the OCI runtime-spec and the root
file system that it names. Exit code of run and exec: the process's own, 128 plus
the signal that ended it; 1 when something failed, and exec's 255.
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

// background is the context of all commands: a signal ends the process itself.
var background = context.Background()

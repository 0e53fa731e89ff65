// The Go runtime need not read the cgroup's CPU limit to run one container: ten
// system calls fewer at each start.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command kakuri-runtime runs OCI bundles. It parses its command line by hand:
// each import is paid for at every start of a container.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// version is the version of this program; the build sets it.
var version = "0.1.0-dev"

const usage = `kakuri-runtime runs OCI bundles

Usage:
  kakuri-runtime run [--bundle DIR] ID    run a bundle's process in the foreground
  kakuri-runtime explain [--calls] DIR    print the plan of a bundle
  kakuri-runtime --version

A bundle is a directory with a config.json of the OCI runtime-spec and the root
file system that it names. Exit code: the process's own, 128 plus the signal
that ended it, 1 when the container could not be made.
`

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kakuri-runtime:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 1, nil
	}
	switch args[0] {
	case "run":
		return runBundle(args[1:])
	case "explain":
		return explain(args[1:])
	case "--version", "-v":
		fmt.Printf("kakuri-runtime version %s\nspec: %s\n", version, specs.Version)
		return 0, nil
	case "--help", "-h", "help":
		fmt.Print(usage)
		return 0, nil
	}
	return 1, fmt.Errorf("unknown command %q: see kakuri-runtime --help", args[0])
}

func runBundle(args []string) (int, error) {
	oci.Prefault()
	dir, rest, err := bundleFlag(args)
	if err != nil {
		return 1, err
	}
	if len(rest) != 1 {
		return 1, errors.New("run: one container ID is needed: kakuri-runtime run [--bundle DIR] ID")
	}
	b, err := oci.Load(dir)
	if err != nil {
		return 1, err
	}
	warn := func(w string) { fmt.Fprintln(os.Stderr, "kakuri-runtime: warning:", w) }
	for _, w := range b.Warnings {
		warn(w.Error())
	}
	facts, err := host.Read(b.Needs())
	if err != nil {
		return 1, err
	}
	code, err := b.Run(context.Background(), facts, warn)
	if err != nil {
		return 1, err
	}
	return code, nil
}

// bundleFlag takes --bundle DIR, --bundle=DIR or -b DIR out of args.
func bundleFlag(args []string) (dir string, rest []string, err error) {
	dir = "."
	for i := 0; i < len(args); i++ {
		value, has := strings.CutPrefix(args[i], "--bundle=")
		switch {
		case has:
			dir = value
		case args[i] == "--bundle" || args[i] == "-b":
			if i++; i == len(args) {
				return "", nil, errors.New("--bundle needs a directory")
			}
			dir = args[i]
		case strings.HasPrefix(args[i], "-"):
			return "", nil, fmt.Errorf("unknown flag %s: see kakuri-runtime --help", args[i])
		default:
			rest = append(rest, args[i])
		}
	}
	return dir, rest, nil
}

func explain(args []string) (int, error) {
	calls := len(args) > 0 && args[0] == "--calls"
	if calls {
		args = args[1:]
	}
	if len(args) != 1 {
		return 1, errors.New("explain: one bundle is needed: kakuri-runtime explain [--calls] DIR")
	}
	b, err := oci.Load(args[0])
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
		fmt.Print(p.TextCalls(facts.Arch))
	} else {
		fmt.Print(p.Text())
	}
	return 0, nil
}

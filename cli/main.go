package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

// Version is the version of this program; the build sets it.
var Version = "0.1.0-dev"

// IO is where a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// file returns the stream as a file, nil when it is none.
func file(v any) *os.File {
	f, _ := v.(*os.File)
	return f
}

// An exitCode ends a command with a code, and no message.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, io IO) int {
	root := newRoot(io)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(io.Err, "kakuri:", err)
	var exit *engine.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case isUsage(err):
		return 125
	}
	return 1
}

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u) || strings.HasPrefix(err.Error(), "unknown command")
}

func newRoot(io IO) *cobra.Command {
	root := &cobra.Command{
		Use:   "kakuri COMMAND",
		Short: "run programs in isolated environments, and see how",
		Long: `kakuri runs programs in isolated environments, as Docker does, and shows how:
each container is a plan of kernel operations that can be read before it runs,
timed while it runs, and checked against the kernel afterwards.

Begin with:  kakuri tour                 see isolation happen, step by step
             kakuri run -it host bash    a shell over a copy of this machine
             kakuri explain run host ls  the plan behind such a line`,
		SilenceUsage: true, SilenceErrors: true, Version: Version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	root.SetVersionTemplate("kakuri {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Containers:"},
		&cobra.Group{ID: "see", Title: "Microscope:"},
		&cobra.Group{ID: "tool", Title: "Namespaces by hand:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newRun(io), newPS(io))
	add("see", newTour(io))
	add("see", newExplain(io), newVerify(io), newNS(io))
	add("tool", newUnshare(io), newEnter(io))
	return root
}

// wantArgs refuses fewer than n arguments as a usage error.
func wantArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s needs %s\nSee '%s --help'", c.CommandPath(), what, c.CommandPath())}
		}
		return nil
	}
}

package cli

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

// newExplain has, below it, the commands that run a plan, and prints it instead.
func newExplain(io IO) *cobra.Command {
	o := &explainFlags{}
	c := &cobra.Command{
		Use:   "explain [--format text|json] [--calls] COMMAND ...",
		Short: "Print the plan of a command instead of running it",
		Long: `Print the plan of run, unshare or enter instead of running it: each kernel
operation in order, the side it happens on, and why it is there. What is printed
is what the command would execute. --calls adds the raw system calls of each step.
The plan of an OCI bundle is printed by "kakuri-runtime explain DIR".`,
		Example: `  kakuri explain run --read-only host true
  kakuri explain unshare --fork --pid --mount-proc bash`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{notBelow(c, args[0])}
			}
			return usageError{fmt.Errorf("explain needs a command: run, unshare or enter\nSee 'kakuri explain --help'")}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.PersistentFlags().StringVar(&o.format, "format", "text", "text or json")
	c.PersistentFlags().BoolVar(&o.calls, "calls", false, "print the raw system calls of each step, too")
	c.PersistentFlags().StringVar(&o.lang, "lang", "", "language of the reasons: en or ja (default: that of the locale)")

	c.AddCommand(explainRun(io, o), explainUnshare(io, o), explainEnter(io, o))
	return c
}

func explainRun(io IO, o *explainFlags) *cobra.Command {
	f := &runFlags{}
	c := newRun(io)
	c.ResetFlags()
	f.register(c.Flags())
	f.registerRun(c.Flags())
	c.Args = nil
	c.Short = "Print the plan of a container"
	c.Long = `Print the plan that "kakuri run" with the same flags would execute, and run nothing:
each kernel operation, the side it happens on, and the flag or default that it is there for.`
	c.Example = "  kakuri explain run --read-only host true\n  kakuri explain --calls run host true"
	c.RunE = func(c *cobra.Command, args []string) error {
		if f.run.Rootfs == "" && len(args) == 0 {
			return usageError{fmt.Errorf("kakuri explain run needs an image\nSee 'kakuri explain run --help'")}
		}
		if err := f.finish(c, io, args); err != nil {
			return &engine.ExitError{Code: 125, Err: err}
		}
		e, err := engine.Open(engine.Options{Look: true, Warn: io.warn})
		if err != nil {
			return &engine.ExitError{Code: 125, Err: err}
		}
		p, err := e.Prepare(c.Context(), f.run)
		if err != nil {
			return &engine.ExitError{Code: 125, Err: err}
		}
		return o.print(io, p.Plan, e.Host().Arch)
	}
	return c
}

type explainFlags struct {
	format, lang string
	calls        bool
}

// printing is a command that prints the plan that another makes.
func (o *explainFlags) printing(io IO, compile func(c *cobra.Command, args []string, look bool) (*engine.Engine, plan.Plan, error)) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		e, p, err := compile(c, args, true)
		if err != nil {
			return err
		}
		return o.print(io, p, e.Host().Arch)
	}
}

func (o *explainFlags) print(io IO, p plan.Plan, arch abi.Arch) error {
	l, err := ui.LangOf(o.lang, os.Getenv)
	if err != nil {
		return usageError{fmt.Errorf("--lang: %w", err)}
	}
	switch o.format {
	case "json":
		e := json.NewEncoder(io.shown())
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(p)
	case "text":
	default:
		return usageError{fmt.Errorf("--format %s: there are text and json", o.format)}
	}
	as := layout(l, width(io.Out))
	if o.calls {
		as.Calls = arch
	}
	_, err = fmt.Fprint(io.Out, p.TextAs(as))
	return err
}

// layout is that of a plan's text in a language.
func layout(l ui.Lang, width int) plan.Layout {
	as := plan.Layout{Width: width}
	if l != ui.EN {
		as.In = &plan.Language{
			Heading: func(s string) string { return headings()[s] },
			Reason:  func(s string) string { return inLang(l, s) },
			Width:   ui.Width, Wrap: ui.Wrap,
		}
	}
	return as
}

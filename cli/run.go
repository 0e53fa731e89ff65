package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newRun(io IO) *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in a new container",
		Long: `Run a command in a new container.

IMAGE is "host", a copy-on-write view of this machine's own operating system:
its programs and settings, without people's data and secrets; nothing written
inside reaches the host. "host:all" shows all that the caller may read. With
--rootfs DIR, a directory is the root file system, and there is no IMAGE.

The container has all eight kinds of namespace for itself, its own user
namespace included. There are no networks yet: --network none, loopback only,
is the default. A container ends with this command, and leaves nothing (--rm
is always on).`,
		Example: `  kakuri run -it host bash
  kakuri run --rm --read-only host ls /
  kakuri run -v /srv/data:/data:ro --network host host python3 /data/report.py`,
		Args: func(c *cobra.Command, args []string) error {
			if f.run.Rootfs == "" {
				return wantArgs(1, "an image")(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.finish(c, io, args); err != nil {
				return &engine.ExitError{Code: 125, Err: err}
			}
			return f.execute(c.Context(), io)
		},
	}
	f.register(c.Flags())
	f.registerRun(c.Flags())
	return c
}

// execute runs the container, with this process's streams and signals.
func (f *runFlags) execute(ctx context.Context, io IO) error {
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return &engine.ExitError{Code: 125, Err: err}
	}
	s := engine.Streams{In: io.In, Out: io.Out, Err: io.Err}
	if !f.run.Interactive {
		s.In = nil
	}
	if in := file(io.In); in != nil && term.IsTerminal(int(in.Fd())) {
		s.Terminal = in
	} else if f.run.TTY && f.run.Interactive && !f.detach {
		return &engine.ExitError{Code: 125, Err: fmt.Errorf("-t: the input is not a terminal: leave -t away, or run it in one")}
	}
	s.Signals = true
	if f.cidfile != "" {
		file, err := os.OpenFile(f.cidfile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return &engine.ExitError{Code: 125, Err: fmt.Errorf("--cidfile: %w", err)}
		}
		defer file.Close()
		s.Started = func(c engine.Container) { file.WriteString(c.ID) }
	}
	res, err := e.Run(ctx, f.run, s, engine.RunOptions{Detach: f.detach, Timings: f.timings})
	for _, w := range res.Warnings {
		fmt.Fprintln(io.Err, "warning:", w)
	}
	if err != nil {
		if f.cidfile != "" {
			os.Remove(f.cidfile)
		}
		return err
	}
	if f.detach {
		fmt.Fprintln(io.Out, res.ID)
	}
	if res.Timings != nil {
		printTimings(io, res.Plan, res.Timings)
	}
	if res.Code != 0 {
		return exitCode(res.Code)
	}
	return nil
}

func printTimings(io IO, p plan.Plan, micros []float64) {
	fmt.Fprint(io.Err, p.TextTimings(width(io.Err), micros))
}

// width is the terminal's number of columns, 0 when w is none.
func width(w any) int {
	f := file(w)
	if f == nil {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

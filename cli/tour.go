package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	stdio "io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/tour"
	"github.com/kakuri/kakuri/tour/live"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// tourFlags are the flags of tour, and what follows from them.
type tourFlags struct {
	lang, format, svg string
	pause             bool

	screen ui.Screen
}

func newTour(io IO) *cobra.Command {
	f := &tourFlags{}
	c := &cobra.Command{
		Use:   "tour [OPTIONS] [EXPERIMENT...]",
		Short: "See isolation happen, step by step, on this machine",
		Long: `Run a series of small experiments on this machine, live: each starts or looks
at a container, shows what the host sees next to what is seen inside, and checks
it. They need no image and no network, as root or not, take a second or two
together, and leave nothing behind.

EXPERIMENT chooses some of them: E1 to E12, E14, E15. E13 needs networks, and
is a script of its own: examples/two-networks.sh of the source. The exit code is 0
when all observations hold, and 1 otherwise.`,
		Example: "  kakuri tour\n  kakuri tour --lang ja E2 E3 E7\n  kakuri tour --svg tree.svg E15", ValidArgsFunction: names(experimentNames, -1),
		RunE: func(c *cobra.Command, args []string) error {
			// As a piece of a pipeline the tour has to end its containers, too.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			return f.run(ctx, io, args)
		},
	}
	s := c.Flags()
	s.SortFlags = false
	s.StringVar(&f.lang, "lang", "", "language: en or ja (default: that of the locale)")
	s.StringVar(&f.format, "format", "text", "text or json")
	s.BoolVar(&f.pause, "pause", false, "wait for Enter after each experiment")
	s.StringVar(&f.svg, "svg", "", "write the picture of E15 to `FILE`, as SVG")
	c.AddCommand(newTourServe(io), newTourAsk(io))
	return c
}

func (f *tourFlags) run(ctx context.Context, io IO, args []string) error {
	list, err := tour.Find(args)
	if err != nil {
		return usageError{err}
	}
	lang, err := ui.LangOf(f.lang, os.Getenv)
	if err != nil {
		return usageError{fmt.Errorf("--lang: %w", err)}
	}
	if f.format != "text" && f.format != "json" {
		return usageError{fmt.Errorf("--format %s: there are text and json", f.format)}
	}
	out := file(io.Out)
	f.screen = ui.NewScreen(out != nil && term.IsTerminal(int(out.Fd())), width(io.Out), os.Getenv)
	f.screen.Lang = lang
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return &engine.ExitError{Code: 125, Err: err}
	}
	exe, err := os.Executable()
	if err != nil {
		return &engine.ExitError{Code: 125, Err: err}
	}
	return f.report(ctx, io, live.Options{Engine: e, Exe: exe, Experiments: list})
}

// report runs the experiments and prints each as soon as it is done.
func (f *tourFlags) report(ctx context.Context, io IO, o live.Options) error {
	began, place := time.Now(), o.Place()
	text := f.format == "text"
	var waited time.Duration
	enter := enterPressed(io.In, f.pause && text)
	if text {
		if _, err := fmt.Fprint(io.Out, tour.Opening(len(o.Experiments), place, f.screen)); err != nil {
			return unread(err)
		}
	}
	last := o.Experiments[len(o.Experiments)-1].ID
	o.Each = func(r tour.Result) error {
		if err := f.picture(r); err != nil || !text {
			return err
		}
		if _, err := fmt.Fprint(io.Out, r.Text(f.screen)); err != nil {
			return err
		}
		if r.Experiment.ID == last {
			return nil
		}
		since := time.Now()
		defer func() { waited += time.Since(since) }()
		return enter(ctx, io.Err)
	}
	results, err := live.Run(ctx, o)
	if errors.Is(err, syscall.EPIPE) {
		return unread(err)
	}
	if ctx.Err() != nil {
		return &engine.ExitError{Code: 130, Err: errors.New("the tour was interrupted; its containers are gone")}
	}
	if err != nil {
		return err
	}
	if text {
		_, err = fmt.Fprint(io.Out, tour.Closing(results, time.Since(began)-waited, f.screen))
	} else {
		records := []tour.Record{}
		for _, r := range results {
			records = append(records, r.Record(f.screen.Lang))
		}
		err = ui.JSON(io.Out, records)
	}
	if held := tour.Held(results); err == nil && held < len(results) {
		err = fmt.Errorf("%d of %d observations do not hold", len(results)-held, len(results))
	}
	return unread(err)
}

// unread turns the error of a reader that went away into the exit code that a shell
// gives for it: nobody is there to read a message.
func unread(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return exitCode(abi.SIGPIPE.ExitCode())
	}
	return err
}

// picture writes the picture of E15, when it was asked for.
func (f *tourFlags) picture(r tour.Result) error {
	e, ok := r.Reading.(*tour.E15)
	if !ok || f.svg == "" {
		return nil
	}
	return os.WriteFile(f.svg, []byte(e.Picture(f.screen.Lang)), 0o644)
}

// enterPressed returns what waits for a line of in, or does nothing when on is false.
func enterPressed(in stdio.Reader, on bool) func(context.Context, stdio.Writer) error {
	if !on || in == nil {
		return func(context.Context, stdio.Writer) error { return nil }
	}
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- struct{}{}
		}
	}()
	return func(ctx context.Context, err stdio.Writer) error {
		fmt.Fprint(err, "[Enter]")
		select {
		case <-lines:
			return nil
		case <-ctx.Done():
			fmt.Fprintln(err)
			return ctx.Err()
		}
	}
}

// newTourServe is what the containers of E10 run.
func newTourServe(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "serve PORT", Short: "Answer on 127.0.0.1:PORT with the host name", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			port, err := parsePort(args[0])
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return live.Serve(ctx, port, io.Out)
		},
	}
}

func newTourAsk(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "ask PORT", Short: "Print what a serve answers", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			port, err := parsePort(args[0])
			if err != nil {
				return err
			}
			answer, err := live.Ask(port)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(io.Out, answer)
			return err
		},
	}
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, usageError{fmt.Errorf("%q is no port: want a number from 1 to 65535", s)}
	}
	return int(n), nil
}

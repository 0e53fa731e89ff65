package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
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
namespace included. It is on the network bridge by default, which leads outside;
--network none is loopback only: see "kakuri network". The container stays when
its command has ended, until "kakuri rm"; with --rm it goes then.`,
		Example: `  kakuri run -it host bash
  kakuri run --rm --read-only host ls /
  kakuri run -v /srv/data:/data:ro --network host host python3 /data/report.py`,
		Args: f.needsImage, ValidArgsFunction: names(imageNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.finish(c, io, args); err != nil {
				return &engine.ExitError{Code: 125, Err: err}
			}
			return f.execute(c.Context(), io)
		},
	}
	f.register(c.Flags())
	c.RegisterFlagCompletionFunc("network", networkModes)
	f.registerRun(c.Flags())
	return c
}

// needsImage refuses a line without an image, where no directory is its root.
func (f *runFlags) needsImage(c *cobra.Command, args []string) error {
	if f.run.Rootfs == "" {
		return arguments(1, -1)(c, args)
	}
	return nil
}

// errNoTerminal has Docker's words, which scripts look for.
var errNoTerminal = errors.New("the input device is not a TTY: leave -t away, or run it in a terminal")

// execute runs the container, with this process's streams and signals.
func (f *runFlags) execute(ctx context.Context, io IO) error {
	if f.detach && len(f.run.Attach) > 0 {
		return errors.New("conflicting options: cannot specify both --attach and --detach") // 1, as with Docker, and as an input that is no terminal
	}
	if f.detach {
		f.run.DetachKeys = "" // nobody types them: with Docker such a run goes on, whatever they are
	} else if _, err := engine.ParseDetachKeys(f.run.DetachKeys); err != nil {
		return err // 1, as with Docker, whose daemon finds it when the command attaches
	}
	e, pulled, err := f.open(io)
	if err != nil {
		return &engine.ExitError{Code: 125, Err: err}
	}
	defer pulled()
	s := engine.Streams{Terminal: terminalOf(io), Signals: f.sigProxy}
	if f.attached("stdin") {
		s.In = io.In
	}
	if f.attached("stdout") {
		s.Out = io.Out
	}
	if f.attached("stderr") {
		s.Err = io.Err
	}
	if f.run.TTY && f.run.Interactive && !f.detach && s.Terminal == nil {
		return &engine.ExitError{Code: 1, Err: errNoTerminal}
	}
	cid, err := f.openCidfile()
	if err != nil {
		return &engine.ExitError{Code: 125, Err: err}
	}
	defer cid.done()
	blind := s.Out == nil && s.Err == nil // and so is who asked for the input alone
	s.Started = func(c engine.Container) {
		cid.write(c.ID)
		if blind && !f.detach {
			fmt.Fprintln(io.Out, c.ID)
		}
	}
	res, err := e.Run(ctx, f.run, s, engine.RunOptions{Detach: f.detach, Timings: f.timings})
	for _, w := range res.Warnings {
		io.warn(w)
	}
	if err != nil && res.ID != "" {
		cid.write(res.ID) // who asked for it can remove what is left
	}
	if f.detach && res.ID != "" {
		fmt.Fprintln(io.Out, res.ID) // also of one that did not start, as with Docker
	}
	if err != nil {
		return err
	}
	if res.Timings != nil {
		printTimings(io, res.Plan, res.Timings)
	}
	if res.Code != 0 {
		return exitCode(res.Code)
	}
	return nil
}

// open opens an engine that shows how an image is fetched that is not here. pulled ends
// that, whatever came of it.
func (f *runFlags) open(io IO) (e *engine.Engine, pulled func(), err error) {
	var shown *progress
	e, err = engine.Open(engine.Options{Warn: io.warn, Pulling: func(name string, missing bool) image.Progress {
		if missing {
			fmt.Fprintf(io.Err, "Unable to find image '%s' locally\n", withTag(name))
		}
		if f.quiet {
			return nil
		}
		shown = showProgress(io.Err)
		return func(e image.Event) {
			shown.tell(e)
			if strings.HasPrefix(e.Status, "Status: ") { // the last one: the container writes next
				shown.done()
			}
		}
	}})
	return e, func() {
		if shown != nil {
			shown.done()
		}
	}, err
}

// withTag is a name with the tag that it means.
func withTag(name string) string {
	r, err := image.ParseReference(name)
	if err != nil {
		return format.Lines(name)
	}
	return r.Tagged().Familiar()
}

// A cidfile is the file of --cidfile, or none.
type cidfile struct {
	file    *os.File
	written bool
}

func (f *runFlags) openCidfile() (*cidfile, error) {
	if f.cidfile == "" {
		return &cidfile{}, nil
	}
	file, err := os.OpenFile(f.cidfile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s: %w", f.cidfile, err)
	}
	if err != nil {
		return nil, fmt.Errorf("--cidfile: %w", err)
	}
	return &cidfile{file: file}, nil
}

func (c *cidfile) write(id string) error {
	if c.file == nil || c.written {
		return nil
	}
	c.written = true
	_, err := c.file.WriteString(id)
	return err
}

// done closes the file, and takes it away if there is no container.
func (c *cidfile) done() {
	if c.file == nil {
		return
	}
	if !c.written {
		os.Remove(c.file.Name())
	}
	c.file.Close()
}

func printTimings(io IO, p plan.Plan, micros []float64) {
	l, _ := ui.LangOf("", os.Getenv)
	as := layout(l, width(io.Err))
	as.Micros = micros
	fmt.Fprint(io.Err, p.TextAs(as))
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

package cli

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newStart(io IO) *cobra.Command {
	var attach, interactive bool
	var keys string
	c := &cobra.Command{Use: "start [OPTIONS] CONTAINER [CONTAINER...]", Short: "Start containers", Args: arguments(1, -1), ValidArgsFunction: names(containerNames(down), -1)}
	s := c.Flags()
	s.BoolVarP(&attach, "attach", "a", false, "attach to its output, and pass signals on")
	s.BoolVarP(&interactive, "interactive", "i", false, "attach to its stdin")
	s.StringVar(&keys, "detach-keys", "", "keys that leave the container to itself (default ctrl-p,ctrl-q)")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		if !attach && !interactive {
			return startAll(c.Context(), io, e, args)
		}
		if len(args) > 1 {
			return errors.New("you cannot start and attach multiple containers at once")
		}
		streams := engine.Streams{Out: io.Out, Err: io.Err, Terminal: terminalOf(io), Signals: true}
		if interactive {
			streams.In = io.In
		}
		res, err := e.Attach(c.Context(), args[0], engine.AttachOptions{Start: true, NoStdin: !interactive, DetachKeys: orSetting(io, keys, detachKeys)}, streams)
		if errors.As(err, new(*engine.ExitError)) {
			err = &engine.ExitError{Code: 1, Err: err} // a start that fails is no end of a command, as with Docker
		}
		return exitOf(io, res, err)
	}
	return c
}

// startAll starts one after the other, and says in the end which of them it failed for: their own errors do not name all of them.
func startAll(ctx context.Context, io IO, e *engine.Engine, names []string) error {
	var failed []string
	err := inTurn(io, names, func(i int) error {
		err := e.Start(ctx, names[i], engine.StartOptions{})
		if err != nil {
			failed = append(failed, names[i])
		}
		return err
	})
	if failed != nil {
		io.report(errors.New("failed to start containers: " + strings.Join(failed, ", ")))
	}
	return err
}

// terminalOf is the caller's terminal, nil if stdin is none.
func terminalOf(io IO) *os.File {
	if in := file(io.In); in != nil && term.IsTerminal(int(in.Fd())) {
		return in
	}
	return nil
}

// exitOf makes the exit code of a command's end the exit code of this one.
func exitOf(io IO, res engine.Result, err error) error {
	for _, w := range res.Warnings {
		io.warn(w)
	}
	if err == nil && res.Code != 0 {
		err = exitCode(res.Code)
	}
	return err
}

func newAttach(io IO) *cobra.Command {
	var keys string
	var noStdin, proxy bool
	c := &cobra.Command{
		Use: "attach [OPTIONS] CONTAINER", Short: "Connect to the streams of a running container", Args: arguments(1, 1), ValidArgsFunction: names(containerNames(up), 1),
		Long: `Connect this command's streams to those of a running container, until it ends. The
detach keys (ctrl-p ctrl-q) leave it to itself.`,
	}
	s := c.Flags()
	s.StringVar(&keys, "detach-keys", "", "keys that leave the container to itself (default ctrl-p,ctrl-q)")
	s.BoolVar(&noStdin, "no-stdin", false, "do not attach to its stdin")
	s.BoolVar(&proxy, "sig-proxy", true, "pass on the signals that this command gets (default: yes, =false does not)")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		streams := engine.Streams{In: io.In, Out: io.Out, Err: io.Err, Terminal: terminalOf(io), Signals: proxy}
		if box, err := e.Find(args[0]); err == nil && box.Active() && box.Config.TTY && !noStdin && streams.Terminal == nil {
			return &engine.ExitError{Code: 1, Err: errNoTerminal} // it would wait for keys that cannot come
		}
		res, err := e.Attach(c.Context(), args[0], engine.AttachOptions{NoStdin: noStdin, DetachKeys: orSetting(io, keys, detachKeys)}, streams)
		if err == nil && res.Detached {
			err = engine.ErrDetached // Docker's attach and exec end with 1 and these words then; its run and start do not
		}
		return exitOf(io, res, err)
	}
	return c
}

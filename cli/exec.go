package cli

import (
	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
)

func newExec(io IO) *cobra.Command {
	var x engine.ExecConfig
	f := &runFlags{}
	c := &cobra.Command{
		Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Run a command in a running container", Args: arguments(2, -1), ValidArgsFunction: names(containerNames(up), 1),
		Long: `Run a command in a running container, with its environment, limits and rights.
The exit code is the command's.`,
		Example: "  kakuri exec -it web sh\n  kakuri exec -u 0 -e DEBUG=1 web ps -ef",
	}
	s := c.Flags()
	s.SetInterspersed(false)
	s.BoolVarP(&x.Detach, "detach", "d", false, "do not wait for its end")
	s.StringVar(&x.DetachKeys, "detach-keys", "", "keys that leave the command to itself (default ctrl-p,ctrl-q)")
	s.StringArrayVarP(&f.env, "env", "e", nil, "set a variable: `NAME=VALUE`, or NAME to pass the caller's on")
	s.StringArrayVar(&f.envFiles, "env-file", nil, "set the variables in `FILE`")
	s.BoolVarP(&x.Interactive, "interactive", "i", false, "keep stdin open")
	s.BoolVar(&x.Privileged, "privileged", false, "all capabilities of the container's user namespace")
	s.BoolVarP(&x.TTY, "tty", "t", false, "give the command a terminal")
	s.StringVarP(&x.User, "user", "u", "", "user inside: `NAME|UID[:GROUP|GID]`")
	s.StringVarP(&x.Workdir, "workdir", "w", "", "working directory inside")
	c.RunE = func(c *cobra.Command, args []string) error {
		x.Command = args[1:]
		if err := f.environment(); err != nil {
			return err
		}
		x.Env, x.DetachKeys = f.run.Env, orSetting(io, x.DetachKeys, detachKeys)
		streams := engine.Streams{Out: io.Out, Err: io.Err, Terminal: terminalOf(io), Signals: true}
		if x.Interactive {
			streams.In = io.In
		}
		if x.TTY && x.Interactive && !x.Detach && streams.Terminal == nil {
			return errNoTerminal
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		res, err := e.Exec(c.Context(), args[0], x, streams)
		if err == nil && res.Detached {
			err = engine.ErrDetached // as with attach
		}
		return exitOf(io, res, err)
	}
	return c
}

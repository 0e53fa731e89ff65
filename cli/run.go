package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// runFlags are the flags of run, as they were written.
type runFlags struct {
	run engine.Config

	entrypoint      string
	env, envFiles   []string
	volumes, mounts []string
	tmpfs           []string
	devices         []string
	ulimits         []string
	sysctls         []string
	timeOffsets     []string
	shmSize         string
	cidfile         string
	remove          bool
	timings         bool
	interactive     bool
}

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
	return c
}

func (f *runFlags) register(s *pflag.FlagSet) {
	r := &f.run
	s.SetInterspersed(false)
	s.SortFlags = true
	s.BoolVarP(&f.interactive, "interactive", "i", false, "keep stdin open")
	s.BoolVarP(&r.TTY, "tty", "t", false, "give the container a terminal")
	s.BoolVar(&f.remove, "rm", true, "remove the container when it ends (always on in this version)")
	s.StringVar(&r.Name, "name", "", "name of the container (default: two words)")
	s.StringVar(&r.Rootfs, "rootfs", "", "run on the root file system in `DIR`; there is no IMAGE then")
	s.Bool("help", false, "print this help") // -h is the host name, as in Docker
	s.StringVarP(&r.Hostname, "hostname", "h", "", "host name inside (default: the id)")
	s.StringVar(&r.Domainname, "domainname", "", "NIS domain name inside")
	s.StringArrayVarP(&f.env, "env", "e", nil, "set a variable: `NAME=VALUE`, or NAME to pass the caller's on")
	s.StringArrayVar(&f.envFiles, "env-file", nil, "set the variables in `FILE`")
	s.StringVarP(&r.Workdir, "workdir", "w", "", "working directory inside")
	s.StringVarP(&r.User, "user", "u", "", "user inside: `NAME|UID[:GROUP|GID]`")
	s.StringArrayVar(&r.GroupAdd, "group-add", nil, "add a supplementary group: NAME or GID")
	s.StringVar(&f.entrypoint, "entrypoint", "", "run this program in place of the image's")
	s.StringArrayVarP(&f.volumes, "volume", "v", nil, "bind a directory or file: `SOURCE:DEST[:ro]`")
	s.StringArrayVar(&f.mounts, "mount", nil, "add a mount: `type=bind|tmpfs,source=..,target=..`")
	s.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs: `DEST[:OPTIONS]`")
	s.BoolVar(&r.ReadOnly, "read-only", false, "make the root file system read-only")
	s.StringArrayVar(&f.devices, "device", nil, "give a device of the host: `HOST[:INSIDE[:rwm]]`")
	s.StringVar(&f.shmSize, "shm-size", "", "size of /dev/shm (default 64m)")
	s.StringArrayVar(&r.CapAdd, "cap-add", nil, "add a capability")
	s.StringArrayVar(&r.CapDrop, "cap-drop", nil, "drop a capability, or all")
	s.BoolVar(&r.Privileged, "privileged", false, "all capabilities and devices, no seccomp, no masks; as root no user namespace")
	s.StringArrayVar(&r.SecurityOpt, "security-opt", nil, "no-new-privileges, seccomp=FILE|builtin|unconfined, systempaths=unconfined")
	s.StringVar(&r.PID, "pid", "", "pid namespace: host or container:NAME (default: its own)")
	s.StringVar(&r.IPC, "ipc", "", "ipc namespace: host, none, private, shareable or container:NAME (default: private)")
	s.StringVar(&r.UTS, "uts", "", "uts namespace: host (default: its own)")
	s.StringVar(&r.UserNS, "userns", "", "user namespace: auto[:size=N], host, keep-id[:uid=U,gid=G,size=N] or container:NAME (default auto)")
	s.StringVar(&r.Network, "network", "", "network: none (default), host or container:NAME; bridges come with a later version")
	s.StringVar(&r.CgroupNS, "cgroupns", "", "cgroup namespace: private or host (default private)")
	s.StringArrayVar(&f.timeOffsets, "time-offset", nil, "shift a clock inside: `boottime=DURATION` or monotonic=DURATION, as in 24h or -90s")
	s.BoolVar(&r.Init, "init", false, "run an init as pid 1 that passes signals on and reaps")
	s.StringArrayVar(&f.ulimits, "ulimit", nil, "set a limit: `NAME=SOFT[:HARD]`")
	s.StringArrayVar(&f.sysctls, "sysctl", nil, "set a kernel parameter of the container's namespaces: `KEY=VALUE`")
	s.StringVar(&r.StopSignal, "stop-signal", "", "signal that asks the command to end, sent for this command's SIGTERM")
	s.StringVar(&f.cidfile, "cidfile", "", "write the container's id to `FILE`")
	s.BoolVar(&f.timings, "timings", false, "print how long each step took, on stderr")
	s.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "net" {
			name = "network"
		}
		return pflag.NormalizedName(name)
	})
}

// finish parses what the flags hold as text.
func (f *runFlags) finish(c *cobra.Command, io IO, args []string) error {
	r := &f.run
	if r.Rootfs == "" {
		r.Image, args = args[0], args[1:]
	} else {
		abs, err := absolute(r.Rootfs)
		if err != nil {
			return fmt.Errorf("--rootfs %s: %w", r.Rootfs, err)
		}
		r.Rootfs = abs
	}
	if !f.remove {
		return fmt.Errorf("--rm=false: containers of this version end with their command; keeping them comes with a later one")
	}
	r.Command = args
	r.Interactive = f.interactive
	if in := file(io.In); r.TTY && in != nil {
		// Its program may ask for the size as the first thing it does.
		if columns, rows, err := term.GetSize(int(in.Fd())); err == nil {
			r.Columns, r.Rows = uint16(columns), uint16(rows)
		}
	}
	if c.Flags().Changed("entrypoint") {
		r.Entrypoint = &f.entrypoint
	}
	for _, part := range []func() error{f.environment, f.fileSystems, f.limits, f.modes} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (f *runFlags) environment() error {
	for _, name := range f.envFiles {
		list, err := readEnvFile(name)
		if err != nil {
			return fmt.Errorf("--env-file %s: %w", name, err)
		}
		f.run.Env = append(f.run.Env, list...)
	}
	for _, e := range f.env {
		if !strings.Contains(e, "=") {
			value, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + value
		}
		f.run.Env = append(f.run.Env, e)
	}
	return nil
}

// readEnvFile reads NAME=VALUE lines as Docker does: no quotes, no export, # begins
// a comment line, a bare NAME takes the caller's value.
func readEnvFile(name string) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 1
	for ; lines.Scan(); n++ {
		line := lines.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, has := strings.Cut(line, "=")
		if key == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("line %d: %q is no NAME=VALUE", n, line)
		}
		if !has {
			value, ok := os.LookupEnv(key)
			if !ok {
				continue
			}
			line = key + "=" + value
		}
		list = append(list, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	return list, nil
}

func (f *runFlags) modes() error {
	r := &f.run
	switch r.Network {
	case "", "none", "host":
	case "bridge", "default":
		return fmt.Errorf("--network %s: this version has the networks none and host, and container:NAME", r.Network)
	default:
		if !strings.HasPrefix(r.Network, "container:") {
			return fmt.Errorf("--network %s: this version has the networks none and host, and container:NAME", r.Network)
		}
	}
	for _, m := range []struct {
		flag, value string
		container   bool
		words       []string
	}{
		{"--pid", r.PID, true, []string{"", "host", "private"}},
		{"--ipc", r.IPC, true, []string{"", "host", "private", "shareable", "none"}},
		{"--uts", r.UTS, true, []string{"", "host", "private"}},
		{"--cgroupns", r.CgroupNS, true, []string{"", "host", "private"}},
	} {
		ok := m.container && strings.HasPrefix(m.value, "container:")
		for _, w := range m.words {
			ok = ok || w == m.value
		}
		if !ok {
			return fmt.Errorf("%s %s: unknown mode; there are %s and container:NAME", m.flag, m.value, strings.Join(m.words[1:], ", "))
		}
	}
	if (r.UTS == "host" || strings.HasPrefix(r.UTS, "container:")) && r.Hostname+r.Domainname != "" {
		return fmt.Errorf("--uts %s: host and domain name belong to the uts namespace, which the container shares: leave --hostname and --domainname away", r.UTS)
	}
	for _, o := range f.timeOffsets {
		clock, value, _ := strings.Cut(o, "=")
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("--time-offset %s: want CLOCK=DURATION, as in boottime=24h", o)
		}
		switch clock {
		case "boottime":
			r.Boottime = d
		case "monotonic":
			r.Monotonic = d
		default:
			return fmt.Errorf("--time-offset %s: the clocks that a namespace has are boottime and monotonic (the wall clock is the machine's)", o)
		}
	}
	return nil
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
	} else if f.run.TTY && f.run.Interactive {
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
	res, err := e.Run(ctx, f.run, s, f.timings)
	for _, w := range res.Warnings {
		fmt.Fprintln(io.Err, "warning:", w)
	}
	if err != nil {
		if f.cidfile != "" {
			os.Remove(f.cidfile)
		}
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

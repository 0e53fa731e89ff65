package cli

import (
	"fmt"
	"os"
	"strconv"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

// enterFlags are nsenter(1)'s options.
type enterFlags struct {
	target             string
	all                bool
	kinds              [8]string
	setuid, setgid     string
	preserve, keepCaps bool
	noFork, env        bool
	root, wd, wdns     string
	given              func(string) bool
}

func newEnter(io IO) *cobra.Command {
	f := &enterFlags{}
	c := &cobra.Command{
		Use:   "enter [OPTIONS] [NAME] [PROGRAM [ARG...]]",
		Short: "Run a program in the namespaces of a process or container, as nsenter(1)",
		Long: `Run a program (the shell, when none is named) in namespaces that exist. The
target is -t PID, -t NAME of a container, or a container's NAME as the first
argument, which enters all of its namespaces. Other options are those of
util-linux's nsenter. The program has the privileges that root has in these
namespaces, not the container's smaller ones: it is for looking into them.`,
		Example: "  kakuri enter web sh\n  kakuri enter -t 4711 -n ss -ltn",
		RunE: func(c *cobra.Command, args []string) error {
			e, p, err := f.plan(c, args)
			if err != nil {
				return err
			}
			return executePlan(c, io, e, p, false)
		},
	}
	f.register(c)
	return c
}

func explainEnter(io IO, o *explainFlags) *cobra.Command {
	f := &enterFlags{}
	c := newEnter(io)
	c.ResetFlags()
	f.register(c)
	c.Short = "Print the plan of an enter"
	c.RunE = func(c *cobra.Command, args []string) error {
		e, p, err := f.plan(c, args)
		if err != nil {
			return err
		}
		return o.print(io, p, e.Host().Arch)
	}
	return c
}

func (f *enterFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.SetInterspersed(false)
	s.SortFlags = false
	optional := func(to *string, long, short, value, help string) {
		s.StringVarP(to, long, short, "", help)
		s.Lookup(long).NoOptDefVal = value
	}
	s.StringVarP(&f.target, "target", "t", "", "process or container to enter: `PID|NAME`")
	s.BoolVarP(&f.all, "all", "a", false, "enter all namespaces of the target")
	for _, ns := range abi.Namespaces() {
		optional(&f.kinds[ns], nsFlags[ns].long, nsFlags[ns].short, noFile, "enter the "+ns.String()+" namespace of the target, or of `FILE`")
	}
	s.StringVarP(&f.setuid, "setuid", "S", "", "set this uid inside (default 0 in another user namespace)")
	s.StringVarP(&f.setgid, "setgid", "G", "", "set this gid inside (default 0 in another user namespace)")
	s.BoolVar(&f.preserve, "preserve-credentials", false, "do not touch uid and gid")
	s.BoolVar(&f.keepCaps, "keep-caps", false, "keep the capabilities of the user namespace over the execve")
	optional(&f.root, "root", "r", noFile, "set the root directory: that of the target, or `DIR`")
	optional(&f.wd, "wd", "w", noFile, "set the working directory: that of the target, or `DIR`")
	s.StringVarP(&f.wdns, "wdns", "W", "", "set the working directory, as it is named inside")
	s.BoolVarP(&f.env, "env", "e", false, "take over the target's environment")
	s.BoolVarP(&f.noFork, "no-fork", "F", false, "do not fork after a pid namespace was entered: only children are in it")
}

func (f *enterFlags) plan(c *cobra.Command, args []string) (*engine.Engine, plan.Plan, error) {
	fail := func(err error) (*engine.Engine, plan.Plan, error) {
		return nil, plan.Plan{}, &engine.ExitError{Code: 125, Err: err}
	}
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return fail(err)
	}
	f.given = c.Flags().Changed
	if f.target == "" && len(args) > 0 && f.noFiles() {
		f.target, args, f.all = args[0], args[1:], f.all || f.noKinds()
	}
	if len(args) == 0 {
		args = []string{shell()}
	}
	o, err := f.options(e, args)
	if err != nil {
		return fail(err)
	}
	p, err := plan.CompileEnter(o, e.Host())
	if err != nil {
		return fail(err)
	}
	return e, p, nil
}

// noFiles reports whether no namespace is given by a file.
func (f *enterFlags) noFiles() bool {
	for _, k := range f.kinds {
		if k != "" && k != noFile {
			return false
		}
	}
	return true
}

func (f *enterFlags) noKinds() bool { return f.kinds == [8]string{} }

// pid finds the target process.
func (f *enterFlags) pid(e *engine.Engine) (int, error) {
	if f.target == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(f.target); err == nil {
		return n, nil
	}
	c, err := e.Find(f.target)
	if err != nil {
		return 0, err
	}
	return c.CommandPID(), nil
}

func (f *enterFlags) options(e *engine.Engine, args []string) (plan.EnterOptions, error) {
	o := plan.EnterOptions{Fork: !f.noFork, KeepCaps: f.keepCaps, WdInside: f.wdns, Args: args, Env: os.Environ(), Because: f.because}
	pid, err := f.pid(e)
	if err != nil {
		return o, err
	}
	var kinds []abi.Namespace
	for _, ns := range abi.Namespaces() {
		switch k := f.kinds[ns]; {
		case k == noFile || (k == "" && f.all):
			kinds = append(kinds, ns)
		case k != "":
			o.Join = append(o.Join, plan.JoinNamespace{NS: ns, Path: k})
		}
	}
	if len(kinds) > 0 || f.root == noFile || f.wd == noFile || f.env {
		if pid == 0 {
			return o, usageError{fmt.Errorf("which process? Name one with -t PID or -t NAME")}
		}
	}
	joins, err := engine.Joins(pid, kinds)
	if err != nil {
		return o, err
	}
	o.Join = append(o.Join, joins...)
	if o.Root = f.root; o.Root == noFile {
		o.Root = fmt.Sprintf("/proc/%d/root", pid)
	}
	if o.Wd = f.wd; o.Wd == noFile {
		o.Wd = fmt.Sprintf("/proc/%d/cwd", pid)
	}
	if f.env {
		if o.Env, err = environOf(pid); err != nil {
			return o, err
		}
	}
	return o, f.ids(&o)
}

func environOf(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil, err
	}
	return splitNul(data), nil
}

func splitNul(data []byte) []string {
	var list []string
	for start, i := 0, 0; i < len(data); i++ {
		if data[i] == 0 {
			list = append(list, string(data[start:i]))
			start = i + 1
		}
	}
	return list
}

// ids sets uid and gid: those asked for, and 0 in another user namespace.
func (f *enterFlags) ids(o *plan.EnterOptions) error {
	zero := uint32(0)
	for _, j := range o.Join {
		if j.NS == abi.NSUser && !f.preserve {
			o.SetUID, o.SetGID = &zero, &zero
		}
	}
	for _, x := range []struct {
		flag, value string
		to          **uint32
	}{{"--setuid", f.setuid, &o.SetUID}, {"--setgid", f.setgid, &o.SetGID}} {
		if x.value != "" {
			n, err := strconv.ParseUint(x.value, 10, 31)
			if err != nil {
				return usageError{fmt.Errorf("%s %s: want a number", x.flag, x.value)}
			}
			id := uint32(n)
			*x.to = &id
		}
	}
	return nil
}

func (f *enterFlags) because(part string) string {
	if ns, ok := abi.ParseNamespace(part); ok {
		if f.given(nsFlags[ns].long) {
			return "--" + nsFlags[ns].long
		}
		return "all namespaces of " + f.target
	}
	switch {
	case part == "command":
		return "command"
	case f.given(part):
		return "--" + part
	case part == "setuid" || part == "setgid":
		return "default: root of the joined user namespace"
	}
	return ""
}

package cli

import (
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

// unshareFlags are unshare(1)'s options.
type unshareFlags struct {
	kinds                     [8]string // a namespace's flag: its file, "-" for none
	fork, mapRoot, mapCurrent bool
	mapAuto, keepCaps         bool
	mapUser, mapGroup         string
	mapUsers, mapGroups       []string
	killChild, mountProc      string
	propagation, setgroups    string
	root, wd                  string
	setuid, setgid            string
	boottime, monotonic       string
	forwardSignals            bool
	given                     func(string) bool
	args                      []string
}

// given is what a flag without its optional value holds.
const noFile = "\x00"

func newUnshare(io IO) *cobra.Command {
	f := &unshareFlags{}
	c := &cobra.Command{
		Use:   "unshare [OPTIONS] [PROGRAM [ARG...]]",
		Short: "Run a program with namespaces of its own, as unshare(1)",
		Long: `Run a program (the shell, when none is named) with the namespaces that the
options name for itself, and everything else shared. Options are those of
util-linux's unshare. "kakuri explain unshare ..." prints the plan.`,
		Example: "  kakuri unshare --fork --pid --mount-proc bash\n  kakuri unshare -Ur id",
		RunE: func(c *cobra.Command, args []string) error {
			e, p, err := f.plan(c, args)
			if err != nil {
				return err
			}
			return executePlan(c, io, e, p, f.forwardSignals)
		},
	}
	f.register(c)
	return c
}

func explainUnshare(io IO, o *explainFlags) *cobra.Command {
	f := &unshareFlags{}
	c := newUnshare(io)
	c.ResetFlags()
	f.register(c)
	c.Short = "Print the plan of an unshare"
	c.RunE = func(c *cobra.Command, args []string) error {
		e, p, err := f.plan(c, args)
		if err != nil {
			return err
		}
		return o.print(io, p, e.Host().Arch)
	}
	return c
}

// nsFlags pairs namespaces with their options in unshare(1) and nsenter(1).
var nsFlags = [8]struct{ long, short string }{
	abi.NSPID: {"pid", "p"}, abi.NSUser: {"user", "U"}, abi.NSMount: {"mount", "m"}, abi.NSNetwork: {"net", "n"},
	abi.NSUTS: {"uts", "u"}, abi.NSIPC: {"ipc", "i"}, abi.NSCgroup: {"cgroup", "C"}, abi.NSTime: {"time", "T"},
}

func (f *unshareFlags) register(c *cobra.Command) {
	s := c.Flags()
	s.SetInterspersed(false)
	s.SortFlags = false
	optional := func(to *string, long, short, value, help string) {
		s.StringVarP(to, long, short, "", help)
		s.Lookup(long).NoOptDefVal = value
	}
	for _, ns := range abi.Namespaces() {
		optional(&f.kinds[ns], nsFlags[ns].long, nsFlags[ns].short, noFile, "a new "+ns.String()+" namespace; with =`FILE` kept there by a bind mount")
	}
	s.BoolVarP(&f.fork, "fork", "f", false, "fork before the program is run, so that it is in the new pid namespace")
	s.StringVar(&f.mapUser, "map-user", "", "map the current user to this one (implies --user)")
	s.StringVar(&f.mapGroup, "map-group", "", "map the current group to this one (implies --user)")
	s.BoolVarP(&f.mapRoot, "map-root-user", "r", false, "map the current user to root (implies --user)")
	s.BoolVarP(&f.mapCurrent, "map-current-user", "c", false, "map the current user to itself (implies --user)")
	s.BoolVar(&f.mapAuto, "map-auto", false, "map the ranges of /etc/subuid and /etc/subgid (implies --user)")
	s.StringArrayVar(&f.mapUsers, "map-users", nil, "map users: `INSIDE:OUTSIDE:COUNT`, auto, subids or all (implies --user)")
	s.StringArrayVar(&f.mapGroups, "map-groups", nil, "map groups, likewise (implies --user)")
	optional(&f.killChild, "kill-child", "", "KILL", "end the program when this command ends (implies --fork)")
	optional(&f.mountProc, "mount-proc", "", "/proc", "mount proc first, at /proc or `DIR` (implies --mount)")
	s.StringVar(&f.propagation, "propagation", "", "of mounts in the new mount namespace: private, slave, shared, unchanged")
	s.StringVar(&f.setgroups, "setgroups", "", "allow or deny setgroups(2) in the user namespace")
	s.BoolVar(&f.keepCaps, "keep-caps", false, "keep the capabilities of the user namespace over the execve")
	s.StringVarP(&f.root, "root", "R", "", "run with this root directory")
	s.StringVarP(&f.wd, "wd", "w", "", "run in this working directory")
	s.StringVarP(&f.setuid, "setuid", "S", "", "set this uid inside")
	s.StringVarP(&f.setgid, "setgid", "G", "", "set this gid inside")
	s.StringVar(&f.boottime, "boottime", "", "offset of the boot clock, in seconds (with --time)")
	s.StringVar(&f.monotonic, "monotonic", "", "offset of the monotonic clock, in seconds (with --time)")
	s.BoolVar(&f.forwardSignals, "forward-signals", false, "pass SIGTERM and SIGINT on to the program (with --fork)")
}

func (f *unshareFlags) plan(c *cobra.Command, args []string) (*engine.Engine, plan.Plan, error) {
	fail := func(err error) (*engine.Engine, plan.Plan, error) {
		return nil, plan.Plan{}, &engine.ExitError{Code: 125, Err: err}
	}
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return fail(err)
	}
	f.given = c.Flags().Changed
	if len(args) == 0 {
		args = []string{shell()}
	}
	f.args = args
	o, err := f.options(e.Host())
	if err != nil {
		return fail(usageError{err})
	}
	p, err := plan.CompileUnshare(o, e.Host())
	if err != nil {
		return fail(err)
	}
	return e, p, nil
}

func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

func (f *unshareFlags) options(host plan.Facts) (plan.UnshareOptions, error) {
	o := plan.UnshareOptions{
		Fork: f.fork || f.given("kill-child"), Setgroups: f.setgroups, KeepCaps: f.keepCaps, Propagation: f.propagation,
		MountProc: f.mountProc, Root: f.root, Wd: f.wd, KillChild: f.given("kill-child"),
		Args: f.args, Env: os.Environ(), Because: f.because,
	}
	mapped := f.mapRoot || f.mapCurrent || f.mapAuto || f.mapUser != "" || f.mapGroup != "" || len(f.mapUsers)+len(f.mapGroups) > 0
	for _, ns := range abi.Namespaces() {
		file := f.kinds[ns]
		implied := (ns == abi.NSUser && mapped) || (ns == abi.NSMount && f.mountProc != "")
		if file != "" || implied {
			o.New = append(o.New, ns)
		}
		if file != "" && file != noFile {
			o.Keep = append(o.Keep, plan.KeepNamespace{NS: ns, Path: file})
		}
	}
	switch f.propagation {
	case "", "private", "slave", "shared", "unchanged":
	default:
		return o, fmt.Errorf("--propagation %s: there are private, slave, shared and unchanged", f.propagation)
	}
	switch f.setgroups {
	case "", "allow", "deny":
	default:
		return o, fmt.Errorf("--setgroups %s: there are allow and deny", f.setgroups)
	}
	var err error
	if o.UIDs, o.GIDs, err = f.maps(host); err != nil {
		return o, err
	}
	if f.oneGroup() {
		// As unshare(1), for root too: the kernel wants it of those without privileges.
		if f.setgroups == "allow" {
			return o, fmt.Errorf("--setgroups allow: not with a map of one group, as --map-root-user and --map-group make it")
		}
		o.Setgroups = "deny"
	}
	for _, x := range []struct {
		flag, value string
		to          **uint32
	}{{"--setuid", f.setuid, &o.SetUID}, {"--setgid", f.setgid, &o.SetGID}} {
		if x.value != "" {
			n, err := strconv.ParseUint(x.value, 10, 31)
			if err != nil {
				return o, fmt.Errorf("%s %s: want a number", x.flag, x.value)
			}
			id := uint32(n)
			*x.to = &id
		}
	}
	for _, x := range []struct {
		flag, value string
		to          *int64
	}{{"--boottime", f.boottime, &o.Boottime}, {"--monotonic", f.monotonic, &o.Monotonic}} {
		if x.value != "" {
			n, err := strconv.ParseInt(x.value, 10, 33)
			if err != nil {
				return o, fmt.Errorf("%s %s: want a number of seconds", x.flag, x.value)
			}
			if f.kinds[abi.NSTime] == "" {
				return o, fmt.Errorf("%s needs --time", x.flag)
			}
			*x.to = n * 1e9
		}
	}
	return o, nil
}

// oneGroup reports whether a single group is mapped, and no range.
func (f *unshareFlags) oneGroup() bool {
	return (f.mapRoot || f.mapCurrent || f.mapGroup != "") && !f.mapAuto && len(f.mapGroups) == 0
}

// because names the flag behind a part of the plan.
func (f *unshareFlags) because(part string) string {
	if ns, ok := abi.ParseNamespace(part); ok {
		flag := nsFlags[ns].long
		switch {
		case f.given(flag):
			return "--" + flag
		case ns == abi.NSMount:
			return "--mount-proc"
		}
		part = "map"
	}
	switch part {
	case "map":
		for _, flag := range []string{"map-root-user", "map-current-user", "map-auto", "map-user", "map-group", "map-users", "map-groups"} {
			if f.given(flag) {
				return "--" + flag
			}
		}
	case "propagation":
		if !f.given("propagation") {
			return "default: no mount made inside reaches the host"
		}
	case "setgroups":
		if !f.given("setgroups") {
			return "the kernel's rule for a map of one group, without privileges"
		}
	case "command":
		return "command"
	case "root":
		if !f.given("root") {
			return "--mount-proc"
		}
	}
	if f.given(part) {
		return "--" + part
	}
	return ""
}

// maps gives the id maps that the options ask for.
func (f *unshareFlags) maps(host plan.Facts) (uids, gids []plan.IDMapping, err error) {
	one := func(inside uint32, outside uint32) []plan.IDMapping {
		return []plan.IDMapping{{Inside: inside, Outside: outside, Size: 1}}
	}
	switch {
	case f.mapRoot:
		uids, gids = one(0, host.UID), one(0, host.GID)
	case f.mapCurrent:
		uids, gids = one(host.UID, host.UID), one(host.GID, host.GID)
	}
	if f.mapUser != "" {
		id, err := lookupID(f.mapUser, func(s string) (string, error) { u, err := user.Lookup(s); return field(u, err) })
		if err != nil {
			return nil, nil, fmt.Errorf("--map-user %s: %w", f.mapUser, err)
		}
		uids = one(id, host.UID)
	}
	if f.mapGroup != "" {
		id, err := lookupID(f.mapGroup, func(s string) (string, error) {
			g, err := user.LookupGroup(s)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("--map-group %s: %w", f.mapGroup, err)
		}
		gids = one(id, host.GID)
	}
	users, groups := f.mapUsers, f.mapGroups
	if f.mapAuto {
		users, groups = append(users, "auto"), append(groups, "auto")
	}
	if uids, err = addMaps(uids, users, subordinate(host.SubUIDs, host), "--map-users"); err != nil {
		return nil, nil, err
	}
	gids, err = addMaps(gids, groups, subordinate(host.SubGIDs, host), "--map-groups")
	return uids, gids, err
}

// subordinate is the caller's first range of ids, for root the last 65,536 below 2^32-1
// when it has none in /etc/subuid.
func subordinate(ranges []plan.IDRange, host plan.Facts) *plan.IDRange {
	if len(ranges) > 0 {
		return &ranges[0]
	}
	if host.Privileged() {
		return &plan.IDRange{Start: 0x70000000, Size: 65536}
	}
	return nil
}

// addMaps adds --map-users values to a map. As with unshare(1), a range gives way to
// the single id that is mapped already.
func addMaps(have []plan.IDMapping, values []string, sub *plan.IDRange, flag string) ([]plan.IDMapping, error) {
	for _, v := range values {
		switch v {
		case "auto", "subids":
			if sub == nil {
				return nil, fmt.Errorf("%s %s: the caller has no range in /etc/subuid or /etc/subgid", flag, v)
			}
			inside := uint32(0)
			if v == "subids" {
				inside = sub.Start
			}
			have = append(have, around(have, plan.IDMapping{Inside: inside, Outside: sub.Start, Size: sub.Size})...)
		case "all":
			have = append(have, around(have, plan.IDMapping{Size: 1<<32 - 1})...)
		default:
			m, err := parseMapping(v)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", flag, v, err)
			}
			have = append(have, m)
		}
	}
	return have, nil
}

// around cuts a hole into m where have maps an id inside already.
func around(have []plan.IDMapping, m plan.IDMapping) []plan.IDMapping {
	if len(have) != 1 {
		return []plan.IDMapping{m}
	}
	at := have[0].Inside
	if at < m.Inside || at-m.Inside >= m.Size {
		return []plan.IDMapping{m}
	}
	// The ids outside are used without a gap: what is cut inside moves up.
	before := at - m.Inside
	var list []plan.IDMapping
	if before > 0 {
		list = append(list, plan.IDMapping{Inside: m.Inside, Outside: m.Outside, Size: before})
	}
	if rest := m.Size - before - 1; rest > 0 {
		list = append(list, plan.IDMapping{Inside: at + 1, Outside: m.Outside + before, Size: rest})
	}
	return list
}

func parseMapping(s string) (plan.IDMapping, error) {
	sep := ":"
	if strings.Contains(s, ",") {
		sep = "," // the older form: OUTSIDE,INSIDE,COUNT
	}
	part := strings.Split(s, sep)
	var n [3]uint32
	if len(part) != 3 {
		return plan.IDMapping{}, fmt.Errorf("want INSIDE:OUTSIDE:COUNT")
	}
	for i, p := range part {
		v, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return plan.IDMapping{}, fmt.Errorf("%q is no number", p)
		}
		n[i] = uint32(v)
	}
	m := plan.IDMapping{Inside: n[0], Outside: n[1], Size: n[2]}
	if sep == "," {
		m.Inside, m.Outside = m.Outside, m.Inside
	}
	if m.Size == 0 {
		return m, fmt.Errorf("the count is 0")
	}
	return m, nil
}

func field(u *user.User, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func lookupID(s string, byName func(string) (string, error)) (uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(n), nil
	}
	id, err := byName(s)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// executePlan runs a plan whose process has the terminal in common with this
// command: what the terminal sends both get, so it is not sent on.
func executePlan(c *cobra.Command, io IO, e *engine.Engine, p plan.Plan, forward bool) error {
	if !forward {
		// Caught, not ignored: an ignored signal stays so in the program.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	}
	res, err := e.Execute(c.Context(), p, forward)
	for _, w := range res.Warnings {
		fmt.Fprintln(io.Err, "warning:", w)
	}
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return exitCode(res.Code)
	}
	return nil
}

package cli

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

// unshareFlags are unshare(1)'s options.
type unshareFlags struct {
	kinds                  [8]string // a namespace's flag: its file, noFile for none
	fork, keepCaps         bool
	forwardSignals         bool
	mapping                []func(*idMaps, plan.Facts) error // in the order of the line
	killChild              string
	mountProc, mountBinfmt string
	interp, owner          string
	propagation, setgroups string
	root, wd               string
	setuid, setgid         string
	boottime, monotonic    string
	given                  func(string) bool
}

// noFile is what a flag without its optional value holds.
const noFile = "\x00"

func newUnshare(io IO) *cobra.Command {
	f := &unshareFlags{}
	c := unshareCommand(f, func(c *cobra.Command, args []string) error {
		e, p, err := f.plan(c, args, false)
		if err != nil {
			return likeUtilLinux(err)
		}
		return likeUtilLinux(executePlan(c, io, e, p, f.stand()))
	})
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return likeUtilLinux(c.Parent().FlagErrorFunc()(c, err))
	})
	return c
}

// stand is how signals are taken while the program runs.
func (f *unshareFlags) stand() engine.Stand {
	switch {
	case f.forwardSignals:
		return engine.Passing
	case f.forks():
		return engine.Apart
	}
	return engine.InPlace
}

func (f *unshareFlags) forks() bool { return f.fork || f.forwardSignals || f.given("kill-child") }

func unshareCommand(f *unshareFlags, run func(*cobra.Command, []string) error) *cobra.Command {
	c := &cobra.Command{
		Use:   "unshare [OPTIONS] [PROGRAM [ARG...]]",
		Short: "Run a program with namespaces of its own, as unshare(1)",
		Long: `Run a program (the shell, when none is named) with the namespaces that the
options name for itself, and everything else shared. Options are those of
util-linux's unshare. "kakuri explain unshare ..." prints the plan.`,
		Example: "  kakuri unshare --fork --pid --mount-proc bash\n  kakuri unshare -Ur id",
	}
	f.register(c)
	likeGetopt(c, false, run)
	return c
}

func explainUnshare(io IO, o *explainFlags) *cobra.Command {
	f := &unshareFlags{}
	c := unshareCommand(f, o.printing(io, f.plan))
	c.Short = "Print the plan of an unshare"
	c.Long = `Print the plan that "kakuri unshare" with the same options would execute, and
run nothing: each kernel operation, the side it happens on, and the option that
it is there for.`
	c.Example = "  kakuri explain unshare --fork --pid --mount-proc bash\n  kakuri explain --calls unshare -Ur id"
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
	maps := func(long, short, kind, help string, do func(m *idMaps, value string, host plan.Facts) error) {
		s.VarP(action{kind, func(value string) error {
			f.mapping = append(f.mapping, func(m *idMaps, host plan.Facts) error {
				err := do(m, value, host)
				switch {
				case err != nil && kind == "bool":
					return fmt.Errorf("--%s: %w", long, err)
				case err != nil:
					return fmt.Errorf("--%s %s: %w", long, value, err)
				}
				return nil
			})
			return nil
		}}, long, short, help)
		if kind == "bool" {
			s.Lookup(long).NoOptDefVal = "true"
		}
	}
	for _, ns := range abi.Namespaces() {
		optional(&f.kinds[ns], nsFlags[ns].long, nsFlags[ns].short, noFile, "a new "+ns.String()+" namespace; with =`FILE` kept there by a bind mount")
	}
	s.BoolVarP(&f.fork, "fork", "f", false, "fork before the program is run, so that it is in the new pid namespace")
	maps("map-user", "", "string", "map the current user to this `UID|NAME` (implies --user)", (*idMaps).mapUser)
	maps("map-group", "", "string", "map the current group to this `GID|NAME` (implies --user)", (*idMaps).mapGroup)
	maps("map-root-user", "r", "bool", "map the current user to root (implies --user)", (*idMaps).mapRoot)
	maps("map-current-user", "c", "bool", "map the current user to itself (implies --user)", (*idMaps).mapCurrent)
	maps("map-auto", "", "bool", "map the ranges of /etc/subuid and /etc/subgid (implies --user)", (*idMaps).mapAuto)
	maps("map-subids", "", "bool", "map these ranges to themselves (implies --user)", (*idMaps).mapSubids)
	maps("map-users", "", "string", "map users: `INSIDE:OUTSIDE:COUNT`, auto, subids or all (implies --user)", (*idMaps).mapUsers)
	maps("map-groups", "", "string", "map groups: `INSIDE:OUTSIDE:COUNT`, auto, subids or all (implies --user)", (*idMaps).mapGroups)
	s.StringVar(&f.owner, "owner", "", "have `UID:GID` own the user namespace (implies --user)")
	optional(&f.killChild, "kill-child", "", "KILL", "send the program `SIGNAL` (KILL when none is named) when this command ends (implies --fork)")
	s.BoolVar(&f.forwardSignals, "forward-signals", false, "pass SIGTERM and SIGINT on to the program (implies --fork)")
	optional(&f.mountProc, "mount-proc", "", "/proc", "mount proc first, at /proc or `DIR` (implies --mount)")
	optional(&f.mountBinfmt, "mount-binfmt", "", noFile, "mount binfmt_misc first, at /proc/sys/fs/binfmt_misc or `DIR` (implies --mount and --user)")
	s.StringVarP(&f.interp, "load-interp", "l", "", "register an interpreter in this `:NAME:TYPE:OFFSET:MAGIC:MASK:INTERPRETER:FLAGS` (implies --mount-binfmt)")
	s.StringVar(&f.propagation, "propagation", "", "of mounts in the new mount namespace: `MODE` is private, slave, shared or unchanged")
	s.StringVar(&f.setgroups, "setgroups", "", "`allow|deny` setgroups(2) in the user namespace")
	s.BoolVar(&f.keepCaps, "keep-caps", false, "keep the capabilities of the user namespace over the execve")
	s.StringVarP(&f.root, "root", "R", "", "run with `DIR` as root directory")
	s.StringVarP(&f.wd, "wd", "w", "", "run in the working directory `DIR`")
	s.StringVarP(&f.setuid, "setuid", "S", "", "set this `UID` inside")
	s.StringVarP(&f.setgid, "setgid", "G", "", "set this `GID` inside, and no other groups")
	s.StringVar(&f.boottime, "boottime", "", "offset of the boot clock in `SECONDS` (with --time)")
	s.StringVar(&f.monotonic, "monotonic", "", "offset of the monotonic clock in `SECONDS` (with --time)")
}

func (f *unshareFlags) plan(c *cobra.Command, args []string, look bool) (*engine.Engine, plan.Plan, error) {
	fail := func(err error) (*engine.Engine, plan.Plan, error) {
		return nil, plan.Plan{}, &engine.ExitError{Code: 125, Err: err}
	}
	e, err := engine.Open(engine.Options{Look: look})
	if err != nil {
		return fail(err)
	}
	f.given = c.Flags().Changed
	o, err := f.options(e.Host())
	if err != nil {
		return fail(usageError{err})
	}
	o.File, o.Args = program(args)
	p, err := plan.CompileUnshare(o, e.Host())
	if err != nil {
		return fail(err)
	}
	return e, p, nil
}

// program is what a line runs: without a word of its own the shell, as a login shell.
func program(args []string) (file string, _ []string) {
	if len(args) > 0 {
		return "", args
	}
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	return shell, []string{"-" + filepath.Base(shell)}
}

func (f *unshareFlags) options(host plan.Facts) (plan.UnshareOptions, error) {
	o := plan.UnshareOptions{
		Fork: f.forks(), Setgroups: f.setgroups, KeepCaps: f.keepCaps, Propagation: f.propagation,
		MountProc: f.mountProc, Binfmt: f.mountBinfmt, Interp: f.interp, Root: f.root, Wd: f.wd,
		Env: os.Environ(), Signals: engine.Inherited(), Because: f.because,
	}
	for flag, value := range map[string]string{"mount-proc": f.mountProc, "mount-binfmt": f.mountBinfmt, "root": f.root, "wd": f.wd} {
		if f.given(flag) && value == "" {
			return o, fmt.Errorf("--%s: the name of the directory is empty", flag)
		}
	}
	if o.Binfmt == noFile || (o.Binfmt == "" && o.Interp != "") {
		o.Binfmt = "/proc/sys/fs/binfmt_misc"
		if o.MountProc == "" {
			o.MountProc = "/proc"
		}
	}
	f.namespaces(&o)
	if f.given("kill-child") {
		sig, ok := abi.ParseSignal(f.killChild)
		if !ok {
			return o, fmt.Errorf("--kill-child %s: unknown signal", f.killChild)
		}
		o.KillChild = sig
	}
	if f.owner != "" {
		ids, err := parseOwner(f.owner)
		if err != nil {
			return o, err
		}
		o.Owner = ids
	}
	if err := f.words(o); err != nil {
		return o, err
	}
	var m idMaps
	for _, add := range f.mapping {
		if err := add(&m, host); err != nil {
			return o, err
		}
	}
	o.UIDs, o.GIDs = m.users.list(host.UID), m.groups.list(host.GID)
	if m.groups.own != nil && len(m.groups.ranges) == 0 && f.owner == "" {
		// As unshare(1), for root too: the kernel wants it of those without privileges.
		if f.setgroups == "allow" {
			return o, fmt.Errorf("--setgroups allow: not with a map of one group, as --map-root-user and --map-group make it")
		}
		o.Setgroups = "deny"
	}
	if err := f.ids(&o); err != nil {
		return o, err
	}
	return o, f.clocks(&o)
}

// namespaces are the new ones, those that other options need among them, and the files that keep them.
func (f *unshareFlags) namespaces(o *plan.UnshareOptions) {
	for _, ns := range abi.Namespaces() {
		file := f.kinds[ns]
		implied := (ns == abi.NSUser && (len(f.mapping) > 0 || f.owner != "" || o.Binfmt != "")) || (ns == abi.NSMount && (o.MountProc != "" || o.Binfmt != ""))
		if f.given(nsFlags[ns].long) || implied {
			o.New = append(o.New, ns)
		}
		if f.given(nsFlags[ns].long) && file != noFile {
			o.Keep = append(o.Keep, plan.KeepNamespace{NS: ns, Path: file})
		}
	}
}

// words refuses options whose word there is not, or not here.
func (f *unshareFlags) words(o plan.UnshareOptions) error {
	switch f.propagation {
	case "", "private", "slave", "shared", "unchanged":
	default:
		return fmt.Errorf("--propagation %s: there are private, slave, shared and unchanged", f.propagation)
	}
	switch f.setgroups {
	case "", "allow", "deny":
	default:
		return fmt.Errorf("--setgroups %s: there are allow and deny", f.setgroups)
	}
	if f.setgroups != "" && !slices.Contains(o.New, abi.NSUser) {
		return fmt.Errorf("--setgroups %s: only in a new user namespace, as --user makes it", f.setgroups)
	}
	return nil
}

func parseOwner(s string) (*plan.Owner, error) {
	uid, gid, ok := strings.Cut(s, ":")
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return nil, fmt.Errorf("--owner %s: want UID:GID", s)
	}
	return &plan.Owner{UID: uint32(u), GID: uint32(g)}, nil
}

func (f *unshareFlags) ids(o *plan.UnshareOptions) (err error) {
	if o.SetUID, err = parseID("--setuid", f.setuid); err != nil {
		return err
	}
	o.SetGID, err = parseID("--setgid", f.setgid)
	return err
}

// parseID reads a number of a user or group, nil for an empty one.
func parseID(flag, value string) (*uint32, error) {
	if value == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s %s: want a number", flag, value)
	}
	id := uint32(n)
	return &id, nil
}

func (f *unshareFlags) clocks(o *plan.UnshareOptions) error {
	for _, x := range []struct {
		flag, value string
		to          *int64
	}{{"--boottime", f.boottime, &o.Boottime}, {"--monotonic", f.monotonic, &o.Monotonic}} {
		if x.value != "" {
			n, err := strconv.ParseInt(x.value, 10, 33)
			if err != nil {
				return fmt.Errorf("%s %s: want a number of seconds", x.flag, x.value)
			}
			if !f.given("time") {
				return fmt.Errorf("%s needs --time", x.flag)
			}
			*x.to = n * 1e9
		}
	}
	return nil
}

// because names the flag behind a part of the plan.
func (f *unshareFlags) because(part string) string {
	if ns, ok := abi.ParseNamespace(part); ok {
		flag := nsFlags[ns].long
		switch {
		case f.given(flag):
			return "--" + flag
		case ns == abi.NSMount && f.given("mount-proc"):
			return "--mount-proc"
		case len(f.mapping) == 0 && f.owner != "":
			return "--owner"
		case ns == abi.NSMount, len(f.mapping) == 0:
			return f.binfmtFlag()
		}
		part = "map"
	}
	switch part {
	case "map":
		for _, flag := range []string{"map-root-user", "map-current-user", "map-auto", "map-subids", "map-user", "map-group", "map-users", "map-groups"} {
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
	case "no fork":
		return "without --fork, the program ends with this command"
	case "mount-proc", "mount-binfmt":
		if !f.given(part) {
			return f.binfmtFlag()
		}
	case "root":
		if !f.given("root") && f.given("mount-proc") {
			return "--mount-proc"
		}
		if !f.given("root") {
			return f.binfmtFlag()
		}
	}
	if f.given(part) {
		return "--" + part
	}
	return ""
}

// binfmtFlag is the flag that wants binfmt_misc.
func (f *unshareFlags) binfmtFlag() string {
	if f.given("mount-binfmt") {
		return "--mount-binfmt"
	}
	return "--load-interp"
}

// idMaps are the maps of users and groups that a line asks for.
type idMaps struct{ users, groups idMap }

// An idMap maps the caller's own id, and ranges.
type idMap struct {
	own    *uint32 // inside
	ranges []plan.IDMapping
}

func (m *idMaps) mapRoot(string, plan.Facts) error {
	var zero uint32
	m.users.own, m.groups.own = &zero, &zero
	return nil
}

func (m *idMaps) mapCurrent(_ string, host plan.Facts) error {
	m.users.own, m.groups.own = &host.UID, &host.GID
	return nil
}

func (m *idMaps) mapUser(value string, _ plan.Facts) error {
	id, err := lookupID(value, func(s string) (string, error) { u, err := user.Lookup(s); return field(u, err) })
	m.users.own = &id
	return err
}

func (m *idMaps) mapGroup(value string, _ plan.Facts) error {
	id, err := lookupID(value, func(s string) (string, error) {
		g, err := user.LookupGroup(s)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	m.groups.own = &id
	return err
}

func (m *idMaps) mapAuto(_ string, host plan.Facts) error {
	return m.both("auto", host)
}

func (m *idMaps) mapSubids(_ string, host plan.Facts) error {
	return m.both("subids", host)
}

func (m *idMaps) both(value string, host plan.Facts) error {
	if err := m.mapUsers(value, host); err != nil {
		return err
	}
	return m.mapGroups(value, host)
}

func (m *idMaps) mapUsers(value string, host plan.Facts) error {
	return m.users.add(value, host.SubUIDs, "uid")
}

func (m *idMaps) mapGroups(value string, host plan.Facts) error {
	return m.groups.add(value, host.SubGIDs, "gid")
}

// add adds a range, or what one of the words stands for; kind is "uid" or "gid".
func (m *idMap) add(value string, sub []plan.IDRange, kind string) error {
	switch value {
	case "auto", "subids":
		if len(sub) == 0 {
			return fmt.Errorf("the caller has no range in /etc/sub%s", kind)
		}
		r := plan.IDMapping{Outside: sub[0].Start, Size: sub[0].Size}
		if value == "subids" {
			r.Inside = r.Outside
		}
		m.ranges = append(m.ranges, r)
	case "all":
		list, err := ownMap(kind)
		m.ranges = append(m.ranges, list...)
		return err
	default:
		r, err := parseMapping(value)
		if err != nil {
			return err
		}
		m.ranges = append(m.ranges, r)
	}
	return nil
}

// ownMap maps each id of this process's user namespace to itself.
func ownMap(kind string) ([]plan.IDMapping, error) {
	data, err := os.ReadFile("/proc/self/" + kind + "_map")
	if err != nil {
		return nil, err
	}
	var list []plan.IDMapping
	for line := range strings.Lines(string(data)) {
		var inside, outside, size uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil {
			list = append(list, plan.IDMapping{Inside: inside, Outside: inside, Size: size})
		}
	}
	return list, nil
}

// list gives the map as it is written: the caller's own id, then the ranges around it. A range
// that would map either side of it once more loses its last id, and what is left moves together.
func (m idMap) list(caller uint32) []plan.IDMapping {
	if m.own == nil {
		return m.ranges
	}
	own := plan.IDMapping{Inside: *m.own, Outside: caller, Size: 1}
	list := []plan.IDMapping{own}
	for _, r := range m.ranges {
		left := r.Size
		if own.Inside-r.Inside < r.Size || own.Outside-r.Outside < r.Size {
			left--
		}
		for inside, outside := r.Inside, r.Outside; left > 0; {
			if inside == own.Inside {
				inside++
			}
			if outside == own.Outside {
				outside++
			}
			// Up to the next id to leave out; behind it the difference is a large number.
			n := min(left, own.Inside-inside, own.Outside-outside)
			list = append(list, plan.IDMapping{Inside: inside, Outside: outside, Size: n})
			inside, outside, left = inside+n, outside+n, left-n
		}
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

// executePlan runs a plan of unshare or enter. What ends the program ends this process as well:
// it returns only where the program came to an end of its own.
func executePlan(c *cobra.Command, io IO, e *engine.Engine, p plan.Plan, stand engine.Stand) error {
	for _, w := range p.Warnings {
		fmt.Fprintln(io.Err, "warning:", w)
	}
	res, err := e.Execute(c.Context(), p, stand)
	if err != nil {
		return err
	}
	if res.Signal != 0 {
		engine.EndBy(res.Signal)
	}
	if res.Code != 0 {
		return exitCode(res.Code)
	}
	return nil
}

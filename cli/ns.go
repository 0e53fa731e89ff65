package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
	"github.com/spf13/cobra"
)

func newNS(io IO) *cobra.Command {
	c := &cobra.Command{
		Use:   "ns COMMAND",
		Short: "See the namespaces of this machine",
		Long: `See the namespaces of this machine: of the containers of kakuri and kakuri-runtime, of other engines',
of any process. An ordinary user sees those of their own processes.`,
		Example: `  kakuri ns ls --type net
  kakuri ns tree -o host.svg
  kakuri ns ps web
  kakuri ns diff $$ web`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{notBelow(c, args[0])}
			}
			return usageError{fmt.Errorf("ns needs a command: ls, tree, ps or diff\nSee 'kakuri ns --help'")}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.AddCommand(newNSList(io), newNSTree(io), newNSView(io), newNSDiff(io))
	return c
}

// A nsOutput is where a verb of ns writes, and how.
type nsOutput struct {
	io      IO
	format  string
	noTrunc bool
}

func (o *nsOutput) register(c *cobra.Command, formats string) {
	c.Flags().StringVar(&o.format, "format", "text", formats)
	c.Flags().BoolVar(&o.noTrunc, "no-trunc", false, "do not cut lines at the width of the terminal, or at 200 columns where there is none")
}

// fileColumns is how wide the lines of ns are where no terminal says it. Command lines have no end, and secrets, which
// are not to be had with each tree that is shown to others.
const fileColumns = 200

// print writes v as it was asked for: text renders it for a screen.
func (o *nsOutput) print(v any, text func(ui.Screen) string) error {
	switch o.format {
	case "json":
		return ui.JSON(o.io.shown(), v)
	case "text":
	default:
		return usageError{fmt.Errorf("--format %s: there are text and json", o.format)}
	}
	s, err := screenOf(o.io)
	if err != nil {
		return err
	}
	switch {
	case o.noTrunc:
		s.Columns = 0
	case s.Columns == 0:
		s.Columns = fileColumns
	}
	_, err = fmt.Fprint(o.io.Out, text(s))
	return err
}

func newNSList(io IO) *cobra.Command {
	o := nsOutput{io: io}
	var types []string
	c := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List namespaces, one a line",
		Long: `List namespaces: inode, type, how many processes are in it and the first one's
pid, the user namespace that owns it, its parent, and the first one's command
or, where no process is in it, what else keeps it.`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			kinds, err := parseKinds(types)
			if err != nil {
				return err
			}
			r, err := readNS(c.Context(), namespace.Options{})
			if err != nil {
				return err
			}
			list := r.list(kinds)
			return o.print(list, list.Text)
		},
	}
	o.register(c, "text or json")
	c.Flags().StringSliceVarP(&types, "type", "t", nil, "only these types: pid, user, mnt, net, uts, ipc, cgroup, time")
	return c
}

// parseKinds parses names of namespaces, of config.json or of /proc.
func parseKinds(names []string) ([]abi.Namespace, error) {
	var kinds []abi.Namespace
	for _, name := range names {
		t, ok := abi.ParseNamespace(name)
		if !ok {
			return nil, usageError{fmt.Errorf("--type %s: there are pid, user, mnt, net, uts, ipc, cgroup and time", name)}
		}
		kinds = append(kinds, t)
	}
	return kinds, nil
}

func newNSTree(io IO) *cobra.Command {
	o := nsOutput{io: io}
	var kind, file string
	var all, nets bool
	c := &cobra.Command{
		Use:   "tree [OPTIONS]",
		Short: "Show pid or user namespaces as they nest, or networks and their cables",
		Long: `Show pid namespaces as they nest, and in each its processes with their number
at every level; with --type user the user namespaces, with their users' ids at
every level. The kernel nests no other types. --net shows network namespaces in
place of a tree: their devices and addresses, which bridge each is a port of, where
the other end of each cable is, and the ports that rules lead on. --format svg draws
the same as a picture. Of many processes in one namespace some are shown, unless --all is set.`,
		Example: "  kakuri ns tree\n  kakuri ns tree --type user\n  kakuri ns tree -o host.svg\n  kakuri ns tree --net -o net.svg",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if kind != "pid" && kind != "user" {
				return usageError{fmt.Errorf("--type %s: there are pid and user, the types that nest", kind)}
			}
			if ext := strings.TrimPrefix(filepath.Ext(file), "."); !c.Flags().Changed("format") && (ext == "svg" || ext == "json") {
				o.format = ext
			}
			if nets {
				if e, err := lookEngine(); err == nil {
					if done, err := inWorld(c.Context(), e, ""); done || err != nil {
						return err
					}
				}
			}
			r, err := readNS(c.Context(), namespace.Options{})
			if err != nil {
				return err
			}
			if nets {
				return o.netMap(r.nets(), file)
			}
			t, _ := abi.ParseNamespace(kind)
			return o.tree(r.forest(t), all, file)
		},
	}
	o.register(c, "text, json or svg")
	c.Flags().StringVarP(&kind, "type", "t", "pid", "pid or user")
	c.Flags().BoolVar(&nets, "net", false, "show network namespaces, and what connects them")
	c.Flags().StringVarP(&file, "output", "o", "", "write to `FILE`; a name that ends in .svg or .json sets the format")
	c.Flags().BoolVarP(&all, "all", "a", false, "show every process and namespace")
	return c
}

// tree prints a forest, or writes it to a file.
func (o *nsOutput) tree(f ui.NSForest, all bool, file string) error {
	text, picture := ui.Fold{Processes: 8, Namespaces: 40}, ui.Fold{Processes: 12, Namespaces: 12}
	if all {
		text, picture = ui.Fold{}, ui.Fold{}
	}
	var out bytes.Buffer
	if file != "" {
		to := *o
		to.io.Out = &out
		if err := to.tree(f, all, ""); err != nil {
			return err
		}
		return os.WriteFile(file, out.Bytes(), 0o644)
	}
	if o.format == "svg" {
		l, err := ui.LangOf("", os.Getenv)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(o.io.Out, f.SVG(picture, l))
		return err
	}
	if o.format != "text" && o.format != "json" {
		return usageError{fmt.Errorf("--format %s: there are text, json and svg", o.format)}
	}
	return o.print(f, func(s ui.Screen) string { return f.Text(text, s) })
}

func newNSView(io IO) *cobra.Command {
	o := nsOutput{io: io}
	c := &cobra.Command{
		Use:   "ps [OPTIONS] CONTAINER|PID",
		Short: "List the processes of a pid namespace, with their pids inside and out",
		Long: `List what the pid namespace of a container or process sees: each process with
its pid there, here, and at every level between.`,
		Example: "  kakuri ns ps web\n  kakuri ns ps 4711",
		Args:    exactArgs(1, "a container or a pid"), ValidArgsFunction: names(containerNames(up), 1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := readNS(c.Context(), namespace.Options{Quick: true})
			if err != nil {
				return err
			}
			p, _, err := r.find(args[0])
			if err != nil {
				return err
			}
			if p.In(abi.NSPID) == nil {
				return fmt.Errorf("process %d: its pid namespace cannot be read: it is another user's, or has ended", p.PID)
			}
			v := r.view(p)
			return o.print(v, v.Text)
		},
	}
	o.register(c, "text or json")
	return c
}

func newNSDiff(io IO) *cobra.Command {
	o := nsOutput{io: io}
	c := &cobra.Command{
		Use:     "diff [OPTIONS] CONTAINER|PID CONTAINER|PID",
		Short:   "Compare the namespaces of two processes",
		Long:    `Compare two containers or processes: which namespaces they share, by inode.`,
		Example: "  kakuri ns diff $$ web\n  kakuri ns diff web db",
		Args:    exactArgs(2, "two containers or pids"), ValidArgsFunction: names(containerNames(up), 2),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := readNS(c.Context(), namespace.Options{Quick: true})
			if err != nil {
				return err
			}
			a, nameA, err := r.find(args[0])
			if err != nil {
				return err
			}
			b, nameB, err := r.find(args[1])
			if err != nil {
				return err
			}
			d := compareNS(a, b, nameA, nameB)
			return o.print(d, d.Text)
		},
	}
	o.register(c, "text or json")
	return c
}

// runningTarget is a container whose processes are to be looked at.
func runningTarget(e *engine.Engine, ref string) (engine.Target, error) {
	t, err := e.Target(ref)
	if err == nil && t.PID == 0 {
		err = fmt.Errorf("container %s is not running", t.Name)
	}
	return t, err
}

// exactArgs refuses any other number than n of arguments as a usage error.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s needs %s\nSee '%s --help'", c.CommandPath(), what, c.CommandPath())}
		}
		return nil
	}
}

// A nsReading is the machine, and what people call the namespaces of kakuri's containers.
type nsReading struct {
	*namespace.System
	names map[*namespace.Namespace]string
	more  map[*namespace.Namespace][]string // further containers in a network namespace that is another one's
	ports []string                          // that kakuri's containers have of the host
}

// readNS reads the machine. That kakuri's own records cannot be had only costs names.
func readNS(ctx context.Context, o namespace.Options) (*nsReading, error) {
	var list []engine.Target // before the reading, so that it has them all
	if e, err := lookEngine(); err == nil {
		list, _ = e.Targets()
	}
	s, err := namespace.Read(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &nsReading{System: s, names: map[*namespace.Namespace]string{}, more: map[*namespace.Namespace][]string{}}
	for _, c := range list {
		for _, p := range c.Ports {
			at := plan.HostPort(p.HostAddr, p.HostPort)
			if p.Routed {
				at = plan.HostPort(p.Addr, p.Port)
			}
			r.ports = append(r.ports, fmt.Sprintf("%s → %s %d/%s", at, c.Name, p.Port, p.Proto))
		}
	}
	r.call(list)
	return r, nil
}

// call names namespaces after their containers, oldest first: one that several share is
// the one's that made it, and the reader's and the host's are no container's.
func (r *nsReading) call(list []engine.Target) {
	for _, c := range list {
		p := r.member(c.PID)
		if p == nil {
			continue
		}
		for _, t := range abi.Namespaces() {
			n := p.In(t)
			if n == nil || n.Initial() || r.Self != nil && n == r.Self.In(t) {
				continue
			}
			if _, ok := r.names[n]; !ok {
				r.names[n] = c.Name
			} else if t == abi.NSNetwork {
				r.more[n] = append(r.more[n], c.Name)
			}
		}
	}
}

// member returns a container's first process or, where that one keeps its namespaces from
// an ordinary user as an init does, a child of it.
func (r *nsReading) member(pid int) *namespace.Process {
	first := r.Process(pid)
	if first == nil || first.Readable {
		return first
	}
	for _, p := range r.Processes {
		if p.Parent == pid && p.Readable {
			return p
		}
	}
	return first
}

// find returns the process of a pid or of a container, and what to call it.
func (r *nsReading) find(ref string) (*namespace.Process, string, error) {
	if pid, err := strconv.Atoi(ref); err == nil {
		p := r.Process(pid)
		if p == nil {
			return nil, "", fmt.Errorf("there is no process %d", pid)
		}
		return p, fmt.Sprintf("%d (%s)", p.PID, p.Comm), nil
	}
	e, err := lookEngine()
	if err != nil {
		return nil, "", err
	}
	c, err := runningTarget(e, ref)
	if err != nil {
		return nil, "", err
	}
	p := r.member(c.PID)
	if p == nil {
		return nil, "", fmt.Errorf("container %s: it has just been started or ended: try again", c.Name)
	}
	return p, c.Name, nil
}

func inodeOf(n *namespace.Namespace) uint64 {
	if n == nil {
		return 0
	}
	return n.Inode
}

// list has the namespaces of some types, of all for none.
func (r *nsReading) list(kinds []abi.Namespace) ui.NSList {
	list := ui.NSList{Unreadable: r.Unreadable}
	for _, n := range r.Namespaces {
		if len(kinds) > 0 && !slices.Contains(kinds, n.Type) {
			continue
		}
		row := ui.NSRow{Inode: n.Inode, Type: n.Type.ProcName(), Processes: len(n.Members), Owner: inodeOf(n.Owner), Parent: inodeOf(n.Parent), Name: r.names[n]}
		if len(n.Members) > 0 {
			row.PID, row.Command = n.Members[0].PID, n.Members[0].Command()
		} else if len(n.Refs) > 0 {
			row.Command = n.Refs[0].String()
		}
		list.Namespaces = append(list.Namespaces, row)
	}
	return list
}

func (r *nsReading) name(n *namespace.Namespace) ui.NSName {
	if n == nil {
		return ui.NSName{}
	}
	return ui.NSName{Inode: n.Inode, Name: r.names[n], Host: n.Initial()}
}

func (r *nsReading) process(p *namespace.Process) ui.NSProcess {
	out := ui.NSProcess{Command: p.Command(), PIDs: p.PIDs, Parent: p.Parent, Kernel: p.Kernel}
	for _, at := range r.UIDsOf(p) {
		id := int64(at.ID)
		switch {
		case !at.Known:
			id = ui.NSUnread
		case !at.Mapped:
			id = ui.NSUnmapped
		}
		out.UIDs = append(out.UIDs, id)
	}
	return out
}

func (r *nsReading) forest(t abi.Namespace) ui.NSForest {
	f := ui.NSForest{Unreadable: r.Unreadable}
	for _, n := range r.Roots(t) {
		f.Roots = append(f.Roots, r.node(n))
	}
	return f
}

// byAge is namespaces in the order in which their first processes began, as the pids of those have it: the kernel's numbers of namespaces jump, by
// processors.
func byAge(list []*namespace.Namespace) []*namespace.Namespace {
	first := func(n *namespace.Namespace) int {
		if len(n.Members) == 0 {
			return math.MaxInt
		}
		return n.Members[0].PID
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *namespace.Namespace) int { return cmp.Compare(first(a), first(b)) })
	return list
}

func (r *nsReading) node(n *namespace.Namespace) ui.NSNode {
	out := ui.NSNode{
		NSName: r.name(n), Type: n.Type.ProcName(), Owner: inodeOf(n.Owner),
		UIDMap: rangesOf(n.UIDs), GIDMap: rangesOf(n.GIDs),
	}
	if n.Creator >= 0 {
		out.Creator = &n.Creator
	}
	if n.Type == abi.NSUser {
		for _, o := range r.Owned(n) {
			out.Owns = append(out.Owns, fmt.Sprintf("%s %d", o.Type.ProcName(), o.Inode))
		}
	}
	for _, p := range n.Members {
		out.Processes = append(out.Processes, r.process(p))
	}
	for _, c := range byAge(n.Children) {
		out.Children = append(out.Children, r.node(c))
	}
	return out
}

func rangesOf(m namespace.IDMap) []ui.NSRange {
	var out []ui.NSRange
	for _, line := range m {
		outside := int64(ui.NSUnmapped)
		if id, ok := m.Outside(line.Inside); ok {
			outside = int64(id)
		}
		out = append(out, ui.NSRange{Inside: int64(line.Inside), Outside: outside, Count: int64(line.Count)})
	}
	return out
}

// view is what the pid namespace of p sees.
func (r *nsReading) view(p *namespace.Process) ui.NSView {
	v := ui.NSView{Total: len(r.Processes), Unreadable: r.Unreadable}
	for _, at := range r.PIDsOf(p) {
		v.Levels = append(v.Levels, r.name(at.Namespace))
	}
	for _, seen := range r.Sees(p.In(abi.NSPID)) {
		v.Processes = append(v.Processes, r.process(seen))
	}
	return v
}

func compareNS(a, b *namespace.Process, nameA, nameB string) ui.NSComparison {
	c := ui.NSComparison{A: nameA, B: nameB}
	for _, d := range namespace.Diff(a, b) {
		c.Pairs = append(c.Pairs, ui.NSPair{Type: d.Type.ProcName(), A: d.A, B: d.B, Verdict: ui.NSVerdict(d.Verdict.String())})
	}
	return c
}

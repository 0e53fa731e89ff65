package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cgroup/limits"
)

// Options say which cgroup a container has.
type Options struct {
	// Path is linux.cgroupsPath. An absolute one is below the root of each hierarchy. A relative one,
	// and an empty one, which stands for ID, is below the caller's own cgroup on version 1, and beside it on
	// version 2, where a cgroup with processes has no children with controllers. With a Unit it does not count.
	Path string
	ID   string
	// Rootless says that the caller may lack the right to make cgroups: without Path, and as long as no limit
	// is asked for, that is no fault then, and with it none in the hierarchy of version 2 beside those of version 1.
	Rootless bool
	// Unit makes the cgroup, when set: systemd.
	Unit Unit
}

// A Unit is who makes and removes the cgroup in this package's place.
type Unit interface {
	// Path is the unit's cgroup below the root of every hierarchy.
	Path() string
	// Start makes the unit with the process pid in it.
	Start(pid int) error
	// Attach moves pid into the unit's cgroup, or into sub below it.
	Attach(pid int, sub string) error
	// Stop ends the unit. One that is gone already is no fault.
	Stop() error
}

// A Group is the cgroup of one container, in every hierarchy of its host. It keeps descriptors:
// [Group.Close] it. It is not for use by several goroutines at once.
type Group struct {
	host    *Host
	opts    Options
	nodes   []*node
	need    limits.Limits
	fresh   bool // the Unit has yet to be started
	notices []string
	lacks   []string // mount points of hierarchies that it has no cgroup in
	why     error    // the first of these has none
}

// A node is the cgroup in one hierarchy.
type node struct {
	h     *Hierarchy
	path  string // below the mount point: "/a/b"
	fd    int    // its directory, -1 when not opened
	tree  tree
	alone bool     // the only hierarchy
	made  []string // what Create made of path, outermost first
	sub   string   // below path, where processes join
}

// String is where the cgroup is, as people look for it.
func (n *node) String() string { return path.Join(n.h.Mount, n.path) }

func (n *node) errorf(format string, args ...any) error {
	return fmt.Errorf("cgroup %s: %w", n, fmt.Errorf(format, args...))
}

// Group names the cgroup of a container, and makes none. Beside the hierarchy of version 2 it names none where the caller may not make it and did not
// ask for it: see [Options.Rootless].
func (h *Host) Group(o Options) (*Group, error) {
	g := &Group{host: h, opts: o}
	for i := range h.Hierarchies {
		hi := &h.Hierarchies[i]
		p, err := place(hi, o)
		if err != nil {
			return nil, err
		}
		n := &node{h: hi, path: p, fd: -1, tree: h.tree, alone: h.Unified()}
		if o.spares(n) && o.Unit == nil && !n.alone {
			if err := n.allowed(); permission(err) {
				g.without(n, err)
				continue
			}
		}
		g.nodes = append(g.nodes, n)
	}
	return g, nil
}

// spares reports whether the caller does without a cgroup in a hierarchy where he may not make it: nobody asked for one by its path, or by one of
// version 1, which the hierarchy of version 2 only stands beside.
func (o Options) spares(n *node) bool {
	return o.Rootless && (o.Path == "" || n.h.Version == limits.V2 && !n.alone)
}

// Refuses reports whether the caller has no right to make the cgroup in one of the hierarchies. That may be the one of version 2 beside those of version 1 alone, without which [Host.Group]
// names the cgroup all the same for who is Rootless.
func (h *Host) Refuses(o Options) (bool, error) {
	g, err := h.Group(o)
	if err != nil {
		return false, err
	}
	return len(g.lacks) > 0 || slices.ContainsFunc(g.nodes, func(n *node) bool { return permission(n.allowed()) }), nil
}

// without notes that there is no cgroup in a hierarchy, since nobody asked for it and the caller may not make it.
func (g *Group) without(n *node, err error) {
	g.lacks = append(g.lacks, n.h.Mount)
	if g.why == nil {
		g.why = err
	}
}

// allowed asks whether the caller may make the directory, and those above it that are not there, or have a process enter the one that is there: by that
// name it may be another user's.
func (n *node) allowed() error {
	at, err := n.tree.openMount(n.h)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	below := func(p string) string { return "." + path.Clean("/"+p) }
	if unix.Faccessat(at, below(n.path), unix.F_OK, unix.AT_EACCESS) == nil {
		return n.enterable(at, below(n.path))
	}
	dir := path.Dir(n.path)
	for dir != "/" && unix.Faccessat(at, below(dir), unix.F_OK, unix.AT_EACCESS) == unix.ENOENT {
		dir = path.Dir(dir)
	}
	if err := unix.Faccessat(at, below(dir), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("mkdir %s: %w", n, err)
	}
	return nil
}

// place is the cgroup's path below the mount point of h.
func place(h *Hierarchy, o Options) (string, error) {
	p := o.Path
	switch {
	case o.Unit != nil:
		p = o.Unit.Path()
	case p == "":
		p = o.ID
	}
	if p == "" {
		return "", errors.New("config.json linux.cgroupsPath: neither a path nor an ID")
	}
	if slices.Contains(strings.Split(p, "/"), "..") || strings.Contains(p, "\x00") {
		return "", fmt.Errorf("config.json linux.cgroupsPath: %q: a path of cgroups has no \"..\": name the cgroup from the root", p)
	}
	if path.IsAbs(p) {
		return path.Clean(p), nil
	}
	if h.Own == "" {
		return path.Join("/", p), nil // the caller's own is not to be seen from here
	}
	if h.Version == limits.V2 {
		return path.Join(path.Dir(h.Own), p), nil
	}
	return path.Join(h.Own, p), nil
}

// Open makes a Group of what [Group.Paths] gave. The cgroup may be gone meanwhile.
func (h *Host) Open(paths map[string]string, o Options) (*Group, error) {
	g := &Group{host: h, opts: o}
	for i := range h.Hierarchies {
		hi := &h.Hierarchies[i]
		p, ok := paths[hi.key()]
		if !ok {
			continue
		}
		rest, ok := strings.CutPrefix(p, hi.Mount)
		if !ok || slices.Contains(strings.Split(p, "/"), "..") {
			return nil, fmt.Errorf("cgroup %s is not below %s: the record is of another mount namespace", p, hi.Mount)
		}
		g.nodes = append(g.nodes, &node{h: hi, path: path.Clean("/" + rest), fd: -1, tree: h.tree, alone: h.Unified()})
	}
	return g, nil
}

// Paths gives the cgroup's directories, by controller; version 2's by the empty name. They are
// for a record, and the same as runc's state has.
func (g *Group) Paths() map[string]string {
	paths := map[string]string{}
	for _, n := range g.nodes {
		if n.h.Version == limits.V2 {
			paths[""] = n.String()
			continue
		}
		for _, c := range n.h.Controllers {
			paths[c] = n.String()
		}
	}
	return paths
}

// Notices says what was left out because the caller may not do it, and nobody asked for it.
func (g *Group) Notices() []string {
	switch n := len(g.lacks); n {
	case 0:
		return g.notices
	case 1:
		return append([]string{fmt.Sprintf("no cgroup of its own below %s: %v", g.lacks[0], g.why)}, g.notices...)
	default: // one line for a dozen hierarchies of version 1
		return append([]string{fmt.Sprintf("no cgroup of its own below %s and %d more: %v", g.lacks[0], n-1, g.why)}, g.notices...)
	}
}

// Close closes descriptors. The cgroup stays.
func (g *Group) Close() {
	for _, n := range g.nodes {
		n.close()
	}
}

func (n *node) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
		n.fd = -1
	}
}

// open opens the cgroup's directory, once.
func (n *node) open() (int, error) {
	if n.fd >= 0 {
		return n.fd, nil
	}
	top, err := n.tree.openMount(n.h)
	if err != nil {
		return -1, err
	}
	if n.path == "/" {
		n.fd = top
		return top, nil
	}
	defer unix.Close(top)
	fd, err := openDir(top, n.path[1:])
	if err != nil {
		return -1, n.errorf("open: %w", err)
	}
	n.fd = fd
	return fd, nil
}

// of gives the node of a controller's hierarchy, nil when there is none.
func (g *Group) of(controller string, v limits.Version) *node {
	for _, n := range g.nodes {
		if n.h.Version == v && (v == limits.V2 || n.h.has(controller)) {
			return n
		}
	}
	return nil
}

// main gives the node by which processes are listed: version 2's where there is no other, else
// that of the freezer, which they have to be frozen in.
func (g *Group) main() (*node, error) {
	if len(g.nodes) == 0 {
		return nil, errors.New("the container has no cgroup")
	}
	if n := g.of("freezer", limits.V1); n != nil {
		return n, nil
	}
	if n := g.of("", limits.V2); n != nil {
		return n, nil
	}
	return g.nodes[0], nil
}

// permission reports whether an error is one of rights, as an ordinary user meets them here.
func permission(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// enterable asks whether the caller may have a process enter the cgroup, from a directory of the hierarchy.
func (n *node) enterable(at int, dir string) error {
	if err := unix.Faccessat(at, path.Join(dir, "cgroup.procs"), unix.W_OK, unix.AT_EACCESS); err != nil {
		return n.errorf("write cgroup.procs: %w", err)
	}
	return nil
}

// Create makes the cgroup in every hierarchy, and lets it have the controllers for l. One that has
// processes, or is frozen, is refused: two containers cannot share a cgroup. With a Unit
// nothing is made before [Group.Join]. On an error nothing of it is left.
func (g *Group) Create(l limits.Limits) error {
	g.need = l
	if g.opts.Unit != nil {
		g.fresh = true
		if !g.Exists() {
			return nil
		}
		return g.vacant()
	}
	if err := g.create(l); err != nil {
		return err
	}
	if err := g.vacant(); err != nil {
		g.unmake()
		return err
	}
	return nil
}

// create makes the directories. One that the caller has no right to, and did not ask for by name, is done without.
func (g *Group) create(l limits.Limits) error {
	for _, n := range slices.Clone(g.nodes) {
		spare := g.opts.spares(n)
		err := n.create(l)
		if err == nil && spare && len(n.made) == 0 {
			err = n.enterable(n.fd, ".")
		}
		if err == nil {
			continue
		}
		if spare && permission(err) {
			if n.h.Version == limits.V1 || !g.host.Unified() || len(l.Controllers()) == 0 {
				n.close()
				g.nodes = slices.DeleteFunc(g.nodes, func(o *node) bool { return o == n })
				g.without(n, err)
				continue
			}
			err = fmt.Errorf("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: %w", err)
		}
		g.unmake()
		return fmt.Errorf("unable to apply cgroup configuration: %w", err)
	}
	return nil
}

// vacant sees to it that the cgroup has no process, and would not freeze one. It asks every hierarchy in which the cgroup was there before: of version 1,
// one may have it and another not, and limits would be those of the processes in it.
func (g *Group) vacant() error {
	n, err := g.main()
	if err != nil {
		return nil // none
	}
	for _, n := range g.nodes {
		if len(n.made) > 0 {
			continue
		}
		dir, err := n.open()
		if err != nil {
			return err
		}
		pids, err := allPidsIn(dir)
		if err != nil {
			return n.errorf("read cgroup.procs: %w", err)
		}
		if len(pids) > 0 {
			return fmt.Errorf("container's cgroup is not empty: %d process(es) found: give linux.cgroupsPath another value", len(pids))
		}
	}
	if len(n.made) > 0 {
		return nil
	}
	if frozen, err := g.frozen(); err != nil || frozen {
		return errors.Join(err, errors.New("container's cgroup unexpectedly frozen"))
	}
	return nil
}

// unmake takes away what Create has made.
func (g *Group) unmake() {
	for _, n := range g.nodes {
		n.close()
		top, err := n.tree.openMount(n.h)
		if err != nil {
			continue
		}
		for _, made := range slices.Backward(n.made) {
			unix.Unlinkat(top, made, unix.AT_REMOVEDIR)
		}
		unix.Close(top)
		n.made = nil
	}
}

// create goes down to the cgroup, and makes what is missing on the way. What is empty there may be removed meanwhile: by systemd, a slice of which the
// last unit has ended, or by another container's end. Then it goes down once more.
func (n *node) create(l limits.Limits) error {
	const tries = 100
	for try := 1; ; try++ {
		if err := n.goDown(l); !gone(err) || try == tries {
			return err
		}
	}
}

func (n *node) goDown(l limits.Limits) error {
	at, err := n.tree.openMount(n.h)
	if err != nil {
		return err
	}
	walked := ""
	for name := range strings.SplitSeq(strings.Trim(n.path, "/"), "/") {
		if name == "" {
			break // the root itself
		}
		if n.h.Version == limits.V2 {
			enable(at, func(c string) bool { return n.alone || l.Needs(c) })
		}
		walked = path.Join(walked, name)
		next, err := n.step(at, name, walked)
		if err == nil {
			err = n.prepare(at, next, l)
			if err != nil {
				unix.Close(next)
			}
		}
		unix.Close(at)
		if err != nil {
			return err
		}
		at = next
	}
	n.close()
	n.fd = at
	return nil
}

// step makes the directory name in at, if it is not there, and opens it.
func (n *node) step(at int, name, walked string) (int, error) {
	for {
		switch err := unix.Mkdirat(at, name, 0o755); err {
		case nil:
			n.made = append(n.made, walked)
		case unix.EEXIST, unix.EINTR:
		default:
			// A caller who may not make it may still find it made.
			fd, open := openDir(at, name)
			if open == nil {
				return fd, nil
			}
			return -1, n.errorf("mkdir %s: %w", walked, err)
		}
		fd, err := openDir(at, name)
		if err == nil {
			return fd, nil
		}
		if err != unix.ENOENT { // another one removed it: once more
			return -1, n.errorf("open %s: %w", walked, err)
		}
	}
}

// prepare makes a directory on the way fit for what is below it.
func (n *node) prepare(parent, dir int, l limits.Limits) error {
	if n.h.Version == limits.V2 {
		return n.threads(dir, l)
	}
	if n.h.has("cpuset") {
		return n.inherit(parent, dir)
	}
	return nil
}

// enable gives the children of a version 2 cgroup the wanted ones of the controllers that it has itself: all of them where there is no
// version 1. Beside it, one that is in use could not be mounted as version 1 any more. One that cannot be
// given (a cgroup with processes, one that was not delegated) will be missed when a limit needs it, and only then.
func enable(dir int, wanted func(controller string) bool) {
	have, err := readFile(dir, "cgroup.controllers")
	if err != nil {
		return
	}
	given, err := readFile(dir, "cgroup.subtree_control")
	if err != nil {
		return
	}
	var missing []string
	for _, c := range strings.Fields(have) {
		if wanted(c) && !slices.Contains(strings.Fields(given), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 || writeFile(dir, "cgroup.subtree_control", strings.Join(missing, " ")) == nil || len(missing) == 1 {
		return
	}
	for _, c := range missing {
		_ = writeFile(dir, "cgroup.subtree_control", c) // see above
	}
}

// threads deals with threaded subtrees: cgroups(7), "Thread mode". Below a cgroup with processes
// of its own a new one is invalid, and can still become a threaded one where no limit counts
// by the process.
func (n *node) threads(dir int, l limits.Limits) error {
	kind, err := readFile(dir, "cgroup.type")
	if err != nil {
		return nil // the root has no type
	}
	kind = strings.TrimSpace(kind)
	if kind == "domain" || kind == "" {
		return nil
	}
	for _, c := range l.Controllers() {
		if c == "memory" || c == "blkio" || c == "hugetlb" {
			return n.errorf("cannot enter cgroupv2 with domain controllers -- it is in %s mode: take the limit of %s out, or use another cgroup", kind, c)
		}
	}
	if kind == "domain invalid" {
		if err := writeFile(dir, "cgroup.type", "threaded"); err != nil {
			return n.errorf("write threaded to cgroup.type: %w", err)
		}
	}
	return nil
}

// inherit gives a cgroup of cpuset what its parent has, where it has nothing: until then no
// process can join it.
func (n *node) inherit(parent, dir int) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		file = n.file(file)
		have, err := readFile(dir, file)
		if err == nil && strings.TrimSpace(have) == "" {
			if have, err = readFile(parent, file); err == nil {
				err = writeFile(dir, file, strings.TrimSpace(have))
			}
		}
		if err != nil {
			return n.errorf("%s from its parent: %w", file, err)
		}
	}
	return nil
}

// file is a file's name in this hierarchy.
func (n *node) file(name string) string {
	if n.h.NoPrefix {
		return strings.TrimPrefix(name, "cpuset.")
	}
	return name
}

// Versions says in how many hierarchies of version 1 the cgroup is, and whether in that of version 2.
func (g *Group) Versions() (v1 int, v2 bool) {
	for _, n := range g.nodes {
		if n.h.Version == limits.V2 {
			v2 = true
		} else {
			v1++
		}
	}
	return v1, v2
}

// Controllers are those of the cgroup's host.
func (g *Group) Controllers() limits.Controllers { return g.host.Controllers() }

// Directory opens the directory of the version 2 cgroup, or of sub below it, for clone3 with
// CLONE_INTO_CGROUP: clone(2). It is -1 where the caller has no cgroup of his own there. It is the caller's to close.
func (g *Group) Directory(sub string) (int, error) {
	n := g.of("", limits.V2)
	if n == nil {
		return -1, nil
	}
	return n.below(sub)
}

// Tasks opens the file tasks of the cgroup, or of sub below it, in the hierarchies of version 1, for fds, which is as long as there are. A
// process of one thread gets into the cgroup by a write of "0" to each of them, without the wait for all processes of the machine
// that is the price of [Group.Join]. The descriptors are the caller's to close, those before an error too.
func (g *Group) Tasks(sub string, fds []int) error {
	for _, n := range g.nodes {
		if n.h.Version != limits.V1 {
			continue
		}
		sub, err := cleanSub(path.Join(sub, n.sub))
		if err != nil {
			return err
		}
		dir, err := n.open()
		if err != nil {
			return err
		}
		fd, err := openInside(dir, path.Join(sub, "tasks"), unix.O_WRONLY)
		if err != nil {
			return n.errorf("adding pid to %s: open: %w", path.Clean(sub), err)
		}
		fds[0], fds = fd, fds[1:]
	}
	return nil
}

// below opens the directory of sub below the cgroup, or its own another time.
func (n *node) below(sub string) (int, error) {
	sub, err := cleanSub(path.Join(sub, n.sub))
	if err != nil {
		return -1, err
	}
	dir, err := n.open()
	if err != nil {
		return -1, err
	}
	fd, err := openDir(dir, path.Clean("./"+sub))
	if err != nil {
		return -1, n.errorf("adding pid to %s: open: %w", sub, err)
	}
	return fd, nil
}

// Below has [Group.Join] and [Group.Tasks] move processes to cgroups that are there below this one, by controller of version 1; in
// the hierarchies of the others they go into the cgroup itself. It is for a Group that is used for nothing else.
func (g *Group) Below(subs map[string]string) error {
	given := map[*node]string{}
	for controller, sub := range subs {
		n := g.of(controller, limits.V1)
		if n == nil {
			return fmt.Errorf("unknown controller %s: the container has no cgroup of version 1 for it", controller)
		}
		sub, err := cleanSub(sub)
		if err != nil {
			return err
		}
		if other, ok := given[n]; ok && other != sub {
			return fmt.Errorf("controller %s: its hierarchy is that of %s, and a process is in one cgroup of it: %q or %q", controller, strings.Join(n.h.Controllers, ","), other, sub)
		}
		given[n] = sub
	}
	for n, sub := range given {
		n.sub = sub
	}
	return nil
}

// cleanSub is the path of a cgroup below another one, "" for that itself.
func cleanSub(sub string) (string, error) {
	if slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("bad sub cgroup path: %s: name one below the container's cgroup", sub)
	}
	return strings.Trim(path.Clean("/"+sub), "/"), nil
}

// Join moves the process pid into the cgroup, in every hierarchy, or into the cgroup sub below it. With
// a Unit that has not been started, it is started with pid as its first process.
func (g *Group) Join(pid int, sub string) error {
	sub, err := cleanSub(sub)
	if err != nil {
		return err
	}
	if u := g.opts.Unit; u != nil {
		if err := g.joinUnit(u, pid, sub); err != nil {
			return err
		}
	}
	for _, n := range g.nodes {
		err := n.join(pid, sub)
		for range 20 {
			if g.opts.Unit == nil || !gone(err) || sub != "" || n.sub != "" {
				break
			}
			// On version 1, systemd takes away what it finds empty, in hierarchies that it uses for other units.
			n.close()
			if err = n.create(g.need); err == nil {
				err = n.join(pid, sub)
			}
		}
		if err != nil {
			if permission(err) && g.opts.Rootless && g.opts.Path == "" && sub == "" {
				g.notices = append(g.notices, fmt.Sprintf("the process stays where it is below %s: %v", n.h.Mount, err))
				continue
			}
			return err
		}
	}
	return nil
}

// joinUnit lets systemd do its part, and makes what it does not know of: hierarchies of version 1.
func (g *Group) joinUnit(u Unit, pid int, sub string) error {
	if !g.fresh && g.there() {
		return u.Attach(pid, sub)
	}
	if err := u.Start(pid); err != nil {
		return err
	}
	g.fresh = false
	return g.create(g.need)
}

// there reports whether the cgroup exists: in systemd's own hierarchy, with a Unit.
func (g *Group) there() bool {
	n := g.of("name=systemd", limits.V1)
	if n == nil {
		n = g.of("", limits.V2)
	}
	if n == nil {
		return false
	}
	_, err := n.open()
	return err == nil
}

// Exists reports whether the cgroup is there, in the hierarchy by which processes are listed.
func (g *Group) Exists() bool {
	n, err := g.main()
	if err != nil {
		return false
	}
	n.close() // a descriptor outlives its directory
	_, err = n.open()
	return err == nil
}

func (n *node) join(pid int, sub string) error {
	dir, err := n.below(sub)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	// A process that is being made cannot be moved yet.
	for wait := time.Millisecond; ; wait *= 2 {
		err = writeFile(dir, "cgroup.procs", strconv.Itoa(pid))
		if err != unix.EINVAL || wait > 100*time.Millisecond {
			break
		}
		time.Sleep(wait)
	}
	switch err {
	case nil:
		return nil
	case unix.EBUSY:
		return n.errorf("write %d to cgroup.procs of %q: it has children with controllers, and can have no process itself: %w", pid, "/"+sub, err)
	}
	return n.errorf("write %d to cgroup.procs: %w", pid, err)
}

// Follow finds a place for another process beside pid, the container's first one, where the cgroup itself takes none: on version 2
// when it gives controllers to its children (EBUSY), or is gone, since the container may have moved its own processes. It returns the place below this cgroup,
// for [Group.Join]. Where pid has left it, the Group becomes that of pid's cgroup, which is no Unit's then, as runc has it.
func (g *Group) Follow(pid int) (sub string, err error) {
	n := g.of("", limits.V2)
	if n == nil || !g.host.Unified() {
		return "", nil // on version 1 a cgroup with children takes processes
	}
	if g.Exists() && !g.divided() {
		return "", nil
	}
	own, err := n.cgroupOf(pid)
	if err != nil {
		return "", err
	}
	if sub := below(path.Join(n.h.Root, n.path), own); sub != "" {
		return strings.TrimPrefix(sub, "/"), nil
	}
	place := below(n.h.Root, own)
	if place == "" {
		return "", n.errorf("process %d is not in it, but in %s, which is not below %s", pid, own, n.h.Mount)
	}
	n.close()
	n.path, g.opts.Unit = place, nil
	return "", nil
}

// divided reports whether the cgroup gives controllers to its children: on version 2 it takes no process then.
func (g *Group) divided() bool {
	dir, err := g.of("", limits.V2).open()
	if err != nil {
		return false
	}
	given, err := readFile(dir, "cgroup.subtree_control")
	return err == nil && strings.TrimSpace(given) != ""
}

// cgroupOf is the path of a process's cgroup in this hierarchy, as /proc/PID/cgroup has it: cgroups(7).
func (n *node) cgroupOf(pid int) (string, error) {
	text, err := n.tree.read(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, p, _ := strings.Cut(rest, ":")
		if n.h.Version == limits.V2 && id == "0" || n.h.Version == limits.V1 && slices.ContainsFunc(strings.Split(controllers, ","), n.h.has) {
			return p, nil
		}
	}
	return "", n.errorf("process %d is in none of this hierarchy", pid)
}

// Delegate gives the cgroup to the user uid, so that root of a container's user namespace can make cgroups
// below it: cgroups(7), "Delegation". It is for version 2; the limits stay the caller's.
func (g *Group) Delegate(uid int) error {
	n := g.of("", limits.V2)
	if n == nil || !g.host.Unified() {
		return nil
	}
	dir, err := n.open()
	if err != nil {
		return err
	}
	files := "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n"
	if list, err := g.host.tree.read("/sys/kernel/cgroup/delegate"); err == nil {
		files = list
	}
	if err := unix.Fchown(dir, uid, -1); err != nil {
		return n.errorf("chown: %w", err)
	}
	for name := range strings.FieldsSeq(files) {
		fd, err := openFile(dir, name, unix.O_PATH)
		if err == unix.ENOENT {
			continue // of a controller that is not enabled
		}
		if err == nil {
			err = unix.Fchownat(fd, "", uid, -1, unix.AT_EMPTY_PATH)
			unix.Close(fd)
		}
		if err != nil {
			return n.errorf("chown %s: %w", name, err)
		}
	}
	return nil
}

package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/tour"
	"github.com/kakuri/kakuri/ui"
)

// Scripts for the shell inside. Those that look at processes have builtins only, so that
// they do not see themselves.
const (
	listScript = `for p in /proc/[0-9]*; do read c < $p/comm; echo "${p#/proc/} $c"; done`

	// The loop waits until the child has become sleep; some shells never let it.
	shellScript = `sleep 86400 < /dev/null &
i=0; until { read c < /proc/$!/comm && [ "$c" = sleep ]; } || [ $i = 99999 ]; do i=$((i+1)); done`

	// The innermost shell lists what it sees into the pipe, then waits in it for ever.
	nestedScript = `mkfifo /tmp/up
/tmp/kakuri unshare --fork --pid --mount-proc sh -c 'for p in /proc/[0-9]*; do echo "${p#/proc/}"; done > /tmp/up; read c < /tmp/up' < /dev/null &
innermost=; while read n; do innermost="$innermost $n"; done < /tmp/up`
)

// theShell is the container that most experiments look at: a shell and a sleep.
func (l *lab) theShell(id string) (*cell, error) {
	return l.share(&l.shell, id, engine.Config{}, shellScript)
}

// theNested is a container with a pid namespace inside it.
func (l *lab) theNested(id string) (*cell, error) {
	self, err := l.exe()
	if err != nil {
		return nil, err
	}
	return l.share(&l.nested, id, engine.Config{
		CapAdd: []string{"SYS_ADMIN"}, SecurityOpt: []string{"systempaths=unconfined"}, Mounts: []engine.Mount{self},
	}, nestedScript)
}

// link returns a namespace of a process in the kernel's notation; empty when it cannot be read.
func link(p *namespace.Process, t abi.Namespace) string {
	if p.Inodes[t] == 0 {
		return ""
	}
	return fmt.Sprintf("%s:[%d]", t.ProcName(), p.Inodes[t])
}

// own returns a namespace of this process.
func own(t abi.Namespace) (string, error) {
	p, err := namespace.ReadProcess(nil, os.Getpid())
	if err != nil {
		return "", err
	}
	return link(p, t), nil
}

// ordinary is E1.
func (l *lab) ordinary() (*tour.E1, error) {
	r := &tour.E1{}
	init, err := namespace.ReadProcess(nil, 1)
	if err == nil {
		r.Host.Init = link(init, abi.NSPID)
	} else if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) { // hidepid
		return nil, err
	}
	if r.Host.Self, err = own(abi.NSPID); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(l.ctx, patience)
	defer stop()
	sh := exec.CommandContext(ctx, "sh", "-c", "read line")
	in, err := sh.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := sh.Start(); err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	defer sh.Wait()
	defer in.Close()
	p, err := namespace.ReadProcess(nil, sh.Process.Pid)
	if err != nil {
		return nil, err
	}
	r.Inside.PID, r.Inside.PIDNamespace, r.Inside.PIDs = p.PID, link(p, abi.NSPID), p.PIDs
	return r, nil
}

// first is E2.
func (l *lab) first() (*tour.E2, error) {
	c, err := l.theShell("E2")
	if err != nil {
		return nil, err
	}
	r := &tour.E2{}
	r.Host.PID = c.box.PID
	r.Inside.PID, err = c.number(l.ctx, "echo $$")
	return r, err
}

const readPIDLink = "readlink /proc/self/ns/pid"

// another is E3.
func (l *lab) another() (*tour.E3, error) {
	c, err := l.theShell("E3")
	if err != nil {
		return nil, err
	}
	r := &tour.E3{}
	if r.Host.PIDNamespace, err = own(abi.NSPID); err != nil {
		return nil, err
	}
	r.Inside.PIDNamespace, err = c.line(l.ctx, readPIDLink)
	return r, err
}

// list returns the processes that /proc lists inside, by pid.
func (c *cell) list(ctx context.Context) ([]tour.Proc, error) {
	lines, err := c.ask(ctx, listScript)
	if err != nil {
		return nil, err
	}
	var list []tour.Proc
	for _, line := range lines {
		number, name, _ := strings.Cut(line, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("inside, /proc lists %q", line)
		}
		list = append(list, tour.Proc{PID: pid, Command: name})
	}
	slices.SortFunc(list, func(a, b tour.Proc) int { return a.PID - b.PID })
	return list, nil
}

// members returns the machine's processes, and those of them that the container's pid
// namespace sees, by their number there.
func (l *lab) members(c *cell) (*namespace.System, []*namespace.Process, error) {
	sys, err := namespace.Read(l.ctx, namespace.Options{Quick: true})
	if err != nil {
		return nil, nil, err
	}
	first := sys.Process(c.box.PID)
	if first == nil || first.In(abi.NSPID) == nil {
		return nil, nil, fmt.Errorf("the host does not see the container's process %d", c.box.PID)
	}
	level := len(first.PIDs) - 1
	list := sys.Sees(first.In(abi.NSPID))
	slices.SortFunc(list, func(a, b *namespace.Process) int { return a.PIDs[level] - b.PIDs[level] })
	return sys, list, nil
}

// lists is E4.
func (l *lab) lists() (*tour.E4, error) {
	c, err := l.theShell("E4")
	if err != nil {
		return nil, err
	}
	r := &tour.E4{}
	if r.Inside.Processes, err = c.list(l.ctx); err != nil {
		return nil, err
	}
	sys, members, err := l.members(c)
	if err != nil {
		return nil, err
	}
	r.Host.Processes = len(sys.Processes)
	for _, p := range members {
		r.Host.Members = append(r.Host.Members, p.PIDs[len(p.PIDs)-1])
	}
	return r, nil
}

// numbers is E5.
func (l *lab) numbers() (*tour.E5, error) {
	c, err := l.theShell("E5")
	if err != nil {
		return nil, err
	}
	r := &tour.E5{}
	if r.Inside.Processes, err = c.list(l.ctx); err != nil {
		return nil, err
	}
	sys, members, err := l.members(c)
	if err != nil {
		return nil, err
	}
	r.Host.Parent = sys.Process(c.box.PID).Parent
	if p := sys.Process(r.Host.Parent); p != nil {
		r.Host.Monitor = p.Comm
	}
	for _, p := range members {
		r.Host.Processes = append(r.Host.Processes, tour.Leveled{PIDs: p.PIDs, Command: p.Comm})
	}
	return r, nil
}

// same is E6.
func (l *lab) same() (*tour.E6, error) {
	c, err := l.theShell("E6")
	if err != nil {
		return nil, err
	}
	p, err := namespace.ReadProcess(nil, c.box.PID)
	if err != nil {
		return nil, err
	}
	r := &tour.E6{}
	r.Host.PID, r.Host.PIDNamespace = p.PID, link(p, abi.NSPID)
	r.Inside.PIDNamespace, err = c.line(l.ctx, readPIDLink)
	return r, err
}

// innermost returns what the innermost pid namespace sees.
func (c *cell) innermost(ctx context.Context) ([]int, error) {
	line, err := c.line(ctx, "echo $innermost")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, s := range strings.Fields(line) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("the innermost /proc lists %q", line)
		}
		list = append(list, n)
	}
	return list, nil
}

// sight is E7.
func (l *lab) sight() (*tour.E7, error) {
	c, err := l.theNested("E7")
	if err != nil {
		return nil, err
	}
	r := &tour.E7{}
	if r.Inside.Innermost, err = c.innermost(l.ctx); err != nil {
		return nil, err
	}
	list, err := c.list(l.ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		r.Inside.Container = append(r.Inside.Container, p.PID)
	}
	sys, members, err := l.members(c)
	if err != nil {
		return nil, err
	}
	r.Host.Processes, r.Host.Self = len(sys.Processes), os.Getpid()
	for _, p := range members {
		r.Host.Nested = append(r.Host.Nested, tour.Leveled{PIDs: p.PIDs, Command: p.Comm})
	}
	return r, nil
}

// tree is E15.
func (l *lab) tree() (*tour.E15, error) {
	c, err := l.theNested("E15")
	if err != nil {
		return nil, err
	}
	r := &tour.E15{}
	if r.Inside.Processes, err = c.innermost(l.ctx); err != nil {
		return nil, err
	}
	sys, _, err := l.members(c)
	if err != nil {
		return nil, err
	}
	// Of the host's children only the one of this experiment, of what is below it all.
	path := sys.Process(c.box.PID).In(abi.NSPID).Path()
	root := node(path[0])
	root.Host = true
	if len(path) > 1 {
		root.Children = []ui.NSNode{below(path[1])}
	}
	r.Host.Tree.Roots = ui.List[ui.NSNode]{root}
	return r, nil
}

// node is a pid namespace with its own processes.
func node(n *namespace.Namespace) ui.NSNode {
	out := ui.NSNode{NSName: ui.NSName{Inode: n.Inode}, Type: n.Type.ProcName()}
	for _, p := range n.Members {
		out.Processes = append(out.Processes, ui.NSProcess{Command: p.Comm, PIDs: p.PIDs, Parent: p.Parent, Kernel: p.Kernel})
	}
	return out
}

func below(n *namespace.Namespace) ui.NSNode {
	out := node(n)
	for _, c := range n.Children {
		out.Children = append(out.Children, below(c))
	}
	return out
}

// users is E8.
func (l *lab) users() (*tour.E8, error) {
	c, err := l.theShell("E8")
	if err != nil {
		return nil, err
	}
	p, err := namespace.ReadProcess(nil, c.box.PID)
	if err != nil {
		return nil, err
	}
	uids, _, err := namespace.ReadIDMaps(nil, c.box.PID)
	if err != nil {
		return nil, err
	}
	r := &tour.E8{}
	r.Host.Caller, r.Host.PID, r.Host.UID = l.Engine.Host().UID, p.PID, p.UIDs.Effective
	for _, m := range uids {
		r.Host.UIDMap = append(r.Host.UIDMap, tour.IDRange{Inside: m.Inside, Outside: m.Outside, Count: m.Count})
	}
	r.Inside.UID, err = c.number(l.ctx, "id -u")
	return r, err
}

// files is E9.
func (l *lab) files() (*tour.E9, error) {
	c, err := l.start(engine.Config{Mounts: []engine.Mount{{
		Type: "tmpfs", Dest: tour.TourDir, Options: []string{"nosuid", "nodev", "noexec"}, Flag: "--tmpfs " + tour.TourDir,
	}}})
	if err != nil {
		return nil, err
	}
	r := &tour.E9{File: "/hello.txt"}
	for n := 2; exists(r.File); n++ { // somebody's own
		r.File = fmt.Sprintf("/hello-%d.txt", n)
	}
	if r.Inside.File, err = c.line(l.ctx, "echo hello > "+r.File+" && cat "+r.File); err != nil {
		return nil, err
	}
	lines, err := c.ask(l.ctx, "cat /proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	inside, err := namespace.ParseMounts([]byte(strings.Join(lines, "\n")))
	if err != nil {
		return nil, err
	}
	host, err := namespace.ReadMounts(nil, os.Getpid())
	if err != nil {
		return nil, err
	}
	r.Inside.Mounts, r.Host.Mounts = typesAt(inside, tour.TourDir), typesAt(host, tour.TourDir)
	r.Host.File = exists(r.File)
	return r, nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// typesAt lists the types of the file systems that are mounted on a directory.
func typesAt(mounts []namespace.Mount, dir string) []string {
	types := []string{}
	for _, m := range mounts {
		if m.Point == dir {
			types = append(types, m.Type)
		}
	}
	return types
}

// ports is E10.
func (l *lab) ports() (*tour.E10, error) {
	self, err := l.exe()
	if err != nil {
		return nil, err
	}
	r := &tour.E10{}
	if r.Host.Port, err = freePort(8080); err != nil {
		return nil, err
	}
	if r.Host.Network, err = own(abi.NSNetwork); err != nil {
		return nil, err
	}
	var cells []*cell
	for _, name := range []string{"web-a", "web-b"} {
		c, err := l.start(engine.Config{Hostname: name, Mounts: []engine.Mount{self}})
		if err != nil {
			return nil, err
		}
		cells = append(cells, c)
		// Its first line says that it listens, or why it cannot.
		said, err := c.line(l.ctx, fmt.Sprintf("mkfifo /tmp/up; /tmp/kakuri tour serve %d < /dev/null > /tmp/up 2>&1 &\nuntil [ -p /tmp/up ]; do :; done; read line < /tmp/up; echo \"$line\"", r.Host.Port))
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(said, "listening ") {
			return nil, fmt.Errorf("in %s, tour serve says: %s", name, said)
		}
		r.Inside.Servers = append(r.Inside.Servers, tour.Server{Name: name})
	}
	for i, c := range cells {
		s := &r.Inside.Servers[i]
		if s.Answer, err = c.line(l.ctx, fmt.Sprintf("/tmp/kakuri tour ask %d", r.Host.Port)); err != nil {
			return nil, err
		}
		if s.Network, err = c.line(l.ctx, "readlink /proc/self/ns/net"); err != nil {
			return nil, err
		}
	}
	if fd, err := listen(r.Host.Port); err == nil {
		r.Host.Free = true
		closeFD(fd)
	}
	return r, nil
}

// others is E11.
func (l *lab) others() (*tour.E11, error) {
	c, err := l.start(engine.Config{Hostname: tour.IslandName, Boottime: tour.ClockOffset})
	if err != nil {
		return nil, err
	}
	r := &tour.E11{}
	segment, drop, err := newSegment()
	if err != nil {
		return nil, err
	}
	defer drop()
	queue := "/dev/mqueue/tour-" + c.box.ID[:12]
	if err := l.othersHere(r, c, segment, path.Base(queue), func() error {
		_, err := c.ask(l.ctx, ": > "+queue)
		return err
	}); err != nil {
		return nil, err
	}
	return r, l.othersInside(r, c, segment, queue)
}

// spaces are the namespaces that E11 is about.
func spaces() [4]abi.Namespace {
	return [...]abi.Namespace{abi.NSUTS, abi.NSIPC, abi.NSCgroup, abi.NSTime}
}

// othersHere reads the host side.
func (l *lab) othersHere(r *tour.E11, c *cell, segment int, queue string, makeQueue func() error) error {
	if err := makeQueue(); err != nil {
		return err
	}
	var err error
	h := &r.Host
	if h.Hostname, err = os.Hostname(); err != nil {
		return err
	}
	shm, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	h.Segment = hasSegment(strings.Split(string(shm), "\n"), segment)
	mounts, err := namespace.ReadMounts(nil, os.Getpid())
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Type == "mqueue" {
			there := exists(path.Join(m.Point, queue))
			h.Queue = &there
		}
	}
	groups, err := namespace.ReadCgroups(nil, c.box.PID)
	if err != nil {
		return err
	}
	h.Cgroup = longest(groups)
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	if h.Uptime, err = uptime(string(up)); err != nil {
		return err
	}
	for _, t := range spaces() {
		s, err := own(t)
		if err != nil {
			return err
		}
		h.Spaces = append(h.Spaces, s)
	}
	return nil
}

// othersInside reads the same inside.
func (l *lab) othersInside(r *tour.E11, c *cell, segment int, queue string) error {
	in := &r.Inside
	var err error
	if in.Hostname, err = c.line(l.ctx, "cat /proc/sys/kernel/hostname"); err != nil {
		return err
	}
	shm, err := c.ask(l.ctx, "cat /proc/sysvipc/shm")
	if err != nil {
		return err
	}
	in.Segment = hasSegment(shm, segment)
	there, err := c.line(l.ctx, "[ -e "+queue+" ] && echo yes || echo no")
	if err != nil {
		return err
	}
	yes := there == "yes"
	in.Queue = &yes
	lines, err := c.ask(l.ctx, "cat /proc/self/cgroup")
	if err != nil {
		return err
	}
	groups, err := namespace.ParseCgroups([]byte(strings.Join(lines, "\n")))
	if err != nil {
		return err
	}
	in.Cgroup = longest(groups)
	up, err := c.line(l.ctx, "cat /proc/uptime")
	if err != nil {
		return err
	}
	if in.Uptime, err = uptime(up); err != nil {
		return err
	}
	in.Spaces, err = c.ask(l.ctx, "for t in uts ipc cgroup time; do readlink /proc/self/ns/$t; done")
	return err
}

// hasSegment tells whether a /proc/sysvipc/shm lists the segment id.
func hasSegment(lines []string, id int) bool {
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 1 && f[1] == strconv.Itoa(id) {
			return true
		}
	}
	return false
}

// longest returns the cgroup path that says the most: with cgroup v1 there are several.
func longest(groups []namespace.Cgroup) string {
	long := ""
	for _, g := range groups {
		if len(g.Path) > len(long) {
			long = g.Path
		}
	}
	return long
}

func uptime(line string) (float64, error) {
	first, _, _ := strings.Cut(line, " ")
	return strconv.ParseFloat(first, 64)
}

// kernel is E12.
func (l *lab) kernel() (*tour.E12, error) {
	c, err := l.theShell("E12")
	if err != nil {
		return nil, err
	}
	const boot = "/proc/sys/kernel/random/boot_id"
	r := &tour.E12{}
	r.Host.Start = float64(c.took.Microseconds()) / 1000
	for _, f := range []struct {
		name string
		into *string
	}{{"/proc/sys/kernel/osrelease", &r.Host.Kernel}, {boot, &r.Host.BootID}} {
		data, err := os.ReadFile(f.name)
		if err != nil {
			return nil, err
		}
		*f.into = strings.TrimSpace(string(data))
	}
	if r.Inside.Kernel, err = c.line(l.ctx, "uname -r"); err != nil {
		return nil, err
	}
	r.Inside.BootID, err = c.line(l.ctx, "cat "+boot)
	return r, err
}

// plans is E14.
func (l *lab) plans() (*tour.E14, error) {
	r := &tour.E14{HandLine: tour.HandLine(l.Place()), RunLine: "kakuri run host true", User: !l.Engine.Host().Privileged()}
	host := l.Engine.Host()
	hand := plan.UnshareOptions{New: []abi.Namespace{abi.NSPID, abi.NSMount}, Fork: true, MountProc: "/proc", Args: []string{"bash"}}
	if !host.Privileged() {
		hand.New = append(hand.New, abi.NSUser)
		hand.UIDs, hand.GIDs = []plan.IDMapping{{Outside: host.UID, Size: 1}}, []plan.IDMapping{{Outside: host.GID, Size: 1}}
	}
	var err error
	if r.Hand, err = plan.CompileUnshare(hand, host); err != nil {
		return nil, err
	}
	res, err := l.Engine.Run(l.ctx, engine.Config{Image: "host", Command: []string{"true"}, Network: "none", AutoRemove: true}, engine.Streams{}, engine.RunOptions{Timings: true})
	r.Run, r.Code = res.Plan, res.Code
	return r, err
}

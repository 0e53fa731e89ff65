package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
	"github.com/kakuri/kakuri/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultPath is the PATH of a container whose image sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A builder makes the spec of a run, and remembers which flag or default each
// field of it comes from.
type builder struct {
	ctx      context.Context
	engine   *Engine
	look     bool // the plan is only looked at: nothing is made
	run      Config
	rec      Record
	host     plan.Facts
	spec     specs.Spec
	opts     plan.Options
	slot     int
	id       string
	shared   map[string]Container // containers whose namespaces are joined, by mode
	joins    []monitor.Join
	access   []specs.LinuxDeviceCgroup // to devices that it is given
	security securityOpts
	toMake   []Mount // whose source is missing, and made when the container runs
	volumes  *volume.Store
	attach   []volume.Volume // to be mounted before the container runs

	ownMounts []namespace.Mount // when they are asked for: see source
	notes     []string          // what is not as somebody may think: see tell

	cdiDirs []string // nil is CDI's own

	view    *storage.View // of an image
	files   *storage.Image
	storage plan.Plan         // what made the view ready
	etc     map[string][]byte // files of the container's directory that are mounted on those of /etc

	wires  []*wire     // networks
	leased bool        // addresses have been taken
	held   []takenPort // ports of the host that it was to choose
	names  naming
}

func (b *builder) because(field, format string, args ...any) {
	b.opts.Causes[field] = fmt.Sprintf(format, args...)
}

// build makes the spec of a container.
func (e *Engine) build(ctx context.Context, rec Record, look bool) (*builder, error) {
	b := &builder{ctx: ctx, engine: e, look: look || e.look, run: rec.Config, rec: rec, host: e.host, id: rec.ID, slot: rec.Slot, volumes: e.volumes(), shared: map[string]Container{}, cdiDirs: e.cdiDirs}
	for _, n := range []struct{ what, mode string }{
		{"PID", b.run.PID}, {"IPC", b.run.IPC}, {"UTS", b.run.UTS}, {"user namespace", b.run.UserNS}, {"network", b.run.networkMode()}, {"cgroup namespace", b.run.CgroupNS},
	} {
		ref, ok := strings.CutPrefix(n.mode, "container:")
		if !ok {
			continue
		}
		c, err := e.Find(ref)
		if err != nil {
			return nil, err
		}
		if c.ID == rec.ID {
			return nil, ErrConflict{"cannot join own " + n.what}
		}
		if !b.look && c.PID == 0 { // the words before its name are Docker's
			return nil, ErrConflict{fmt.Sprintf("cannot join %s of a non running container: %s: start that one first", n.what, c.Name)}
		}
		b.shared[n.mode] = c
	}
	b.rec.Guarded = len(b.run.Egress) > 0
	for _, c := range b.shared {
		b.rec.Guarded = b.rec.Guarded || c.guarded()
	}
	b.rec.IPC = b.run.IPC
	if c, ok := b.shared[b.run.IPC]; ok {
		if c.IPC != "shareable" && c.IPC != "host" {
			return nil, fmt.Errorf("--ipc container:%s: its ipc namespace is not to be joined: run that container with --ipc shareable", c.Name)
		}
		b.rec.IPC = c.IPC // as open as the one that it joined
	}
	b.opts.InheritFlags = true
	err := b.build()
	if b.files != nil {
		b.files.Close()
	}
	if err != nil {
		return nil, errors.Join(err, b.dropPorts(), e.giveUpNetworks(b))
	}
	b.rec.UserNS, b.rec.Command = b.hasUserNS(), b.spec.Process.Args
	return b, nil
}

// build fills b.spec and b.opts.
func (b *builder) build() error {
	if s := b.run.StopSignal; s != "" {
		if _, ok := abi.ParseSignal(s); !ok {
			return fmt.Errorf("--stop-signal %s: there is no such signal", s)
		}
	}
	var err error
	if b.security, err = parseSecurityOpt(b.run.SecurityOpt); err != nil {
		return err
	}
	b.opts.Causes = map[string]string{}
	b.opts.DefaultLimits = true
	b.opts.Init = b.run.Init
	if !b.run.Interactive {
		b.opts.Nulls = []uint32{0} // what its monitor gives it for stdin
	}
	b.spec = specs.Spec{Version: specs.Version, Linux: &specs.Linux{}, Process: &specs.Process{}, Root: &specs.Root{}, Annotations: b.run.Annotations}
	for _, part := range []func() error{
		b.namespaces, b.root, b.process, b.user, b.mounts, b.networks, b.etcFiles, b.devices, b.cdi, b.cgroup, b.confine, b.limits,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	// Who was given leave to make nodes has use of them, as far as the device filter goes; in a user namespace none can be made.
	b.opts.RootNodev = !b.run.Privileged && !(b.hostRoot() && b.capSet().Has(abi.CapMknod))
	return nil
}

// own reports whether a mode asks for a namespace of the container's own.
func own(mode string) bool {
	kind, _, _ := strings.Cut(mode, ":")
	return mode == "" || mode == "private" || mode == "none" || mode == "shareable" || kind == "auto" || kind == "keep-id"
}

// namespaces are the container's own and those that it joins, with what is kept in them: names, clocks, ids.
func (b *builder) namespaces() error {
	for _, n := range []struct {
		kind specs.LinuxNamespaceType
		flag string
		mode string
	}{
		{specs.UserNamespace, "--userns", b.userMode()},
		{specs.PIDNamespace, "--pid", b.run.PID},
		{specs.MountNamespace, "", ""},
		{specs.NetworkNamespace, "--network", b.run.networkMode()},
		{specs.IPCNamespace, "--ipc", b.run.IPC},
		{specs.UTSNamespace, "--uts", b.run.UTS},
		{specs.CgroupNamespace, "--cgroupns", b.run.CgroupNS},
		{specs.TimeNamespace, "", ""},
	} {
		if n.mode == "host" {
			continue
		}
		// Clocks that nobody shifts are the host's, in a namespace of their own or not.
		if n.kind == specs.TimeNamespace && b.run.Boottime == 0 && b.run.Monotonic == 0 && b.host.NoTimeNS {
			continue
		}
		if err := b.namespace(n.kind, n.flag, n.mode); err != nil {
			return err
		}
	}
	b.opts.Boottime, b.opts.Monotonic = int64(b.run.Boottime), int64(b.run.Monotonic)
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.TimeNamespace && (b.run.Boottime != 0 || b.run.Monotonic != 0) {
			b.because(fmt.Sprintf("linux.namespaces[%d]", i), "--time-offset")
		}
	}
	if own(b.run.UTS) {
		if err := b.hostNames(); err != nil {
			return err
		}
	}
	return b.idMaps()
}

// namespace adds one to the spec: another container's, one that a path names, or a new one.
func (b *builder) namespace(kind specs.LinuxNamespaceType, flag, mode string) error {
	index := len(b.spec.Linux.Namespaces)
	field := fmt.Sprintf("linux.namespaces[%d]", index)
	ns := specs.LinuxNamespace{Type: kind}
	path, isPath := strings.CutPrefix(mode, "ns:")
	if c, ok := b.shared[mode]; ok {
		k, _ := abi.ParseNamespace(string(kind))
		pid := c.PID
		if !b.host.Privileged() {
			pid = c.CommandPID()
		}
		ns.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, k.ProcName())
		b.joins = append(b.joins, monitor.Join{Index: index, Container: c.ID, Command: !b.host.Privileged()})
	} else if isPath && kind == specs.NetworkNamespace {
		if b.hasUserNS() && !(b.host.Privileged() && b.host.Caps.Has(abi.CapSysAdmin)) {
			return fmt.Errorf("--network %s: who enters it needs rights that an ordinary user has not: have the container join another's with --network container:NAME, or run it as root", mode)
		}
		ns.Path = path
	}
	if mode == "" {
		b.because(field, "default: own namespaces")
	} else {
		b.because(field, "%s %s", flag, mode)
	}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, ns)
	return nil
}

// oneWord refuses names that stand in a line of /etc/hosts, and are more there than one: of two lines the second would name others.
func oneWord(flag, name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return fmt.Errorf("%s %q: a name has no spaces, and is one line", flag, name)
	}
	return nil
}

// hostNames are the names in a UTS namespace of the container's own.
func (b *builder) hostNames() error {
	if err := cmp.Or(oneWord("--hostname", b.run.Hostname), oneWord("--domainname", b.run.Domainname)); err != nil {
		return err
	}
	b.spec.Hostname, b.spec.Domainname = b.run.Hostname, b.run.Domainname
	b.because("hostname", "--hostname")
	b.because("domainname", "--domainname")
	switch c, joins := b.shared[b.run.networkMode()]; {
	case joins:
		// Its files of /etc are that one's, which know it by that name.
		b.run.Hostname, b.run.Domainname = c.Config.hostname(c.ID), c.Config.Domainname
		b.rec.Config.Hostname, b.rec.Config.Domainname = b.run.Hostname, b.run.Domainname
		b.spec.Hostname, b.spec.Domainname = b.run.Hostname, b.run.Domainname
		b.because("hostname", "--network %s: that container's", b.run.networkMode())
		b.because("domainname", "--network %s: that container's", b.run.networkMode())
	case b.spec.Hostname != "":
	case b.run.networkMode() == "host":
		// What it tells others by that network is what they know the machine by, as with Docker.
		b.spec.Hostname = b.run.hostname(b.id)
		b.because("hostname", "--network host: the machine's")
	default:
		b.spec.Hostname = b.run.hostname(b.id)
		b.because("hostname", "default: the container's id")
	}
	return nil
}

// userMode is the mode of the user namespace: joining another container's
// namespaces means joining the user namespace that owns them.
func (b *builder) userMode() string {
	if b.run.UserNS != "" {
		return b.run.UserNS
	}
	for _, mode := range []string{b.run.PID, b.run.IPC, b.run.UTS, b.run.networkMode()} {
		if c, ok := b.shared[mode]; ok {
			if c.UserNS {
				return mode
			}
			return "host"
		}
	}
	if b.run.Privileged && b.host.Privileged() {
		return "host"
	}
	return ""
}

// hasUserNS reports whether the container has a user namespace of its own.
func (b *builder) hasUserNS() bool { return own(b.userMode()) }

// hostRoot reports whether root inside is root of the machine.
func (b *builder) hostRoot() bool {
	c, joins := b.shared[b.userMode()]
	return b.host.Privileged() && !b.hasUserNS() && !(joins && c.UserNS)
}

// idMaps maps the container's ids: as root to a range of its own, else the
// caller's id and, where newuidmap is installed, the caller's ranges.
func (b *builder) idMaps() error {
	_, joins := b.shared[b.userMode()]
	b.opts.IDMapRoot = b.host.Privileged() && (b.hasUserNS() || joins)
	if own := b.userMode(); own == "host" || joins {
		return nil
	}
	mode, err := parseUserNS(b.run.UserNS)
	if err != nil {
		return err
	}
	l := b.spec.Linux
	if b.host.Privileged() {
		if mode.keep {
			return fmt.Errorf("--userns %s: root's own id inside would be the machine's root: use --userns host for that, or auto", b.run.UserNS)
		}
		m, err := mode.slotMap(b.slot)
		if err != nil {
			return err
		}
		l.UIDMappings, l.GIDMappings = m, m
	} else {
		uid, gid := mode.inside(b.host.UID, b.host.GID)
		if l.UIDMappings, err = mode.rootlessMap(b.host.UID, uid, b.host.MapsOthers(), b.host.SubUIDs); err != nil {
			return err
		}
		if l.GIDMappings, err = mode.rootlessMap(b.host.GID, gid, b.host.MapsOthers(), b.host.SubGIDs); err != nil {
			return err
		}
	}
	why := "default: ids of its own"
	if b.run.UserNS != "" {
		why = "--userns " + b.run.UserNS
	}
	b.because("linux.uidMappings", "%s", why)
	b.because("linux.gidMappings", "%s", why)
	return nil
}

func (b *builder) root() error {
	b.spec.Root.Readonly = b.run.ReadOnly
	b.because("root.readonly", "--read-only")
	if b.run.Rootfs != "" {
		b.spec.Root.Path = b.run.Rootfs
		b.because("root.path", "--rootfs %s", b.run.Rootfs)
		return nil
	}
	if b.run.fromImage() {
		return b.imageRoot()
	}
	return b.hostImage()
}

func (b *builder) process() error {
	p := b.spec.Process
	p.Terminal = b.run.TTY
	if score := b.run.OOMScoreAdj; score != 0 {
		if score < -1000 || score > 1000 {
			return fmt.Errorf("--oom-score-adj: Invalid value %d, range for oom score adj is [-1000, 1000]", score)
		}
		p.OOMScoreAdj = &score
		b.because("process.oomScoreAdj", "--oom-score-adj %d", score)
	}
	b.because("process.terminal", "-t")
	if p.Terminal && b.run.Rows+b.run.Columns > 0 {
		p.ConsoleSize = &specs.Box{Height: uint(b.run.Rows), Width: uint(b.run.Columns)}
	}
	p.Args = b.run.argv()
	if len(p.Args) == 0 {
		return fmt.Errorf("no command: name one after the image, as in \"kakuri run host sh\"")
	}
	b.because("process.args", "command")
	p.Cwd = "/"
	b.because("process.cwd", "default: /")
	if w := b.run.Workdir; w != "" {
		if !path.IsAbs(w) {
			return fmt.Errorf("-w %s: the working directory must be an absolute path", w)
		}
		p.Cwd = path.Clean(w)
		b.because("process.cwd", "-w %s", w)
	}
	p.Env = []string{"PATH=" + defaultPath}
	if b.spec.Hostname != "" {
		p.Env = append(p.Env, "HOSTNAME="+b.spec.Hostname)
	}
	if b.run.TTY {
		p.Env = append(p.Env, "TERM=xterm")
	}
	for _, e := range b.run.Env {
		if err := checkEnv(e); err != nil {
			return err
		}
	}
	links, err := b.linkVariables()
	p.Env = setEnv(append(p.Env, links...), b.run.Env...)
	return err
}

// user looks the user up in the container's own /etc/passwd and /etc/group.
func (b *builder) user() error {
	user := b.run.User
	if mode, _ := parseUserNS(b.run.UserNS); mode.keep && user == "" {
		uid, gid := mode.inside(b.host.UID, b.host.GID)
		user = fmt.Sprintf("%d:%d", uid, gid)
	}
	u, home, err := resolveUser(b.readFile, user)
	if err != nil {
		return err
	}
	if err := addGroups(b.readFile, &u, b.run.GroupAdd); err != nil {
		return err
	}
	if err := b.hasIDs(user, u); err != nil {
		return err
	}
	b.spec.Process.User = u
	b.because("process.user", "default: root")
	switch {
	case b.run.User != "":
		b.because("process.user", "-u %s", b.run.User)
	case user != "":
		b.because("process.user", "--userns %s", b.run.UserNS)
	}
	if !slices.ContainsFunc(b.spec.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") && e != "HOME=" }) {
		b.spec.Process.Env = setEnv(b.spec.Process.Env, "HOME="+home) // an empty one is none, as for runc
	}
	return nil
}

// hasIDs refuses a user, or groups, that the container's user namespace has no ids for.
func (b *builder) hasIDs(user string, u specs.User) error {
	has := func(id uint32, maps []specs.LinuxIDMapping) bool {
		return len(maps) == 0 || slices.ContainsFunc(maps, func(m specs.LinuxIDMapping) bool { return mapsID(m, id) })
	}
	lacks := func(flag, kind string, id uint32, maps []specs.LinuxIDMapping) error {
		n := uint64(0)
		for _, m := range maps {
			n += uint64(m.Size)
		}
		way := "--userns host has all that the machine has"
		switch mode, _ := parseUserNS(b.run.UserNS); {
		case !b.host.Privileged():
			way = "newuidmap and newgidmap (package uidmap) give a container those that /etc/subuid and /etc/subgid have for you"
		case mode.size > 0 && id < idRange:
			way = fmt.Sprintf("--userns auto:size=%d has it", id+1)
		}
		return fmt.Errorf("%s: the container has no %s %d: its user namespace has %d of them: %s", flag, kind, id, n, way)
	}
	l := b.spec.Linux
	switch flag := "-u " + user; {
	case !has(u.UID, l.UIDMappings):
		return lacks(flag, "uid", u.UID, l.UIDMappings)
	case !has(u.GID, l.GIDMappings):
		return lacks(flag, "gid", u.GID, l.GIDMappings)
	}
	for _, gid := range u.AdditionalGids {
		if !has(gid, l.GIDMappings) {
			flag := "/etc/group of the image"
			if name := strconv.FormatUint(uint64(gid), 10); slices.Contains(b.run.GroupAdd, name) {
				flag = "--group-add " + name
			}
			return lacks(flag, "gid", gid, l.GIDMappings)
		}
	}
	return nil
}

func (b *builder) limits() error {
	set := func(i int) string { return fmt.Sprintf("process.rlimits[%d]", i) }
	p := b.spec.Process
	if !b.security.level.core && !slices.ContainsFunc(b.run.Ulimits, func(u Ulimit) bool { return u.Name == "core" }) {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_CORE"})
		b.because(set(0), "default: no core dumps")
	}
	for _, u := range b.run.Ulimits {
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		if _, ok := abi.ParseRlimit(name); !ok {
			return fmt.Errorf("--ulimit %s: there is no such limit", u.Name)
		}
		b.because(set(len(p.Rlimits)), "--ulimit %s", u.Name)
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	sysctls := map[string]string{}
	if b.run.ownNetwork() {
		// Ports below 1024 and ping need no capability in a network of one's own.
		sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
		sysctls["net.ipv4.ping_group_range"] = "0 " + strconv.Itoa(b.lastGID())
		for k := range sysctls {
			b.because("linux.sysctl."+k, "default: low ports and ping without capabilities")
		}
	}
	for k, v := range b.run.Sysctls {
		if err := b.checkSysctl(k, v); err != nil {
			return err
		}
		sysctls[k] = v
		b.because("linux.sysctl."+k, "--sysctl %s=%s", k, v)
	}
	b.spec.Linux.Sysctl = sysctls
	return nil
}

// lastGID is the highest group id that the container has.
func (b *builder) lastGID() int {
	c, joins := b.shared[b.userMode()]
	if joins || !b.hasUserNS() {
		pid := os.Getpid() // whose user namespace need not be the machine's
		if joins {
			pid = c.PID
		}
		_, gids, _ := namespace.ReadIDMaps(nil, pid) // of one that has just ended there are none, and joining will say so
		last := 0
		for _, m := range gids {
			last = max(last, min(int(m.Inside+m.Count-1), 1<<31-1))
		}
		return last
	}
	last := uint32(0)
	for _, m := range b.spec.Linux.GIDMappings {
		// Mappings of a rootless container may be one id long, then further ones.
		last = max(last, m.ContainerID+m.Size-1)
	}
	return int(last)
}

// ipcSysctls are the parameters of an ipc namespace, beside fs.mqueue.*.
var ipcSysctls = [...]string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}

// checkSysctl lets through what belongs to a namespace of the container's own,
// one key at a time (CVE-2022-0811).
func (b *builder) checkSysctl(key, value string) error {
	refuse := func(why string) error {
		return fmt.Errorf("--sysctl %s: %s", strings.Trim(strconv.Quote(key), `"`), why)
	}
	if strings.ContainsAny(key, "/+=") || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.Contains(key, "..") || strings.Trim(key, ".") != key {
		return refuse("a parameter is named as in net.ipv4.ip_forward")
	}
	if strings.ContainsAny(value, "\n\x00") {
		return refuse("the value has a line break")
	}
	switch {
	case strings.HasPrefix(key, "net."):
		if !b.run.ownNetwork() {
			return refuse("it belongs to the network namespace, which the container shares")
		}
	case strings.HasPrefix(key, "fs.mqueue.") || slices.Contains(ipcSysctls[:], key):
		if !own(b.run.IPC) {
			return refuse("it belongs to the ipc namespace, which the container shares")
		}
	case key == "kernel.hostname" || key == "kernel.domainname":
		return refuse("use --hostname and --domainname")
	default:
		return refuse("it belongs to no namespace: it is the host's")
	}
	return nil
}

// devices adds --device, and with --privileged all of the host's.
func (b *builder) devices() error {
	if b.run.Privileged {
		list, err := hostDevices("/dev")
		if err != nil {
			return err
		}
		for _, d := range list {
			b.because(fmt.Sprintf("linux.devices[%d]", len(b.spec.Linux.Devices)), "--privileged")
			b.spec.Linux.Devices = append(b.spec.Linux.Devices, d)
		}
	}
	var asked []Device
	for _, d := range b.run.Devices {
		if d.named() {
			continue
		}
		list, err := d.nodes()
		if err != nil {
			return fmt.Errorf("--device %s: %w", d.Flag, err)
		}
		asked = append(asked, list...)
	}
	for _, d := range asked {
		dev, err := deviceOf(d.Host)
		if err != nil {
			return fmt.Errorf("--device %s: %w", d.Flag, err)
		}
		dev.Path = d.Inside
		field := fmt.Sprintf("linux.devices[%d]", len(b.spec.Linux.Devices))
		if len(d.Access) < 3 && !b.host.Privileged() {
			return fmt.Errorf("--device %s: fewer rights than rwm need a control group, which an ordinary user's has no say over devices", d.Flag)
		}
		b.allow(dev, d.Access)
		dev.UID, dev.GID = nil, nil // root's inside
		if !b.host.Privileged() || !b.host.Caps.Has(abi.CapMknod) || (b.hasUserNS() && !strings.HasPrefix(path.Clean(d.Inside), "/dev/")) {
			// The node cannot be made in a user namespace, or without the right to; the host's is bound.
			b.because(fmt.Sprintf("mounts[%d]", len(b.spec.Mounts)), "--device %s", d.Flag)
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: d.Inside, Type: "bind", Source: d.Host, Options: []string{"bind", "nosuid", "noexec"}})
			continue
		}
		b.because(field, "--device %s", d.Flag)
		b.spec.Linux.Devices = append(b.spec.Linux.Devices, dev)
	}
	return nil
}

// etcOf is the directory whose etc/passwd a container sees.
func etcOf(r Config) string {
	if r.Rootfs != "" {
		return r.Rootfs
	}
	return "/"
}

// exists reports whether a path of the host is there.
func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

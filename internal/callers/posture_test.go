package callers

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// A finding is what the probe says of one thing.
type finding struct{ Name, Value string }

// probe is the first process of a container that is looked at. It tries, and prints what it found.
func probe(args []string) int {
	switch {
	case len(args) == 1 && args[0] == "i386":
		return survived(func() error { _, err := getpid32(); return err })
	case len(args) == 1 && args[0] == "x32":
		return survived(func() error { return raw(unix.SYS_GETPID | 0x40000000) })
	case len(args) == 1 && args[0] == "true":
		return 0
	case len(args) == 1 && args[0] == "sleep":
		fmt.Println("up")
		os.Stdin.Read(make([]byte, 1))
		return 0
	case len(args) == 2 && args[0] == "hold":
		for { // until it is killed
			time.Sleep(time.Hour)
		}
	}
	var host map[string]string
	if err := json.Unmarshal([]byte(args[0]), &host); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out, err := json.Marshal(findings(host))
	if err != nil {
		return 1
	}
	fmt.Printf("PROBE %s\n", out)
	return 0
}

// threadKilled is the exit code of a probe that lost a thread: a filter may kill just that.
const threadKilled = 255

// survived makes a call on a thread of its own, and gives the exit code that tells how it went.
func survived(call func() error) int {
	tid, answer := make(chan int), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		answer <- call()
	}()
	dir := fmt.Sprintf("/proc/self/task/%d/stat", <-tid)
	for {
		select {
		case err := <-answer:
			return errnoCode(err)
		case <-time.After(10 * time.Millisecond):
		}
		if data, err := os.ReadFile(dir); err != nil || strings.Contains(string(data), ") Z ") {
			return threadKilled
		}
	}
}

// errnoCode is an exit code that tells an error.
func errnoCode(err error) int {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return int(errno)
	}
	return 0
}

// word is an answer of the kernel as the table has it.
func word(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// reached is word for a call that was made with arguments which the kernel refuses with one of errs once it looks at them.
func reached(err error, errs ...syscall.Errno) string {
	var errno syscall.Errno
	if errors.As(err, &errno) && slices.Contains(errs, errno) {
		return "ok"
	}
	return word(err)
}

func join(words ...string) string { return strings.Join(words, ", ") }

// ask starts the probe again, in a way that attr says, and tells how that ended.
func ask(what string, attr *syscall.SysProcAttr) string {
	c := exec.Command("/proc/self/exe", what)
	c.Args[0], c.SysProcAttr = "probe", attr
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() || status.ExitStatus() == threadKilled {
			return "killed"
		}
		return unix.ErrnoName(syscall.Errno(status.ExitStatus()))
	}
	return word(err)
}

func status(key string) string {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

func open(p string, flags int) error {
	fd, err := unix.Open(p, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// shows reports whether a file gives at least a byte.
func shows(p string) bool {
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, make([]byte, 1))
	return err == nil && n == 1
}

// showing lists which of files in /proc give data.
func showing(names ...string) string {
	var list []string
	for _, n := range names {
		if shows("/proc/" + n) {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}

func bits(hex string) int {
	n := 0
	for _, c := range hex {
		var v int
		fmt.Sscanf(string(c), "%x", &v)
		for ; v != 0; v &= v - 1 {
			n++
		}
	}
	return n
}

// findings is all that the probe finds, in the order of the table.
func findings(host map[string]string) []finding {
	var all []finding
	say := func(name, value string) { all = append(all, finding{name, value}) }
	say("own namespaces", ownNamespaces(host))
	data, _ := os.ReadFile("/proc/self/uid_map")
	say("root inside is on the host", strings.Join(strings.Fields(string(data)), " "))
	say("capabilities, effective = bounding", fmt.Sprintf("%d", bits(status("CapEff")))+map[bool]string{false: " of " + fmt.Sprint(bits(status("CapBnd")))}[status("CapEff") == status("CapBnd")])
	say("inheritable, ambient", fmt.Sprintf("%d, %d", bits(status("CapInh")), bits(status("CapAmb"))))
	say("no_new_privs", map[string]string{"0": "off", "1": "on"}[status("NoNewPrivs")])
	say("unshare, clone a user namespace", join(ask("true", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWUSER}), ask("true", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER})))
	say("clone3", reached(raw(unix.SYS_CLONE3, 0, 0), unix.EINVAL))
	all = append(all, sockets()...)
	say("io_uring_setup", reached(raw(unix.SYS_IO_URING_SETUP, 1, 0), unix.EFAULT))
	say("bpf, userfaultfd, perf_event_open", join(reached(raw(unix.SYS_BPF, 0, 0, 0), unix.EINVAL, unix.EFAULT), opened(unix.SYS_USERFAULTFD, 1), reached(raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, ^uintptr(0), ^uintptr(0), 0), unix.EFAULT)))
	say("keyctl, add_key", join(reached(raw(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0), unix.ENOKEY), reached(raw(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0), unix.EFAULT)))
	say("ptrace of a child, of another", join(traceChild(), traceOther()))
	say("process_vm_readv", word(raw(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), 0, 0, 0, 0, 0)))
	say("kcmp, pidfd_getfd", join(word(raw(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 0, 0, 0)), reached(raw(unix.SYS_PIDFD_GETFD, ^uintptr(0), 0, 0), unix.EBADF)))
	say("32-bit calls (i386), x32", join(ask("i386", nil), ask("x32", nil)))
	say("TIOCSTI, on no terminal", word(raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0)))
	say("mknod of a disk, then open", disk())
	say("read the kernel's log", reached(raw(unix.SYS_SYSLOG, 3, 0, 0), unix.EINVAL))
	say("core_pattern, sysrq-trigger, open for writing", join(word(open("/proc/sys/kernel/core_pattern", unix.O_WRONLY)), word(open("/proc/sysrq-trigger", unix.O_WRONLY))))
	say("data in kallsyms, slabinfo, vmallocinfo, kpagecount, interrupts", showing("kallsyms", "slabinfo", "vmallocinfo", "kpagecount", "interrupts"))
	say("in cmdline, config.gz, pagetypeinfo, timer_list, keys, key-users", showing("cmdline", "config.gz", "pagetypeinfo", "timer_list", "keys", "key-users"))
	all = append(all, mounts()...)
	dev, _ := os.ReadDir("/dev")
	say("entries in /dev", fmt.Sprint(len(dev)))
	fds, _ := os.ReadDir("/proc/self/fd")
	say("descriptors beyond 0 to 2", strangers(fds))
	say("variables", fmt.Sprint(len(os.Environ())))
	var core unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &core)
	say("core dumps, hard limit", strings.ReplaceAll(fmt.Sprint(core.Max), "18446744073709551615", "unlimited"))
	return all
}

// strangers lists the descriptors that neither the program nor the Go runtime opened.
func strangers(fds []os.DirEntry) string {
	var list []string
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if fd.Name() > "2" && target != "" && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			list = append(list, fd.Name())
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, " ")
}

func ownNamespaces(host map[string]string) string {
	var list []string
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		if ns, err := os.Readlink("/proc/self/ns/" + kind); err == nil && ns != host[kind] {
			list = append(list, kind)
		}
	}
	if len(list) == 8 {
		return "all eight"
	}
	return strings.Join(list, " ")
}

// opened is the answer of a call that gives a descriptor.
func opened(nr uintptr, args ...uintptr) string {
	var a [3]uintptr
	copy(a[:], args)
	fd, _, errno := syscall.RawSyscall(nr, a[0], a[1], a[2])
	if errno != 0 {
		return word(errno)
	}
	unix.Close(int(fd))
	return "ok"
}

func sockets() []finding {
	try := func(family, kind, protocol uintptr) string { return opened(unix.SYS_SOCKET, family, kind, protocol) }
	var open []string
	const high = 1 << 32 // a bit that the kernel does not read
	differ := 0
	for f := range uintptr(46) {
		plain, more := "", ""
		for _, kind := range []uintptr{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
			plain += try(f, kind, 0)
			more += try(f|high, kind, 0)
		}
		if plain != more {
			differ++
		}
		if strings.Contains(plain, "ok") {
			open = append(open, fmt.Sprint(f))
		}
	}
	return []finding{
		{"families of sockets that open", fmt.Sprint(len(open))},
		{"sockets AF_ALG, AF_VSOCK", join(try(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), try(unix.AF_VSOCK, unix.SOCK_STREAM, 0))},
		{"sockets AF_PACKET, AF_XDP", join(try(unix.AF_PACKET, unix.SOCK_RAW, 0), try(unix.AF_XDP, unix.SOCK_RAW, 0))},
		{"netlink audit, netfilter", join(try(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT), try(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER))},
		{"raw ICMP, ping socket", join(try(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), try(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP))},
		{"families whose answer is another with bit 32 set", fmt.Sprint(differ)},
	}
}

// traceChild starts a process that asks to be traced, as a debugger starts a program.
func traceChild() string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", "true")
	c.Args[0], c.SysProcAttr = "probe", &syscall.SysProcAttr{Ptrace: true}
	if err := c.Start(); err != nil {
		return word(err)
	}
	// It stops at its execve.
	_, err := unix.Wait4(c.Process.Pid, nil, 0, nil)
	if err == nil {
		err = unix.PtraceDetach(c.Process.Pid)
	}
	if err != nil {
		c.Process.Kill()
	}
	c.Wait()
	return word(err)
}

// traceOther attaches to a process that is no child of the one which tries.
func traceOther() string {
	c := exec.Command("/proc/self/exe", "sleep")
	c.Args[0] = "probe"
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		return word(err)
	}
	defer func() { in.Close(); c.Wait() }()
	out.Read(make([]byte, 3))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Attaching to one's child is the same call as to a stranger, for the kernel and for a filter.
	err := unix.PtraceSeize(c.Process.Pid)
	if err == nil {
		unix.PtraceInterrupt(c.Process.Pid)
		unix.Wait4(c.Process.Pid, nil, unix.WALL, nil)
		unix.PtraceDetach(c.Process.Pid)
	}
	return word(err)
}

func disk() string {
	const p = "/tmp/probe-disk"
	err := unix.Mknod(p, unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0)))
	if err != nil {
		return word(err)
	}
	defer unix.Unlink(p)
	if err := open(p, unix.O_RDONLY); err != nil && err != unix.ENXIO {
		return "made, " + word(err)
	}
	return "made, ok"
}

// mounts tells how the file systems are mounted, and what their list tells of the host.
func mounts() []finding {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	options := map[string]string{}
	paths, groups := 0, "not mounted"
	for line := range strings.Lines(string(data)) {
		left, right, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		super := strings.Split(g[len(g)-1], ",")
		opts := strings.Split(f[5], ",")
		for _, o := range super {
			if strings.HasPrefix(o, "hidepid=") {
				opts = append(opts, o)
			}
		}
		options[f[4]] = strings.Join(slices.DeleteFunc(opts, func(o string) bool { return strings.Contains(o, "atime") }), " ")
		if kernel := slices.Contains([]string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue"}, g[0]); !kernel &&
			(f[3] != "/" && f[4] != "/bin/probe" || strings.Contains(right, "lowerdir=/") || strings.Contains(right, "upperdir=/")) {
			paths++
		}
		if strings.HasPrefix(g[0], "cgroup") {
			groups = "read-only"
			if f[3] != "/" {
				groups = "read-only, the host's path is seen"
			}
			if !slices.Contains(opts, "ro") && word(open(f[4]+"/cgroup.procs", unix.O_WRONLY)) == "ok" {
				groups = "can be written"
			}
		}
	}
	return []finding{
		{"/", options["/"]}, {"/proc", options["/proc"]}, {"/sys", options["/sys"]},
		{"control group file system", groups},
		{"mounts that name a path of the host", fmt.Sprint(paths)},
	}
}

// A column is an engine that the probe ran under.
type column struct {
	title   string
	rows    map[string]string
	version string
}

// probing are the steps for one engine: run is its command line up to the container's program, hold one that
// leaves the container running.
func probing(run, hold string) []step {
	return []step{
		{run + ` /bin/probe "$(cat $S/host)"`, 0, "PROBE "},
		{hold + ` && $S/bin/inspector hold-$$`, 0, callsRow},
	}
}

// probePrepare makes a root file system with the probe, and notes the namespaces outside.
const probePrepare = `
mkdir $S/rootfs; tar -C $ROOTFS -c . | tar -C $S/rootfs -x; cp $S/bin/probe $S/rootfs/bin/probe
ROOTFS=$S/rootfs
{ printf '{'; sep=; for n in cgroup ipc mnt net pid time user uts; do printf '%s"%s":"%s"' "$sep" $n "$(readlink /proc/self/ns/$n)"; sep=,; done; printf '}'; } >$S/host
`

// asUser is the start of a command line of the ordinary user.
const asUser = `setpriv --reuid kakuri-test --regid kakuri-test --init-groups env -C $S/home HOME=$S/home USER=kakuri-test XDG_RUNTIME_DIR=$S/xdg`

const userPrepare = `
chmod 1777 /var/tmp
mkdir $S/home $S/xdg
chown kakuri-test: $S/home $S/xdg
`

// An engine is one that the probe can be run under.
type engine struct {
	title    string
	programs []string
	before   string
	steps    []step
}

func ours() []engine {
	const image = "tar -C $ROOTFS --owner=0 --group=0 -c . | $K import - image\n"
	steps := func() []step {
		return append(probing("$K run --network none --rm image", "$K run --network none -d --name held image /bin/probe hold hold-$$ >/dev/null"), step{"$K rm -f held && $K rmi image", 0, ""})
	}
	return []engine{
		{"kakuri, root", nil, probePrepare + "K=$S/bin/kakuri\n" + image, steps()},
		{"kakuri, user", []string{"newuidmap"}, probePrepare + userPrepare + "K=\"" + asUser + " $S/bin/kakuri\"\n" + image, steps()},
	}
}

func peers() []engine {
	// The limits are those of the package's configuration, which may be beyond what the caller may set.
	const run = `$P run --network none --ulimit nofile=512:512 --ulimit nproc=512:512 `
	const podman = `podman --events-backend file --cgroup-manager cgroupfs --storage-driver vfs`
	return []engine{
		{"Docker", []string{"dockerd", "docker", "containerd", "runc"}, probePrepare + dockerd,
			append(probing(`$C run --runtime runc --network none --rm image`, `$C run --runtime runc --network none -d --name held image /bin/probe hold hold-$$ >/dev/null`),
				step{"$C rm -f held && $C version --format 'Docker {{.Server.Version}}'", 0, "Docker "})},
		{"Podman, root", []string{"podman", "conmon", "runc"}, probePrepare + `
mkdir $S/root
P="` + podman + ` --runtime runc --root $S/root --runroot /run/podman"
tar -C $ROOTFS -c . | $P import - localhost/image
`, append(probing(run+"--rm localhost/image", run+`-d --name held localhost/image /bin/probe hold hold-$$ >/dev/null`),
			step{"$P rm -f -t 0 held && $P version --format 'Podman {{.Client.Version}}'", 0, "Podman "})},
		{"Podman, user", []string{"podman", "conmon", "runc", "newuidmap"}, probePrepare + userPrepare + `
P="` + asUser + ` ` + podman + ` --runtime runc --root $S/home/root --runroot $S/xdg/podman"
tar -C $ROOTFS --owner=0 --group=0 -c . | $P import - localhost/image
`, append(probing(run+"--rm localhost/image", run+`-d --name held localhost/image /bin/probe hold hold-$$ >/dev/null`),
			step{"$P rm -f -t 0 held", 0, ""})},
	}
}

// look runs the probe under an engine.
func (e engine) look(t *testing.T) column {
	t.Helper()
	out := session(t, e.programs, e.before, e.steps)
	if t.Failed() {
		t.FailNow()
	}
	c := column{e.title, map[string]string{}, strings.TrimSpace(out[2])}
	_, text, _ := strings.Cut(out[0], "PROBE ")
	var found []finding
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&found); err != nil {
		t.Fatalf("%s: %v: %s", e.title, err, out[0])
	}
	for _, f := range found {
		c.rows[f.Name] = f.Value
	}
	for line := range strings.Lines(out[1]) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			c.rows[k] = v
		}
	}
	return c
}

// rowsOf is the order of the table: the probe's, with what is seen from outside in between.
func rowsOf() []string {
	var list []string
	for _, f := range findings(nil) {
		if f.Name == "unshare, clone a user namespace" {
			list = append(list, callsRow)
		}
		if f.Name == "control group file system" {
			list = append(list, pidsRow, memoryRow)
		}
		list = append(list, f.Name)
	}
	return list
}

// TestPosture has the default of kakuri stand the probe: what a container may is what the page says, and no more. With -update the
// page's table is measured anew, beside Docker and Podman.
func TestPosture(t *testing.T) {
	nstest.User(t)
	nstest.TUN(t, 0o666)
	if runtime.GOARCH != "amd64" {
		t.Skip("the probe has code of amd64")
	}
	if exe, err := elf.Open(nstest.Exe); err != nil || exe.Section(".interp") != nil {
		t.Fatalf("the probe is this test, and has to be a static program: run it with CGO_ENABLED=0 (%v)", err)
	}
	var columns []column
	for _, e := range ours() {
		t.Run(e.title, func(t *testing.T) {
			c := e.look(t)
			columns = append(columns, c)
			for row, want := range bars() {
				if got := c.rows[row]; !slices.Contains(want, got) {
					t.Errorf("%s: %q, want %q", row, got, want)
				}
			}
		})
	}
	if !*golden.Update || t.Failed() {
		return
	}
	var beside []column
	for _, e := range peers() {
		t.Run(e.title, func(t *testing.T) { beside = append(beside, e.look(t)) })
	}
	if len(beside) != len(peers()) {
		t.Fatal("the table has a column for each peer")
	}
	if err := writeTable(append(beside, columns...)); err != nil {
		t.Fatal(err)
	}
}

// Rows that are seen from outside.
const (
	callsRow  = "system calls that the filter lets through"
	pidsRow   = "limit on processes"
	memoryRow = "limit on memory"
)

// bars are what the default has to be, on each kernel.
func bars() map[string][]string {
	return map[string][]string{
		"own namespaces": {"all eight"}, "capabilities, effective = bounding": {"11"}, "inheritable, ambient": {"0, 0"},
		"unshare, clone a user namespace": {"EPERM, EPERM"}, "clone3": {"ENOSYS"},
		"families of sockets that open": {"3", "4"}, "families whose answer is another with bit 32 set": {"0"}, // without IPv6: 3
		"sockets AF_ALG, AF_VSOCK": {"EAFNOSUPPORT, EAFNOSUPPORT"}, "sockets AF_PACKET, AF_XDP": {"EPERM, EAFNOSUPPORT"}, "netlink audit, netfilter": {"EINVAL, EPERM"},
		"raw ICMP, ping socket": {"EPERM, ok"}, "io_uring_setup": {"EPERM", "ENOSYS"}, "bpf, userfaultfd, perf_event_open": {"EPERM, EPERM, EPERM"},
		"keyctl, add_key": {"EPERM, EPERM"}, "ptrace of a child, of another": {"ok, ok"}, "process_vm_readv": {"EPERM"}, "kcmp, pidfd_getfd": {"EPERM, EPERM"},
		"32-bit calls (i386), x32": {"killed, killed"}, "TIOCSTI, on no terminal": {"EIO"}, "mknod of a disk, then open": {"EPERM"},
		"read the kernel's log": {"EPERM"}, "core_pattern, sysrq-trigger, open for writing": {"EACCES, EACCES", "EACCES, EROFS", "EACCES, ENOENT", "EROFS, EROFS"},
		"data in kallsyms, slabinfo, vmallocinfo, kpagecount, interrupts": {"none"}, "in cmdline, config.gz, pagetypeinfo, timer_list, keys, key-users": {"none"},
		"/proc": {"rw nosuid nodev noexec hidepid=invisible"}, "/sys": {"ro nosuid nodev noexec"},
		"control group file system": {"not mounted", "read-only"}, "mounts that name a path of the host": {"3"}, // of /etc/hosts, hostname and resolv.conf
		"descriptors beyond 0 to 2": {"none"}, "core dumps, hard limit": {"0"},
	}
}

// cell is a value as the page has it.
func cell(row, v string) string {
	switch {
	case row != "root inside is on the host":
		return v
	case strings.HasPrefix(v, "0 0 "):
		return "root"
	case strings.HasPrefix(v, "0 1879"):
		return "an id nobody has"
	}
	return "the caller"
}

// writeTable replaces the table of docs/security.md.
func writeTable(columns []column) error {
	const begin, end = "<!-- measured by internal/callers -->\n", "<!-- end -->"
	page := filepath.Join("..", "..", "docs", "security.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(page + " has no place for the table")
	}
	var b strings.Builder
	b.WriteString(before + begin)
	line := func(first string, cellOf func(c column) string) {
		b.WriteString("| " + first)
		for _, c := range columns {
			b.WriteString(" | " + cellOf(c))
		}
		b.WriteString(" |\n")
	}
	line("", func(c column) string { return c.title })
	b.WriteString(strings.Repeat("|---", len(columns)+1) + "|\n")
	for _, row := range rowsOf() {
		line(row, func(c column) string { return cell(row, c.rows[row]) })
	}
	b.WriteString(end + after)
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

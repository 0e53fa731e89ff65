package oci

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The played CRIU does what its environment says, and writes each request to a file of playDir:
//
//	TEST_CRIU_DIR      that directory
//	TEST_CRIU_VERSION  MAJOR.MINOR.LAST, by default 4.2.0
//	TEST_CRIU_LACKS    features are not there
//	TEST_CRIU_AT       STAGE=fail, STAGE=die or STAGE=hold: at a stage it answers with a failure, ends, or says so and waits for the
//	                   end of the socket, and leaves behind what it has made
//	TEST_CRIU_MASTER   sends a terminal
//	TEST_CRIU_SHARES   the namespaces, by their names in /proc, that its image has none of
const (
	playDir, playVersion, playLacks, playAt, playMaster, playShares = "TEST_CRIU_DIR", "TEST_CRIU_VERSION", "TEST_CRIU_LACKS", "TEST_CRIU_AT", "TEST_CRIU_MASTER", "TEST_CRIU_SHARES"
)

// proto writes protocol buffers by pairs of a field and a number, text, or message.
func proto(pairs ...any) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		field := uint64(pairs[i].(int)) << 3
		switch v := pairs[i+1].(type) {
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, field), uint64(v))
		case string:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, field|2), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, field|2), uint64(len(v))), v...)
		}
	}
	return b
}

// unproto reads numbers and bytes: the values of each field.
func unproto(b []byte) map[int][]string {
	m := map[int][]string{}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[max(n, 1):]
		return v
	}
	for len(b) > 0 {
		key := next()
		field := int(key >> 3)
		if key&7 == 0 {
			m[field] = append(m[field], strconv.FormatInt(int64(next()), 10))
			continue
		}
		size := next()
		m[field] = append(m[field], string(b[:size]))
		b = b[size:]
	}
	return m
}

// playCRIU is criu swrk.
func playCRIU(args []string) int {
	if os.Getenv("TEST_CRIU_DIR") == "" || len(args) != 2 || args[0] != "swrk" {
		return 9
	}
	p := &player{dir: os.Getenv(playDir)}
	for {
		m, ok := p.receive()
		if !ok {
			return 0
		}
		kind, _ := strconv.Atoi(m[1][0])
		switch kind {
		case 10:
			v := []int{4, 2, 0}
			if s := os.Getenv(playVersion); s != "" {
				fmt.Sscanf(s, "%d.%d.%d", &v[0], &v[1], &v[2])
			}
			p.send(proto(1, 10, 2, 1, 10, proto(1, v[0], 2, v[1], 4, v[2])), nil)
		case 9:
			has := 1
			if os.Getenv(playLacks) != "" {
				has = 0
			}
			p.send(proto(1, 9, 2, 1, 8, proto(1, has, 2, has)), nil)
		case 1, 4:
			return p.dump(kind, unproto([]byte(m[2][0])))
		case 2:
			return p.restore(unproto([]byte(m[2][0])))
		}
	}
}

type player struct {
	dir  string
	last []byte
	opts map[int][]string
}

func (p *player) receive() (map[int][]string, bool) {
	buf := make([]byte, 64<<10)
	n, err := unix.Read(3, buf)
	if err != nil || n == 0 {
		return nil, false
	}
	p.last = buf[:n]
	return unproto(buf[:n]), true
}

func (p *player) send(b []byte, rights []byte) { unix.Sendmsg(3, b, rights, nil, unix.MSG_NOSIGNAL) }

// stage tells of one, and reports whether to go on, or with which code to end.
func (p *player) stage(kind int, name string, pid int, rights []byte) (code int, ok bool) {
	if at, what, _ := strings.Cut(os.Getenv(playAt), "="); at == name {
		switch what {
		case "fail":
			log := fmt.Sprintf("/proc/%d/fd/%s/%s", os.Getppid(), p.opts[1][0], p.opts[10][0])
			os.WriteFile(log, []byte("(1) before\n(2) Error (util.c:1): rlimit: a right\n(2) Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n(3) Error (a.c:1): the \x1b cause\n(4) Error (b.c:2): what follows\n"), 0o600)
			p.send(proto(1, kind, 2, 0, 7, 5, 9, "its message\n"), nil)
			return 1, false
		case "die":
			return 3, false
		case "hold":
			os.WriteFile(filepath.Join(p.dir, "holds"), nil, 0o600)
			p.receive()
			return 4, false
		}
	}
	p.send(proto(1, 6, 2, 1, 5, proto(1, name, 2, pid)), rights)
	m, ok := p.receive()
	if !ok {
		return 5, false
	}
	if m[3][0] != "1" {
		p.send(proto(1, kind, 2, 0), nil)
		return 1, false
	}
	return 0, true
}

func (p *player) dump(kind int, opts map[int][]string) int {
	p.opts = opts
	os.WriteFile(filepath.Join(p.dir, "dump"), p.last, 0o600)
	os.WriteFile(filepath.Join(p.dir, "umask"), fmt.Appendf(nil, "%03o", syscall.Umask(0o077)), 0o600)
	for _, name := range []string{"pre-dump", "network-lock", "status-ready", "post-dump"} {
		if code, ok := p.stage(kind, name, 0, nil); !ok {
			return code
		}
	}
	if opts[3] == nil && kind == 1 {
		pid, _ := strconv.Atoi(opts[2][0])
		unix.Kill(pid, unix.SIGKILL)
	}
	if kind == 1 {
		writeProcess(fmt.Sprintf("/proc/%d/fd/%s", os.Getppid(), opts[1][0]), 1, 0, 1, nil)
	}
	p.send(proto(1, kind, 2, 1), nil)
	p.receive()
	return 0
}

// imageFile is one of an image: what it is of, and messages.
func imageFile(magic uint32, messages ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x54564319), magic)
	for _, m := range messages {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
	}
	return b
}

// writeProcess writes an image of a process that is alone: with these capabilities, no_new_privs and, where there is one, a filter of seccomp.
func writeProcess(dir string, pid, caps, noNewPrivs int, filter []byte) error {
	own := proto(1, 0, 2, 0, 10, proto(1, 0, 9, 0, 9, 0, 10, caps, 10, 0, 11, 0, 11, 0, 12, caps, 12, 0, 13, 0, 18, noNewPrivs))
	err := errors.Join(os.WriteFile(dir+"/pstree.img", imageFile(0x50273030, proto(1, pid, 2, 0, 3, pid, 4, pid, 5, pid)), 0o600), os.RemoveAll(dir+"/seccomp.img"))
	if filter != nil {
		own = append(own, proto(11, 2, 12, 0)...)
		err = errors.Join(err, os.WriteFile(dir+"/seccomp.img", imageFile(0x64413049, proto(1, proto(1, filter))), 0o600))
	}
	return errors.Join(err, os.WriteFile(fmt.Sprintf("%s/core-%d.img", dir, pid), imageFile(0x55053847, proto(1, 1, 3, proto(1, 1, 2, 0), 5, own)), 0o600))
}

// restore makes a process that sleeps, a child of who asked for it.
func (p *player) restore(opts map[int][]string) int {
	p.opts = opts
	os.WriteFile(filepath.Join(p.dir, "restore"), p.last, 0o600)
	var mounts bytes.Buffer
	if root := opts[13]; root != nil {
		list, _ := os.ReadDir(root[0])
		for _, e := range list {
			fmt.Fprintln(&mounts, e.Name())
		}
	}
	os.WriteFile(filepath.Join(p.dir, "root"), mounts.Bytes(), 0o600)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		os.WriteFile(filepath.Join(p.dir, "mounts"), mounts, 0o600)
	}
	if ring, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING); err == nil {
		os.WriteFile(filepath.Join(p.dir, "keyring"), []byte(ring), 0o600)
	}
	var inherited bytes.Buffer
	for _, m := range opts[27] {
		fd, _ := strconv.Atoi(unproto([]byte(m))[2][0])
		var st unix.Stat_t
		fmt.Fprintln(&inherited, unproto([]byte(m))[1][0], unix.Fstat(fd, &st) == nil && isNull(&st), st.Dev)
	}
	os.WriteFile(filepath.Join(p.dir, "inherited"), inherited.Bytes(), 0o600)
	if code, ok := p.stage(2, "pre-restore", 0, nil); !ok {
		return code
	}
	runtime.LockOSThread() // which joins what is to be joined, and makes the process
	proc, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT | p.namespaces()}})
	if err != nil {
		return 6
	}
	for _, name := range []string{"setup-namespaces", "post-setup-namespaces", "orphan-pts-master", "post-restore", "network-unlock", "post-resume"} {
		var rights []byte
		if name == "orphan-pts-master" {
			if os.Getenv(playMaster) == "" {
				continue
			}
			f, err := os.Open("/dev/ptmx")
			if err != nil {
				return 6
			}
			rights = unix.UnixRights(int(f.Fd()))
		}
		if code, ok := p.stage(2, name, proc.Pid, rights); !ok {
			return code
		}
	}
	p.send(proto(1, 2, 2, 1, 4, proto(1, proc.Pid)), nil)
	p.receive()
	return 0
}

// namespaces joins those that are to be joined, and says which of the others are to be new.
func (p *player) namespaces() (flags uintptr) {
	new := map[string]uintptr{"pid": unix.CLONE_NEWPID, "mnt": unix.CLONE_NEWNS, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP}
	for _, name := range strings.Fields(os.Getenv(playShares)) {
		delete(new, name)
	}
	for _, m := range p.opts[27] {
		inherit := unproto([]byte(m))
		if name, ok := map[string]string{"extRootNetNS": "net", "extRootPidNS": "pid"}[inherit[1][0]]; ok && new[name] != 0 {
			fd, _ := strconv.Atoi(inherit[2][0])
			unix.Setns(fd, 0)
			delete(new, name)
		}
	}
	for _, m := range p.opts[39] {
		join := unproto([]byte(m))
		if f, err := os.Open(join[2][0]); err == nil && new[join[1][0]] != 0 {
			unix.Setns(int(f.Fd()), 0)
			delete(new, join[1][0])
		}
	}
	for _, flag := range new {
		flags |= flag
	}
	return flags
}

// withPlayed puts the played CRIU into PATH, and gives the directory of its files.
func withPlayed(t *testing.T) (dir string) {
	t.Helper()
	dir = nstest.Dir(t)
	t.Setenv("PATH", filepath.Dir(nstest.PartPath("criu"))+":"+os.Getenv("PATH"))
	t.Setenv(playDir, dir)
	return dir
}

// request reads what CRIU was asked, the options of it: messages are written as "KEY:VALUE".
func request(t *testing.T, dir, name string) map[int][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	opts := unproto([]byte(unproto(data)[2][0]))
	for _, field := range []int{11, 23, 25, 27, 39} {
		for i, s := range opts[field] {
			m := unproto([]byte(s))
			opts[field][i] = m[1][0] + ":" + m[2][0]
		}
	}
	return opts
}

// asleep is a container for a CRIU that does not look inside.
func asleep() *specs.Spec {
	s := base("exec sleep 1000")
	s.Linux.CgroupsPath = "/criu-played"
	return s
}

// imageDir makes a directory that looks like an image to this runtime.
func imageDir(t *testing.T, descriptors string) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, descriptorsFile), []byte(descriptors), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeProcess(dir, 1, 0, 1, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCRIUNullDevice: in a container /dev is a tmpfs, and so is what masks a file then, as the empty directories are that mask directories.
func TestCRIUNullDevice(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir, dev := withPlayed(t), nstest.Dir(t)
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dev, unix.MNT_DETACH)
	if err := unix.Mknod(dev+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev+"/null", nullDevice, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(nullDevice, unix.MNT_DETACH)
	p := newPlace(t)
	s := asleep()
	s.Linux.MaskedPaths = []string{"/proc/keys", "/proc/acpi"}
	p.good("run", "-d", "--bundle", bundle(t, s), "x")
	p.good("checkpoint", "--image-path", filepath.Join(nstest.Dir(t), "image"), "--work-path", dir, "x")
	if got := request(t, dir, "dump")[23]; !slices.Equal(got, []string{"/proc/keys:/dev/null"}) {
		t.Errorf("external mounts are %q", got)
	}
	p.empty()
}

// What CRIU is asked to dump and to restore.
func TestCRIURequests(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	defer unix.Umask(unix.Umask(0o022)) // the caller's, which CRIU is not to have
	dir := withPlayed(t)
	p := newPlace(t)
	image := filepath.Join(nstest.Dir(t), "deep/image")
	host := nstest.Dir(t)
	if err := os.WriteFile(host+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := asleep()
	s.Annotations = map[string]string{"org.criu.config": "/my.conf"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/srv/web", Type: "bind", Source: host, Options: []string{"rbind"}},
		specs.Mount{Destination: "/link", Type: "bind", Source: host + "/f", Options: []string{"bind"}})
	s.Linux.MaskedPaths = []string{"/proc/keys", "/proc/acpi"}
	b := bundle(t, s)
	if err := os.Symlink("etc/passwd", filepath.Join(b, "rootfs/link")); err != nil {
		t.Fatal(err)
	}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer in.Close()
	p.stdin = stdin
	p.good("run", "-d", "--bundle", b, "x")
	state := p.state("x")
	p.good("checkpoint", "--image-path", image, "--tcp-established", "--tcp-skip-in-flight", "--ext-unix-sk", "--shell-job", "--file-locks", "--link-remap", "--auto-dedup",
		"--lazy-pages", "--page-server", "[::1]:77", "--manage-cgroups-mode", "full", "--empty-ns", "network", "--work-path", dir, "x")
	p.empty()
	if umask, err := os.ReadFile(filepath.Join(dir, "umask")); err != nil || string(umask) != "077" {
		t.Errorf("%v: what CRIU writes, a container's memory, has umask %s", err, umask)
	}
	got := request(t, dir, "dump")
	for field, want := range map[int][]string{
		2: {strconv.Itoa(state.Pid)}, 3: nil, 4: {"1"}, 5: {"1"}, 7: {"1"}, 8: {"1"}, 10: {"dump.log"}, 11: {"::1:77"}, 12: {"1"}, 13: {filepath.Join(b, "rootfs")},
		16: {"1"}, 18: {"1"}, 23: {"/srv/web:/srv/web", "/etc/passwd:/link", "/proc/keys:/dev/null"}, 24: {"1"}, 34: {"4"}, 38: {"1073741824"},
		46: {"1"}, 48: {"1"}, 50: {"1"}, 51: {"/my.conf"},
	} {
		if !slices.Equal(got[field], want) {
			t.Errorf("dump: field %d is %q, want %q", field, got[field], want)
		}
	}
	if len(got[44]) != 1 || !strings.HasSuffix(got[44][0], "/criu-played") || len(got[17]) != 1 {
		t.Errorf("dump: freezer %q, work directory %q", got[44], got[17])
	}
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", stdin.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(image, descriptorsFile))
	if err != nil || !bytes.HasPrefix(data, fmt.Appendf(nil, `["%s",`, pipe)) {
		t.Errorf("%v: descriptors %s, want %s first", err, data, pipe)
	}
	if st, err := os.Stat(image); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v: %v", err, st.Mode())
	}

	s.Annotations = nil
	s.Linux.CgroupsPath = "/criu-other"
	write(t, b, s)
	pidFile := filepath.Join(dir, "pid")
	p.good("restore", "-d", "--bundle", b, "--image-path", image, "--pid-file", pidFile, "--lsm-profile", "apparmor:x", "--lsm-mount-context", "c", "--no-pivot", "--no-subreaper", "x")
	got = request(t, dir, "restore")
	inherit := []string{pipe + ":0"}
	for _, i := range got[27] {
		if strings.HasPrefix(i, "file[") {
			inherit = append(inherit, i) // its number is another's concern
		}
	}
	// Of each source all of the mount that it is on is there: of those here /tmp, and /dev.
	sources, rest := filepath.Join(p.dir, "x/criu")+"/", strings.TrimPrefix(host, "/tmp")
	for field, want := range map[int][]string{
		6: {"1"}, 10: {"restore.log"}, 13: {filepath.Join(p.dir, "x/criu/root")}, 23: {"/srv/web:" + sources + "0" + rest, "/link:" + sources + "1" + rest + "/f", "/dev/null:" + sources + "2/null"},
		26: {"1"}, 27: inherit, 34: {"6"}, 50: {"1"}, 51: {"/etc/criu/runc.conf"}, 53: {"apparmor:x"}, 63: {"c"},
	} {
		if !slices.Equal(got[field], want) {
			t.Errorf("restore: field %d is %q, want %q", field, got[field], want)
		}
	}
	for _, r := range got[25] {
		if !strings.HasSuffix(r, "/criu-other") && !strings.HasSuffix(r, ":/") {
			t.Errorf("a root of control groups is %q", r)
		}
	}
	if len(got[25]) == 0 {
		t.Error("no roots of control groups")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "root")); err != nil || !strings.Contains(string(data), "passwd\n") && !strings.Contains(string(data), "etc\n") {
		t.Errorf("%v: CRIU's root has %s", err, data)
	}
	state = p.state("x")
	if data, err := os.ReadFile(pidFile); err != nil || string(data) != strconv.Itoa(state.Pid) || state.Status != specs.StateRunning {
		t.Errorf("%v: pid file %q, %+v", err, data, state)
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// CVE-2026-119101, 2026-115520: links of the image lead a mount to a place whose name ends, for CRIU, before it does, so that the rest
// would be the path of the host that another place gets.
func TestCVE_2026_119101_115520(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	s := asleep()
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: nstest.Dir(t), Options: []string{"bind"}})
	b := bundle(t, s)
	if err := os.MkdirAll(filepath.Join(b, "rootfs/etc]:/root"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc]:/root", filepath.Join(b, "rootfs/data")); err != nil {
		t.Fatal(err)
	}
	p.good("run", "-d", "--bundle", b, "x")
	out, code := p.do("checkpoint", "--image-path", filepath.Join(nstest.Dir(t), "image"), "x")
	if code == 0 || !strings.Contains(out, "/etc]:/root") {
		t.Errorf("checkpoint: code %d: %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "dump")); err == nil {
		t.Error("CRIU was asked for a dump")
	}
	if s := p.state("x"); s.Status != specs.StateRunning {
		t.Errorf("the container is %s", s.Status)
	}
	p.good("delete", "-f", "x")
	// At a restore keys are those of config.json, which no link of the image changes.
	p.good("restore", "-d", "--bundle", b, "--image-path", imageDir(t, `["","",""]`), "x")
	if got := given(t, dir)["/data"]; len(got) != 1 || filepath.Base(got[0].root) != filepath.Base(s.Mounts[len(s.Mounts)-1].Source) {
		t.Errorf("restore: on /data is %v, want %s", got, s.Mounts[len(s.Mounts)-1].Source)
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// given are the mounts that a played restore was to bind, by the image's name for each.
func given(t *testing.T, dir string) map[string][]mountPoint {
	t.Helper()
	mounts, err := readMounts(filepath.Join(dir, "mounts"))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]mountPoint{}
	for _, x := range request(t, dir, "restore")[23] {
		key, name, _ := strings.Cut(x, ":")
		for _, m := range mounts {
			if strings.Contains(m.path, "/x/criu/") && within(name, m.path) {
				m.root = filepath.Join(m.root, strings.TrimPrefix(name, m.path))
				list[key] = append(list[key], m)
			}
		}
	}
	return list
}

// A restored container has none of the caller's keys: CRIU restores no keyring, and what it makes would have its own.
func TestRestoredKeyring(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	nstest.JoinKeyring(t, "_ses.caller")
	dir := withPlayed(t)
	p := newPlace(t)
	p.good("restore", "-d", "--bundle", bundle(t, asleep()), "--image-path", imageDir(t, `["","",""]`), "x")
	defer p.do("delete", "-f", "x")
	if ring, err := os.ReadFile(filepath.Join(dir, "keyring")); err != nil || !bytes.HasSuffix(ring, []byte(";_ses")) {
		t.Errorf("%v: the session keyring is %s", err, ring)
	}
}

// What CRIU does not restore a container has as after its start: the I/O priority of its config.json, and all processors, whatever the caller has.
func TestRestoredScheduling(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	s := asleep()
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	// The command is made by this thread, and has what that has.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one, got unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for n := 0; one.Count() == 0; n++ {
		if all.IsSet(n) {
			one.Set(n)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &all)
	p.good("restore", "-d", "--bundle", bundle(t, s), "--image-path", imageDir(t, `["","",""]`), "x")
	defer p.do("delete", "-f", "x")
	pid := p.state("x").Pid
	if err := unix.SchedGetaffinity(pid, &got); err != nil || got.Count() < all.Count() {
		t.Errorf("%v: it runs on %d processors of %d", err, got.Count(), all.Count())
	}
	const whoProcess = 1
	if io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(pid), 0); errno != 0 || io != 2<<13|6 {
		t.Errorf("%v: its I/O priority is %#x", errno, io)
	}
}

// A container with a terminal gets none of the caller's streams by a restore, whatever it has put in the place of its own; and a pipe that it has made
// itself is no stream of the caller's in the image.
func TestRestoredStreams(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	t.Setenv(playMaster, "1")
	s := asleep()
	s.Process.Terminal = true
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	socket, next := masters(t)
	image := imageDir(t, `["pipe:[1]","pipe:[2]","/dev/pts/0","file[3:4]"]`)
	p.good("restore", "-d", "--bundle", bundle(t, s), "--image-path", image, "--console-socket", socket, "x")
	next().Close()
	if data, err := os.ReadFile(filepath.Join(dir, "inherited")); err != nil || len(data) > 0 {
		t.Errorf("%v: CRIU was given %s", err, data)
	}
	p.good("delete", "-f", "x")

	b := bundle(t, base("exec 0<<E\nx\nE\nexec sleep 1000"))
	p.good("run", "-d", "--bundle", b, "x")
	nstest.Until(t, "a pipe of its own", func() bool {
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", p.state("x").Pid))
		return strings.HasPrefix(link, pipePrefix)
	})
	image = filepath.Join(nstest.Dir(t), "image")
	p.good("checkpoint", "--image-path", image, "x")
	if data, err := os.ReadFile(filepath.Join(image, descriptorsFile)); err != nil || bytes.Contains(data, []byte(pipePrefix)) {
		t.Errorf("%v: descriptors %s", err, data)
	}
	p.empty()
}

// A restored container has no null device of the machine's as a stream, for whatever it had before: its root could change that one's mode for all.
func TestRestoredNull(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	image := imageDir(t, `["pipe:[1]","pipe:[2]","","file[3:4]:/dev/null","file[5:6]"]`)
	c := p.command("restore", "-d", "--bundle", bundle(t, asleep()), "--image-path", image, "x")
	c.Stdin, c.Stdout, c.Stderr = nil, nil, nil // os/exec opens the machine's /dev/null for them
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	defer p.do("delete", "-f", "x")
	var st unix.Stat_t
	if err := unix.Stat("/dev/null", &st); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if names++; f[1] != "true" || f[2] == strconv.FormatUint(st.Dev, 10) {
			t.Errorf("%s, the machine's are of device %d", line, st.Dev)
		}
	}
	if names != 4 {
		t.Errorf("%d streams: %s", names, data)
	}
}

// CRIU gives mounts of one source the attributes of the first of them: what a container has to read, or is masked, would be
// writable in a restored one, files of the host, and the mode of the machine's null device.
func TestRestoredAttributes(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	host := nstest.Dir(t)
	s := asleep()
	for _, m := range []struct{ place, options string }{{"/a", "rbind,ro"}, {"/b", "rbind,ro,nosuid,noexec"}, {"/c", "bind,rro,nodev"}, {"/d", "bind"}} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: m.place, Type: "bind", Source: host, Options: strings.Split(m.options, ",")})
	}
	s.Linux.MaskedPaths = []string{"/proc/keys", "/proc/timer_list"}
	b := bundle(t, s)
	p.good("restore", "-d", "--bundle", b, "--image-path", imageDir(t, `["","",""]`), "x")
	mounts := given(t, dir)
	for place, want := range map[string]string{"/a": "ro", "/b": "ro,nosuid,noexec", "/c": "ro,nodev", "/d": "rw", "/dev/null": "ro,nosuid,noexec"} {
		if got := mounts[place]; len(got) != 1 || !strings.HasPrefix(got[0].options+",", want+",") {
			t.Errorf("%s is %v, want one that is %s", place, got, want)
		}
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// What a container receives from the host, as all of its mounts do where the host shares its own, CRIU takes from their sources, for all mounts of one file system
// from the source of one of them: the kernel gives it on only from a mount that shares or receives, whose root is above that of the other.
func TestRestoredSharing(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	host := nstest.Dir(t)
	for _, d := range []string{"shared", "private"} {
		at := filepath.Join(host, d)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(at, unix.MNT_DETACH)
		for _, sub := range []string{"a/deep", "b"} {
			if err := os.MkdirAll(filepath.Join(at, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Mount("", host+"/shared", "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	theirs := peers(t, "/proc/self/mountinfo")[host+"/shared"]
	s := asleep()
	for place, source := range map[string]string{"/a": "shared/a/deep", "/b": "shared/b", "/all": "shared", "/c": "private/a/deep"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: place, Type: "bind", Source: filepath.Join(host, source), Options: []string{"bind"}})
	}
	p.good("restore", "-d", "--bundle", bundle(t, s), "--image-path", imageDir(t, `["","",""]`), "x")
	groups := peers(t, filepath.Join(dir, "mounts"))
	if root := groups[filepath.Join(p.dir, "x/criu/root")]; root.Shared == 0 {
		t.Error("the root shares nothing")
	}
	for place, want := range map[string]struct {
		root   string
		master int
	}{"/a": {"/a/deep", theirs.Shared}, "/b": {"/b", theirs.Shared}, "/all": {"/", theirs.Shared}, "/c": {"/a/deep", 0}} {
		got := given(t, dir)[place]
		if len(got) != 1 || got[0].root != want.root {
			t.Errorf("%s is %v, want %s", place, got, want.root)
			continue
		}
		if g := groups[got[0].path]; g.Root != "/" || g.Shared == 0 || g.Master != want.master {
			t.Errorf("%s comes from %+v, want all of the file system, shared, that receives from %d", place, g, want.master)
		}
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// peers reads how mounts share and receive, by their places.
func peers(t *testing.T, mountinfo string) map[string]namespace.Mount {
	t.Helper()
	data, err := os.ReadFile(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := namespace.ParseMounts(data)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]namespace.Mount{}
	for _, m := range mounts {
		list[m.Point] = m
	}
	return list
}

// A network namespace of the container's own is a new one, which CRIU leaves empty: it gets what config.json says of it, before hooks and sockets.
func TestRestoredNetwork(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	s := asleep()
	s.Linux.Sysctl = map[string]string{"net.ipv4.conf.lo.forwarding": "1", "net/ipv4/conf/lo/log_martians": "1", "kernel.msgmax": "9000"}
	read := `cd /proc/sys; ip -o link show dev lo up | cut -c1-5; cat net/ipv4/conf/lo/forwarding net/ipv4/conf/lo/log_martians`
	seen := filepath.Join(nstest.Dir(t), "seen")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `pid=$(sed 's/.*"pid"://; s/[^0-9].*//'); nsenter --net=/proc/$pid/ns/net sh -c '` + read + "' >" + seen + " 2>&1"}, Env: []string{"PATH=" + os.Getenv("PATH")}}}}
	b, image := bundle(t, s), imageDir(t, `["","",""]`)
	p.good("restore", "-d", "--bundle", b, "--image-path", image, "x")
	if data, err := os.ReadFile(seen); err != nil || string(data) != "1: lo\n1\n1\n" {
		t.Errorf("%v: a hook finds %q", err, data)
	}
	p.good("delete", "-f", "x")
	// What is joined is not the container's to change.
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	joined := fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid)
	unchanged, err := exec.Command("nsenter", "--net="+joined, "sh", "-c", read).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, unchanged)
	}
	s.Linux.Namespaces[slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })].Path = joined
	write(t, b, s)
	p.good("restore", "-d", "--bundle", b, "--image-path", image, "x")
	if data, err := os.ReadFile(seen); err != nil || string(data) != string(unchanged) {
		t.Errorf("%v: where one is joined a hook finds %q, want %q", err, data, unchanged)
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// A restore keeps what a user namespace may not take from a mount, as a creation does, unless that was to be taken by name.
func TestRestoredLocked(t *testing.T) {
	nstest.Root(t)
	const source = "/run/locked"
	if os.Mkdir(source, 0o700) == nil { // it is there in the process of its own
		if err := unix.Mount("tmpfs", source, "tmpfs", unix.MS_NOSUID, ""); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(source)
		defer unix.Unmount(source, unix.MNT_DETACH)
	}
	nstest.Inside(t, nstest.Place{Flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, MapRoot: true}, func(t *testing.T) {
		dest := nstest.Dir(t)
		b := boundMount{source: source, only: true, attrs: plan.Attrs{Set: abi.MountAttrRdonly}}
		if err := attachTree(b, unix.AT_FDCWD, dest); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dest, unix.MNT_DETACH)
		mounts, err := readMounts("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(mounts, func(m mountPoint) bool { return m.path == dest }); i < 0 || !strings.HasPrefix(mounts[i].options+",", "ro,nosuid,") {
			t.Errorf("on %s: %v", dest, mounts)
		}
		b.attrs.Clear = abi.MountAttrNosuid
		if err := attachTree(b, unix.AT_FDCWD, dest); !errors.Is(err, unix.EPERM) {
			t.Errorf("suid by name: %v", err)
		}
	})
}

// What is unbindable a recursive bind leaves out, and with it what is mounted on it: mount(2). A mount that cannot be bound for another reason
// is an error of the restore.
func TestBelow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(file, []byte(`1 0 0:1 / / rw unbindable - tmpfs t rw
2 1 0:2 / /a rw shared:1 - tmpfs t rw
6 4 0:6 / /a/never/on rw - tmpfs t rw
4 2 0:4 / /a/never rw unbindable - tmpfs t rw
5 4 0:5 / /a/never rw - tmpfs t rw
3 2 0:3 / /a/b rw master:2 - tmpfs t rw
7 2 0:7 / /a/never rw - tmpfs t rw
8 1 0:8 / /ab rw - tmpfs t rw
`), 0o600); err != nil {
		t.Fatal(err)
	}
	mounts, err := readMounts(file)
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string][]string{"/a": {"/b", "/never"}, "/a/b": nil, "/": {"/a", "/a/b", "/a/never", "/ab"}} {
		if got := below(mounts, source); !slices.Equal(got, want) {
			t.Errorf("below %s are %q, want %q", source, got, want)
		}
	}
}

// What a bind has below it is bound with it where it says so, and never what the restore itself has mounted there: a mount more has
// not all mounts before it.
func TestRestoredBelow(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	host := filepath.Dir(p.dir) // the state directory is below it
	below := filepath.Join(host, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(below, unix.MNT_DETACH)
	// A file, and one that another hides, to which no path leads.
	file, over := filepath.Join(host, "file"), filepath.Join(host, "over")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.MkdirAll(over+"/hidden", 0o755)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(file, unix.MNT_DETACH)
	defer unix.Unmount(over+"/hidden", unix.MNT_DETACH)
	defer unix.Unmount(over, unix.MNT_DETACH)
	if err := errors.Join(unix.Mount(file, file, "", unix.MS_BIND, ""), unix.Mount("tmpfs", over+"/hidden", "tmpfs", 0, ""), unix.Mount("tmpfs", over, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	const places = 5
	s := asleep()
	for i := range places {
		for _, how := range []string{"bind", "rbind"} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: fmt.Sprintf("/%s%d", how, i), Type: "bind", Source: host, Options: []string{how}})
		}
	}
	p.good("restore", "-d", "--bundle", bundle(t, s), "--image-path", imageDir(t, `["","",""]`), "x")
	mounts, err := readMounts(filepath.Join(dir, "mounts"))
	if err != nil {
		t.Fatal(err)
	}
	made := slices.DeleteFunc(mounts, func(m mountPoint) bool { return !strings.Contains(m.path, "/x/criu/") })
	if want := 1 + 5*places; len(made) != want { // the root, both kinds, and what is below one of them
		t.Errorf("%d mounts were made, want %d: %v", len(made), want, made)
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// Where CRIU fails or ends, the error has what is in its log, and nothing is left of a restore, while the container of a dump goes on.
func TestCRIUFails(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	image := imageDir(t, "[]")
	if err := os.WriteFile(filepath.Join(image, "dump.log"), []byte("Error (old.c:1): of another time"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.good("run", "-d", "--bundle", b, "x")
	t.Setenv(playAt, "post-dump=fail")
	p.bad(`criu failed: type dump errno 5 (input/output error): (a.c:1): the \\x1b cause; see `+image+"/dump.log", "checkpoint", "--image-path", image, "x")
	// A caller takes what it finds for the error.
	if out, _ := p.do("checkpoint", "--image-path", image, "x"); strings.Contains(out, "a right") || !strings.Contains(out, "dump.log:1: (1) before") || !strings.Contains(out, "dump.log:5: ") {
		t.Errorf("of the log it says:\n%s", out)
	}
	t.Setenv(playAt, "network-lock=die")
	p.bad("it ended without an answer: exit status 3", "checkpoint", "--image-path", image, "x")
	if s := p.state("x").Status; s != specs.StateRunning {
		t.Errorf("after a failed checkpoint the container is %s", s)
	}
	p.good("delete", "-f", "x")
	for _, stage := range []string{"pre-restore", "setup-namespaces", "post-restore", "network-unlock"} {
		t.Setenv(playAt, stage+"=fail")
		p.bad("criu failed: type restore errno 5 (input/output error): (a.c:1)", "restore", "-d", "--bundle", b, "--image-path", image, "x")
		p.empty()
		t.Setenv(playAt, stage+"=die")
		p.bad("it ended without an answer", "restore", "-d", "--bundle", b, "--image-path", image, "x")
		p.empty()
	}
	t.Setenv(playAt, "")
	s := asleep()
	//lint:ignore SA1019 deprecated, and still what dockerd writes
	s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "/bin/false"}}}
	write(t, b, s)
	p.bad("prestart hook #0: exit status 1", "restore", "-d", "--bundle", b, "--image-path", image, "x")
	p.empty()
}

// A restore that is killed at any stage leaves what delete takes away: the process that was half made, CRIU, the cgroup.
func TestCRIURestoreKilled(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	image := imageDir(t, "[]")
	for _, stage := range []string{"pre-restore", "setup-namespaces", "post-restore", "network-unlock", "post-resume"} {
		t.Setenv(playAt, stage+"=hold")
		holds := filepath.Join(dir, "holds")
		os.Remove(holds)
		c := p.command("restore", "-d", "--bundle", b, "--image-path", image, "x")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "CRIU is at "+stage, func() bool { _, err := os.Stat(holds); return err == nil })
		during := p.state("x").Status
		c.Process.Kill()
		c.Wait()
		force := []string{"delete", "x"}
		if stage == "network-unlock" || stage == "post-resume" {
			force = []string{"delete", "-f", "x"} // it runs by now
		} else if during != specs.StateCreating {
			t.Errorf("at %s its status is %s", stage, during)
		}
		p.good(force...)
		p.empty()
	}
}

// What config.json takes from its processes those of an image do not have after a restore, nor do they see what it keeps from them.
func TestRestoredRights(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	said := "" // of a restore that is to succeed
	restore := func(want, image string) {
		t.Helper()
		os.Remove(filepath.Join(dir, "restore"))
		if args := []string{"restore", "-d", "--bundle", b, "--image-path", image, "x"}; want == "" {
			said = p.good(args...)
			p.good("delete", "-f", "x")
		} else {
			p.bad(want, args...)
		}
		p.empty()
	}
	image := imageDir(t, `["","",""]`)
	c := exec.Command("sleep", "infinity")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	for _, kind := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.MountNamespace} {
		name := nsName(kind)
		write(t, b, asleep())
		t.Setenv(playShares, name)
		restore("linux.namespaces: "+string(kind)+": config.json has a new one, and the image has none of its own", image)
		if kind == specs.MountNamespace {
			continue // what this makes there would be the machine's
		}
		s := asleep()
		s.Hostname = ""
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
		write(t, b, s)
		restore("", image)
		t.Setenv(playShares, "")
		restore("linux.namespaces: "+string(kind)+": config.json has none, for that of the machine, and the image has its own", image)
		if kind == specs.CgroupNamespace || kind == specs.PIDNamespace {
			continue // CRIU joins none of the one, and the played one is in none of the other's
		}
		joined := fmt.Sprintf("/proc/%d/ns/%s", c.Process.Pid, name)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: joined})
		write(t, b, s)
		restore("", image)
		t.Setenv(playShares, name)
		restore("linux.namespaces: "+string(kind)+": config.json joins "+joined+", and the image has another one", image)
	}
	t.Setenv(playShares, "")

	rights := func(want string, s *specs.Spec, caps, noNewPrivs int, filter []byte) {
		t.Helper()
		write(t, b, s)
		if err := writeProcess(image, 1, caps, noNewPrivs, filter); err != nil {
			t.Fatal(err)
		}
		restore(want, image)
		if _, err := os.Stat(filepath.Join(dir, "restore")); (err == nil) != (want == "") {
			t.Errorf("%s: CRIU was asked: %v", want, err)
		}
	}
	s := asleep()
	caps := 1<<abi.CapChown | 1<<abi.CapKill
	rights("", s, caps, 0, nil)
	rights("process.capabilities: in the image process 1 has more capabilities: CAP_SYS_ADMIN", s, caps|1<<abi.CapSysAdmin, 0, nil)
	s.Process.NoNewPrivileges = true
	rights("process.noNewPrivileges: in the image process 1 may gain privileges", s, caps, 0, nil)
	rights("", s, caps, 1, nil)
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"swapon"}, Action: specs.ActErrno}}}
	rights("linux.seccomp: in the image process 1 has no filter", s, caps, 1, nil)
	rights("", s, caps, 1, []byte("\x06\x00\x00\x00\x00\x00\xff\x7f"))
	if !strings.Contains(said, "linux.seccomp: the image has another filter") {
		t.Errorf("of another filter it says %q", said)
	}
	program, err := seccomp.Compile(s.Linux.Seccomp, abi.Native(runtime.GOARCH))
	if err != nil {
		t.Fatal(err)
	}
	if rights("", s, caps, 1, program.Bytes()); strings.Contains(said, "filter") {
		t.Errorf("of the filter of config.json it says %q", said)
	}
	if err := os.Remove(filepath.Join(image, "core-1.img")); err != nil {
		t.Fatal(err)
	}
	restore("core-1.img: no such file or directory: is it the image of a container?", image)
}

// The terminal comes from CRIU, and goes to who listens.
func TestCRIUTerminal(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	s := asleep()
	s.Process.Terminal = true
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts"})
	b := bundle(t, s)
	image := imageDir(t, `["/dev/pts/0","/dev/pts/0","/dev/pts/0"]`)
	p.bad("console socket", "restore", "-d", "--bundle", b, "--image-path", image, "x")
	socket, next := masters(t)
	t.Setenv(playMaster, "1")
	p.good("restore", "-d", "--bundle", b, "--image-path", image, "--console-socket", socket, "x")
	master := next()
	defer master.Close()
	if _, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN); err != nil {
		t.Errorf("the terminal: %v", err)
	}
	p.good("delete", "-f", "x")
	p.bad("connect", "restore", "-d", "--bundle", b, "--image-path", image, "--console-socket", "/none", "x")
	p.empty()
}

// In the foreground restore waits, passes signals on, and has the exit code of the process.
func TestCRIUForeground(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	c := p.command("restore", "--bundle", b, "--image-path", imageDir(t, "[]"), "x")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "x runs", func() bool {
		out, code := p.do("state", "x")
		return code == 0 && strings.Contains(out, `"running"`)
	})
	p.good("kill", "x", "KILL") // which alone the first process of a pid namespace gets without a handler
	if c.Wait(); c.ProcessState.ExitCode() != 128+9 {
		t.Errorf("%v", c.ProcessState)
	}
	p.empty()
}

// Who waits for pages is told when they can be asked for.
func TestCRIUStatusFD(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	image := filepath.Join(nstest.Dir(t), "image")
	p.good("run", "-d", "--bundle", b, "x")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := p.command("checkpoint", "--lazy-pages", "--leave-running", "--status-fd", "3", "--image-path", image, "x")
	c.ExtraFiles = []*os.File{w}
	err = c.Run()
	w.Close()
	got := make([]byte, 10)
	if n, e := r.Read(got); err != nil || e != nil || n != 1 || got[0] != 0 {
		t.Errorf("%v, %v: %d bytes %v", err, e, n, got[:n])
	}
	if f := request(t, dir, "dump")[49]; f != nil {
		t.Errorf("a new CRIU has the descriptor %v", f)
	}
	p.bad("invalid --status-fd argument 77: bad file descriptor", "checkpoint", "--lazy-pages", "--status-fd", "77", "--image-path", image, "x")
	p.bad("invalid --status-fd argument 0: not writable", "checkpoint", "--lazy-pages", "--status-fd", "0", "--image-path", image, "x")
	t.Setenv(playLacks, "1")
	p.bad("CRIU is missing features: [LazyPages]", "checkpoint", "--lazy-pages", "--image-path", image, "x")
	p.bad("CRIU is missing features: [MemTrack]", "checkpoint", "--pre-dump", "--image-path", image, "x")
	t.Setenv(playLacks, "")
	p.good("checkpoint", "--pre-dump", "--image-path", image, "x")
	p.good("checkpoint", "--parent-path", "../"+filepath.Base(image), "--leave-running", "--image-path", image+"2", "x")
	if o := request(t, dir, "dump"); !slices.Equal(o[14], []string{"../image"}) || !slices.Equal(o[15], []string{"1"}) {
		t.Errorf("parent %q, tracking %q", o[14], o[15])
	}
	t.Setenv(playVersion, "2.12.0")
	p.bad("CRIU version 21200 must be 30000 or higher", "checkpoint", "--image-path", image, "x")
	t.Setenv(playVersion, "3.13.0")
	p.bad("require at least CRIU 3.16", "restore", "-d", "--bundle", b, "--image-path", imageDir(t, "[]"), "--lsm-profile", "apparmor:x", "y")
	p.good("delete", "-f", "x")
	p.empty()
}

// A directory that another can write to has files and links of his in the place of CRIU's: the memory of the container would be in his file, or over one of root's.
// And links that an image brings are not followed by a restore.
func TestCheckpointOthersSay(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	p.good("run", "-d", "--bundle", b, "x")
	for _, c := range []struct {
		mode     os.FileMode
		uid, gid int
		want     string
	}{
		{0o777, 0, 0, "others would have a say"}, {0o777 | os.ModeSticky, 0, 0, "others would have a say"}, {0o770, 0, 1000, "others would have a say"},
		{0o700, 1000, 0, "user 1000's, who would have a say"}, {0o770, 0, 0, ""}, {0o755, 0, 1000, ""},
	} {
		at := nstest.Dir(t)
		if err := errors.Join(os.Chown(at, c.uid, c.gid), os.Chmod(at, c.mode)); err != nil {
			t.Fatal(err)
		}
		if c.want == "" {
			p.good("checkpoint", "--leave-running", "--image-path", at, "--work-path", at, "x")
			continue
		}
		os.Remove(filepath.Join(dir, "dump"))
		p.bad("--image-path: "+at+" ", "checkpoint", "--image-path", at, "x")
		p.bad(c.want, "checkpoint", "--image-path", filepath.Join(nstest.Dir(t), "new"), "--work-path", at, "x")
		if _, err := os.Stat(filepath.Join(dir, "dump")); err == nil {
			t.Errorf("%+v: CRIU was asked for a dump", c)
		}
	}
	p.good("delete", "-f", "x")
	image, file := imageDir(t, `["","",""]`), filepath.Join(nstest.Dir(t), "file")
	for _, name := range []string{"restore.log", "stats-restore"} {
		if err := os.Symlink(file, filepath.Join(image, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.good("restore", "-d", "--bundle", b, "--image-path", image, "x")
	for _, name := range []string{"restore.log", "stats-restore"} {
		if link, err := os.Readlink(filepath.Join(image, name)); err == nil {
			t.Errorf("CRIU would write its %s to %s", name, link)
		}
	}
	p.good("delete", "-f", "x")
	p.empty()
}

// What is wrong with a command line, a bundle or an image is said before anything is made.
func TestCRIUWrong(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	withPlayed(t)
	p := newPlace(t)
	b := bundle(t, asleep())
	image := filepath.Join(nstest.Dir(t), "image")
	file := filepath.Join(nstest.Dir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.good("create", "--bundle", b, "x")
	p.bad("container cannot be checkpointed in created state", "checkpoint", "--image-path", image, "x")
	p.good("start", "x")
	for _, test := range []struct {
		want string
		args []string
	}{
		{"--image-path: mkdir " + file, []string{"--image-path", file}},
		{"--work-path: open", []string{"--image-path", image, "--work-path", file}},
		{"--work-path: mkdir", []string{"--image-path", image, "--work-path", file + "/a/b"}},
		{"invalid manage-cgroups-mode value", []string{"--image-path", image, "--manage-cgroups-mode", "hard"}},
		{`namespace \"uts\" is not supported`, []string{"--image-path", image, "--empty-ns", "uts"}},
		{"--parent-path must be relative", []string{"--image-path", image, "--parent-path", image}},
		{"invalid --parent-path", []string{"--image-path", image, "--parent-path", "none"}},
		{"it is ADDRESS:PORT", []string{"--image-path", image, "--page-server", "host"}},
		{"it is ADDRESS:PORT", []string{"--image-path", image, "--page-server", "::1:7"}},
		{"it is ADDRESS:PORT", []string{"--image-path", image, "--page-server", "host:"}},
		{"the port is a number", []string{"--image-path", image, "--page-server", "host:70000"}},
	} {
		p.bad(test.want, append(append([]string{"checkpoint"}, test.args...), "x")...)
	}
	p.good("delete", "-f", "x")
	// What could not be restored is not ended.
	s := asleep()
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
	write(t, b, s)
	p.good("run", "-d", "--bundle", b, "x")
	p.bad("a container in a user namespace cannot be checkpointed", "checkpoint", "--image-path", image, "x")
	if s := p.state("x").Status; s != specs.StateRunning {
		t.Errorf("the container is %s", s)
	}
	p.good("delete", "-f", "x")
	s = asleep()
	one := []specs.LinuxIDMapping{{HostID: 100000, Size: 10}}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/srv", Type: "bind", Source: filepath.Join(b, "rootfs/srv"), Options: []string{"bind", "idmap"}, UIDMappings: one, GIDMappings: one})
	write(t, b, s)
	p.good("run", "-d", "--bundle", b, "x")
	p.bad("the mount on /srv is id-mapped", "checkpoint", "--image-path", image, "x")
	p.good("delete", "-f", "x")
	s = asleep()
	s.Linux.RootfsPropagation = "rshared"
	s.Mounts = append(s.Mounts, bindMount(image, "/srv", "rshared"))
	write(t, b, s)
	p.good("run", "-d", "--bundle", b, "x")
	p.bad("the mount on /srv is shared with the host", "checkpoint", "--image-path", image, "x")
	p.good("delete", "-f", "x")
	write(t, b, asleep())
	restore := func(want, image string, more ...string) {
		t.Helper()
		p.bad(want, append([]string{"restore", "-d", "--bundle", b, "--image-path", image, "x"}, more...)...)
		p.empty()
	}
	restore("no such file or directory", "/none")
	restore("not a directory", file)
	restore("is it the image of a container?", nstest.Dir(t))
	restore("unexpected end of JSON", imageDir(t, "["))
	restore("regular file of at most", imageDir(t, strings.Repeat(" ", 70<<10)))
	for what, make := range map[string]func(name string) error{
		"no regular file": func(name string) error { return unix.Mkfifo(name, 0o600) },
		"symbolic links":  func(name string) error { return os.Symlink("/etc/passwd", name) },
	} {
		dir := nstest.Dir(t)
		if err := make(filepath.Join(dir, descriptorsFile)); err != nil {
			t.Fatal(err)
		}
		restore(what, dir)
	}
	// Descriptors of this runtime's, and of CRIU's, are not for an image to name.
	good := imageDir(t, `["","","","pipe:[7]","file[1:2]","/dev/null"]`)
	s = asleep()
	s.Linux.Namespaces[4].Path = "/none"
	write(t, b, s)
	restore("the net namespace of config.json has to be there", good)
	s = asleep()
	s.Linux.Namespaces[5].Path = "/proc/self/ns/cgroup"
	write(t, b, s)
	restore("CRIU cannot restore into a cgroup namespace", good)
	// What config.json would have apart from the host's root is not to run as that.
	s = asleep()
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = one, one
	write(t, b, s)
	restore("a container in a user namespace cannot be restored", good)
	s = asleep()
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: "/none", Options: []string{"bind"}})
	write(t, b, s)
	restore("mounts[1]", good)
	// What CRIU would wait for, or take from elsewhere.
	for _, at := range []string{"", "/parent"} {
		for name, make := range map[string]func(name string) error{
			"pages-1.img": func(name string) error { return unix.Mkfifo(name, 0o600) },
			"fs-1.img":    func(name string) error { return os.Symlink("/etc/shadow", name) },
		} {
			dir := imageDir(t, `["","",""]`)
			os.Mkdir(dir+at, 0o700)
			if err := make(filepath.Join(dir+at, name)); err != nil {
				t.Fatal(err)
			}
			restore(at+"/"+name+": it is no regular file", dir)
		}
	}
	dir := imageDir(t, `["","",""]`)
	if err := os.Symlink(".", dir+"/parent"); err != nil {
		t.Fatal(err)
	}
	restore("a change of itself", dir)
	write(t, b, asleep())
	t.Setenv("PATH", "/nowhere")
	restore("install the package criu", good)
}

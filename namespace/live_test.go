package namespace

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
)

// The tests of this file start children in namespaces of their own and compare what the
// children see of themselves with what the reader says of them from outside. A child is
// this test binary again, with its part in the environment; it ends when its standard
// input does.
const partKey = "KAKURI_NAMESPACE_TEST_PART"

func TestMain(m *testing.M) {
	if part := os.Getenv(partKey); part != "" {
		if err := play(part); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := openFDs()
	code := m.Run()
	if after := openFDs(); code == 0 && after > before {
		fmt.Printf("%d descriptors before the tests, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// openFDs counts the descriptors of this process, but those that Go's poller has.
func openFDs() int {
	n := 0
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && !strings.HasPrefix(to, "anon_inode:") && to != "/proc/self/fd" {
			n++
		}
	}
	return n
}

// A report is what a child sees.
type report struct {
	Level  int
	PID    int // as getpid(2) says
	UID    int
	Inodes [8]uint64
	Sees   []int // pids in a new /proc of its pid namespace
	Err    string
}

// play is what a child does.
func play(part string) error {
	word, rest, _ := strings.Cut(part, " ")
	switch word {
	case "pids": // so many further children, each in a pid namespace within the one before
		n, _ := strconv.Atoi(rest)
		return playPIDs(n)
	case "middle": // makes a user namespace below its own, and leaves it alone with the grandchild
		return playMiddle()
	case "wait":
		return tell(itself(0))
	case "long": // a command line of 8 MiB
		if err := nstest.StretchArguments(8 << 20); err != nil {
			return err
		}
		return tell(itself(0))
	case "net":
		return playNet(rest)
	case "bind":
		if err := unix.Mount("/proc/self/ns/net", rest, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(itself(0))
	case "read":
		return playRead()
	case "hidepid":
		return playHidden(os.NewFile(3, "proc"))
	}
	return fmt.Errorf("unknown part %q", part)
}

func playPIDs(n int) error {
	var child *exec.Cmd
	if n > 0 {
		child = self(fmt.Sprintf("pids %d", n-1), &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
		child.Stdin, child.Stdout = os.Stdin, os.Stdout
		if err := child.Start(); err != nil {
			return err
		}
	}
	r := itself(n)
	r.Sees, r.Err = sees(r)
	if err := tell(r); err != nil {
		return err
	}
	if child != nil {
		return child.Wait()
	}
	return nil
}

// tell reports r and waits for the end of the test.
func tell(r report) error {
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// itself is what a process knows of itself.
func itself(level int) report {
	r := report{Level: level, PID: os.Getpid(), UID: os.Getuid()}
	for _, t := range abi.Namespaces() {
		link, _ := os.Readlink("/proc/thread-self/ns/" + t.ProcName())
		_, r.Inodes[t], _ = parseLink(link)
	}
	return r
}

// sees returns the pids in a new /proc, which is mounted nowhere, and what is wrong there.
func sees(r report) (pids []int, fault string) {
	proc, err := freshProc()
	if err != nil {
		return nil, err.Error()
	}
	defer proc.Close()
	s, err := Read(context.Background(), Options{Proc: proc})
	if err != nil {
		return nil, err.Error()
	}
	for _, p := range s.Processes {
		pids = append(pids, p.PID)
	}
	switch {
	case s.Self == nil || s.Self.PID != r.PID:
		fault = fmt.Sprintf("self is %v", s.Self)
	case s.PIDRoot == nil || s.PIDRoot.Inode != r.Inodes[abi.NSPID] || s.PIDRoot.Parent != nil:
		fault = fmt.Sprintf("root is %v below %v", s.PIDRoot, s.PIDRoot.Parent)
	}
	return pids, fault
}

func freshProc(options ...string) (*os.File, error) {
	fd, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			return nil, err
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, err
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(mount), "proc"), nil
}

func playMiddle() error {
	child := self("wait", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 7, HostID: 0, Size: 1}},
	})
	child.Stdin, child.Stdout = os.Stdin, os.Stdout
	return child.Start()
}

// playNet has a child mount its new network namespace on path, so that no process is in
// it any more when the child is gone. Its own mount namespace receives from the machine's
// and gives nothing back.
func playNet(path string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	child := self("bind "+path, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	child.Stdout = os.Stdout
	if err := child.Run(); err != nil {
		return err
	}
	return tell(report{Level: 1})
}

// playRead reads the machine as the user it is and reports a line on that.
func playRead() error {
	s, err := Read(context.Background(), Options{})
	if err != nil {
		return err
	}
	one := s.Process(1)
	r := report{PID: os.Getpid(), UID: os.Getuid(), Level: s.Unreadable}
	if s.PIDRoot == nil || one == nil || one.In(abi.NSPID) != s.PIDRoot || one.In(abi.NSUser) != nil || one.Readable {
		r.Err = fmt.Sprintf("root %v, pid 1: %+v", s.PIDRoot, one)
	}
	for _, p := range s.Processes {
		r.Sees = append(r.Sees, p.PID)
	}
	return tell(r)
}

// playHidden reads a /proc that hides what is in other users' processes.
func playHidden(proc *os.File) error {
	s, err := Read(context.Background(), Options{Proc: proc})
	if err != nil {
		return err
	}
	r := report{Level: s.Hidden}
	for _, p := range s.Processes {
		r.Sees = append(r.Sees, p.PID)
	}
	if _, err := ReadProcess(proc, 1); !errors.Is(err, fs.ErrPermission) {
		r.Err = fmt.Sprintf("process 1: %v", err)
	}
	return tell(r)
}

// self is this binary in another part.
func self(part string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "kakuri-test " + strings.Fields(part)[0]
	cmd.Env = append(os.Environ(), partKey+"="+part)
	cmd.SysProcAttr, cmd.Stderr = attr, os.Stderr
	return cmd
}

// start runs a child and returns the first n reports that it and its children give. It
// ends when the test does.
func start(t *testing.T, part string, attr *syscall.SysProcAttr, n int, files ...*os.File) (*exec.Cmd, []report) {
	t.Helper()
	cmd := self(part, attr)
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("this user may not make the namespaces: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out) // ends when the last child has
		cmd.Wait()
	})
	var reports []report
	lines := bufio.NewScanner(out)
	for len(reports) < n && lines.Scan() {
		var r report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("child: %s", lines.Text())
		}
		if r.Err != "" {
			t.Errorf("child at level %d: %s", r.Level, r.Err)
		}
		reports = append(reports, r)
	}
	if len(reports) < n {
		t.Fatalf("%d reports of %d", len(reports), n)
	}
	slices.SortFunc(reports, func(a, b report) int { return b.Level - a.Level })
	return cmd, reports
}

func readAll(t *testing.T, o Options) *System {
	t.Helper()
	s, err := Read(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Self == nil || s.Self.PID != os.Getpid() {
		t.Fatalf("the reader is %v", s.Self)
	}
	return s
}

// namespaces asks for new namespaces and, for who is not root, a user namespace that
// allows them, with a mount namespace for the child's /proc.
func namespaces(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// TestLivePIDs is three pid namespaces within each other, seen from both ends.
func TestLivePIDs(t *testing.T) {
	cmd, reports := start(t, "pids 2", namespaces(syscall.CLONE_NEWPID), 3)
	s := readAll(t, Options{})
	host := s.Self.In(abi.NSPID)
	if host != s.PIDRoot || s.Process(1) != nil && s.Process(1).Readable && s.Process(1).In(abi.NSPID) != host {
		t.Errorf("E1: the test is in %v, pid 1 in %v, the /proc is of %v", host, s.Process(1).In(abi.NSPID), s.PIDRoot)
	}
	outer, pid := host, cmd.Process.Pid
	for depth, r := range reports {
		p := s.Process(pid)
		if p == nil {
			t.Fatalf("E5: the host does not see the child of level %d, pid %d", depth, pid)
		}
		at := s.PIDsOf(p)
		own := at[len(at)-1]
		if r.PID != 1 || own.PID != 1 || len(at) != depth+2 {
			t.Errorf("E2: level %d says pid %d, the reader %v", depth, r.PID, at)
		}
		if own.Namespace == outer || own.Namespace.Parent != outer || own.Namespace != p.In(abi.NSPID) {
			t.Errorf("E3: level %d is in %v below %v, its parent in %v", depth, own.Namespace, own.Namespace.Parent, outer)
		}
		if at[0].PID != pid || pid == 1 || at[0].Namespace != host {
			t.Errorf("E5: level %d on the host: %v", depth, at[0])
		}
		if r.Inodes != p.Inodes {
			t.Errorf("E6: inside %v, outside %v", r.Inodes, p.Inodes)
		}
		if len(r.Sees) == 0 || len(r.Sees) > 3-depth || r.Sees[0] != 1 {
			t.Errorf("E4: level %d sees %v in its /proc", depth, r.Sees)
		}
		if n := len(s.Sees(own.Namespace)); n != 3-depth {
			t.Errorf("E7: level %d sees %d processes by the reader, want %d", depth, n, 3-depth)
		}
		if _, ok := s.PIDIn(s.Self, own.Namespace); ok {
			t.Errorf("E7: level %d sees the test", depth)
		}
		kernelAgrees(t, s, p, own.Namespace)
		if depth < 2 {
			next := s.Find(own.Namespace, childOf(s, p))
			if next == nil {
				t.Fatalf("E7: level %d does not see its child", depth)
			}
			pid = next.PID
		}
		outer = own.Namespace
	}
}

// TestLiveWithin: what the kernel says of who is below whom is what the reader makes of /proc.
func TestLiveWithin(t *testing.T) {
	cmd, _ := start(t, "pids 2", namespaces(syscall.CLONE_NEWPID), 3)
	s := readAll(t, Options{})
	processes := []*Process{s.Self, s.Process(cmd.Process.Pid)}
	for range 2 {
		p := processes[len(processes)-1]
		processes = append(processes, s.Find(p.In(abi.NSPID), childOf(s, p)))
	}
	open := func(p *Process, typ abi.Namespace) *os.File {
		t.Helper()
		f, err := Open(nil, p.PID, typ)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for i, p := range processes {
		f := open(p, abi.NSPID)
		for j, q := range processes {
			outer := open(q, abi.NSPID)
			got, read := Within(f, outer), p.In(abi.NSPID).Within(q.In(abi.NSPID))
			if want := i >= j; got != want || read != want {
				t.Errorf("level %d is within level %d: %v, by the reader %v", i, j, got, read)
			}
			outer.Close()
		}
		f.Close()
	}
	own, user := open(s.Self, abi.NSPID), open(s.Self, abi.NSUser)
	defer own.Close()
	if Within(own, user) || Within(user, own) || !Within(user, user) {
		t.Error("a namespace is within one of another type, or a user namespace not within itself")
	}
	user.Close()
	if Within(own, user) || Within(user, own) { // and nothing stays open: see TestMain
		t.Error("what is closed is within something")
	}
}

// childOf returns the pid that p's only child has in p's own namespace.
func childOf(s *System, p *Process) int {
	for _, c := range s.Processes {
		if c.Parent == p.PID {
			n, _ := s.PIDIn(c, p.In(abi.NSPID))
			return n
		}
	}
	return 0
}

// kernelAgrees compares the pids from status with the kernel's translation.
func kernelAgrees(t *testing.T, s *System, p *Process, ns *Namespace) {
	t.Helper()
	f, err := Open(nil, p.PID, abi.NSPID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if typ, inode, err := Identify(f); err != nil || typ != abi.NSPID || inode != ns.Inode {
		t.Errorf("%v is %v %d, %v", ns, typ, inode, err)
	}
	inside, err := PIDInside(f, p.PID)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Log(err)
		return
	}
	want, _ := s.PIDIn(p, ns)
	outside, errOut := PIDOutside(f, inside)
	if err != nil || errOut != nil || inside != want || outside != p.PID {
		t.Errorf("%v in %v: kernel says %d (%v) inside, %d (%v) outside; status says %d", p, ns, inside, err, outside, errOut, want)
	}
	if _, err := PIDInside(f, os.Getpid()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the test has a pid inside: %v", err)
	}
}

// TestLiveUser is E8: root inside is nobody special outside.
func TestLiveUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("maps of ids that are not one's own need root")
	}
	cmd, reports := start(t, "pids 0", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 200000, Size: 10}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0},
	}, 1)
	s := readAll(t, Options{})
	p := s.Process(cmd.Process.Pid)
	user := p.In(abi.NSUser)
	if reports[0].UID != 0 || p.UIDs.Effective != 100000 || p.GIDs.Effective != 200000 {
		t.Errorf("uid %d inside, %v outside", reports[0].UID, p.UIDs)
	}
	if got := fmt.Sprint(user.UIDs, user.GIDs); got != "[{0 100000 65536}] [{0 200000 10}]" {
		t.Errorf("maps %s", got)
	}
	uids, gids, err := ReadIDMaps(nil, p.PID)
	if err != nil || !slices.Equal(uids, user.UIDs) || !slices.Equal(gids, user.GIDs) {
		t.Errorf("ReadIDMaps: %v, %v, %v", uids, gids, err)
	}
	if user.Parent != s.Self.In(abi.NSUser) || user.Creator != 0 || user.Owner != user.Parent {
		t.Errorf("parent %v, creator %d, owner %v", user.Parent, user.Creator, user.Owner)
	}
	if p.In(abi.NSPID).Owner != user {
		t.Errorf("the pid namespace belongs to %v", p.In(abi.NSPID).Owner)
	}
	levels := s.UIDsOf(p)
	last := levels[len(levels)-1]
	if levels[0].ID != 100000 || last.ID != 0 || !last.Mapped || last.Namespace != user {
		t.Errorf("uids by level: %v", levels)
	}
	if got, ok := s.MapUID(33, user, s.Self.In(abi.NSUser)); !ok || got != 100033 {
		t.Errorf("33 inside is %d, %v", got, ok)
	}
	if p.Readable != true || p.NoNewPrivs || p.Seccomp != s.Self.Seccomp {
		t.Errorf("%+v", p)
	}
}

// TestLiveHidden is a user namespace without processes, which only its child shows.
func TestLiveHidden(t *testing.T) {
	cmd, reports := start(t, "middle", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}, 1)
	cmd.Process.Wait()
	s := readAll(t, Options{})
	inner := s.Namespace(abi.NSUser, reports[0].Inodes[abi.NSUser])
	if inner == nil || reports[0].UID != 7 {
		t.Fatalf("inner %v, uid %d", inner, reports[0].UID)
	}
	hidden := inner.Parent
	if hidden == nil || len(hidden.Members) != 0 || len(hidden.Refs) != 0 || hidden.Parent != s.Self.In(abi.NSUser) {
		t.Fatalf("between them is %+v", hidden)
	}
	if got := fmt.Sprint(inner.Path()); got != fmt.Sprint([]*Namespace{s.Self.In(abi.NSUser), hidden, inner}) {
		t.Errorf("path %s", got)
	}
	if hidden.Creator != int64(os.Getuid()) {
		t.Errorf("created by %d", hidden.Creator)
	}
}

// TestLiveMount is a network namespace that a bind mount keeps, one that a descriptor
// keeps, and one that a single thread is in.
func TestLiveMount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a net\tof its own")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd, reports := start(t, "net "+path, namespaces(syscall.CLONE_NEWNS), 2)
	inode := reports[1].Inodes[abi.NSNetwork]
	s := readAll(t, Options{})
	n := s.Namespace(abi.NSNetwork, inode)
	if n == nil || len(n.Members) != 0 || len(n.Refs) != 1 || n.Owner != s.Process(cmd.Process.Pid).In(abi.NSUser) {
		t.Fatalf("%+v", n)
	}
	if r := n.Refs[0]; r.Kind != RefMount || r.Path != path || r.PID != cmd.Process.Pid {
		t.Errorf("held by %v", r)
	}
	mounts, err := ReadMounts(nil, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(mounts, func(m Mount) bool { return m.Point == path })
	if at < 0 || mounts[at].Type != "nsfs" || mounts[at].Root != n.String() || mounts[at].Propagation() != "private" {
		t.Errorf("mount %d of %+v", at, mounts)
	}
	own, err := ReadMounts(nil, os.Getpid())
	if err != nil || slices.ContainsFunc(own, func(m Mount) bool { return m.Point == path }) {
		t.Errorf("E9: the mount is on the host too: %v", err)
	}
	if s.Self.In(abi.NSMount) == s.Process(cmd.Process.Pid).In(abi.NSMount) {
		t.Error("E9: one mount namespace for both")
	}
}

// offMain runs f on a thread that ends with it, and never on the process's first one,
// whose namespaces are those of the process.
func offMain(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return // without unlocking: the thread is not used again
	}
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // the first thread is taken, so this is another
		defer close(done)
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

func TestLiveFDAndThread(t *testing.T) {
	enter, leave, left := make(chan uint64), make(chan bool), make(chan bool)
	go offMain(func() {
		defer close(left)
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			enter <- 0
			return
		}
		link, _ := os.Readlink("/proc/thread-self/ns/uts")
		_, inode, _ := parseLink(link)
		enter <- inode
		<-leave
	})
	inode := <-enter
	if inode == 0 {
		<-left
		t.Skip("this user may not make a uts namespace")
	}
	find := func(o Options) []Ref {
		if n := readAll(t, o).Namespace(abi.NSUTS, inode); n != nil {
			return slices.DeleteFunc(n.Refs, func(r Ref) bool { return r.PID != os.Getpid() })
		}
		return nil
	}
	if refs := find(Options{}); refs != nil {
		t.Errorf("without threads: %v", refs)
	}
	refs := find(Options{Threads: true})
	if len(refs) != 1 || refs[0].Kind != RefThread {
		t.Fatalf("with threads: %v", refs)
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/uts", refs[0].Number))
	if err != nil {
		t.Fatal(err)
	}
	close(leave)
	<-left
	refs = find(Options{})
	if len(refs) != 1 || refs[0] != (Ref{Kind: RefFD, PID: os.Getpid(), Number: int(f.Fd())}) {
		t.Errorf("with descriptor %d: %v", f.Fd(), refs)
	}
	f.Close()
	if refs := find(Options{Threads: true}); len(refs) != 0 {
		t.Errorf("after the end: %v", refs)
	}
}

// TestLiveOtherUser reads as a user who may not look into others' processes.
func TestLiveOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	_, reports := start(t, "read", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, 1)
	r := reports[0]
	if r.UID != 65534 || r.Level == 0 || !slices.Contains(r.Sees, os.Getpid()) || !slices.Contains(r.Sees, 1) {
		t.Errorf("%d unreadable of %v", r.Level, r.Sees)
	}
}

// TestLiveHidepid reads a /proc mounted with hidepid=1, which shows the pids of others only.
func TestLiveHidepid(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a /proc with options needs root")
	}
	proc, err := freshProc("hidepid=1")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	cmd, reports := start(t, "hidepid", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, 1, proc)
	if r := reports[0]; r.Level == 0 || !slices.Contains(r.Sees, cmd.Process.Pid) || slices.Contains(r.Sees, os.Getpid()) {
		t.Errorf("%d hidden, sees %v", r.Level, r.Sees)
	}
}

// TestLiveVanish reads while processes come and go: none is an error, none is half there.
func TestLiveVanish(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			exec.Command("/bin/true").Run()
		}
		done <- n
	}()
	for range 60 {
		s := readAll(t, Options{Threads: true})
		for _, p := range s.Processes {
			if len(p.PIDs) == 0 || p.PIDs[0] != p.PID || p.State == 0 {
				t.Fatalf("half a process: %+v", p)
			}
			for _, at := range abi.Namespaces() {
				stays := at == abi.NSPID || at == abi.NSUser
				switch has := p.In(at) != nil; {
				case !p.Readable || s.Self.In(at) == nil:
				case !has && !p.Ended, has && p.Ended && !stays:
					t.Fatalf("half a process: %v in state %c, ended %v, %v namespace %v", p, p.State, p.Ended, at, p.In(at))
				}
			}
		}
	}
	cancel()
	if n := <-done; n == 0 {
		t.Error("no process came and went")
	}
}

func TestLiveSelf(t *testing.T) {
	pid := os.Getpid()
	p, err := ReadProcess(nil, pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != pid || p.Parent != os.Getppid() || int(p.UIDs.Real) != os.Getuid() || p.Threads < 2 || p.Kernel || !p.Readable {
		t.Errorf("%+v", p)
	}
	if !slices.Equal(p.Args, os.Args) || p.In(abi.NSPID) != nil {
		t.Errorf("args %q, pid namespace %v", p.Args, p.In(abi.NSPID))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &limit); err != nil {
		t.Fatal(err)
	}
	limits, err := ReadLimits(nil, pid)
	if want := (Limit{abi.RlimitStack, limit.Cur, limit.Max}); err != nil || len(limits) != 16 || limits[abi.RlimitStack] != want {
		t.Errorf("limits %v, %v; want %v", limits, err, want)
	}
	if _, err := ReadCgroups(nil, pid); err != nil {
		t.Error(err)
	}
	if _, err := ReadTimeOffsets(nil, pid); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	again := readAll(t, Options{}).Self
	if !again.Start.Equal(p.Start) && again.Start.Sub(p.Start).Abs() > tick*5 {
		t.Errorf("started at %v and at %v", p.Start, again.Start)
	}
	if _, err := Open(nil, 1<<30, abi.NSPID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no process: %v", err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := Identify(f); !errors.Is(err, errNotNS) {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := openNS(dir(unix.AT_FDCWD), os.DevNull, 0); err != errNotNS {
		t.Errorf("/dev/null: %v", err)
	}
}

// TestLiveDumpable gives up the right to be traced and looks for it from outside.
func TestLiveDumpable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	cmd, _ := start(t, "read", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, 1)
	p, err := ReadProcess(nil, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if dumpable, known := p.Dumpable(); !known || !dumpable {
		t.Errorf("a plain process: %v, %v", dumpable, known)
	}
	if _, known := (&Process{}).Dumpable(); known {
		t.Error("known of a process of root")
	}
	if dumpable, known := (&Process{UIDs: IDs{Effective: 5}}).Dumpable(); !known || dumpable {
		t.Errorf("files of root for uid 5: %v, %v", dumpable, known)
	}
}

func BenchmarkRead(b *testing.B) {
	for b.Loop() {
		s, err := Read(context.Background(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(s.Processes)), "processes")
	}
}

package namespace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
)

func TestReadFixture(t *testing.T) {
	golden.Check(t, "testdata/host.golden", dump(load(t, "host").read(t, Options{})))
}

func TestReadQuick(t *testing.T) {
	s := load(t, "host").read(t, Options{Quick: true})
	for _, n := range s.Namespaces {
		for _, r := range n.Refs {
			if r.Kind == RefFD || r.Kind == RefMount {
				t.Errorf("%v found by %v", n, r)
			}
		}
	}
	if s.Namespace(abi.NSNetwork, 4026532009) != nil {
		t.Error("a namespace that only a descriptor holds was found")
	}
}

// TestReadInside reads the /proc of the container's pid namespace: pids are those inside,
// and nothing of the host is in it.
func TestReadInside(t *testing.T) {
	s := load(t, "inside").read(t, Options{})
	if s.PIDRoot.String() != "pid:[4026532501]" || s.Self != nil {
		t.Errorf("root %v, self %v", s.PIDRoot, s.Self)
	}
	got := fmt.Sprint(s.PIDsOf(s.Process(21)))
	if want := "[{pid:[4026532501] 21} {pid:[4026532601] 1}]"; got != want {
		t.Errorf("pids %s, want %s", got, want)
	}
	if n := len(s.Sees(s.PIDRoot)); n != 2 {
		t.Errorf("sees %d processes, want 2", n)
	}
}

func TestRelations(t *testing.T) {
	s := load(t, "host").read(t, Options{})
	host, web, inner := s.PIDRoot, s.Namespace(abi.NSPID, 4026532501), s.Namespace(abi.NSPID, 4026532601)

	sees := func(n *Namespace) (pids []int) {
		for _, p := range s.Sees(n) {
			pids = append(pids, p.PID)
		}
		return pids
	}
	for _, c := range []struct {
		ns   *Namespace
		want []int
	}{
		{host, []int{1, 40, 41, 50, 341499, 341502, 341600, 341601}},
		{web, []int{341499, 341502, 341600, 341601}},
		{inner, []int{341600}},
		{nil, nil},
	} {
		if got := sees(c.ns); !slices.Equal(got, c.want) {
			t.Errorf("%v sees %v, want %v", c.ns, got, c.want)
		}
	}

	p := s.Process(341600)
	for _, c := range []struct {
		ns   *Namespace
		want int
	}{{host, 341600}, {web, 21}, {inner, 1}} {
		if got, ok := s.PIDIn(p, c.ns); !ok || got != c.want {
			t.Errorf("pid in %v: %d, %v; want %d", c.ns, got, ok, c.want)
		}
		if got := s.Find(c.ns, c.want); got != p {
			t.Errorf("pid %d of %v is %v", c.want, c.ns, got)
		}
	}
	if _, ok := s.PIDIn(s.Process(1), web); ok {
		t.Error("the container has a pid for the host's pid 1")
	}
	if s.Find(inner, 7) != nil || s.Process(2) != nil || s.Namespace(abi.NSPID, 1) != nil {
		t.Error("found what is not there")
	}
	if !inner.Within(host) || host.Within(inner) || !web.Within(web) {
		t.Error("Within is wrong about who is below whom")
	}
	if roots := s.Roots(abi.NSUser); len(roots) != 1 || !roots[0].Initial() {
		t.Errorf("user roots %v", roots)
	}
	got := fmt.Sprint(s.Owned(s.Namespace(abi.NSUser, 4026532600)))
	if want := "[pid:[4026532601] mnt:[4026532602]]"; got != want {
		t.Errorf("owned: %s, want %s", got, want)
	}
}

func TestDiff(t *testing.T) {
	s := load(t, "host").read(t, Options{})
	verdicts := func(a, b int) string {
		list := ""
		for _, d := range Diff(s.Process(a), s.Process(b)) {
			list += fmt.Sprintf("%s %s ", d.Type.ProcName(), d.Verdict)
		}
		return list
	}
	for _, c := range []struct {
		a, b int
		want string
	}{
		{341499, 341502, "pid shared user shared mnt shared net shared uts shared ipc shared cgroup shared time shared "},
		{1, 341499, "pid different user different mnt different net different uts shared ipc different cgroup shared time shared "},
		{341499, 341601, "pid shared user shared mnt unknown net unknown uts unknown ipc unknown cgroup unknown time unknown "},
	} {
		if got := verdicts(c.a, c.b); got != c.want {
			t.Errorf("%d and %d:\n got %s\nwant %s", c.a, c.b, got, c.want)
		}
	}
}

func TestMapID(t *testing.T) {
	s := load(t, "host").read(t, Options{})
	web, inner, hidden := s.Namespace(abi.NSUser, 4026532499), s.Namespace(abi.NSUser, 4026532600), s.Namespace(abi.NSUser, 4026532555)
	host := s.Namespace(abi.NSUser, 4026531837)
	for _, c := range []struct {
		id       uint32
		from, to *Namespace
		want     uint32
		ok       bool
	}{
		{0, web, nil, 100000, true},
		{0, web, host, 100000, true},
		{65535, web, nil, 165535, true},
		{65536, web, nil, 1000, true},
		{65537, web, nil, 0, false},
		{100005, nil, web, 5, true},
		{1000, host, web, 65536, true},
		{0, nil, web, 0, false},
		{0, inner, web, 5, true},
		{5, web, inner, 0, true},
		{0, inner, nil, 100005, true},
		{6, web, inner, 0, false},
		{0, hidden, nil, 0, false}, // no member, no map
		{0, nil, hidden, 0, false},
		{noID, nil, nil, 0, false},
		{42, nil, nil, 42, true},
		{42, host, host, 42, true},
	} {
		if got, ok := s.MapUID(c.id, c.from, c.to); got != c.want || ok != c.ok {
			t.Errorf("uid %d of %v in %v: %d, %v; want %d, %v", c.id, c.from, c.to, got, ok, c.want, c.ok)
		}
	}
	if got, ok := s.MapGID(65536, web, nil); ok {
		t.Errorf("gid 65536 is %d outside, though only uids go so far", got)
	}
	// There and back again, for every id that has a way.
	for id := range uint32(70000) {
		if out, ok := s.MapUID(id, web, nil); ok {
			if back, ok := s.MapUID(out, nil, web); !ok || back != id {
				t.Fatalf("uid %d is %d outside, which is %d, %v inside", id, out, back, ok)
			}
		}
	}
}

// TestReadEnded holds that a process has either all of its namespaces or those of an ended
// one, and that a kernel without a type of namespace ends nobody.
func TestReadEnded(t *testing.T) {
	f := load(t, "host")
	for pid, want := range map[int]bool{1: false, 50: true, 341601: true} {
		p, err := ReadProcess(f.proc, pid)
		if err != nil || p.Ended != want {
			t.Errorf("%v: ended %v, %v", p, p.Ended, err)
		}
		if want && p.Inodes != [8]uint64{p.Inodes[0], p.Inodes[1]} {
			t.Errorf("%v has ended in %v", p, p.Inodes)
		}
	}
	if err := os.Remove(filepath.Join(f.proc.Name(), "1/ns/time")); err != nil {
		t.Fatal(err)
	}
	p, err := ReadProcess(f.proc, 1)
	if err != nil || p.Ended || p.Inodes[abi.NSTime] != 0 || p.Inodes[abi.NSMount] == 0 {
		t.Errorf("without time namespaces: %+v, %v", p, err)
	}
}

// TestMapIDNested has a reader in a user namespace of its own, whose map leads to its
// parent while its ids are the reader's.
func TestMapIDNested(t *testing.T) {
	own := &Namespace{Type: abi.NSUser, Inode: 5, UIDs: IDMap{{0, 1000, 10}}, GIDs: IDMap{{0, 2000, 10}}}
	below := &Namespace{Type: abi.NSUser, Inode: 6, Parent: own, UIDs: IDMap{{0, 3, 2}}, GIDs: IDMap{{0, 5, 2}}}
	s := &System{reader: 5}
	for _, c := range []struct {
		id       uint32
		from, to *Namespace
		want     uint32
	}{{1, below, own, 4}, {4, own, below, 1}, {1, below, nil, 4}, {4, own, nil, 4}, {4, nil, own, 4}} {
		if got, ok := s.MapUID(c.id, c.from, c.to); !ok || got != c.want {
			t.Errorf("uid %d of %v in %v: %d, %v; want %d", c.id, c.from, c.to, got, ok, c.want)
		}
	}
	p := &Process{UIDs: IDs{Effective: 3}, GIDs: IDs{Effective: 6}}
	p.spaces[abi.NSUser] = below
	if got := fmt.Sprint(s.UIDsOf(p)); got != "[{user:[5] 3 true true} {user:[6] 0 true true}]" {
		t.Errorf("uids by level: %s", got)
	}
	if got := fmt.Sprint(s.GIDsOf(p)); got != "[{user:[5] 6 true true} {user:[6] 1 true true}]" {
		t.Errorf("gids by level: %s", got)
	}
}

// TestDirRead reads a file of many pages, as mountinfo is on a host with many containers.
func TestDirRead(t *testing.T) {
	at, want := t.TempDir(), make([]byte, 100_000)
	for i := range want {
		want[i] = byte(i % 251)
	}
	if err := os.WriteFile(filepath.Join(at, "long"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, buf := range [][]byte{nil, make([]byte, 0, 700), make([]byte, 10, 200_000)} {
		if got, err := dir(f.Fd()).read("long", buf); err != nil || !slices.Equal(got, want) {
			t.Errorf("into %d bytes: %d bytes, %v", cap(buf), len(got), err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Read(context.Background(), Options{Proc: file}); err == nil {
		t.Error("a file passed for a /proc")
	}
	f := load(t, "host")
	if _, err := ReadProcess(f.proc, 2); !errors.Is(err, fs.ErrNotExist) || err.Error() != "process 2: no such process" {
		t.Errorf("no process: %v", err)
	}
	if _, err := ReadProcess(f.proc, 77); !errors.Is(err, fs.ErrNotExist) || err.Error() != "process 77: status: no such file or directory" {
		t.Errorf("half a process: %v", err)
	}
	if _, err := ReadLimits(f.proc, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	opts, err := parse([]string{"-n", "7", "-warmup", "0", "-only", "^crun", "-out", "x", "-v", "-row", "a=b {id}", "-row", "c=d"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Rounds != 7 || opts.Warmup != 0 || opts.Only != "^crun" || opts.Out != "x" || !opts.Verbose || len(opts.Extra) != 2 {
		t.Errorf("%+v", opts)
	}
	for _, args := range [][]string{{"-n", "0"}, {"-warmup", "-1"}, {"-only", "("}, {"-row", "nothing"}, {"-row", "x= "}, {"more"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// The rows of a run that has every program; nothing is started.
func testRows(t *testing.T) (workshop, []row) {
	t.Helper()
	w := workshop{
		job:    job{Dir: "/w", Prefix: "p", Options: options{Extra: []string{"mine=/bin/true {bundle} {rootfs} {id}"}}},
		Bundle: "/w/true/plain", SeccompBundle: "/w/true/seccomp", State: "/w/run", True: "/w/true", Look: "/w/look",
		Cgroups: cgroups{Hierarchies: []string{"cpu", "pids"}},
	}
	for _, name := range []string{"kakuri", "kakuri-runtime", "floor", "bare"} {
		w.Binaries = append(w.Binaries, binary{Name: name, Path: "/w/bin/" + name})
	}
	return w, allRows(w)
}

func TestRows(t *testing.T) {
	_, rows := testRows(t)
	seen := map[string]row{}
	for _, r := range rows {
		if _, twice := seen[r.Name]; twice {
			t.Errorf("two rows are named %q", r.Name)
		}
		if strings.HasPrefix(r.Name, "kakuri") != r.Ours {
			t.Errorf("%s: ours %v", r.Name, r.Ours)
		}
		seen[r.Name] = r
	}
	for _, target := range targets() {
		for _, name := range []string{target.Row, target.Peer} {
			if _, ok := seen[name]; !ok {
				t.Errorf("target names a row that is not: %q", name)
			}
		}
	}
	for name, want := range map[string]string{
		rowRuntime: "/w/bin/kakuri-runtime --root /w/run/kakuri-runtime run --bundle /w/true/plain {id}",
		rowRun:     "/w/bin/kakuri run --rm --network none host true",
		rowFloor:   "/w/bin/floor /w/true/plain/rootfs cpu pids",
		"mine":     "/bin/true /w/true/plain /w/true/plain/rootfs {id}",
	} {
		if got := strings.Join(seen[name].Argv, " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	// The binaries of this test do not exist, and the row says so instead of failing later.
	if seen[rowRuntime].Missing == "" {
		t.Error("a program that is not there is not missing")
	}
}

func TestSelectRows(t *testing.T) {
	_, rows := testRows(t)
	kept, err := selectRows(rows, "^(crun run|C floor)$")
	if err != nil || len(kept) != 2 {
		t.Errorf("%d rows, %v; want 2", len(kept), err)
	}
	if _, err := selectRows(rows, "podmin"); err == nil {
		t.Error("no error when no row is left")
	}
}

func TestLookArgv(t *testing.T) {
	w, _ := testRows(t)
	for in, want := range map[string]string{
		"crun run --bundle /w/true/seccomp {id}":      "crun run --bundle /w/look/seccomp {id}",
		"floor /w/true/plain/rootfs cpu":              "floor /w/look/plain/rootfs cpu",
		"bwrap --ro-bind /w/true/plain/rootfs / true": "bwrap --ro-bind /w/look/plain/rootfs / true",
		"kakuri run --rm --network none host true":    "kakuri run --rm --network none host sleep 60",
	} {
		argv := strings.Fields(in)
		if got := strings.Join(lookArgv(argv, w.True, w.Look), " "); got != want {
			t.Errorf("%s -> %s, want %s", in, got, want)
		}
		if strings.Join(argv, " ") != in {
			t.Errorf("%s: the row itself was changed", in)
		}
	}
}

func TestBundle(t *testing.T) {
	if _, err := os.Stat(busybox); err != nil {
		t.Skipf("%v: needs busybox-static", err)
	}
	read := func(cgroup2, seccomp bool, stay ...string) (dir string, spec struct {
		OCIVersion string
		Process    struct {
			Terminal bool
			Args     []string
		}
		Mounts []struct{ Destination, Type string }
		Linux  struct {
			Namespaces []struct{ Type string }
			Seccomp    *struct {
				DefaultAction string
				Syscalls      []struct{ Names []string }
			}
			MaskedPaths, ReadonlyPaths []string
		}
	}) {
		t.Helper()
		dir = t.TempDir()
		if err := writeBundle(dir, cgroup2, seccomp, stay...); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err == nil {
			err = json.Unmarshal(data, &spec)
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir, spec
	}
	dir, spec := read(false, false)
	if spec.Process.Terminal || !slices.Equal(spec.Process.Args, []string{"/bin/true"}) || spec.Linux.Seccomp != nil {
		t.Errorf("%+v", spec)
	}
	if len(spec.Mounts) != 7 || len(spec.Linux.Namespaces) != 5 || len(spec.Linux.MaskedPaths) != 10 || len(spec.Linux.ReadonlyPaths) != 5 {
		t.Errorf("not what runc spec has: %+v", spec)
	}
	if err := exec.Command(filepath.Join(dir, "rootfs", "bin", "true")).Run(); err != nil {
		t.Errorf("the container's true: %v", err)
	}
	if _, spec = read(true, true, stayCommand()...); len(spec.Linux.Namespaces) != 6 || spec.Linux.Seccomp == nil {
		t.Fatalf("cgroup v2 and seccomp: %+v", spec)
	}
	names := spec.Linux.Seccomp.Syscalls[0].Names
	if !slices.IsSorted(names) || len(names) < 250 || !slices.Contains(names, "execve") || slices.Contains(names, "mount") {
		t.Errorf("%d allowed calls: %v", len(names), names)
	}
}

func TestParseCgroups(t *testing.T) {
	const v1 = `30 22 0:27 / /sys/fs/cgroup rw,relatime shared:4 - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 26 0:40 / /mnt/elsewhere rw - cgroup cgroup rw,freezer
`
	for _, test := range []struct {
		name, mountinfo string
		want            cgroups
		text            string
	}{
		{"v1", v1, cgroups{Hierarchies: []string{"cpu,cpuacct", "pids"}}, "v1: cpu,cpuacct pids"},
		{"hybrid", v1 + "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			cgroups{Hierarchies: []string{"cpu,cpuacct", "pids"}, Unified: true}, "hybrid: cpu,cpuacct pids and cgroup2 without controllers"},
		{"v2", "30 22 0:27 / /sys/fs/cgroup rw master:4 propagate_from:2 - cgroup2 cgroup2 rw\n", cgroups{V2: true}, "v2"},
		{"nonsense", "x\n - \n", cgroups{}, "v1: "},
	} {
		got := parseCgroups(test.mountinfo)
		if got.V2 != test.want.V2 || got.Unified != test.want.Unified || !slices.Equal(got.Hierarchies, test.want.Hierarchies) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
		if text := got.describe(false); text != test.text {
			t.Errorf("%s: %q, want %q", test.name, text, test.text)
		}
	}
}

func TestParseStat(t *testing.T) {
	for line, want := range map[string]struct {
		pid, parent int
		name        string
		ok          bool
	}{
		"12 (sleep) S 7 12 12 0": {12, 7, "sleep", true},
		"13 (a (b) c) R 1 2":     {13, 1, "a (b) c", true},
		"14 (x)":                 {0, 0, "", false},
		"(x) S 1":                {0, 0, "", false},
		"":                       {0, 0, "", false},
	} {
		pid, name, parent, ok := parseStat(line)
		if ok != want.ok || ok && (pid != want.pid || parent != want.parent || name != want.name) {
			t.Errorf("%q: %d %q %d %v", line, pid, name, parent, ok)
		}
	}
}

func TestOneLine(t *testing.T) {
	in := "# some/package\nfile.go:3:  broken\n\n\tsecond\n" + strings.Repeat("é", 300)
	got := oneLine(in)
	if !strings.HasPrefix(got, "file.go:3: broken; second; é") || len([]rune(got)) > 210 || !strings.HasSuffix(got, "é …") {
		t.Errorf("%q", got)
	}
}

func TestCensus(t *testing.T) {
	before := census{Mounts: 5, Links: 1, State: 9, Cgroups: []string{"/a"}}
	if left := leftBehind(before, func() census { return census{Mounts: 4, Links: 1, State: 9, Cgroups: []string{"/a"}} }); len(left) != 0 {
		t.Errorf("less than before is reported: %q", left)
	}
	left := before.compare(census{Mounts: 6, Links: 2, State: 10, Cgroups: []string{"/a", "/b"}})
	if len(left) != 4 || left[3] != "cgroup /b" {
		t.Errorf("%q, want four complaints", left)
	}
	// What goes away while it counts is not left behind.
	n := 3
	if left := leftBehind(before, func() census { n--; return census{Mounts: 5 + n, Links: 1, State: 9} }); len(left) != 0 {
		t.Errorf("%q", left)
	}
}

func testStand(t *testing.T) *stand {
	t.Helper()
	dir := t.TempDir()
	s, err := newStand(workshop{job: job{Dir: dir, Prefix: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func TestTry(t *testing.T) {
	s := testStand(t)
	sh := func(script string) row { return row{Argv: []string{"/bin/sh", "-c", script}} }
	for _, test := range []struct {
		row  row
		want string
	}{
		{sh("exit 0"), ""},
		{sh("echo chatter; exit 0"), ""},
		{sh("echo why >&2; exit 3"), "exit status 3: why"},
		{sh("echo said; exit 1"), "exit status 1: said"},
		{sh("exit 4"), "exit status 4"},
		{sh("kill -9 $$"), "signal: killed"},
		{row{Argv: []string{"/bin/true"}, Missing: "not installed"}, "not installed"},
		{row{Argv: []string{"/nonexistent"}}, "fork/exec /nonexistent: no such file or directory"},
	} {
		if got := s.try(test.row); got != test.want {
			t.Errorf("%v: %q, want %q", test.row.Argv, got, test.want)
		}
	}
}

func TestTimeAll(t *testing.T) {
	s := testStand(t)
	log := filepath.Join(t.TempDir(), "log")
	ids := func(name string) result {
		return result{Row: row{Name: name, Argv: []string{"/bin/sh", "-c", "echo $0 $1 >>" + log, name, "{id}"}}}
	}
	results := []result{ids("a"), ids("b"), {Row: row{Argv: []string{"/bin/false"}}}, {Failed: "before"}}
	if err := s.timeAll(context.Background(), options{Rounds: 5, Warmup: 2}, results, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, r := range results[:2] {
		if len(r.Times) != 5 || slices.Min(r.Times) <= 0 || r.Failed != "" {
			t.Errorf("%s: %v %s, want five times and no warm-up", r.Row.Name, r.Times, r.Failed)
		}
	}
	if results[2].Failed != "exit status 1" || len(results[2].Times) != 0 || results[3].Failed != "before" {
		t.Errorf("rows that fail: %+v", results[2:])
	}
	data, _ := os.ReadFile(log)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(lines)
	if len(slices.Compact(lines)) != 14 {
		t.Errorf("%q: want 14 starts with 14 ids", lines)
	}
	for i := 0; i < len(data); {
		pair := strings.SplitN(string(data[i:]), "\n", 3)
		if pair[0][0] == pair[1][0] {
			t.Fatalf("one row twice in a round:\n%s", data)
		}
		i += len(pair[0]) + len(pair[1]) + 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.timeAll(ctx, options{Rounds: 1}, results, io.Discard); err == nil {
		t.Error("an interrupted run gives no error")
	}
}

// An orphan counts as the command's, as tail and not as wall time. This process becomes a
// subreaper for it, which lasts until its end.
func TestOrphans(t *testing.T) {
	if err := becomeReaper(); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Held open, so that the orphan's end does not hang on the opening of the pipe.
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	const wait = 50 * time.Millisecond
	go func() {
		time.Sleep(wait)
		pipe.WriteString("go\n")
	}()
	s := testStand(t)
	_, tail, err := s.timeRow(row{Argv: []string{"/bin/sh", "-c", "(read x <" + fifo + ") & exit 0"}}, s.null)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child is left: %d %v", pid, err)
	}
	if tail <= 0 {
		t.Errorf("tail %v", tail)
	}
}

func TestLook(t *testing.T) {
	if err := becomeReaper(); err != nil {
		t.Fatal(err)
	}
	s := testStand(t)
	seen := s.look(append([]string{"/bin/sh", "-c", `"$@"; true`, "sh"}, stayCommand()...))
	if seen.Err != "" || len(seen.Namespaces) != 0 || seen.Cgroup || seen.Mounts == 0 {
		t.Errorf("a plain child: %+v", seen)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for unshare")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("needs unshare, of util-linux")
	}
	seen = s.look(append([]string{unshare, "--uts", "--ipc"}, stayCommand()...))
	if seen.Err != "" || !slices.Equal(seen.Namespaces, []string{"ipc", "uts"}) {
		t.Errorf("unshare --uts --ipc: %+v", seen)
	}
}

func TestReadStatus(t *testing.T) {
	var seen sight
	seen.readStatus("Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t0000000020000420\n")
	if !seen.Seccomp || !seen.NoNewPrivs || seen.Capabilities != 3 {
		t.Errorf("%+v", seen)
	}
}

func TestCheckPrivate(t *testing.T) {
	here, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for _, outside := range []string{here, ""} {
		if err := checkPrivate(outside); err == nil {
			t.Errorf("outside %q: the machine's own namespace is accepted", outside)
		}
	}
}

func TestFacts(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: Abacus 9\n"); got != "Abacus 9" {
		t.Error(got)
	}
	if got := cpuModel("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"); got != "implementer 0x41 part 0xd0c" {
		t.Error(got)
	}
	f := readFacts(t.TempDir())
	if f.Kernel == "" || f.Cores < 1 || f.FS == "unknown" || len(strings.Fields(f.Load[0])) != 3 || len(f.Versions) < 6 {
		t.Errorf("%+v", f)
	}
}

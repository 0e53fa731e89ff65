package cli

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/ui"
)

func TestNSLive(t *testing.T) {
	s := microscope(t)
	if s == nil {
		return
	}
	web := s.start(t, "web")
	db := s.start(t, "db", "--network", "container:web", "--init")
	t.Run("ls", func(t *testing.T) { testNSList(t, s, web) })
	t.Run("tree", func(t *testing.T) { testNSTree(t, s, web) })
	t.Run("ps", func(t *testing.T) { testNSView(t, s, web, db) })
	t.Run("diff", func(t *testing.T) { testNSDiff(t, s, web) })
	t.Run("ordinary user", func(t *testing.T) { testNSOrdinary(t, s.asOrdinary(t), web) })
}

// readJSON decodes what a command prints as JSON.
func readJSON[T any](t *testing.T, s *scope, args ...string) T {
	t.Helper()
	text, code := s.kakuri(t, append(args, "--format", "json")...)
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil || code != 0 {
		t.Fatalf("%q: exit code %d, %v:\n%s", args, code, err, text)
	}
	return v
}

func testNSList(t *testing.T, s *scope, web int) {
	its, err := namespace.ReadProcess(nil, web)
	if err != nil {
		t.Fatal(err)
	}
	byInode := map[uint64]ui.NSRow{}
	for _, r := range readJSON[ui.NSList](t, s, "ns", "ls").Namespaces {
		byInode[r.Inode] = r
	}
	for _, ns := range abi.Namespaces() {
		r := byInode[its.Inodes[ns]]
		if r.Type != ns.ProcName() || r.PID != web || r.Name != "web" || r.Command != "sleep 1000" || r.Processes < 1 {
			t.Errorf("%v of web: %+v", ns, r)
		}
	}
	net := fmt.Sprint(its.Inodes[abi.NSNetwork], "  net ")
	text, code := s.kakuri(t, "ns", "ls", "-t", "net,mount", "-t", "uts")
	if code != 0 || !strings.Contains(text, net) || !strings.Contains(text, "  web: sleep 1000\n") || strings.Contains(text, "  pid  ") || !strings.Contains(text, "  mnt ") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	// The namespace that both share is named after the one that made it.
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, net) && !strings.HasSuffix(line, "  web: sleep 1000\n") {
			t.Errorf("%s", line)
		}
	}
}

// nodeNamed finds a namespace by its name.
func nodeNamed(list []ui.NSNode, name string) *ui.NSNode {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
		if n := nodeNamed(list[i].Children, name); n != nil {
			return n
		}
	}
	return nil
}

func testNSTree(t *testing.T, s *scope, web int) {
	pids := readJSON[ui.NSForest](t, s, "ns", "tree")
	n := nodeNamed(pids.Roots, "web")
	if n == nil || n.Type != "pid" || len(n.Processes) != 1 || n.Processes[0].PIDs[0] != web || n.Processes[0].PIDs[len(n.Processes[0].PIDs)-1] != 1 {
		t.Errorf("pid namespace of web: %+v", n)
	}
	users := readJSON[ui.NSForest](t, s, "ns", "tree", "--type", "user")
	n = nodeNamed(users.Roots, "web")
	if n == nil || n.Type != "user" || len(n.UIDMap) != 1 || n.UIDMap[0].Inside != 0 || n.UIDMap[0].Count != 65536 || len(n.Owns) < 7 {
		t.Errorf("user namespace of web: %+v", n)
	}
	text, code := s.kakuri(t, "ns", "tree", "-a")
	if want := fmt.Sprintf("pid 1 here, %d on the host", web); code != 0 || !strings.Contains(text, "(web)") || !strings.Contains(text, want) && n.Host {
		t.Errorf("exit code %d, no %q in:\n%s", code, want, text)
	}
	dir := t.TempDir()
	for _, name := range []string{"host.svg", "host.json", "host.txt"} {
		file := filepath.Join(dir, name)
		if text, code := s.kakuri(t, "ns", "tree", "-o", file); code != 0 || text != "" {
			t.Errorf("%s: exit code %d: %s", name, code, text)
		}
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), "web") {
			t.Errorf("%s: %v: %.80s", name, err, data)
		}
	}
	picture, _ := s.kakuri(t, "ns", "tree", "--format", "svg", "-t", "user")
	d := xml.NewDecoder(strings.NewReader(picture))
	for {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v:\n%.200s", err, picture)
		}
	}
	if !strings.HasPrefix(picture, "<svg") {
		t.Errorf("picture: %.80s", picture)
	}
}

func testNSView(t *testing.T, s *scope, web, db int) {
	text, code := s.kakuri(t, "ns", "ps", "web")
	if code != 0 || !strings.Contains(text, fmt.Sprintf("sleep 1000  %d", web)) || !strings.Contains(text, "inside web") || !strings.Contains(text, "web sees 1 of ") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	for _, ref := range []string{"db", fmt.Sprint(db)} {
		v := readJSON[ui.NSView](t, s, "ns", "ps", ref)
		if len(v.Processes) != 2 || v.Levels[len(v.Levels)-1].Name != "db" || v.Processes[0].PIDs[0] != db || v.Total < 4 {
			t.Errorf("%s: %+v", ref, v)
		}
	}
}

func testNSDiff(t *testing.T, s *scope, web int) {
	shared := func(c ui.NSComparison) string {
		var list []string
		for _, p := range c.Pairs {
			if p.Verdict == ui.NSShared {
				list = append(list, p.Type)
			}
		}
		return strings.Join(list, " ")
	}
	if c := readJSON[ui.NSComparison](t, s, "ns", "diff", "web", "db"); c.A != "web" || c.B != "db" || len(c.Pairs) != 8 || shared(c) != "user net" {
		t.Errorf("web and db: %+v", c)
	}
	if c := readJSON[ui.NSComparison](t, s, "ns", "diff", fmt.Sprint(os.Getpid()), fmt.Sprint(web)); c.B != fmt.Sprintf("%d (sleep)", web) || shared(c) != "" {
		t.Errorf("this test and web: %+v", c)
	}
	if text, code := s.kakuri(t, "ns", "diff", "web", "db"); code != 0 || !strings.Contains(text, "web and db share 2 of 8 namespaces: user, net\n") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	for _, c := range []struct{ args, want string }{
		{"ns diff web nobody", "kakuri: No such container: nobody"},
		{"ns ps 4194305", "kakuri: there is no process 4194305\n"},
	} {
		if text, code := s.kakuri(t, strings.Fields(c.args)...); code != 1 || !strings.HasPrefix(text, c.want) {
			t.Errorf("%s: exit code %d: %s", c.args, code, text)
		}
	}
}

// testNSOrdinary checks what a user without privileges sees: their own, by name too, and a note on the others.
func testNSOrdinary(t *testing.T, s *scope, strange int) {
	s.start(t, "mine", "--init")
	if n := nodeNamed(readJSON[ui.NSForest](t, s, "ns", "tree").Roots, "mine"); n == nil {
		t.Error("no pid namespace of mine")
	}
	if n := nodeNamed(readJSON[ui.NSForest](t, s, "ns", "tree", "-t", "user").Roots, "mine"); n == nil || n.Creator == nil || *n.Creator != ordinary {
		t.Errorf("user namespace of mine: %+v", n)
	}
	text, code := s.kakuri(t, "ns", "ls")
	if code != 0 || !strings.Contains(text, "  mine: init\n") || strings.Contains(text, "  web: ") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if list := readJSON[ui.NSList](t, s, "ns", "ls"); list.Unreadable < 3 {
		t.Errorf("%d processes of others", list.Unreadable)
	}
	if v := readJSON[ui.NSView](t, s, "ns", "ps", "mine"); len(v.Levels) < 2 || v.Levels[len(v.Levels)-1].Name != "mine" {
		t.Errorf("%+v", v)
	}
	// Of a stranger's process the namespaces are unknown, and that is said.
	if text, code := s.kakuri(t, "ns", "ps", fmt.Sprint(strange)); code != 1 || !strings.Contains(text, "its pid namespace cannot be read") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

func TestNSUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"ns", "kakuri: ns needs a command: ls, tree, ps or diff\n"},
		{"ns ls -t nothing", "kakuri: --type nothing: there are pid, user, mnt, net, uts, ipc, cgroup and time\n"},
		{"ns ls --format xml", "kakuri: --format xml: there are text and json\n"},
		{"ns tree -t net", "kakuri: --type net: there are pid and user, the types that nest\n"},
		{"ns tree --format xml", "kakuri: --format xml: there are text, json and svg\n"},
		{"ns tree --format xml -o /nowhere/x", "kakuri: --format xml: there are text, json and svg\n"},
		{"ns ps", "kakuri: kakuri ns ps needs a container or a pid\n"},
		{"ns diff 1", "kakuri: kakuri ns diff needs two containers or pids\n"},
	} {
		if text, code := mainLine(strings.Fields(c.args)...); code != 125 || !strings.HasPrefix(text, c.want) {
			t.Errorf("%s: exit code %d: %s", c.args, code, text)
		}
	}
}

// Namespaces stand as they began, whatever numbers the kernel gave them; those without a process are last.
func TestNSByAge(t *testing.T) {
	made := func(inode uint64, pids ...int) *namespace.Namespace {
		n := &namespace.Namespace{Inode: inode}
		for _, pid := range pids {
			n.Members = append(n.Members, &namespace.Process{PID: pid})
		}
		return n
	}
	list := []*namespace.Namespace{made(1), made(2, 300, 301), made(3, 100, 900), made(4, 200)}
	var got []uint64
	for _, n := range byAge(list) {
		got = append(got, n.Inode)
	}
	if want := []uint64{3, 4, 2, 1}; !slices.Equal(got, want) || list[0].Inode != 1 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestRanges has a line of a map whose ids the reader has no numbers for.
func TestRanges(t *testing.T) {
	got := rangesOf(namespace.IDMap{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 1<<32 - 1, Count: 5}})
	if want := "[{0 1000 1} {1 -1 5}]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// Where no terminal says how wide, command lines end at 200 columns, so that a tree which is shown to others has not all of their
// arguments; --no-trunc and JSON have them whole.
func TestNSLong(t *testing.T) {
	long := "server " + strings.Repeat("--flag=value ", 100) + "--password=secret"
	forest := ui.NSForest{Roots: ui.List[ui.NSNode]{{NSName: ui.NSName{Inode: 1, Host: true}, Type: "pid", Processes: ui.List[ui.NSProcess]{{Command: long, PIDs: ui.List[int]{7}}}}}}
	for _, test := range []struct {
		o     nsOutput
		whole bool
	}{{nsOutput{format: "text"}, false}, {nsOutput{format: "text", noTrunc: true}, true}, {nsOutput{format: "json"}, true}} {
		var out strings.Builder
		test.o.io.Out = &out
		if err := test.o.tree(forest, false, ""); err != nil {
			t.Fatal(err)
		}
		widest := 0
		for line := range strings.Lines(out.String()) {
			widest = max(widest, ui.Width(strings.TrimSuffix(line, "\n")))
		}
		if strings.Contains(out.String(), "secret") != test.whole || (widest <= fileColumns) == test.whole || !strings.Contains(out.String(), "7") {
			t.Errorf("%+v: %d columns\n%s", test.o, widest, out.String())
		}
	}
}

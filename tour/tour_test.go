package tour

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
)

func tables() map[string]any {
	return map[string]any{
		"words": words, "common": common, "e1": e1, "e2": e2, "e3": e3, "e4": e4, "e5": e5, "e6": e6, "e7": e7,
		"e8": e8, "e9": e9, "e10": e10, "e11": e11, "e12": e12, "e14": e14, "e15": e15,
	}
}

func TestWords(t *testing.T) {
	for name, table := range tables() {
		for _, fault := range ui.Untranslated(table) {
			t.Errorf("%s.%s", name, fault)
		}
	}
}

// What goes wrong, and how the tour says so.
func failures() []Result {
	bad := fixtures()
	bad["E2"].(*E2).Inside.PID = 341499
	bad["E4"].(*E4).Inside.Processes = append(bad["E4"].(*E4).Inside.Processes, Proc{341490, "kakuri\x1b[2J"})
	list := results(map[string]Reading{"E2": bad["E2"], "E4": bad["E4"]})
	start := &StartError{First: "E3", Err: errRefused}
	for _, e := range Experiments() {
		switch e.ID {
		case "E3", "E5":
			list = append(list, Result{Experiment: e, Err: start})
		case "E9":
			list = append(list, Result{Experiment: e, Err: errRefused})
		}
	}
	return list
}

// page is all that the command prints.
func page(list []Result, p Place, s ui.Screen) string {
	var b strings.Builder
	b.WriteString(Opening(len(list), p, s))
	for _, r := range list {
		b.WriteString(r.Text(s))
	}
	b.WriteString(Closing(list, 412*time.Millisecond, s))
	return b.String()
}

func TestText(t *testing.T) {
	root, user := Place{Privileged: true}, Place{UID: 1000}
	for _, c := range []struct {
		name  string
		list  []Result
		place Place
	}{{"root", results(fixtures()), root}, {"user", results(userFixtures()), user}, {"failures", failures(), root}} {
		for _, lang := range []ui.Lang{ui.EN, ui.JA} {
			text := page(c.list, c.place, ui.Screen{Lang: lang})
			golden.Check(t, "testdata/"+c.name+"."+lang.String()+".txt", text)
			if wide := page(c.list, c.place, ui.Screen{Lang: lang, Columns: 200}); wide != text {
				t.Errorf("%s, %v: a wide terminal gets another text than a pipe", c.name, lang)
			}
			for _, columns := range []int{80, 60} {
				for line := range strings.Lines(page(c.list, c.place, ui.Screen{Lang: lang, Columns: columns})) {
					if line = strings.TrimSuffix(line, "\n"); ui.Width(line) > columns && !strings.HasPrefix(line, "  kakuri") {
						t.Errorf("%s, %v: %d columns in a line of %d: %s", c.name, lang, ui.Width(line), columns, line)
					}
					if strings.ContainsRune(line, '\x1b') {
						t.Errorf("%s, %v: an escape reaches the terminal: %q", c.name, lang, line)
					}
				}
			}
		}
	}
}

// Colour adds to the text and changes none of it; ASCII has nothing else.
func TestScreens(t *testing.T) {
	list := append(results(fixtures()), failures()...)
	plain, colored := page(list, Place{}, ui.Screen{}), page(list, Place{}, ui.Screen{Color: true})
	if colored == plain {
		t.Error("no colour")
	}
	for _, code := range []string{"1", "2", "31", "32", "33", "36", "0"} {
		colored = strings.ReplaceAll(colored, "\x1b["+code+"m", "")
	}
	if colored != plain {
		t.Errorf("colour changes the text:\n%s", colored)
	}
	for i, r := range page(list, Place{}, ui.Screen{ASCII: true}) {
		if r > 126 {
			t.Fatalf("%q at %d of the text for ASCII", r, i)
		}
	}
}

func TestRecord(t *testing.T) {
	var records []Record
	for _, r := range append(results(fixtures()), failures()...) {
		records = append(records, r.Record(ui.EN))
	}
	var b bytes.Buffer
	if err := ui.JSON(&b, records); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/records.json", b.String())
	if ja := results(fixtures())[0].Record(ui.JA).Title; ja != e1.Title.JA {
		t.Errorf("title %q", ja)
	}
}

func TestHolds(t *testing.T) {
	for _, list := range [][]Result{results(fixtures()), results(userFixtures())} {
		for _, r := range list {
			if err := r.Fault(); err != nil {
				t.Errorf("%s: %v", r.Experiment.ID, err)
			}
		}
		if Held(list) != len(list) {
			t.Errorf("%d of %d hold", Held(list), len(list))
		}
	}
	if (Result{Experiment: Experiments()[0]}).Holds() || (Result{Err: errRefused}).Holds() || Held(failures()) != 0 {
		t.Error("what was not observed holds")
	}
	if err := (Result{Err: errRefused}).Fault(); err != errRefused {
		t.Errorf("fault %v", err)
	}
	for _, r := range []Reading{
		&E1{}, &E2{}, &E3{}, &E4{}, &E5{}, &E6{}, &E7{}, &E8{}, &E9{}, &E10{}, &E11{}, &E12{}, &E14{}, &E15{},
	} {
		if (Result{Reading: r}).Holds() {
			t.Errorf("%T holds of nothing", r)
		}
		(Result{Experiment: Experiments()[0], Reading: r}).Text(ui.Screen{}) // must not panic
	}
}

// Without isolation no experiment holds: each claim has a measurement that breaks it, and
// the fault says what was measured.
func TestFalse(t *testing.T) {
	yes, no := true, false
	broken := map[string][]int{} // claims that some case breaks
	for _, c := range []struct {
		name     string
		user     bool // from an ordinary user's readings
		spoil    func(map[string]Reading)
		id       string
		claim    int
		measured string
	}{
		{"pid 1 is elsewhere", false, func(m map[string]Reading) { m["E1"].(*E1).Host.Init = "pid:[7]" }, "E1", 0, "pid:[7]"},
		{"the shell has left", false, func(m map[string]Reading) { m["E1"].(*E1).Inside.PIDNamespace = "pid:[7]" }, "E1", 1, "pid:[7]"},
		{"two numbers", true, func(m map[string]Reading) { m["E1"].(*E1).Inside.PIDs = []int{77, 1} }, "E1", 0, "[77 1]"},
		{"no namespace: the host's number", false, func(m map[string]Reading) { m["E2"].(*E2).Inside.PID = 341499 }, "E2", 0, "341499"},
		{"the host's namespace", false, func(m map[string]Reading) { m["E3"].(*E3).Inside.PIDNamespace = "pid:[4026531836]" }, "E3", 0, "pid:[4026531836]"},
		{"unread namespaces", false, func(m map[string]Reading) { *m["E3"].(*E3) = E3{} }, "E3", 0, ""},
		{"the host's /proc", false, func(m map[string]Reading) {
			m["E4"].(*E4).Inside.Processes = []Proc{{1, "init"}, {341490, "kakuri"}, {341499, "sh"}}
		}, "E4", 0, "[1 341490 341499] != [1 2]"},
		{"a process is hidden from its own", false, func(m map[string]Reading) { m["E4"].(*E4).Inside.Processes = []Proc{{1, "sh"}} }, "E4", 0, "[1]"},
		{"the host sees no more", false, func(m map[string]Reading) { m["E4"].(*E4).Host.Processes = 2 }, "E4", 1, "2 <= 2"},
		{"number 1 outside", false, func(m map[string]Reading) { m["E5"].(*E5).Host.Processes[0].PIDs[0] = 1 }, "E5", 0, "[1 341500]"},
		{"somebody else's child", false, func(m map[string]Reading) { m["E5"].(*E5).Host.Monitor = "systemd" }, "E5", 1, "systemd != kakuri-runtime"},
		{"other processes", false, func(m map[string]Reading) { m["E5"].(*E5).Inside.Processes[1].PID = 3 }, "E5", 2, "[1 2] != [1 3]"},
		{"one number only", false, func(m map[string]Reading) { m["E5"].(*E5).Host.Processes = []Leveled{{[]int{341499}, "sh"}} }, "E5", 2, "[]"},
		{"two namespaces", false, func(m map[string]Reading) { m["E6"].(*E6).Inside.PIDNamespace = "pid:[7]" }, "E6", 0, "pid:[7]"},
		{"one level is missing", false, func(m map[string]Reading) { e := m["E7"].(*E7); e.Host.Nested = e.Host.Nested[:2] }, "E7", 0, "kakuri"},
		{"the container sees the host", false, func(m map[string]Reading) { m["E7"].(*E7).Inside.Container = []int{1, 3, 9, 341490} }, "E7", 1, "341490"},
		{"the container does not see its child", false, func(m map[string]Reading) { m["E7"].(*E7).Inside.Container = []int{1, 3} }, "E7", 1, "[1 3]"},
		{"the innermost sees its parent", false, func(m map[string]Reading) { m["E7"].(*E7).Inside.Innermost = []int{1, 3, 9} }, "E7", 2, "[1 3 9]"},
		{"nobody inside", false, func(m map[string]Reading) { m["E8"].(*E8).Inside.UID = 1000 }, "E8", 0, "1000"},
		{"root outside", false, func(m map[string]Reading) { e := m["E8"].(*E8); e.Host.UID = 0; e.Host.UIDMap[0].Outside = 0 }, "E8", 1, "measured 0"},
		{"another map", false, func(m map[string]Reading) { m["E8"].(*E8).Host.UIDMap = []IDRange{{0, 0, 4294967295}} }, "E8", 2, "4294967295"},
		{"no mount", false, func(m map[string]Reading) { m["E9"].(*E9).Inside.Mounts = nil }, "E9", 0, "[]"},
		{"the mount is the host's", false, func(m map[string]Reading) { m["E9"].(*E9).Host.Mounts = []string{"tmpfs"} }, "E9", 1, "tmpfs"},
		{"nothing written", false, func(m map[string]Reading) { m["E9"].(*E9).Inside.File = "" }, "E9", 2, "/hello.txt"},
		{"written on the host", false, func(m map[string]Reading) { m["E9"].(*E9).Host.File = true }, "E9", 3, "true"},
		{"a answers for b", false, func(m map[string]Reading) { m["E10"].(*E10).Inside.Servers[1].Answer = "web-a" }, "E10", 1, `"web-a"`},
		{"b answers for a", false, func(m map[string]Reading) { m["E10"].(*E10).Inside.Servers[0].Answer = "web-b" }, "E10", 0, `"web-b"`},
		{"one network", false, func(m map[string]Reading) {
			e := m["E10"].(*E10)
			e.Inside.Servers[1].Network = e.Inside.Servers[0].Network
		}, "E10", 2, "net:[4026532497]"},
		{"the host's network", false, func(m map[string]Reading) {
			e := m["E10"].(*E10)
			e.Inside.Servers[0].Network = e.Host.Network
		}, "E10", 2, "net:[4026531833]"},
		{"the port is the host's", false, func(m map[string]Reading) { m["E10"].(*E10).Host.Free = false }, "E10", 3, "false"},
		{"the host's name", false, func(m map[string]Reading) { m["E11"].(*E11).Inside.Hostname = "mountain" }, "E11", 0, "mountain"},
		{"the name reached the host", false, func(m map[string]Reading) { m["E11"].(*E11).Host.Hostname = IslandName }, "E11", 0, IslandName},
		{"the host's memory", false, func(m map[string]Reading) { m["E11"].(*E11).Inside.Segment = true }, "E11", 1, "true, true"},
		{"no memory at all", false, func(m map[string]Reading) { m["E11"].(*E11).Host.Segment = false }, "E11", 1, "false, false"},
		{"the queue reached the host", false, func(m map[string]Reading) { m["E11"].(*E11).Host.Queue = &yes }, "E11", 2, "true, true"},
		{"no queue", true, func(m map[string]Reading) { m["E11"].(*E11).Inside.Queue = &no }, "E11", 2, "false"},
		{"no file system of queues", true, func(m map[string]Reading) { m["E11"].(*E11).Inside.Queue = nil }, "E11", 2, "none"},
		{"the host's cgroups", false, func(m map[string]Reading) { m["E11"].(*E11).Inside.Cgroup = "/user.slice" }, "E11", 3, "/user.slice"},
		{"the host's clock", false, func(m map[string]Reading) { m["E11"].(*E11).Inside.Uptime = 4107.5 }, "E11", 4, "4107 s, 4108 s"},
		{"another offset", false, func(m map[string]Reading) { m["E11"].(*E11).Inside.Uptime += 61 }, "E11", 4, "90569 s"},
		{"one namespace shared", false, func(m map[string]Reading) { e := m["E11"].(*E11); e.Inside.Spaces[2] = e.Host.Spaces[2] }, "E11", 5, "cgroup:[3]"},
		{"one namespace unread", false, func(m map[string]Reading) { e := m["E11"].(*E11); e.Inside.Spaces = e.Inside.Spaces[:3] }, "E11", 5, ""},
		{"another kernel", false, func(m map[string]Reading) { m["E12"].(*E12).Inside.Kernel = "5.10" }, "E12", 0, "5.10"},
		{"another boot", false, func(m map[string]Reading) { m["E12"].(*E12).Inside.BootID = "0" }, "E12", 1, "!= 0"},
		{"the command failed", false, func(m map[string]Reading) { m["E14"].(*E14).Code = 3 }, "E14", 0, "measured 3"},
		{"a short plan", false, func(m map[string]Reading) { e := m["E14"].(*E14); e.Run.Steps = e.Run.Steps[:2] }, "E14", 1, "2 <= 3"},
		{"a step without a cause", false, func(m map[string]Reading) { m["E14"].(*E14).Run.Steps[3].Cause.Reason = "" }, "E14", 2, "1 without"},
		{"two levels", false, func(m map[string]Reading) { m["E15"].(*E15).Host.Tree.Roots[0].Children[0].Children = nil }, "E15", 0, "measured 2"},
		{"too few numbers", false, func(m map[string]Reading) {
			m["E15"].(*E15).Host.Tree.Roots[0].Children[0].Processes[0].PIDs = []int{341510}
		}, "E15", 1, "false"},
		{"the innermost sees more", false, func(m map[string]Reading) { m["E15"].(*E15).Inside.Processes = []int{1, 3} }, "E15", 2, "[1 3]"},
	} {
		readings := fixtures()
		if c.user {
			readings = userFixtures()
		}
		c.spoil(readings)
		r := Result{Reading: readings[c.id]}
		err := r.Fault()
		if err == nil || !strings.Contains(err.Error(), c.measured) {
			t.Errorf("%s %s: fault %v, want one with %q", c.id, c.name, err, c.measured)
		}
		if r.Reading.claims()[c.claim].holds {
			t.Errorf("%s %s: claim %d holds", c.id, c.name, c.claim)
		}
		broken[c.id] = append(broken[c.id], c.claim)
	}
	for id, r := range fixtures() {
		for i := range r.claims() {
			if !slices.Contains(broken[id], i) {
				t.Errorf("%s: nothing breaks claim %d", id, i)
			}
		}
	}
}

// Every operation that a plan may have is counted for what it is.
func TestSubject(t *testing.T) {
	for _, op := range plan.Ops() {
		if subject(op) == unknown {
			t.Errorf("%T: nobody says what it is for", op)
		}
	}
	if c := count(runPlan(), all); c != (Count{21, 15, 2}) {
		t.Errorf("%+v", c)
	}
	if c := count(runPlan(), func(s plan.Side) bool { return s == plan.Runtime }); c != (Count{3, 1, 1}) {
		t.Errorf("on the host: %+v", c)
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		ids  []string
		want string
	}{
		{nil, "E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E14, E15"},
		{[]string{"E7"}, "E7"}, {[]string{"12", "e2", "E2"}, "E2, E12"},
	} {
		list, err := Find(c.ids)
		if err != nil || names(list) != c.want {
			t.Errorf("%v: %s, %v", c.ids, names(list), err)
		}
	}
	for _, id := range []string{"E13", "E0", "", "x", "E7x", "-1", "E16"} {
		if list, err := Find([]string{"E1", id}); err == nil || !strings.Contains(err.Error(), "E12, E14, E15") {
			t.Errorf("%q: %s, %v", id, names(list), err)
		}
	}
}

// The lines to try look for kakuri in PATH, where it is not yet when the tour comes from go run.
func TestOpeningWithoutCommand(t *testing.T) {
	for lang, want := range map[ui.Lang]string{ui.EN: "in PATH, where it is not", ui.JA: "まだ通っていません"} {
		s := ui.Screen{Lang: lang}
		if got := strings.Join(strings.Fields(Opening(1, Place{NoCommand: true}, s)), ""); !strings.Contains(got, strings.ReplaceAll(want, " ", "")) || !strings.Contains(got, `PATH="$PWD/bin:$PATH"`) {
			t.Errorf("%s: %s", lang, got)
		}
		if got := Opening(1, Place{}, s); strings.Contains(got, "$PWD/bin") {
			t.Errorf("%s: %s", lang, got)
		}
	}
}

func TestCommand(t *testing.T) {
	const line = "kakuri run host sh -c 'echo one two three four' and more words"
	for columns := 30; columns < 100; columns++ {
		text := command("try it: ", line, ui.Screen{Columns: columns})
		joined := strings.ReplaceAll(text, " \\\n", "")
		if got := strings.Join(strings.Fields(joined), " "); got != "try it: $ "+line {
			t.Fatalf("%d columns: %q", columns, got)
		}
		for _, l := range strings.Split(text, "\n") {
			if strings.Count(l, "'")%2 != 0 {
				t.Errorf("%d columns: broken within quotes: %q", columns, l)
			}
		}
	}
	if got := shellWords("a 'b c'  d"); !slices.Equal(got, []string{"a", "'b c'", "d"}) {
		t.Errorf("%q", got)
	}
}

func TestPicture(t *testing.T) {
	r := fixtures()["E15"].(*E15)
	en, ja := r.Picture(ui.EN), r.Picture(ui.JA)
	for _, want := range []string{"<svg", "341520", "container", "one inside it"} {
		if !strings.Contains(en, want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if !strings.Contains(ja, "コンテナ") || strings.Contains(ja, "one inside it") {
		t.Error("the Japanese picture is not in Japanese")
	}
	if r.Host.Tree.Roots[0].Children[0].Name != "" {
		t.Error("the picture's names got into the reading")
	}
}

// The room is pure: it imports nothing that reaches a kernel.
func TestImports(t *testing.T) {
	allowed := []string{"errors", "fmt", "slices", "strconv", "strings", "time", "github.com/kakuri/kakuri/plan", "github.com/kakuri/kakuri/ui"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path, err := strconv.Unquote(imp.Path.Value); err != nil || !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, imp.Path.Value)
			}
		}
	}
}

func ExampleResult_Text() {
	reading := &E2{}
	reading.Host.PID, reading.Inside.PID = 341499, 341499 // a shell without isolation
	r := Result{Experiment: Experiments()[1], Reading: reading}
	fmt.Println(r.Holds())
	fmt.Println(r.Fault())
	// Output:
	// false
	// the shell is process 1 inside: measured 341499
}

package docgen

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/kakuri/kakuri/cli"
	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"github.com/spf13/cobra"
)

const modulePath = "github.com/kakuri/kakuri"

func TestMain(m *testing.M) {
	// In the namespaces of nstest the machine's files are read-only: -update stays outside.
	if slices.ContainsFunc(os.Args[1:], func(a string) bool {
		return strings.TrimLeft(a, "-") == "update" || strings.HasSuffix(a, "-update=true")
	}) {
		os.Exit(m.Run())
	}
	os.Exit(nstest.Main(m, nstest.Options{Build: []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"}}))
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := nstest.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// upToDate compares a file of the module with what it should be, or writes it.
func upToDate(t *testing.T, name string, want []byte) {
	t.Helper()
	golden.Check(t, filepath.Join(moduleRoot(t), name), string(want))
}

func TestManual(t *testing.T) {
	pages := Manual(cli.Root(cli.IO{}))
	for _, p := range pages {
		upToDate(t, "docs/man/"+p.Name, p.Text)
	}
	// A page of a command that is no more would stay.
	files, err := os.ReadDir(filepath.Join(moduleRoot(t), "docs/man"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		made := slices.ContainsFunc(pages, func(p Page) bool { return p.Name == f.Name() })
		if !made && f.Name() != "kakuri-runtime.8" && f.Name() != "kakuri-uplink.8" {
			t.Errorf("docs/man/%s: there is no such command", f.Name())
		}
	}
}

// A page with all that could upset roff is printed as it was meant.
func TestManualRoff(t *testing.T) {
	root := &cobra.Command{Use: "k COMMAND", Short: "S", Long: "One.\n\n  $ k  -x\n\n'two'\n.three \\ a-b"}
	sub := &cobra.Command{Use: "do [OPTIONS] THING", Short: "Do it", Run: func(*cobra.Command, []string) {}}
	hidden := &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}}
	sub.Flags().StringP("file", "f", "", "write to `FILE`")
	sub.Flags().String("pid", "", "a pid; with =`FILE` kept")
	sub.Flags().Lookup("pid").NoOptDefVal = "\x00"
	sub.Flags().Bool("all", false, "all")
	sub.Flags().Int("size", 7, "size")
	root.AddCommand(sub, hidden)
	pages := Manual(root)
	if len(pages) != 2 || pages[0].Name != "k.1" || pages[1].Name != "k-do.1" {
		t.Fatalf("pages: %v", pages)
	}
	for _, want := range []string{
		".SH \"NAME\"\nk \\- s\n", "\\fBk\\fR COMMAND\n", "One.\n.PP\n.nf\n  $ k  \\-x\n.fi\n.PP\n\\&'two'\n\\&.three \\e a\\-b\n",
		".TP\n\\fBdo\\fR\nDo it; see k\\-do(1)\n",
	} {
		if !strings.Contains(string(pages[0].Text), want) {
			t.Errorf("k.1 has no %q:\n%s", want, pages[0].Text)
		}
	}
	if strings.Contains(string(pages[0].Text), "secret") {
		t.Error("k.1 has the hidden command")
	}
	for _, want := range []string{
		"\\fBk do\\fR [OPTIONS] THING\n",
		"\\fB\\-f\\fR, \\fB\\-\\-file\\fR \\fIFILE\\fR\nwrite to FILE\n",
		"\\fB\\-\\-pid\\fR[=\\fIFILE\\fR]\na pid; with =FILE kept\n",
		"\\fB\\-\\-all\\fR\nall\n", "\\fB\\-\\-size\\fR \\fIint\\fR\nsize (default: 7)\n",
	} {
		if !strings.Contains(string(pages[1].Text), want) {
			t.Errorf("k-do.1 has no %q:\n%s", want, pages[1].Text)
		}
	}
}

// Pages that have generated parts.
func TestGeneratedParts(t *testing.T) {
	root := moduleRoot(t)
	parts := map[string]string{}
	for _, name := range []string{"engine/hostimage.go", "engine/security.go"} {
		src, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		lists, err := Lists(src)
		if err != nil {
			t.Fatal(err)
		}
		for f, list := range lists {
			parts[f] = Paragraph(list)
		}
	}
	parts["capabilities"] = Paragraph(defaultCapabilities(t))
	rooms, err := Imports(os.DirFS(root), modulePath)
	if err != nil {
		t.Fatal(err)
	}
	parts["imports"] = ImportTable(rooms)
	for _, name := range []string{"docs/host-image.md", "docs/security.md", "ARCHITECTURE.md"} {
		page, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "<!-- generated ") {
			t.Errorf("%s: it has no generated part any more", name)
		}
		want, err := Fill(page, parts)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		upToDate(t, name, want)
	}
}

// defaultPlan is that of a container without flags.
func defaultPlan(t *testing.T) plan.Plan {
	t.Helper()
	e, err := engine.Open(engine.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Prepare(t.Context(), engine.Config{Rootfs: "/", Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	return p.Plan
}

func defaultCapabilities(t *testing.T) []string {
	var names []string
	for _, c := range defaultPlan(t).Checks() {
		if caps, ok := c.Check.(*plan.CapsCheck); ok {
			for _, capability := range caps.Effective.List() {
				names = append(names, capability.String())
			}
		}
	}
	return names
}

// architecture is what imports what, and the page that tells of it.
func architecture(t *testing.T) (rooms map[string][]string, page string) {
	t.Helper()
	root := moduleRoot(t)
	rooms, err := Imports(os.DirFS(root), modulePath)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	return rooms, string(text)
}

// Each room is in the picture, and imports those of its own line or of lines below.
func TestPicture(t *testing.T) {
	rooms, page := architecture(t)
	line := picture(rooms, page)
	for room, imports := range rooms {
		if strings.Contains(room, "internal/") || strings.HasPrefix(room, "bench") {
			continue
		}
		if line[room] == 0 {
			t.Errorf("%s is not in the picture", room)
		}
		for _, other := range imports {
			if line[other] != 0 && line[other] < line[room] {
				t.Errorf("%s imports %s, which is above it", room, other)
			}
		}
	}
}

// Every package is told of in the tables of rooms.
func TestRoomsTold(t *testing.T) {
	rooms, page := architecture(t)
	_, tables, found := strings.Cut(page, "\n## The rooms\n")
	tables, _, more := strings.Cut(tables, "\n## ")
	if !found || !more {
		t.Fatal("there is no section of the rooms")
	}
	for room := range rooms {
		if strings.HasPrefix(room, "cmd/") || strings.HasPrefix(room, "bench/") || strings.HasSuffix(room, "/internal/gen") {
			continue // programs of a room that is told of
		}
		if !strings.Contains(tables, "`"+room+"`") && !strings.Contains(tables, "`"+strings.TrimPrefix(room, "internal/")+"`") {
			t.Errorf("no table says what %s is", room)
		}
	}
}

// picture gives the line of each room in the picture of a page. One that an arrow of an upper line leads to counts by its
// own, which is below.
func picture(rooms map[string][]string, page string) map[string]int {
	_, page, _ = strings.Cut(page, "## The rooms")
	page, _, _ = strings.Cut(page, "| room |")
	line := map[string]int{}
	for i, text := range strings.Split(page, "\n") {
		f := strings.Fields(text)
		if !strings.HasPrefix(text, "    ") || len(f) == 0 {
			continue
		}
		for _, word := range f[1:] {
			if name := strings.TrimSuffix(word, ","); known(rooms, name) {
				line[name] = i + 1
			}
		}
	}
	return line
}

func known(rooms map[string][]string, name string) bool { _, ok := rooms[name]; return ok }

func TestFill(t *testing.T) {
	parts := map[string]string{"a": Paragraph([]string{"/b", "/a"})}
	got, err := Fill([]byte("x\n<!-- generated a -->\nold\n<!-- end -->\ny\n"), parts)
	if want := "x\n<!-- generated a -->\n`/a`, `/b`\n<!-- end -->\ny\n"; err != nil || string(got) != want {
		t.Errorf("Fill: %q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"<!-- generated b -->\n<!-- end -->", "<!-- generated a -->\n"} {
		if got, err := Fill([]byte(bad), parts); err == nil {
			t.Errorf("Fill of %q: %q and no error", bad, got)
		}
	}
	long := Paragraph(slices.Repeat([]string{"/some/path/of/a/host"}, 9))
	for _, line := range strings.Split(long, "\n") {
		if len(line) > 100 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
}

func TestLists(t *testing.T) {
	src := "package p\nfunc a() []string { return []string{\"x\", `y`} }\nfunc b(n int) []string { return []string{\"no\"} }\nfunc c() string { return \"no\" }\n"
	lists, err := Lists([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if len(lists) != 1 || !slices.Equal(lists["a"], []string{"x", "y"}) {
		t.Errorf("lists: %v", lists)
	}
}

func TestBlocks(t *testing.T) {
	got := Blocks("a\n```sh\none\ntwo\n```\n```sh by-hand\nthree\n```\n")
	want := []Block{{"sh", 3, "one\ntwo\n"}, {"sh by-hand", 7, "three\n"}}
	if !slices.Equal(got, want) {
		t.Errorf("blocks: %v, want %v", got, want)
	}
}

// docs/flags.md has each flag of each verb: Docker's, with what became of it, and kakuri's own.
func TestFlagsPage(t *testing.T) {
	const page = "docs/flags.md"
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(moduleRoot(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	docker, err := ParseReference(read("internal/docgen/testdata/docker29.txt"))
	if err != nil {
		t.Fatal(err)
	}
	notes, err := ParseNotes(read("internal/docgen/testdata/flagnotes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	text, parts := read(page), map[string]string{}
	for verb := range docker {
		if verb == "container create" {
			continue // run's: package cli's TestCreateFlags
		}
		c, rest, err := cli.Root(cli.IO{}).Find(strings.Fields(verb))
		if err != nil || len(rest) > 0 {
			t.Errorf("there is no %q: %q, %v", verb, rest, err)
			continue
		}
		if parts["flags "+verb], err = FlagTable(verb, c, docker, notes); err != nil {
			t.Error(err)
		}
		if !strings.Contains(text, "<!-- generated flags "+verb+" -->") {
			t.Errorf("%s has no place for %q", page, verb)
		}
	}
	if t.Failed() {
		return
	}
	want, err := Fill([]byte(text), parts)
	if err != nil {
		t.Fatal(err)
	}
	upToDate(t, page, want)
}

func TestFlagTable(t *testing.T) {
	docker, err := ParseReference("# c\ncontainer ls: all,a size,s cluster scope\nx:\n")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := ParseNotes("# c\n\n* cluster: later: with | clusters\n* all: Never\n* scope: not here: It is of clusters\ncontainer ls all: Differs\n")
	if err != nil {
		t.Fatal(err)
	}
	c := &cobra.Command{Use: "ls"}
	c.Flags().BoolP("all", "a", false, "list `ALL`")
	c.Flags().BoolP("size", "s", false, "sizes")
	c.Flags().Bool("tree", false, "a tree")
	c.Flags().String("scope", "", "of swarms: refused")
	c.Flags().Bool("secret", false, "hidden")
	c.Flags().MarkHidden("secret")
	const want = "| flag | here | what it does |\n|---|---|---|\n| `-a`, `--all` | done | List ALL. Differs |\n| `--cluster` | later | with \\| clusters |\n" +
		"| `--scope` | not here | Of swarms: refused. It is of clusters |\n| `-s`, `--size` | done | Sizes |\n| `--tree` | kakuri's own | A tree |\n"
	if got, err := FlagTable("container ls", c, docker, notes); err != nil || got != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, got, want)
	}
	if got, err := FlagTable("x", &cobra.Command{}, docker, notes); err != nil || got != "No flags, as Docker's.\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := FlagTable("container ls", &cobra.Command{}, docker, Notes{}); err == nil {
		t.Errorf("flags that are missing without a reason: %s", got)
	}
	other := &cobra.Command{}
	other.Flags().BoolP("all", "A", false, "x")
	if got, err := FlagTable("container ls", other, docker, notes); err == nil {
		t.Errorf("another short form: %s", got)
	}
	if got, err := FlagTable("y", c, docker, notes); err == nil {
		t.Errorf("no such verb: %s", got)
	}
}

// pages are the texts that people read.
func pages(t *testing.T) []string {
	root := moduleRoot(t)
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, files...)
	}
	if len(list) < 8 {
		t.Fatalf("only %d pages found: %v", len(list), list)
	}
	return list
}

// The page of kakuri-runtime, which is written by hand, has every command and global option that its help has.
func TestRuntimePage(t *testing.T) {
	if *golden.Update {
		t.Skip("-update writes pages only")
	}
	nstest.Root(t)
	page, err := os.ReadFile("../../docs/man/kakuri-runtime.8")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), `\-`, "-")
	help, err := exec.Command(nstest.Binary(t, "kakuri-runtime"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`(?m)^ +(--[a-z-]+|[a-z]+)\b.*  `).FindAllStringSubmatch(string(help), -1)
	if len(words) < 20 {
		t.Fatalf("%d commands and options in\n%s", len(words), help)
	}
	for _, w := range words {
		if w[1] != "help" && w[1] != "--rootless" && w[1] != "--criu" && !strings.Contains(text, `\fB`+w[1]) {
			t.Errorf("docs/man/kakuri-runtime.8 has no %s", w[1])
		}
	}
}

// Links between pages lead to something, and those to a part of a page to a heading of it.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)
	for _, file := range pages(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") || filepath.Base(m[1]) == "RESULTS.md" { // the bench writes that one
				continue
			}
			to := file
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(file), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link to %s: %v", filepath.Base(file), m[1], err)
			} else if m[2] != "" && !slices.Contains(anchors(t, to), m[2]) {
				t.Errorf("%s: %s has no heading for %s", filepath.Base(file), filepath.Base(to), m[2])
			}
		}
	}
}

// anchors are what a link to a heading of a page ends with, as GitHub makes it: small letters, digits, "_" and "-" for
// a space.
func anchors(t *testing.T, page string) (list []string) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(data), -1) {
		list = append(list, "#"+strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return list
}

// The commands of both READMEs work as they stand, as root and as an ordinary user.
// Blocks of "sh" run in order, in one shell for a page; "sh by-hand" is for people:
// it needs a terminal, or writes where the tests may not.
func TestREADME(t *testing.T) {
	if *golden.Update {
		t.Skip("-update writes pages only")
	}
	nstest.Root(t)
	bin := filepath.Dir(nstest.Binary(t, "kakuri"))
	for _, page := range []string{"README.md", "README.ja.md"} {
		data, err := os.ReadFile(filepath.Join(moduleRoot(t), page))
		if err != nil {
			t.Fatal(err)
		}
		script := scriptOf(string(data))
		if n := strings.Count(script, "kakuri "); n < 10 {
			t.Fatalf("%s: only %d commands found", page, n)
		}
		t.Run(page+"/root", func(t *testing.T) { runScript(t, exec.Command("bash"), bin, script) })
		t.Run(page+"/user", func(t *testing.T) {
			nstest.TUN(t, 0o666)
			u := nstest.User(t)
			runScript(t, u.Command("bash"), bin, script)
			u.UplinkEnds(t)
		})
	}
}

// scriptOf joins the runnable blocks of a page. The source tree cannot be built
// where the tests are; the program that was built before stands in for "go run".
func scriptOf(page string) string {
	var b strings.Builder
	b.WriteString("set -e\ntrap 'kill -9 $(jobs -p) 2>/dev/null || :' EXIT\ncd \"$(mktemp -d)\"\n")
	for _, block := range Blocks(page) {
		if block.Info != "sh" {
			continue
		}
		for line := range strings.Lines(block.Text) {
			line = strings.TrimSuffix(strings.ReplaceAll(line, "go run ./cmd/kakuri", "kakuri"), "\n")
			fmt.Fprintf(&b, "echo '+ line %d' >&2\n%s\n", block.Line, line)
			if strings.HasSuffix(strings.TrimSpace(line), "&") {
				// A person types the next line later than a script comes to it.
				b.WriteString("until kakuri verify web >/dev/null 2>&1; do kill -0 $!; done\n")
			}
		}
	}
	return b.String()
}

func runScript(t *testing.T, c *exec.Cmd, bin, script string) {
	t.Helper()
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env, "PATH="+bin+":"+os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TMPDIR=/tmp")
	c.Args = append(c.Args, "-c", script)
	out := &strings.Builder{}
	c.Stdout, c.Stderr = out, out
	c.WaitDelay = 10 * time.Second
	start := time.Now()
	if err := c.Run(); err != nil {
		t.Errorf("%v after %v\n%s", err, time.Since(start).Round(time.Millisecond), out)
	}
}

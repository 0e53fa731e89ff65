package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestDebianOf(t *testing.T) {
	for _, test := range []struct{ targets, want string }{
		{"http://a/debian/ Debian main bookworm\nhttp://a/debian/ Debian main bookworm-updates\n", "http://a/debian/"},
		{"http://a/security/ Debian main trixie-security\nhttp://a/old Debian main buster/updates\nhttp://b/ Debian contrib sid\nhttp://c/ Debian main sid\n", "http://c/"},
		{"http://other/ Other main sid\n", ""},
		{"", ""},
	} {
		if got := debianOf(test.targets); got != test.want {
			t.Errorf("%q: %q, want %q", test.targets, got, test.want)
		}
	}
}

// The package of newer kernels is a name for several; alternatives and others are left out.
func TestKernelPackages(t *testing.T) {
	says := map[string]string{
		"linux-image-cloud-amd64":     "linux-image-cloud-amd64\n  Depends: linux-image-7.2-cloud-amd64\n",
		"linux-image-7.2-cloud-amd64": "x\n  PreDepends: linux-base\n |Depends: dracut\n |Depends: linux-image-bad\n  Depends: <linux-modules-never>\n  Depends: linux-binary-7.2\n  Depends: linux-modules-7.2\n",
	}
	got, err := kernelPackages(func(p string) ([]string, error) { return firstDepends(says[p]), nil }, "linux-image-cloud-amd64")
	want := []string{"linux-image-cloud-amd64", "linux-image-7.2-cloud-amd64", "linux-binary-7.2", "linux-modules-7.2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	broken := errors.New("broken")
	if _, err := kernelPackages(func(string) ([]string, error) { return nil, broken }, "x"); err != broken {
		t.Error(err)
	}
}

// entries reads an archive back.
func entries(t *testing.T, data []byte) map[string]string {
	t.Helper()
	up := func(n int) int { return (n + 3) &^ 3 }
	found := map[string]string{}
	for at := 0; at < len(data); {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(data[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, long := field(6), field(11)
		body := up(at + 110 + long)
		name := string(data[at+110 : at+110+long-1])
		found[name] = fmt.Sprintf("%o %d:%d %s", field(1), field(9), field(10), data[body:body+size])
		at = up(body + size)
	}
	return found
}

func TestCpio(t *testing.T) {
	got := entries(t, initramfs([]byte("program"), []module{{"b", []byte("second")}, {"a", []byte("x")}}))
	for name, want := range map[string]string{
		"dev": "40755 0:0 ", "dev/console": "20600 5:1 ", "init": "100755 0:0 program",
		"modules/000-b": "100755 0:0 second", "modules/001-a": "100755 0:0 x", "TRAILER!!!": "0 0:0 ",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// moduleFile makes what a module looks like to modinfo: an ELF file with a section of text.
func moduleFile(info string) []byte {
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	put := func(v ...any) {
		for _, x := range v {
			binary.Write(&b, binary.LittleEndian, x)
		}
	}
	const header, section = 64, 64
	text := header
	table := text + len(info) + len(names)
	put([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(1), uint16(62), uint32(1),
		uint64(0), uint64(0), uint64(table), uint32(0), uint16(header), uint16(0), uint16(0), uint16(section), uint16(3), uint16(2))
	b.WriteString(info + names)
	put(make([]byte, section))
	put(uint32(1), uint32(1), uint64(0), uint64(0), uint64(text), uint64(len(info)), uint32(0), uint32(0), uint64(1), uint64(0))
	put(uint32(10), uint32(3), uint64(0), uint64(0), uint64(text+len(info)), uint64(len(names)), uint32(0), uint32(0), uint64(1), uint64(0))
	return b.Bytes()
}

func TestLoadList(t *testing.T) {
	dir := t.TempDir()
	for name, info := range map[string]string{
		"kernel/fs/ext4.ko":    "license=GPL\x00depends=jbd2,mb-cache\x00softdep=pre: crc32c gone post: other\x00",
		"kernel/fs/jbd2.ko":    "depends=\x00",
		"kernel/fs/other.ko":   "depends=\x00",
		"kernel/crypto/crc.ko": "depends=\x00alias=crc32c\x00",
		"kernel/lib/crc32c.ko": "depends=crc\x00",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, moduleFile(info), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/fs/mb-cache.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := &kernel{modules: dir}
	list, err := loadList(k, []string{"ext4", "mb_cache"}, []string{"jbd2", "none"})
	var names []string
	for _, m := range list {
		names = append(names, m.name)
	}
	if err != nil || !slices.Equal(names, []string{"jbd2", "crc", "crc32c", "ext4"}) {
		t.Errorf("%v %v", names, err)
	}
	if list, err := loadList(k, without([]string{"ext4", "mb_cache"}, []string{"ext4"}), without([]string{"other", "crc32c"}, []string{"other"})); err != nil || len(list) != 2 {
		t.Errorf("without some: %v %v", list, err)
	}
	if _, err := loadList(k, []string{"none"}, nil); err == nil {
		t.Error("a module that must be there is not")
	}
}

func TestPackedModule(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "m.ko")
	if err := os.WriteFile(plain, []byte("text of a module"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xz", plain).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if data, err := readModule(plain + ".xz"); err != nil || string(data) != "text of a module" {
		t.Errorf("%q %v", data, err)
	}
}

func TestZboot(t *testing.T) {
	image := make([]byte, 100)
	copy(image, "MZ\x00\x00zimg")
	copy(image[24:], "gzip\x00")
	binary.LittleEndian.PutUint32(image[8:], 64)
	binary.LittleEndian.PutUint32(image[12:], 6)
	copy(image[64:], "packed")
	if got, is, err := zboot(image); string(got) != "packed" || !is || err != nil {
		t.Errorf("%q %v %v", got, is, err)
	}
	binary.LittleEndian.PutUint32(image[12:], 60)
	if _, _, err := zboot(image); err == nil {
		t.Error("more than there is")
	}
	copy(image[24:], "zstd22\x00")
	if _, _, err := zboot(image); err == nil || !strings.Contains(err.Error(), `"zstd22"`) {
		t.Error(err)
	}
	if _, is, err := zboot(make([]byte, 100)); is || err != nil {
		t.Errorf("%v %v", is, err)
	}
}

func TestFresh(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b")
	fill := func(text string, err error) func(string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644), err)
		}
	}
	for _, step := range []struct {
		text   string
		fails  bool
		update bool
		want   string
	}{
		{"half", true, false, ""}, {"one", false, false, "one"}, {"two", false, false, "one"}, {"bad", true, true, "one"}, {"three", false, true, "three"},
	} {
		var err error
		if step.fails {
			err = errors.New("no")
		}
		got := fresh(dir, step.update, fill(step.text, err))
		data, _ := os.ReadFile(filepath.Join(dir, "f"))
		if (got != nil) != step.fails || string(data) != step.want {
			t.Errorf("%+v: %q %v", step, data, got)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
}

func TestJudge(t *testing.T) {
	exit := func(n int) *int { return &n }
	jobs := []job{{Name: "./a"}, {Name: "./b"}}
	pass := event{Job: "./a", Line: "    --- PASS: TestX/y (0.00s)"}
	endA, endB, done := event{Job: "./a", Exit: exit(0)}, event{Job: "./b", Exit: exit(0)}, event{Done: true}
	for _, test := range []struct {
		name   string
		events []event
		want   verdict
		prints string
	}{
		{"well", []event{pass, endA, endB, done}, verdict{passed: 1}, "ok    ./a"},
		{"failed", []event{{Job: "./a", Line: "why"}, {Job: "./a", Line: "--- FAIL: TestZ (0.1s)"}, {Job: "./a", Exit: exit(1)}, endB, done},
			verdict{failed: 1, faults: []string{"./a: exit status 1 TestZ"}}, "why"},
		{"failed beside others", []event{
			{Job: "./a", Line: "=== RUN   TestQ"}, {Job: "./a", Line: "noise"}, {Job: "./a", Line: "--- PASS: TestQ (0.1s)"},
			{Job: "./a", Line: "=== RUN   TestZ"}, {Job: "./a", Line: "why"}, {Job: "./a", Line: "--- FAIL: TestZ (0.1s)"}, {Job: "./a", Line: "FAIL"}, {Job: "./a", Exit: exit(1)}, endB, done,
		}, verdict{passed: 1, failed: 1, faults: []string{"./a: exit status 1 TestZ"}}, "why\n--- FAIL: TestZ (0.1s)\nFAIL\nFAIL  ./a"},
		{"failed in silence", []event{{Job: "./a", Exit: exit(2)}, endB, done}, verdict{faults: []string{"./a: exit status 2"}}, "FAIL  ./a"},
		{"failed with status 0", []event{{Job: "./a", Line: "--- FAIL: TestZ (0.1s)"}, endA, endB, done}, verdict{failed: 1, faults: []string{"./a: exit status 0 TestZ"}}, "FAIL  ./a"},
		{"failed once", []event{{Job: "./a", Line: "--- FAIL: TestZ (0.1s)"}, {Job: "./a", Line: "again: --- PASS: TestZ (0.1s)"}, {Job: "./a", Exit: exit(1), Again: exit(0)}, endB, done},
			verdict{failed: 1, once: []string{"./a TestZ"}}, "FAIL  ./a"},
		{"failed again", []event{{Job: "./a", Line: "--- FAIL: TestZ (0.1s)"}, {Job: "./a", Line: "again: --- FAIL: TestZ (0.1s)"}, {Job: "./a", Exit: exit(1), Again: exit(1)}, endB, done},
			verdict{failed: 1, faults: []string{"./a: exit status 1 TestZ"}}, "again: --- FAIL: TestZ"},
		{"skipped", []event{{Job: "./a", Line: "--- SKIP: TestS (0.1s)"}, endA, endB, done}, verdict{skipped: 1, faults: []string{"./a: skipped TestS"}}, "SKIP: TestS"},
		{"died", []event{pass, endA, {Job: "./b", Line: "last words"}}, verdict{passed: 1, faults: []string{"./b did not end", "the guest did not come to its end"}}, "last words"},
		{"fault", []event{{Fault: "no disk"}, endA, endB, done}, verdict{faults: []string{"guest: no disk"}}, ""},
	} {
		var in, out bytes.Buffer
		for _, e := range test.events {
			json.NewEncoder(&in).Encode(e)
		}
		got := judge(&in, jobs, &out)
		results := len(got.results)
		got.ended, got.failures, got.cut = 0, 0, nil // TestGuestsThatStandStill has them
		if got.results = nil; results != got.passed+got.failed+got.skipped {
			t.Errorf("%s: %d results of %v", test.name, results, got)
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) || !strings.Contains(out.String(), test.prints) || strings.Contains(out.String(), "noise") {
			t.Errorf("%s: %v, want %v; printed:\n%s", test.name, got, test.want, out.String())
		}
	}
	var out bytes.Buffer
	if got := judge(strings.NewReader("garbage\n"), nil, &out); len(got.faults) != 2 {
		t.Errorf("%v", got)
	}
}

// A guest that stands still is followed by another one, that does what is left; a job that
// lets two of them stand still is at fault, and so is one that fails in the first.
func TestGuestsThatStandStill(t *testing.T) {
	jobs := []job{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	ends := func(name string, exit int) string { return fmt.Sprintf(`{"Job":%q,"Exit":%d}`, name, exit) }
	const beat, done, still = `{"Beat":true}`, `{"Done":true}`, "still"
	for _, test := range []struct {
		name   string
		guests map[int][][]string // by the first job
		ended  int
		faults []string
		fails  bool
	}{
		{name: "none", guests: map[int][][]string{0: {{ends("a", 0), beat, ends("b", 0), ends("c", 0), done}}}, ended: 3},
		{name: "once", guests: map[int][][]string{0: {{ends("a", 0), still}}, 1: {{ends("b", 0), ends("c", 0), done}}}, ended: 3},
		{name: "before all", guests: map[int][][]string{0: {{still}, {ends("a", 0), ends("b", 0), ends("c", 0), done}}}, ended: 3},
		{name: "a failure counts", guests: map[int][][]string{0: {{ends("a", 1), still}}, 1: {{ends("b", 0), ends("c", 0), done}}}, ended: 3, faults: []string{"a: exit status 1"}},
		{name: "twice in one job", guests: map[int][][]string{0: {{ends("a", 0), beat, still}}, 1: {{beat, still}}}, ended: 1, fails: true,
			faults: []string{"b did not end", "c did not end", "the guest did not come to its end"}},
	} {
		var log, out bytes.Buffer
		v, err := guests(t.Context(), jobs, 300*time.Millisecond, func(from int) []string {
			tell := test.guests[from][0]
			test.guests[from] = test.guests[from][1:]
			script := ""
			for _, l := range tell {
				if l == still {
					l = "exec sleep 60"
				} else {
					l = "echo '" + l + "'"
				}
				script += l + "\n"
			}
			return []string{"sh", "-c", script}
		}, &log, &out)
		if v.ended != test.ended || fmt.Sprint(v.faults) != fmt.Sprint(test.faults) || (err != nil) != test.fails {
			t.Errorf("%s: %d ended, %q, %v\n%s", test.name, v.ended, v.faults, err, out.String())
		}
	}
}

// What a job did that a guest was cut in counts, and the test that it was in has a name; where another guest did the job again, that one's counts.
func TestCut(t *testing.T) {
	jobs := []job{{Name: "a"}}
	says := func(lines ...string) (script string) {
		for _, l := range lines {
			script += fmt.Sprintf("echo '{\"Job\":\"a\",\"Line\":%q}'\n", l)
		}
		return script
	}
	began := says("=== RUN   TestX", "--- PASS: TestX (0.1s)", "=== RUN   TestY", "--- FAIL: TestY (0.1s)", "=== RUN   TestZ", "=== RUN   TestZ/one")
	ended := says("=== RUN   TestX", "--- PASS: TestX (0.1s)") + `echo '{"Job":"a","Exit":0}'` + "\n" + `echo '{"Done":true}'`
	for _, test := range []struct {
		guests []string
		want   string
	}{
		{[]string{began}, "1 1 [--- PASS: a/TestX (0.1s) --- FAIL: a/TestY (0.1s)] [a did not end, and was in TestZ/one the guest did not come to its end]"},
		{[]string{began + "exec sleep 60", ended}, "1 0 [--- PASS: a/TestX (0.1s)] []"},
		{[]string{began + "exec sleep 60", began + "exec sleep 60"}, "1 1 [--- PASS: a/TestX (0.1s) --- FAIL: a/TestY (0.1s)] [a did not end, and was in TestZ/one the guest did not come to its end]"},
	} {
		var log, out bytes.Buffer
		next := 0
		v, _ := guests(t.Context(), jobs, 300*time.Millisecond, func(int) []string {
			next++
			return []string{"sh", "-c", test.guests[next-1]}
		}, &log, &out)
		if got := fmt.Sprint(v.passed, v.failed, v.results, v.faults); got != test.want || next != len(test.guests) {
			t.Errorf("%d guests, %s\nwant %s", next, got, test.want)
		}
	}
}

// A guest that an emulator runs has time for all the tests; a limit that was asked for stays.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		o     options
		guest time.Duration
	}{
		{options{Accel: "kvm"}, 30 * time.Minute},
		{options{Accel: "tcg"}, 6 * time.Hour},
		{options{Accel: "tcg", Limit: 8 * time.Minute}, 8 * time.Minute},
		{options{Accel: "kvm", Limit: time.Hour}, time.Hour},
	} {
		if guest := (machine{}).limit(test.o); guest != test.guest {
			t.Errorf("%+v: %v, want %v", test.o, guest, test.guest)
		}
	}
}

// A package has twice the time that it takes usually, and no less than leastLimit or an eighth of the guest's. It has less in a guest with little time, and more in one that was given more than is usual.
func TestLimitsOfPackages(t *testing.T) {
	const m = time.Minute
	for _, test := range []struct {
		usual             int
		guest, all, alone time.Duration
	}{
		{0, 36 * m, 5 * m, 5 * m},
		{2, 36 * m, 5 * m, 5 * m},
		{7, 36 * m, 14 * m, 5 * m},
		{40, 36 * m, 24 * m, 5 * m},
		{7, emulatorLimit, 45 * m, 45 * m},
		{40, emulatorLimit, 80 * m, 45 * m},
		{40, 2 * emulatorLimit, 160 * m, 90 * m},
		{7, 6 * m, 4 * m, 90 * time.Second},
	} {
		if all, alone := limits(test.usual, test.guest); all != test.all || alone != test.alone {
			t.Errorf("%d in %v: %v and %v, want %v and %v", test.usual, test.guest, all, alone, test.all, test.alone)
		}
	}
	usual := packageOf("engine").usual
	all, _ := limits(usual, emulatorLimit)
	few := testJob("engine", "x", "few", true, emulatorLimit)
	got := testJob("engine", "x", "", false, emulatorLimit)
	if usual == 0 || got.Tests.Limit != all || few.Tests.Limit >= all || few.Tests.Run != "few" || got.Tests.Skip == "" || got.Name != "./engine" {
		t.Errorf("engine has %+v, a few of its tests %+v", got.Tests, few.Tests)
	}
	// Of what is in no list nothing is known.
	if got := testJob("internal/real", "x", "", false, emulatorLimit); got.Tests.Limit < time.Hour {
		t.Errorf("%+v", got.Tests)
	}
}

// A package with tests is tried in guests, or has a reason not to be, so that none is forgotten.
func TestPackages(t *testing.T) {
	out, err := output("go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "../../...")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, p := range strings.Fields(string(out)) {
		has["./"+strings.TrimPrefix(p, "github.com/kakuri/kakuri/")] = true
	}
	places := map[string]int{}
	for _, p := range testPackages() {
		places[p.path]++
	}
	for _, e := range elsewhere() {
		for _, p := range strings.Fields(e.paths) {
			places["./"+p]++
		}
	}
	for p := range has {
		if places[p] == 0 {
			t.Errorf("%s has tests that no guest runs: it belongs in testPackages, or with a reason in elsewhere", p)
		}
	}
	for p, n := range places {
		if !has[p] || n > 1 {
			t.Errorf("%s is named %d times, and has tests: %v", p, n, has[p])
		}
	}
}

// Each test's result is in the file, with the kernel.
func TestRecord(t *testing.T) {
	v := verdict{results: []string{"--- PASS: ./a/TestX/y (0.00s)", "--- SKIP: ./a/TestS (0.1s)"}}
	name := filepath.Join(t.TempDir(), "results")
	for range 2 {
		if err := v.record(name, "6.1"); err != nil {
			t.Fatal(err)
		}
	}
	const once = "--- PASS: 6.1 ./a/TestX/y (0.00s)\n--- SKIP: 6.1 ./a/TestS (0.1s)\n"
	if data, err := os.ReadFile(name); err != nil || string(data) != once+once {
		t.Errorf("%q %v", data, err)
	}
}

func TestSuite(t *testing.T) {
	zero := 0
	var in, out bytes.Buffer
	to := json.NewEncoder(&in)
	for _, l := range []string{"a: x\tok\t", "a: y\tskip\tno systemd", "b: z\tFAIL\t", "\t# why"} {
		to.Encode(event{Job: "s", Line: l})
	}
	to.Encode(event{Job: "s", Exit: &zero})
	to.Encode(event{Done: true})
	got := judge(&in, []job{{Name: "s", Suite: true}}, &out)
	got.ended, got.failures = 0, 0
	if want := (verdict{passed: 1, skipped: 1, failed: 1, faults: []string{"s: exit status 0, 1 cases failed"}}); fmt.Sprint(got) != fmt.Sprint(want) || !strings.Contains(out.String(), "# why") {
		t.Errorf("%v, want %v; printed\n%s", got, want, out.String())
	}
}

// TestScript: what a script prints is shown, and is no case whatever it is like; how it ends counts.
func TestScript(t *testing.T) {
	j := scriptJob()
	for exit, faults := range [][]string{nil, {"script: exit status 1"}} {
		var in, out bytes.Buffer
		to := json.NewEncoder(&in)
		for _, l := range []string{"a\tok\t", "b\tFAIL", "--- FAIL: c (0s)"} {
			to.Encode(event{Job: j.Name, Line: l})
		}
		to.Encode(event{Job: j.Name, Exit: &exit})
		to.Encode(event{Done: true})
		got := judge(&in, []job{j}, &out)
		got.ended, got.failures = 0, 0
		if want := (verdict{faults: faults}); fmt.Sprint(got) != fmt.Sprint(want) || out.String() != "a\tok\t\nb\tFAIL\n--- FAIL: c (0s)\n" {
			t.Errorf("%v, want %v; printed\n%s", got, want, out.String())
		}
	}
}

// TestFlags: what does nothing together is refused.
func TestFlags(t *testing.T) {
	checkout := t.TempDir()
	for _, test := range []struct {
		o    options
		good bool
	}{
		{options{}, true},
		{options{Script: "x"}, true},
		{options{Suite: checkout, Systemd: true, User: "none"}, true},
		{options{Suite: checkout, Systemd: true, User: "idmap"}, true},
		{options{Suite: checkout, Systemd: true, User: "cgroup"}, false},
		{options{Suite: checkout, User: "idmap"}, false},
		{options{Systemd: true, User: "idmap"}, false},
		{options{Suite: checkout, Script: "x"}, false},
	} {
		if err := test.o.together(); (err == nil) != test.good {
			t.Errorf("%+v: %v", test.o, err)
		}
	}
}

// TestRootOfSuite: what one suite alone wants is not in the root of the others.
func TestRootOfSuite(t *testing.T) {
	crun := t.TempDir()
	if err := errors.Join(os.Mkdir(crun+"/tests", 0o755), os.WriteFile(crun+"/tests/tests_utils.py", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		suite string
		want  bool
	}{{"", false}, {t.TempDir(), false}, {crun, true}} {
		if got := slices.Contains(rootPackages(options{Suite: test.suite}), "python3"); got != test.want {
			t.Errorf("%q: python3 %v", test.suite, got)
		}
	}
}

// TestAgain: one or two tests that failed are run by themselves, where they are all that was wrong.
func TestAgain(t *testing.T) {
	const timedOut = "panic: test timed out after 5m0s\n\trunning tests:\n\t\tTestA (4m0s)\n\t\tTestA/b (4m0s)\n\t\tTestB (4m0s)\n\ngoroutine 1 [running]:\n"
	for _, test := range []struct {
		lines       string
		want, ended []string
	}{
		{"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0.0s)\n--- PASS: TestB (0s)\nFAIL", []string{"TestA"}, []string{"TestA", "TestB"}},
		{"--- FAIL: TestA (0.1s)\n--- FAIL: TestB (0.1s)\nFAIL", []string{"TestA", "TestB"}, []string{"TestA", "TestB"}},
		{"--- FAIL: TestA (0.1s)\n--- FAIL: TestB (0.1s)\n--- FAIL: TestC (0.1s)", nil, []string{"TestA", "TestB", "TestC"}},
		{"--- SKIP: TestC (0.1s)\n" + timedOut + "TestNo (1s)", []string{"TestA", "TestB"}, []string{"TestC", "TestA", "TestB"}},
		{"--- FAIL: TestC (0.1s)\n" + timedOut, nil, []string{"TestC", "TestA", "TestB"}},
		{"--- FAIL: TestA (0.1s)\npanic: nil", nil, []string{"TestA"}},
		{"nstest: left behind by the tests of this package:", nil, nil},
	} {
		var f failures
		eachLine(strings.NewReader(test.lines), f.take)
		if got := f.alone(); !slices.Equal(got, test.want) || !slices.Equal(f.ended, test.ended) {
			t.Errorf("%q: %q of %q, want %q of %q", test.lines, got, f.ended, test.want, test.ended)
		}
	}
	for _, test := range []struct {
		first, rest failures
		exit        int
		want        []string
	}{
		{failures{names: []string{"TestA"}}, failures{}, 0, []string{"TestA"}},
		{failures{names: []string{"TestA"}}, failures{names: []string{"TestB"}}, 1, []string{"TestA", "TestB"}},
		{failures{names: []string{"TestA"}}, failures{}, 1, nil}, // something was left
		{failures{names: []string{"TestA"}}, failures{names: []string{"TestB"}, hung: true}, 2, nil},
		{failures{names: []string{"TestA"}}, failures{names: []string{"TestB"}, died: true}, 2, nil},
	} {
		if test.first.add(test.rest, test.exit); !slices.Equal(test.first.alone(), test.want) {
			t.Errorf("%+v and %d: %q, want %q", test.rest, test.exit, test.first.alone(), test.want)
		}
	}
}

// The tests behind one that hung are run, and it by itself.
func TestHung(t *testing.T) {
	which := &tests{Run: "run", Skip: "TestL$", Limit: 4 * time.Minute, Alone: time.Minute}
	const fails, hangs = `echo "--- FAIL: TestZ (0.1s)"; exit 1`, `echo "--- PASS: TestY (0.1s)"; printf "panic: test timed out after 4m0s\n\trunning tests:\n\t\tTestZ (1s)\n\n"; exit 2`
	const alone = "again: -test.timeout=1m0s -test.run=^(TestZ)$ -test.skip=TestL$\n"
	for _, test := range []struct {
		first, rest, second string
		want                string
		passed, again       int
	}{
		{fails, "", "", "[./a TestZ] []", 0, 3},
		{fails, "", "false", "[] [./a: exit status 1 TestZ]", 0, 1},
		{hangs, `echo "--- PASS: TestX (0.1s)"`, "", "[./a TestZ] []", 2, 3},
		{hangs, `echo "--- PASS: TestX (0.1s)"`, "false", "[] [./a: exit status 2 TestZ]", 2, 1},
		{hangs, "echo left; false", "", "[] [./a: exit status 2 TestZ]", 1, 0},
		{hangs, `echo "--- FAIL: TestW (0.1s)"; false`, "", "[./a TestZ TestW] []", 1, 0},
	} {
		script := `case "$*" in
		"-test.timeout=4m0s -test.run=run -test.skip=TestL$") ` + test.first + `;;
		"-test.timeout=4m0s -test.run=run -test.skip=TestL$|^(TestY|TestZ)$") true; ` + test.rest + `;;
		"-test.timeout=1m0s"*) echo "$@"; ` + test.second + `;;
		*) echo "what is $*"; exit 9;;
		esac`
		r, w := io.Pipe()
		go func() {
			defer w.Close()
			t := &teller{to: json.NewEncoder(w)}
			t.run(job{Name: "./a", Dir: "/", Tests: which, Argv: []string{"sh", "-c", script, "-"}})
			t.tell(event{Done: true})
		}()
		var out bytes.Buffer
		v := judge(r, []job{{Name: "./a"}}, &out)
		if got := fmt.Sprint(v.once, v.faults); got != test.want || v.passed != test.passed || strings.Count(out.String(), alone) != test.again {
			t.Errorf("%s, then %s, then %s: %s, %d passed, printed:\n%s", test.first, test.rest, test.second, got, v.passed, out.String())
		}
	}
}

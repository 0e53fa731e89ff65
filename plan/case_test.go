package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/oci/specjson"
)

// Each folder of testdata is one container: config.json, host.json (the facts, and
// options where the case has some), plan.txt, and for a few calls.txt and
// checks.txt. In the place of config.json there may be unshare.json or enter.json.

// A hostFile is host.json: [Facts], with words in the place of numbers.
type hostFile struct {
	Facts
	Arch    string
	Caps    []string // "all", "CAP_KILL", "-CAP_KILL"; none is no capability
	LastCap string   // empty is the last that abi knows
	Rlimits map[string]struct{ Soft, Hard uint64 }
	Options Options
}

// facts turns the words into numbers. A limit that is not named is unlimited.
func (h *hostFile) facts(t testing.TB) Facts {
	t.Helper()
	f, ok := h.Facts, false
	if f.Arch, ok = abi.ParseArch(h.Arch); !ok {
		t.Fatalf("host.json: unknown architecture %q", h.Arch)
	}
	f.LastCap = abi.LastCap
	if h.LastCap != "" {
		f.LastCap = mustCap(t, h.LastCap)
	}
	for _, name := range h.Caps {
		switch less, ok := strings.CutPrefix(name, "-"); {
		case name == "all":
			f.Caps, f.AllIDs = abi.AllCaps, true // root of the machine, not of a user namespace
		case ok:
			f.Caps = f.Caps.Without(mustCap(t, less))
		default:
			f.Caps = f.Caps.With(mustCap(t, name))
		}
	}
	for i := range f.Rlimits {
		f.Rlimits[i] = LimitFact{Soft: abi.RlimitInfinity, Hard: abi.RlimitInfinity}
	}
	for name, l := range h.Rlimits {
		res, ok := abi.ParseRlimit(name)
		if !ok {
			t.Fatalf("host.json: unknown limit %q", name)
		}
		f.Rlimits[res] = LimitFact{Soft: l.Soft, Hard: l.Hard}
	}
	return f
}

func mustCap(t testing.TB, name string) abi.Capability {
	t.Helper()
	c, ok := abi.ParseCapability(name)
	if !ok {
		t.Fatalf("unknown capability %q", name)
	}
	return c
}

func mustNS(t testing.TB, name string) abi.Namespace {
	t.Helper()
	ns, ok := abi.ParseNamespace(name)
	if !ok {
		t.Fatalf("unknown namespace %q", name)
	}
	return ns
}

// An unshareFile is unshare.json: [UnshareOptions], with names of namespaces, and
// flags by part in the place of Because.
type unshareFile struct {
	UnshareOptions
	New     []string
	Keep    []struct{ NS, Path string }
	Because map[string]string
}

func (u *unshareFile) options(t testing.TB) UnshareOptions {
	t.Helper()
	o := u.UnshareOptions
	for _, name := range u.New {
		o.New = append(o.New, mustNS(t, name))
	}
	for _, k := range u.Keep {
		o.Keep = append(o.Keep, KeepNamespace{NS: mustNS(t, k.NS), Path: k.Path})
	}
	if u.Because != nil {
		o.Because = func(part string) string { return u.Because[part] }
	}
	return o
}

// An enterFile is enter.json: [EnterOptions], in the same way.
type enterFile struct {
	EnterOptions
	Join []struct {
		NS, Path    string
		Parent      bool
		PID, Socket int
	}
	Because map[string]string
}

func (e *enterFile) options(t testing.TB) EnterOptions {
	t.Helper()
	o := e.EnterOptions
	for _, j := range e.Join {
		o.Join = append(o.Join, JoinNamespace{NS: mustNS(t, j.NS), Path: j.Path, Parent: j.Parent, PID: j.PID, Socket: j.Socket})
	}
	if e.Because != nil {
		o.Because = func(part string) string { return e.Because[part] }
	}
	return o
}

// A planCase is a folder of testdata.
type planCase struct {
	dir     string
	facts   Facts
	options Options
}

func (c planCase) name() string { return filepath.Base(c.dir) }

// cases reads all folders.
func cases(t testing.TB) []planCase {
	t.Helper()
	files, err := filepath.Glob("testdata/*/host.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases in testdata", err)
	}
	var list []planCase
	for _, file := range files {
		var h hostFile
		readJSON(t, file, &h)
		list = append(list, planCase{dir: filepath.Dir(file), facts: h.facts(t), options: h.Options})
	}
	return list
}

// compile makes the case's plan, from its files anew each time.
func (c planCase) compile(t testing.TB) Plan {
	t.Helper()
	p, err := c.tryCompile(t)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (c planCase) tryCompile(t testing.TB) (Plan, error) {
	t.Helper()
	var u unshareFile
	if readJSON(t, filepath.Join(c.dir, "unshare.json"), &u) {
		return CompileUnshare(u.options(t), c.facts)
	}
	var e enterFile
	if readJSON(t, filepath.Join(c.dir, "enter.json"), &e) {
		return CompileEnter(e.options(t), c.facts)
	}
	data, err := os.ReadFile(filepath.Join(c.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := specjson.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return Compile(spec, c.facts, c.options)
}

// readJSON reads a file into v, and says whether it is there. A name that v does
// not have is a mistake in the file.
func readJSON(t testing.TB, file string, v any) bool {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return true
}

// eachCase runs f for each folder, as a test of its own.
func eachCase(t *testing.T, f func(t *testing.T, c planCase, p Plan)) {
	for _, c := range cases(t) {
		t.Run(c.name(), func(t *testing.T) { f(t, c, c.compile(t)) })
	}
}

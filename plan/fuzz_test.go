package plan

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/golden"
	"github.com/kakuri/kakuri/oci/specjson"
)

// FuzzCompile compiles whatever specjson reads, without asking first whether it makes
// sense: the answer is a plan that holds what every plan holds, or an error.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"testdata/*/config.json", "../oci/specjson/testdata/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal("no seeds in "+pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	hosts := fuzzHosts()
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := specjson.Decode(data)
		if err != nil {
			return
		}
		for _, h := range hosts {
			p, err := Compile(spec, h.facts, h.options)
			if err != nil {
				checkError(t, err)
				continue
			}
			want := 1 + len(p.Steps) + len(p.Warnings)
			for _, s := range p.Steps {
				if l, ok := s.Check.(*LimitsCheck); ok && len(l.Files) > 0 {
					want += len(l.Files) - 1
				}
			}
			if lines := strings.Count(p.Text(), "\n"); lines != want {
				t.Errorf("%d lines for %d steps:\n%s", lines, len(p.Steps), p.Text())
			}
			if back := thereAndBack(t, p); !reflect.DeepEqual(back, p) {
				t.Errorf("not the same after JSON:\n%s", golden.Diff(p.Text(), back.Text()))
			}
			if again, err := Compile(spec, h.facts, h.options); err != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("compiling twice gives two plans, or %v", err)
			}
			checkPlan(t, p, h.facts.Arch)
		}
	})
}

// fuzzHosts are one of each kind.
func fuzzHosts() []planCase {
	root, user, labels := rootFacts(), userFacts(), rootFacts()
	labels.AppArmor, labels.SELinux = true, true
	v1 := rootFacts()
	v1.Arch = abi.ArchAARCH64
	v1.Caps = v1.Caps.Without(abi.CapSysResource)
	v1.Rlimits = [16]LimitFact{}
	v1.Cgroup = CgroupFacts{V1: []CgroupV1{
		{Dir: "cpu,cpuacct", Type: "cgroup", Options: []string{"cpu", "cpuacct"}, Path: "/a"}, {Dir: "unified", Type: "cgroup2", Path: "/"},
	}}
	user.NewUIDMap, user.NewGIDMap = "/usr/bin/newuidmap", "/usr/bin/newgidmap"
	views := &Root{Views: []RootView{{"/", "/"}, {"/usr", "/usr"}}, Links: []Symlink{{Target: "usr/bin", Path: "/bin"}}, Reason: "image host"}
	return []planCase{
		{facts: root, options: Options{Bundle: "/bundle"}},
		{facts: v1, options: Options{Bundle: "/bundle", Foreground: true, Init: true, DefaultLimits: true, IDMapRoot: true, Cgroup: &Cgroup{Path: "/c", Writes: []CgroupFileCheck{{Path: "/c/pids.max", Value: "3"}}, Devices: "deny all"}, Causes: map[string]string{"process": "default"}}},
		{facts: user, options: Options{Root: views, NoNewKeyring: true}},
		{facts: root, options: Options{Root: views, IDMapRoot: true}},
		{facts: labels, options: Options{Bundle: "/bundle", Wait: "/run/c", ID: "one", KeepFDs: 3}},
		{facts: labels, options: Options{Joined: true, File: "/bin/x", ID: "one"}},
	}
}

// checkError wants one line, and the place where it has one.
func checkError(t *testing.T, err error) {
	t.Helper()
	var se *SpecError
	if strings.Contains(err.Error(), "\n") || (errors.As(err, &se) && (se.Field == "" || se.Reason == "")) {
		t.Errorf("error %q", err)
	}
}

// FuzzPlanJSON reads plans from anywhere, and writes what it has read.
func FuzzPlanJSON(f *testing.F) {
	for _, c := range cases(f) {
		data, err := json.Marshal(c.compile(f))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Plan
		if json.Unmarshal(data, &p) != nil {
			return
		}
		if back := thereAndBack(t, p); !reflect.DeepEqual(back, thereAndBack(t, back)) {
			t.Errorf("not the same after JSON:\n%s", golden.Diff(p.Text(), back.Text()))
		}
		want := 1 + len(p.Steps) + len(p.Warnings)
		for _, s := range p.Steps {
			if l, ok := s.Check.(*LimitsCheck); ok && len(l.Files) > 0 {
				want += len(l.Files) - 1
			}
		}
		if lines := strings.Count(p.Text(), "\n"); lines != want {
			t.Errorf("%d lines for %d steps:\n%s", lines, len(p.Steps), p.Text())
		}
	})
}

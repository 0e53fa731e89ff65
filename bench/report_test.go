package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/golden"
)

func ours(name string, ds ...time.Duration) result {
	return result{Row: row{Name: name, Ours: true, Note: "ours"}, Times: ds}
}

func peer(name string, ds ...time.Duration) result {
	return result{Row: row{Name: name, Note: "peer"}, Times: ds, Tails: make([]time.Duration, len(ds))}
}

func started(name string, ds ...time.Duration) result {
	return result{Row: row{Name: name, Start: true}, Times: ds}
}

func sample() report {
	crun := peer(rowCrun, times(6, 6, 7)...)
	crun.Seen = sight{Namespaces: []string{"mnt", "pid"}, Mounts: 25, Cgroup: true, NoNewPrivs: true, Capabilities: 3}
	bwrap := peer(rowBwrap, times(3, 3, 3)...)
	runtime := ours(rowRuntime, times(3, 2.5, 3.5)...)
	runtime.Seen = sight{Namespaces: []string{"mnt", "pid"}, Mounts: 25, NoNewPrivs: true, Capabilities: 3}
	bwrap.Tails = times(1, 1.26, 2)
	bwrap.Seen = sight{Err: "process 7 showed no sleep within 20s"}
	results := []result{
		peer(rowFloor, times(2, 2, 2)...),
		runtime,
		{Row: row{Name: rowRun, Ours: true}, Failed: "exit status 125: no | image"},
		crun, bwrap,
		started(rowStartTrue, times(0.5, 0.5, 0.5)...),
		started(rowStartBare, times(1, 1, 1)...),
		started(rowStartRuntime, times(1.25, 1.5, 1.25)...),
	}
	return report{
		Facts: facts{
			Date: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Kernel: "9.9", Arch: "amd64", CPU: "abacus", Cores: 2,
			Memory: "4 kB", Cgroups: "v2", FS: "ext4", Load: [2]string{"1 2 3", "2 2 3"}, Commit: "abc",
			Versions: []string{"crun 1", "runc: not installed"},
		},
		Options: options{Rounds: 3, Warmup: 1, Only: "run"},
		Results: results,
		Targets: judge(results),
	}
}

func TestMarkdown(t *testing.T) {
	golden.Check(t, "testdata/results.md", sample().markdown())
}

// Every row of a table has as many cells as its head, whatever stands in them.
func TestTableCells(t *testing.T) {
	text := table([]string{"a", "number", ""}, "lrl", [][]string{{"x", "1.25", "with | bar"}, {"長い名前", "-", ""}})
	var bars []int
	for line := range strings.Lines(text) {
		bars = append(bars, strings.Count(line, "|")-strings.Count(line, `\|`))
	}
	for _, n := range bars {
		if n != 4 {
			t.Fatalf("bars per line %v, want 4 in each:\n%s", bars, text)
		}
	}
	if !strings.Contains(text, "|   1.25 |") || !strings.Contains(text, "|-------:|") {
		t.Errorf("numbers are not to the right:\n%s", text)
	}
}

func TestJudge(t *testing.T) {
	verdicts := map[string]string{}
	for _, j := range judge(sample().Results) {
		verdicts[j.Row+" / "+j.Peer] = j.Verdict
	}
	for pair, want := range map[string]string{
		rowRuntime + " / " + rowCrun:               "met, but without a cgroup", // exactly 0.5
		rowRuntime + " / " + rowBwrap:              "met",                       // exactly 1
		rowRuntime + " / " + rowFloor:              "met",                       // 1.5
		rowStartRuntime + " / " + rowStartBare:     "met",                       // 1.25 of 1.3
		rowRun + " / " + rowFloor:                  "not measured: " + rowRun + " failed",
		rowRuntime + " / " + rowRunc:               "not measured: not among the rows of this run",
		rowRuntimeSeccomp + " / " + rowCrunSeccomp: "not measured: not among the rows of this run",
	} {
		if got := verdicts[pair]; got != want {
			t.Errorf("%s: %q, want %q", pair, got, want)
		}
	}
	slow := []result{peer(rowFloor, times(2, 2)...), ours(rowRuntime, times(3.3, 3.3)...)}
	for _, j := range judge(slow) {
		if j.Row == rowRuntime && j.Peer == rowFloor && (j.Verdict != "missed" || j.Ratio < 1.64) {
			t.Errorf("1.65 of 1.6 is %q, ratio %v", j.Verdict, j.Ratio)
		}
	}
}

func TestLess(t *testing.T) {
	all := sight{Cgroup: true, Seccomp: true}
	for _, test := range []struct {
		a, b sight
		want string
	}{
		{all, all, ""},
		{all, sight{}, ""},
		{sight{Cgroup: true}, all, ", but without seccomp"},
		{sight{}, all, ", but without a cgroup and seccomp"},
	} {
		if got := less(", but", test.a, test.b); got != test.want {
			t.Errorf("%+v beside %+v: %q, want %q", test.a, test.b, got, test.want)
		}
	}
}

func TestFailures(t *testing.T) {
	results := sample().Results
	if err := failures(results); err == nil || !strings.Contains(err.Error(), rowRun) {
		t.Errorf("a failed row of kakuri's gives %v", err)
	}
	results[2].Row.Ours = false
	if err := failures(results); err != nil {
		t.Errorf("a peer that is missing fails the bench: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.md")
	for _, text := range []string{"old and longer", "new"} {
		if err := writeFile(path, text); err != nil {
			t.Fatal(err)
		}
	}
	data, _ := os.ReadFile(path)
	entries, _ := os.ReadDir(filepath.Dir(path))
	if string(data) != "new" || len(entries) != 1 {
		t.Errorf("file %q beside %d entries, want it whole and alone", data, len(entries))
	}
	if err := writeFile(filepath.Join(path, "below a file"), "x"); err == nil {
		t.Error("no error for a path that cannot be")
	}
}

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// row is one command of the comparison.
type row struct {
	Name    string
	Start   bool       // only the start of a process: the second table
	Ours    bool       // kakuri's own: a failure fails the bench
	Argv    []string   // {id} stands for a new container id at each start, {held} for that of Before's container
	Then    [][]string // further commands, timed with it, on the same {id}
	Before  [][]string // run once before the rounds, not timed; the last one's output is the state of {held}
	After   [][]string // and after them
	Many    int        // how many containers at a time are started, 0 for just one
	Beside  string     // the peer's row of the same kind, for those that are neither a run nor a start
	Missing string     // why it cannot run here; else empty
	Note    string     // what the command is, for a reader of the table
}

// Names of the rows that ratios and targets refer to.
const (
	rowFloor          = "C floor"
	rowRuntime        = "kakuri-runtime run"
	rowRuntimeSeccomp = "kakuri-runtime run, seccomp"
	rowRun            = "kakuri run --network none"
	rowCrun           = "crun run"
	rowCrunSeccomp    = "crun run, seccomp"
	rowRunc           = "runc run"
	rowRuncSeccomp    = "runc run, seccomp"
	rowBwrap          = "bwrap --unshare-all"
	rowExec           = "kakuri-runtime exec"
	rowExecCrun       = "crun exec"
	rowExecRunc       = "runc exec"
	rowLife           = "kakuri-runtime create, start, delete"
	rowLifeCrun       = "crun create, start, delete"
	rowLifeRunc       = "runc create, start, delete"
	rowMany           = "kakuri-runtime run, 100"
	rowManyCrun       = "crun run, 100"
	rowManyRunc       = "runc run, 100"
	rowStartRuntime   = "kakuri-runtime --version"
	rowStartBare      = "bare Go"
	rowStartTrue      = "/bin/true"
)

// allRows lists what is compared. Those whose program is missing say so.
func allRows(w workshop) []row {
	rootfs := filepath.Join(w.Bundle, "rootfs")
	rows := append(runtimeRows(w), []row{
		{
			Name: "unshare", Argv: []string{"unshare", "--fork", "--pid", "--mount-proc", "-m", "-u", "-i", "-n", "true"},
			Note: "a single line of util-linux: a /proc of its own on the machine's files",
		},
		{
			Name: rowBwrap,
			Argv: []string{"bwrap", "--unshare-all", "--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "true"},
			Note: "bubblewrap with the same root: no /sys, no masked paths, no host name",
		},
	}...)
	rows = append(append(rows, otherRows(w)...), startRows(w)...)
	for i := range rows {
		rows[i].resolve()
	}
	for _, extra := range w.Options.Extra {
		rows = append(rows, extraRow(w, extra, rootfs))
	}
	return rows
}

func runtimeRows(w workshop) []row {
	runtime, engine, floor := w.binary("kakuri-runtime"), w.binary("kakuri"), w.binary("floor")
	ours := func(bundle string) []string {
		return []string{runtime.Path, "--root", filepath.Join(w.State, "kakuri-runtime"), "run", "--bundle", bundle, "{id}"}
	}
	theirs := func(program, bundle string, flags ...string) []string {
		argv := append([]string{program, "--root", filepath.Join(w.State, program)}, flags...)
		return append(argv, "run", "--bundle", bundle, "{id}")
	}
	return []row{
		{
			Name: rowFloor, Argv: append([]string{floor.Path, filepath.Join(w.Bundle, "rootfs")}, w.Cgroups.Hierarchies...), Missing: floor.Err,
			Note: "bench/floor.c: the kernel's work for this config.json in a straight line, no parsing, no state",
		},
		{
			Name: rowRuntime, Ours: true, Argv: ours(w.Bundle), Missing: runtime.Err,
			Note: "config.json of runc spec",
		},
		{
			Name: "kakuri-runtime run, no cgroup", Ours: true, Argv: append([]string{runtime.Path, "--cgroup-manager=disabled"}, ours(w.Bundle)[1:]...), Missing: runtime.Err,
			Note: "--cgroup-manager=disabled: beside crun's, the floor and bwrap, which join none",
		},
		{
			Name: rowRuntimeSeccomp, Ours: true, Argv: ours(w.SeccompBundle), Missing: runtime.Err,
			Note: "and a profile of " + fmt.Sprint(len(strings.Fields(allowed))) + " allowed calls",
		},
		{
			Name: rowRun, Ours: true, Argv: []string{engine.Path, "run", "--rm", "--network", "none", "host", "true"}, Missing: engine.Err,
			Note: "the engine with its defaults but the network: image, monitor, log, record",
		},
		{Name: rowCrun, Argv: theirs("crun", w.Bundle), Note: "config.json of runc spec"},
		{
			Name: "crun run, no cgroup", Argv: theirs("crun", w.Bundle, "--cgroup-manager=disabled"),
			Note: "--cgroup-manager=disabled, for the rows that join none",
		},
		{Name: rowCrunSeccomp, Argv: theirs("crun", w.SeccompBundle), Note: "the same profile"},
		{Name: rowRunc, Argv: theirs("runc", w.Bundle), Note: "config.json of runc spec"},
		{Name: rowRuncSeccomp, Argv: theirs("runc", w.SeccompBundle), Note: "the same profile"},
	}
}

// manyContainers are started by manyWorkers at a time, in every manyEvery-th round.
const (
	manyContainers = 100
	manyWorkers    = 8
	manyEvery      = 10
)

// otherRows are those of the other verbs, and of many containers at once. Each peer's command line is the same.
func otherRows(w workshop) []row {
	var rows []row
	for _, p := range []struct {
		program, missing string
		ours             bool
		exec, life, many string
	}{
		{w.binary("kakuri-runtime").Path, w.binary("kakuri-runtime").Err, true, rowExec, rowLife, rowMany},
		{"crun", "", false, rowExecCrun, rowLifeCrun, rowManyCrun},
		{"runc", "", false, rowExecRunc, rowLifeRunc, rowManyRunc},
	} {
		command := func(words ...string) []string {
			return append([]string{p.program, "--root", filepath.Join(w.State, filepath.Base(p.program))}, words...)
		}
		rows = append(rows, row{
			Name: p.exec, Ours: p.ours, Missing: p.missing, Beside: rowExecCrun,
			Before: [][]string{command("run", "-d", "--bundle", w.HeldBundle, "{held}"), command("state", "{held}")},
			Argv:   command("exec", "{held}", "/bin/busybox", "true"),
			After:  [][]string{command("delete", "-f", "{held}")},
			Note:   "into a container with the profile",
		}, row{
			Name: p.life, Ours: p.ours, Missing: p.missing, Beside: rowLifeCrun,
			Argv: command("create", "--bundle", w.SeccompBundle, "{id}"),
			Then: [][]string{command("start", "{id}"), command("delete", "-f", "{id}")},
			Note: "three commands, with the profile",
		}, row{
			Name: p.many, Ours: p.ours, Missing: p.missing, Beside: rowManyCrun, Many: manyContainers,
			Argv: command("run", "--bundle", w.SeccompBundle, "{id}"),
			Note: fmt.Sprintf("%d containers with the profile, %d at a time, in every %dth round", manyContainers, manyWorkers, manyEvery),
		})
	}
	return rows
}

func startRows(w workshop) []row {
	runtime, engine, bare := w.binary("kakuri-runtime"), w.binary("kakuri"), w.binary("bare")
	return []row{
		{Name: rowStartTrue, Start: true, Argv: []string{"/bin/true"}, Note: "a C program with a shared libc"},
		{Name: rowStartBare, Start: true, Argv: []string{bare.Path}, Missing: bare.Err, Note: "bench/bare: imports syscall, exits"},
		{Name: rowStartRuntime, Start: true, Ours: true, Argv: []string{runtime.Path, "--version"}, Missing: runtime.Err},
		{Name: "kakuri --version", Start: true, Ours: true, Argv: []string{engine.Path, "--version"}, Missing: engine.Err},
		{Name: "crun --version", Start: true, Argv: []string{"crun", "--version"}},
		{Name: "runc --version", Start: true, Argv: []string{"runc", "--version"}},
	}
}

// resolve finds the program in PATH once, so that no search is timed.
func (r *row) resolve() {
	if r.Missing != "" {
		return
	}
	path, err := exec.LookPath(r.Argv[0])
	if err != nil {
		r.Missing = "not installed"
		if !errors.Is(err, exec.ErrNotFound) {
			r.Missing = err.Error()
		}
		return
	}
	for _, list := range [][][]string{{r.Argv}, r.Then, r.Before, r.After} {
		for _, argv := range list {
			argv[0] = path
		}
	}
}

func extraRow(w workshop, text, rootfs string) row {
	name, command, _ := strings.Cut(text, "=")
	fill := strings.NewReplacer("{bundle}", w.Bundle, "{rootfs}", rootfs)
	r := row{Name: name, Note: "-row"}
	for _, word := range strings.Fields(command) {
		r.Argv = append(r.Argv, fill.Replace(word))
	}
	r.resolve()
	return r
}

// selectRows keeps the rows whose name matches; it is an error when none does.
func selectRows(rows []row, only string) ([]row, error) {
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	var kept []row
	for _, r := range rows {
		if re.MatchString(r.Name) {
			kept = append(kept, r)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("-only %q: no row has such a name", only)
	}
	return kept, nil
}

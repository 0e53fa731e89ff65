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
	Start   bool     // only the start of a process: the second table
	Ours    bool     // kakuri's own: a failure fails the bench
	Argv    []string // {id} stands for a new container id at each start
	Missing string   // why it cannot run here; else empty
	Note    string   // what the command is, for a reader of the table
}

// Names of the rows that ratios and targets refer to.
const (
	rowFloor          = "C floor"
	rowRuntime        = "kakuri-runtime run"
	rowRuntimeSeccomp = "kakuri-runtime run, seccomp"
	rowRun            = "kakuri run --rm host true"
	rowCrun           = "crun run"
	rowCrunSeccomp    = "crun run, seccomp"
	rowRunc           = "runc run"
	rowRuncSeccomp    = "runc run, seccomp"
	rowBwrap          = "bwrap --unshare-all"
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
	rows = append(rows, startRows(w)...)
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
			Name: rowRun, Ours: true, Argv: []string{engine.Path, "run", "--rm", "host", "true"}, Missing: engine.Err,
			Note: "the engine with its defaults: image, network, monitor, log, record",
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
	r.Argv[0] = path
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

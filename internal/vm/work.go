package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// workDir is where guests have the sources, the tests and the commands, from the root.
const workDir = "opt/kakuri"

// The parts of the work image that the rig adds to the sources.
const (
	jobsFile   = "vm/jobs.json"
	suiteDir   = "vm/suite"
	peerFile   = "vm/peer/runtime" // what -runtime names
	scriptFile = "vm/script"       // what -script names
	guestName  = "vm-jobs"         // the name under which this program runs the jobs
)

// A work is what guests of one architecture are to do.
type work struct {
	dir   string // of the rest
	image string
	spare string // an empty disk
	guest []byte // this program, for the guest
	jobs  []job
}

func (w *work) remove() { os.RemoveAll(w.dir) }

// makeWork builds tests and commands, and puts them on an image with the sources that
// the tests read.
func makeWork(o options) (_ *work, err error) {
	dir, err := os.MkdirTemp("", "kakuri-vm-")
	if err != nil {
		return nil, err
	}
	w := &work{dir: dir, image: filepath.Join(dir, "work.img"), spare: filepath.Join(dir, "spare.img")}
	defer func() {
		if err != nil {
			w.remove()
		}
	}()
	module, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	tree := filepath.Join(dir, "tree")
	if err := copySources(module, tree); err != nil {
		return nil, err
	}
	bin := filepath.Join(tree, "vm/bin") + "/"
	g := builder{module, o.Arch}
	if err := g.run("build", "-trimpath", "-o", bin, "./cmd/...", "cmd/objdump"); err != nil {
		return nil, err
	}
	if err := g.run("build", "-trimpath", "-o", bin+guestName, "./internal/vm"); err != nil {
		return nil, err
	}
	if w.guest, err = os.ReadFile(bin + guestName); err != nil {
		return nil, err
	}
	if o.Script != "" {
		w.jobs, err = []job{scriptJob()}, copyFile(o.Script, filepath.Join(tree, scriptFile))
	} else if o.Suite != "" {
		w.jobs, err = []job{suiteJob(o)}, errors.Join(copySuite(module, o.Suite, filepath.Join(tree, suiteDir)), copyFile(o.Runtime, filepath.Join(tree, peerFile)))
	} else if o.Power != only && (!o.SELinux || len(o.Pkgs) > 0) {
		w.jobs, err = testJobs(g, o, tree)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case o.Script != "":
	case o.SELinux && (o.Suite != "" || o.Run != ""):
		w.jobs = append([]job{guestJob(o), policyJob(o)}, w.jobs...)
	case o.Suite != "":
		w.jobs = append([]job{guestJob(o)}, w.jobs...)
	case o.Run == "" && o.Power != only:
		w.jobs = append(smokeJobs(o), w.jobs...)
	}
	if err := errors.Join(writeJobs(tree, jobsFile, w.jobs), writeJobs(tree, powerWorkJobs, workJobs()), writeJobs(tree, powerCheckJobs, checkJobs())); err != nil {
		return nil, err
	}
	if err := ext4(w.image, tree, 2<<30); err != nil {
		return nil, err
	}
	if err := ext4(w.spare, "", 256<<20); err != nil {
		return nil, err
	}
	return w, os.RemoveAll(tree)
}

// writeJobs has guests find jobs by a file's name.
func writeJobs(tree, name string, jobs []job) error {
	data, err := json.MarshalIndent(jobs, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(tree, name), data, 0o644)
}

// copySuite builds what a suite needs in its checkout, and copies that.
func copySuite(module, checkout, to string) error {
	c := exec.Command(filepath.Join(module, "conformance/run"), suiteOf(checkout), checkout)
	c.Env = append(os.Environ(), "PREPARE=1")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("prepare %s: %w\n%s", checkout, err, out)
	}
	return copySources(filepath.Join(checkout, "tests"), filepath.Join(to, "tests"))
}

// copyFile copies another's runtime or script, where one is named. The libraries that it needs are those that the guest has.
func copyFile(from, to string) error {
	if from == "" {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// testJobs builds the test binaries, and says how each is started.
func testJobs(g builder, o options, tree string) ([]job, error) {
	pkgs := testPackages()
	if len(o.Pkgs) > 0 {
		pkgs = nil
		for _, p := range o.Pkgs {
			pkgs = append(pkgs, testPackage{path: p})
		}
	}
	var jobs []job
	for _, p := range pkgs {
		run := o.Run
		if p.long && o.Quick {
			if p.few == "" || o.Run != "" {
				continue
			}
			run = p.few
		}
		dirs, err := g.list(p.path)
		if err != nil {
			return nil, err
		}
		for _, d := range dirs {
			exe := path.Join("vm/test", strings.ReplaceAll(d, "/", "-"))
			if err := g.run("test", "-c", "-trimpath", "-o", filepath.Join(tree, exe), "./"+d); err != nil {
				return nil, err
			}
			if !fileExists(filepath.Join(tree, exe)) {
				continue // no tests
			}
			jobs = append(jobs, testJob(d, exe, run, p.few != "" && run == p.few, o.Limit))
		}
	}
	return jobs, nil
}

// testJob is the tests of a directory's package, or few of them.
func testJob(dir, exe, run string, few bool, guest time.Duration) job {
	known := packageOf(dir)
	if few {
		known.usual = 0
	}
	all, alone := limits(known.usual, guest)
	return job{Name: "./" + dir, Dir: path.Join("/", workDir, dir), Argv: []string{path.Join("/", workDir, exe), "-test.v", "-test.short"},
		Tests: &tests{Run: run, Skip: known.skip, Limit: all, Alone: alone}}
}

// packageOf gives what is known of a directory's package: of one that is not for guests, that it may take an hour.
func packageOf(dir string) testPackage {
	for _, p := range testPackages() {
		if path.Clean(p.path) == dir {
			return p
		}
	}
	return testPackage{usual: 60}
}

// A builder runs go for the guest's architecture.
type builder struct{ module, arch string }

func (b builder) command(args ...string) *exec.Cmd {
	c := exec.Command("go", args...)
	c.Dir = b.module
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch)
	return c
}

func (b builder) run(args ...string) error {
	if out, err := b.command(args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// list gives the directories of a pattern's packages, from the module's root.
func (b builder) list(pattern string) ([]string, error) {
	c := b.command("list", "-f", "{{.Dir}}", pattern)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", pattern, err, errs.Bytes())
	}
	var dirs []string
	for line := range strings.Lines(string(out)) {
		rel, err := filepath.Rel(b.module, strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, rel)
	}
	return dirs, nil
}

func moduleRoot() (string, error) {
	out, err := output("go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// copySources copies the module's files, but for those of version control and what was built.
func copySources(module, tree string) error {
	from := os.DirFS(module)
	return fs.WalkDir(from, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == "bin" || strings.HasPrefix(e.Name(), ".") && name != ".":
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return os.MkdirAll(filepath.Join(tree, name), 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tree, name), data, info.Mode().Perm())
	})
}

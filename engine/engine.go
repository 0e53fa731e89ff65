package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kakuri/kakuri/engine/dirs"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// room is how many files a command may have to open at once, for one container on a network or two, on version 1 of control groups.
const room = 64

// Prefault prepares this process's memory for one command; call it first.
func Prefault() { launch.Prefault(1 << 20) }

// Options say where an engine keeps its records.
type Options struct {
	// Dir is the directory of what does not outlive a boot; empty is /run/kakuri for root, else
	// kakuri below XDG_RUNTIME_DIR, and kakuri-HASH there where that is of another Data.
	Dir string
	// Data is the directory of what does: containers, images, volumes. Empty is "data" below
	// Dir where that is given, else /var/lib/kakuri for root, and kakuri below XDG_DATA_HOME.
	Data string
	// Runtime is the program kakuri-runtime, whose monitors run the containers. Empty is KAKURI_RUNTIME of
	// the environment, else the one beside this program, else the one in PATH, else this
	// program itself, whose main function calls [Child].
	Runtime string
	// Network is the mode of the network of containers that ask for none, as in [Config]; empty is what [Engine.DefaultNetwork] says.
	Network string
	// Look is for who only looks: nothing is written, and so nothing can be started.
	Look bool
	// Pulling, when set, is called before an image is fetched that a container needs, and gives who is told how far that is. missing
	// says that it is not here yet.
	Pulling func(name string, missing bool) image.Progress
	// Warn, when set, is told in a line what a container is made without that others have, as a network: before it runs.
	Warn func(text string)
}

// An Engine runs containers and knows those there are. It may be used by several
// goroutines.
type Engine struct {
	dir     string
	data    string
	program string // as in Options; looked up when it is needed
	network string // as in Options
	look    bool
	host    plan.Facts
	pulling func(string, bool) image.Progress
	warn    func(string)
	cdiDirs []string // nil is CDI's own

	mu     sync.Mutex // for what follows
	stores stores
}

// Open returns the engine of its directories, which need not exist yet.
func Open(o Options) (*Engine, error) {
	if err := errors.Join(files.Room(room), files.Calls()); err != nil {
		return nil, err
	}
	facts, err := host.Read(host.Needs{})
	if err != nil {
		return nil, err
	}
	e := &Engine{dir: o.Dir, data: o.Data, program: o.Runtime, network: o.Network, look: o.Look, host: facts, pulling: o.Pulling, warn: o.Warn}
	if e.dir == "" && e.data == "" && !facts.Privileged() {
		e.dir, e.data, _ = strings.Cut(os.Getenv(worldEnv), "\n") // of the command that this one is a part of
	}
	if e.data == "" {
		if e.data, err = dirs.Data(facts, o.Dir, o.Look); err != nil {
			return nil, err
		}
	}
	if e.dir == "" {
		if e.dir, err = dirs.Run(facts, e.data, o.Look); err != nil {
			return nil, err
		}
	}
	e.host.NoTimeNS = !host.TimeNamespaces()
	e.host.TimeOnExec = !e.host.NoTimeNS && host.TimeOnExec(e.dir, facts.Kernel, !o.Look)
	return e, nil
}

// Host returns the facts that plans are compiled for.
func (e *Engine) Host() plan.Facts { return e.host }

// self is this process's own program.
const self = "/proc/self/exe"

// runtimeProgram finds kakuri-runtime, or where it is not there a stand-in.
func (e *Engine) runtimeProgram() (string, error) {
	if e.program != "" {
		return e.program, nil
	}
	if p := os.Getenv("KAKURI_RUNTIME"); p != "" {
		return p, nil
	}
	if exe, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(exe), "kakuri-runtime"); exists(p) {
			return p, nil
		}
	}
	if p, err := exec.LookPath("kakuri-runtime"); err == nil {
		return p, nil
	}
	if childIsCalled {
		return self, nil // a monitor that is larger
	}
	return "", errors.New("the program kakuri-runtime is not there: put it beside this one, into PATH, or name it in KAKURI_RUNTIME")
}

// runtime is the room below, with the state of what runs.
func (e *Engine) runtime() *oci.Runtime {
	return &oci.Runtime{Root: e.dir + "/runtime", UserSystemd: true}
}

// A Prepared run is its plan, and the container that it would be.
type Prepared struct {
	Plan      plan.Plan
	Spec      specs.Spec   // that it is compiled from,
	Options   plan.Options // with what a spec has no words for
	Container Container
}

// Prepare compiles the plan of c, and changes nothing. The container would get the name and the
// range of ids that are free now.
func (e *Engine) Prepare(ctx context.Context, c Config) (*Prepared, error) {
	if err := e.chooseNetwork(&c); err != nil {
		return nil, err
	}
	rec, release, err := e.record(ctx, c)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := e.chooseFree(&rec); err != nil {
		return nil, err
	}
	b, err := e.build(ctx, rec, true)
	if err != nil {
		return nil, err
	}
	b.tell()
	p, err := e.runtime().PlanLaunch(rec.ID, &oci.Bundle{Dir: e.home(rec), Spec: &b.spec}, oci.Launch{Plan: b.opts, TimeOnExec: e.host.TimeOnExec})
	if err != nil {
		return nil, err
	}
	p.Steps = append(slices.Clone(b.storage.Steps), p.Steps...)
	return &Prepared{Plan: p, Spec: b.spec, Options: b.opts, Container: Container{Record: b.rec}}, nil
}

// Plan returns the plan by which a running container was made.
func (e *Engine) Plan(ref string) (Container, plan.Plan, error) {
	c, err := e.Find(ref)
	if err != nil {
		return c, plan.Plan{}, err
	}
	if c.PID == 0 {
		return c, plan.Plan{}, ErrNotRunning{ID: c.ID}
	}
	t, err := monitor.ReadSetup(c.dir)
	if err != nil {
		return c, plan.Plan{}, err
	}
	x, err := e.runtime().Open(c.ID)
	if err != nil {
		return c, plan.Plan{}, fmt.Errorf("container %s: %w", c.Name, err)
	}
	p, err := x.PlanLaunched(oci.Launch{Plan: t.Options, TimeOnExec: t.TimeOnExec})
	if err != nil {
		err = fmt.Errorf("container %s: %w", c.Name, err)
	}
	return c, p, err
}

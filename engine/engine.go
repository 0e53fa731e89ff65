package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Prefault prepares this process's memory for one command; call it first.
func Prefault() { launch.Prefault(1 << 20) }

// Options say where an engine keeps its records.
type Options struct {
	// Dir is the directory of records; empty is /run/kakuri for root, else
	// kakuri below XDG_RUNTIME_DIR.
	Dir string
	// Look is for who runs nothing: nothing is written.
	Look bool
}

// An Engine runs containers and knows those that run. It may be used by several
// goroutines.
type Engine struct {
	dir   string
	host  plan.Facts
	hands launch.Hands
}

// Open returns the engine of a directory, which need not exist yet.
func Open(o Options) (*Engine, error) {
	facts, err := host.Read(host.Needs{})
	if err != nil {
		return nil, err
	}
	dir := o.Dir
	if dir == "" {
		if dir, err = runtimeDir(facts, o.Look); err != nil {
			return nil, err
		}
	}
	facts.TimeOnExec = host.TimeOnExec(dir, facts.Kernel, !o.Look)
	return &Engine{dir: dir, host: facts, hands: oci.Hands{}}, nil
}

// Host returns the facts that plans are compiled for.
func (e *Engine) Host() plan.Facts { return e.host }

func runtimeDir(f plan.Facts, look bool) (string, error) {
	if f.UID == 0 && f.AllIDs {
		return "/run/kakuri", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kakuri"), nil
	}
	// Without a session manager: a directory that nobody else can have made.
	dir := filepath.Join("/tmp", "kakuri-"+strconv.Itoa(int(f.UID)))
	if look && !exists(dir) {
		return dir, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != f.UID || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("%s is not a directory of this user alone: set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

// A Prepared run is its plan, and what it was compiled from.
type Prepared struct {
	Plan      plan.Plan
	Container Container
	builder   *builder
}

// Prepare compiles the plan of r, and changes nothing. A container that it
// names would get the id and the range that are free now.
func (e *Engine) Prepare(r Config) (*Prepared, error) {
	rec, err := e.record(r)
	if err != nil {
		return nil, err
	}
	list, err := e.entries()
	if err != nil {
		return nil, err
	}
	if err := choose(&rec, list); err != nil {
		return nil, err
	}
	return e.compile(r, rec)
}

func (e *Engine) record(r Config) (Container, error) {
	if r.Name != "" && !ValidName(r.Name) {
		return Container{}, fmt.Errorf("--name %q: a name is two or more of a-z, A-Z, 0-9, and after the first _ . -", r.Name)
	}
	image := r.Image
	if r.Rootfs != "" {
		image = r.Rootfs
	}
	started, err := startTime(os.Getpid())
	if err != nil {
		return Container{}, err
	}
	return Container{ID: newID(), Name: r.Name, Image: image, Command: r.Command, Runner: os.Getpid(), RunnerStarted: started}, nil
}

func (e *Engine) compile(r Config, rec Container) (*Prepared, error) {
	b := &builder{run: r, host: e.host, id: rec.ID, slot: rec.Slot, shared: map[string]Container{}}
	for _, mode := range []string{r.PID, r.IPC, r.UTS, r.UserNS, r.Network, r.CgroupNS} {
		if err := e.checkMode(mode, b.shared); err != nil {
			return nil, err
		}
	}
	if c, ok := b.shared[r.IPC]; ok && c.IPC != "shareable" && c.IPC != "host" {
		return nil, fmt.Errorf("--ipc %s: its ipc namespace is not to be joined: run that container with --ipc shareable", r.IPC)
	}
	if err := b.build(); err != nil {
		return nil, err
	}
	b.opts.Foreground, b.opts.InheritFlags = true, true
	p, err := plan.Compile(&b.spec, e.host, b.opts)
	if err != nil {
		return nil, err
	}
	rec.UserNS, rec.IPC = b.hasUserNS(), r.IPC
	if c, ok := b.shared[r.IPC]; ok {
		rec.IPC = c.IPC // as open as the one that it joined
	}
	rec.Command = b.spec.Process.Args
	for _, s := range p.Steps {
		if s.Undo != nil {
			text, err := plan.MarshalOp(s.Undo)
			if err != nil {
				return nil, err
			}
			rec.Undo = append(rec.Undo, text)
		}
	}
	return &Prepared{Plan: p, Container: rec, builder: b}, nil
}

// checkMode finds the container of a "container:NAME" mode.
func (e *Engine) checkMode(mode string, shared map[string]Container) error {
	ref, ok := strings.CutPrefix(mode, "container:")
	if !ok {
		return nil
	}
	c, err := e.Find(ref)
	if err != nil {
		return err
	}
	shared[mode] = c
	return nil
}

// undo does the operations of a record's undo list, last first.
func (e *Engine) undo(rec Container) error {
	var errs []error
	for i := len(rec.Undo) - 1; i >= 0; i-- {
		op, err := plan.UnmarshalOp(rec.Undo[i])
		if err == nil {
			err = oci.Hands{}.Do(context.Background(), op, 0)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

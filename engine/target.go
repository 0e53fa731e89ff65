package engine

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Target is a container that runs, to look at or to enter: the engine's, or one that
// another program made by kakuri-runtime where that keeps its state unless told otherwise.
type Target struct {
	Name  string         // the id, of kakuri-runtime's
	PID   int            // of its first process
	Ports []plan.Publish // of the host that lead to it
}

// CommandPID returns the process that runs the container's command, as [Container.CommandPID].
func (t Target) CommandPID() int { return monitor.CommandPID(t.PID) }

// Target finds a container by its name or id, or by the start of an id if it is the engine's.
// One that does not run has PID 0.
func (e *Engine) Target(ref string) (Target, error) {
	c, err := e.Find(ref)
	if err == nil {
		return Target{c.Name, c.PID, c.Ports}, nil
	}
	var none ErrNoSuchContainer
	if errors.As(err, &none) {
		if bare, err := (&oci.Runtime{Root: oci.DefaultRoot()}).Open(ref); err == nil {
			return bareTarget(bare), nil
		}
	}
	return Target{}, err
}

// Targets lists all containers that run, the engine's first and of those the oldest first.
func (e *Engine) Targets() ([]Target, error) {
	list, err := e.List(ListOptions{})
	if err != nil {
		return nil, err
	}
	var all []Target
	for _, c := range list {
		if c.PID != 0 {
			all = append(all, Target{c.Name, c.PID, c.Ports})
		}
	}
	bare, err := (&oci.Runtime{Root: oci.DefaultRoot()}).List()
	if err != nil {
		return all, nil // nobody used it, or it is another user's
	}
	for _, c := range bare {
		if t := bareTarget(c); t.PID != 0 {
			all = append(all, t)
		}
	}
	return all, nil
}

func bareTarget(c *oci.Container) Target {
	w := c.Witness()
	if !w.Alive() {
		return Target{Name: c.ID}
	}
	return Target{Name: c.ID, PID: w.PID}
}

// FindPlan is [Engine.Plan] and, where the engine has no container of that name, [RuntimePlan] in the default place.
func (e *Engine) FindPlan(ref string) (Container, plan.Plan, error) {
	rec, p, err := e.Plan(ref)
	if err == nil || rec.ID != "" {
		return rec, p, err
	}
	if rec, p, other := RuntimePlan("", ref); !errors.Is(other, oci.ErrNotExist) && !errors.Is(other, oci.ErrInvalidID) {
		return rec, p, other
	}
	return rec, p, err
}

// RuntimePlan finds a container of kakuri-runtime, or of who calls that in runc's place, by the directory of its
// state and its id, and compiles its plan anew. An empty root is where kakuri-runtime keeps its state without --root.
func RuntimePlan(root, id string) (Container, plan.Plan, error) {
	if root == "" {
		root = oci.DefaultRoot()
	}
	r := oci.Runtime{Root: root}
	x, err := r.Open(id)
	if err != nil {
		return Container{}, plan.Plan{}, fmt.Errorf("container %s, state directory %s: %w", id, root, err)
	}
	s := x.State()
	c := Container{Record: Record{ID: x.ID, Name: x.ID, Created: x.Created()}, State: State{PID: s.Pid}}
	if s.Status == specs.StateStopped || s.Status == specs.StateCreating || s.Pid == 0 {
		return c, plan.Plan{}, fmt.Errorf("container %s: it is %s: one that runs, or waits for its start, can be verified", id, s.Status)
	}
	p, err := x.Plan()
	if err != nil {
		err = fmt.Errorf("container %s: %w", id, err)
	}
	return c, p, err
}

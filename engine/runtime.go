package engine

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/oci"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

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

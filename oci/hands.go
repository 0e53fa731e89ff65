package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/plan"
)

// Hands does the operations of plans that are not raw calls, for any caller of
// package launch: it implements launch.Hands and launch.FDHands. Hooks and listeners need
// a container of a Runtime.
type Hands struct {
	c     *Container
	group *group // the container's cgroup; nil when it has none
	keep  func(op plan.Op, pid int) error
	net   *network.Doer
	serve func(program string, start func(log *os.File) (*launch.Process, error)) error
	here  bool        // whoever serves a root is where this process is
	facts *plan.Facts // of the caller
}

// Do does op for the container whose first process is pid.
func (h Hands) Do(ctx context.Context, op plan.Op, pid int) error {
	switch op := op.(type) {
	case *plan.HelperIDMap:
		return helperIDMap(ctx, op, pid)
	case *plan.JoinResctrl:
		return joinResctrl(op, pid)
	case *plan.RemoveResctrl:
		return removeResctrl(op)
	case *plan.MakeRules, *plan.HoldPorts, *plan.PublishPorts, *plan.UplinkPorts, *plan.UnpublishPorts, *plan.ServeNames:
		if h.keep == nil {
			return fmt.Errorf("%s: nobody is here to answer for it as long as the container runs", op.Name())
		}
		return h.keep(op, pid)
	case *plan.RunHook:
		if h.c != nil {
			return h.c.runHook(ctx, op, pid)
		}
	}
	if handled, err := h.doNet(ctx, op, pid); handled {
		return err
	}
	return h.group.do(ctx, op, pid)
}

func (h Hands) doNet(ctx context.Context, op plan.Op, pid int) (handled bool, err error) {
	d := h.net
	if d == nil { // an undo, or hands of another caller
		d = &network.Doer{}
		defer d.Close()
	}
	return d.Do(ctx, op, pid)
}

// DoFDs does op on descriptors that the launch holds.
func (h Hands) DoFDs(ctx context.Context, op plan.Op, pid int, fds []int) error {
	switch op := op.(type) {
	case *plan.CopyUp:
		return copyUp(fds[0], fds[1])
	case *plan.OpenCgroup:
		return h.group.entrances(op, fds)
	case *plan.ServeRoot:
		if h.serve == nil || h.facts == nil {
			return errors.New("nobody is here to wait for the end of what serves the root file system")
		}
		return h.serve(op.Program, func(log *os.File) (*launch.Process, error) {
			return launch.Serve(ctx, op, fds[0], log, h.here, *h.facts, Hands{})
		})
	case *plan.WriteConfig:
		if h.c != nil {
			return h.c.copyConfig(fds[0])
		}
	case *plan.SendListener:
		if h.c != nil {
			return h.c.sendListener(op, pid, fds[0])
		}
	}
	return fmt.Errorf("%s: nothing here can do that", op.Name())
}

// helperIDMap runs newuidmap(1) or newgidmap(1), with an empty environment: they
// are setuid, and nothing of the caller's is their concern.
func helperIDMap(_ context.Context, op *plan.HelperIDMap, pid int) error {
	args := []string{op.Program, strconv.Itoa(pid)}
	for _, m := range op.Map {
		args = append(args, strings.Fields(m.String())...)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := os.StartProcess(op.Program, args, &os.ProcAttr{Env: []string{}, Files: []*os.File{nil, w, w}})
	w.Close()
	if err != nil {
		return err
	}
	out := make([]byte, 4096)
	n, _ := r.Read(out)
	st, err := p.Wait()
	if err != nil {
		return err
	}
	if !st.Success() {
		return fmt.Errorf("%s: %s: %s", st, strings.TrimSpace(string(out[:n])), launch.HelperHint(string(out[:n])))
	}
	return nil
}

package launch_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

func fuseCases() []opCase {
	return []opCase{
		{"mount fuse", fuseSteps, func(t *testing.T, steps []plan.Step) {
			// The kernel asks on the descriptor that is handed over, first of all for the protocol: FUSE_INIT.
			const opcodeInit = 26
			at := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Op.Name() == "sync" }) + 1
			var asked fuseAsked
			_, err := launchSteps(t, launch.Options{Hands: &asked}, slices.Insert(slices.Clone(steps), at, rt(&plan.ServeRoot{FD: free}))...)
			if err != nil || asked.opcode != opcodeInit {
				t.Errorf("the kernel asks for %d, %v", asked.opcode, err)
			}
		}},
		{"attach fuse", fuseSteps, func(t *testing.T, steps []plan.Step) {
			out, line := must(t, steps...).out, ""
			for l := range strings.Lines(out) {
				if strings.Contains(l, " - fuse.served served ") {
					line = l
				}
			}
			for _, want := range []string{" / / ", "nodev", "user_id=0,group_id=0", "default_permissions", "allow_other"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %q of\n%s", want, line, out)
				}
			}
		}},
	}
}

// fuseSteps lay a root that nobody serves over this one, which the process goes on with: it looks at it from outside.
func fuseSteps(t testing.TB) []plan.Step {
	nstest.FUSE(t)
	return []plan.Step{
		clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
		in(&plan.MountFUSE{Subtype: "served", Nodev: true, Out: free}), in(&plan.Sync{From: plan.Container, What: "root mounted", FDs: []plan.Reg{free}}),
		in(&plan.AttachFUSE{FD: free}), in(&plan.Exec{Args: []string{"/bin/cat", "/proc/self/mountinfo"}}),
	}
}

// fuseAsked are hands that read what the kernel asks first.
type fuseAsked struct{ opcode uint32 }

func (a *fuseAsked) Do(context.Context, plan.Op, int) error { return errors.New("nothing to do") }

func (a *fuseAsked) DoFDs(_ context.Context, _ plan.Op, _ int, fds []int) error {
	request := make([]byte, 64<<10)
	n, err := unix.Read(fds[0], request)
	if err != nil {
		return err
	}
	// A header of fuse(4): length, then opcode.
	if n < 8 || binary.NativeEndian.Uint32(request) != uint32(n) {
		return fmt.Errorf("a request of %d bytes: %x", n, request[:n])
	}
	a.opcode = binary.NativeEndian.Uint32(request[4:])
	return nil
}

package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// dyingHands end this process, as kill -9 would, where a step asks for it.
type dyingHands struct{ launch.Hands }

func (h dyingHands) Do(ctx context.Context, op plan.Op, pid int) error {
	if op == dieStep.Op {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return h.Hands.Do(ctx, op, pid)
}

// dieStep is known by its operation, this one and no other.
var dieStep = plan.Step{Op: &plan.JoinCgroup{Path: "none"}, Side: plan.Runtime}

// victim runs the container of args[1:] as the command would, and ends by SIGKILL when both sides
// have come to step args[0] of its plan. For a step after the last one that it can end at, it
// prints how many there are.
func victim(args []string) int {
	at, _ := strconv.Atoi(args[0])
	e, err := Open(Options{})
	if err != nil {
		return complain(err)
	}
	r := victimRun(args[1:])
	rec, err := e.record(r)
	if err != nil {
		return complain(err)
	}
	ent, err := e.reserve(rec)
	if err != nil {
		return complain(err)
	}
	prep, err := e.compile(r, ent.rec)
	if err != nil {
		return complain(err)
	}
	start := slices.IndexFunc(prep.Plan.Steps, func(s plan.Step) bool {
		sync, ok := s.Op.(*plan.Sync)
		return ok && sync.What == plan.StartWord
	})
	if at > start {
		fmt.Println(start + 1)
		ent.remove()
		return 0
	}
	prep.Plan.Steps = slices.Insert(prep.Plan.Steps, at, dieHere(prep.Plan.Steps[:at])...)
	e.hands = dyingHands{e.hands}
	res, err := e.runEntry(context.Background(), prep, Streams{}, ent, false)
	fmt.Println("error: went on:", res.Code, err)
	return 1
}

// dieHere are the steps at which the process ends: after a clone, the container's side has come
// to the same step and waits for a word that does not come.
func dieHere(before []plan.Step) []plan.Step {
	if !slices.ContainsFunc(before, func(s plan.Step) bool { _, ok := s.Op.(*plan.Clone); return ok }) {
		return []plan.Step{dieStep}
	}
	return []plan.Step{
		{Op: &plan.Sync{From: plan.Container, What: "here"}, Side: plan.Container}, dieStep,
		{Op: &plan.Sync{From: plan.Runtime, What: "never"}, Side: plan.Runtime},
	}
}

// victimRun reads the few flags that the test needs.
func victimRun(args []string) Config {
	r := Config{Command: []string{"sleep", "1000"}}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-t":
			r.TTY = true
		case "--init":
			r.Init = true
		case "--pid=host":
			r.PID = "host"
		case "--userns=host":
			r.UserNS = "host"
		case "--privileged":
			r.Privileged = true
		case "host":
			r.Image = "host"
		default:
			r.Rootfs = args[i]
		}
	}
	return r
}

// The command is killed when its container has come to a step of the plan, for each step: the
// next command takes away whatever there is.
func TestKilledAtEveryStep(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	u := nstest.User(t)
	asRoot := func(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }
	for _, c := range []struct {
		name    string
		who     func(name string, args ...string) *exec.Cmd
		records string
		flags   string
		every   int // of the plan's steps, one is tried
	}{
		{"root", asRoot, "/run/kakuri", "host", 1},
		{"user", u.Command, filepath.Join(u.RuntimeDir(), "kakuri"), "host", 1},
		{"root, no user namespace", asRoot, "/run/kakuri", "--userns=host --pid=host -t " + root, 3},
		{"root, terminal and init", asRoot, "/run/kakuri", "-t --init " + root, 3},
		{"root, privileged", asRoot, "/run/kakuri", "--privileged " + root, 3},
		{"user, terminal and init", u.Command, filepath.Join(u.RuntimeDir(), "kakuri"), "--pid=host -t --init host", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			victim := func(step int) *exec.Cmd {
				return c.who(nstest.PartPath("victim"), append([]string{fmt.Sprint(step)}, strings.Fields(c.flags)...)...)
			}
			steps, err := strconv.Atoi(strings.TrimSpace(output(t, victim(1<<20))))
			if err != nil || steps < 20 {
				t.Fatalf("%v: %d steps", err, steps)
			}
			if testing.Short() {
				c.every *= 8
			}
			before := nstest.Take(c.records, "/tmp")
			for step := 0; step < steps; step += c.every {
				v := victim(step)
				out, _ := v.CombinedOutput()
				if st, ok := v.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
					t.Fatalf("step %d: %v: %s", step, v.ProcessState, out)
				}
				if out, err := c.who(nstest.Binary(t, "kakuri"), "ps", "-q").CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("step %d: ps: %v: %s", step, err, out)
				}
				nothingSince(t, before, fmt.Sprint("step ", step))
			}
		})
	}
}

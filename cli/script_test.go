package cli

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
	"github.com/kakuri/kakuri/plan"
	"github.com/rogpeppe/go-internal/testscript"
)

// Each file of testdata/script is one behaviour of the command line. Beside the
// commands of testscript there are:
//
//	code N COMMAND ...             run it; its exit code is N
//	start [as-user] NAME ARG ...   kakuri run --name NAME ARG..., until it runs; $NAME is its pid
//	cmpid FILE FILE                both have the same id, with an end of line or not
//	killrun NAME                   kill the command that runs it, and not the container
//	end NAME                       kill that container's first process, and wait
//	envout NAME COMMAND ...        set a variable to what it prints
//	steps FILE N                   it is a plan as JSON, of N steps at least, each with its cause
//
// exec as-user COMMAND runs it as an ordinary user, whose records are in the script's
// own directory. $ROOTFS is a root file system with busybox, not to be written to, and
// $REGISTRY an empty registry.
func TestScript(t *testing.T) {
	dir := place(t)
	root := nstest.RootFS(t)
	uid, gid, err := account("kakuri-test")
	if err != nil {
		t.Fatal(err)
	}
	registry := testimage.Registry(t, nil)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", WorkdirRoot: filepath.Join(dir, "script"), RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			private := filepath.Join(env.WorkDir, "user")
			env.Vars = append(env.Vars, "ROOTFS="+root, "REGISTRY="+registry, "HOME="+env.WorkDir, "XDG_RUNTIME_DIR="+private, "XDG_DATA_HOME="+private+"/data", "UID="+strconv.Itoa(uid), "GID="+strconv.Itoa(gid))
			env.Values[scriptKey("boxes")] = map[string]*scriptBox{}
			return errors.Join(os.Mkdir(private, 0o700), os.Chown(private, uid, gid), os.Chown(env.WorkDir, uid, gid))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": scriptCode, "start": scriptStart, "end": scriptEnd, "killrun": scriptKillRun, "cmpid": scriptCmpID, "envout": scriptEnvOut, "steps": scriptSteps},
	})
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// A scriptBox is a container of a script.
type scriptBox struct {
	runner *os.Process
	pid    int // of the first process; 0 before that is known
	ended  chan struct{}
}

type scriptKey string

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	command := []string{"kakuri"}
	if len(args) > 0 && args[0] == "as-user" {
		command, args = []string{"as-user", "kakuri"}, args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: start [as-user] NAME ARG ...")
	}
	name, cid := args[0], ts.MkAbs(args[0]+".cid")
	script := func(args ...string) *exec.Cmd {
		c := exec.Command(command[0], append(command[1:len(command):len(command)], args...)...)
		c.Dir, c.Env = ts.MkAbs("."), append(os.Environ(), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"), "XDG_DATA_HOME="+ts.Getenv("XDG_DATA_HOME"))
		return c
	}
	out, err := os.CreateTemp(ts.Getenv("WORK"), name)
	ts.Check(err)
	defer out.Close()
	c := script(append([]string{"run", "--rm", "--name", name, "--cidfile", cid}, args[1:]...)...)
	c.Stdout, c.Stderr = out, out
	ts.Check(c.Start())
	box := &scriptBox{runner: c.Process, ended: make(chan struct{})}
	go func() {
		c.Wait()
		close(box.ended)
	}()
	ts.Defer(box.end)
	for {
		if data, err := os.ReadFile(cid); err == nil && len(data) > 0 {
			break // it runs, and its record is whole
		}
		select {
		case <-box.ended:
			said, _ := os.ReadFile(out.Name())
			ts.Fatalf("%q ended: %s", c.Args, said)
		case <-time.After(2 * time.Millisecond):
		}
	}
	list, err := script("ps", "--format", "{{.Names}} {{.PID}}").Output()
	ts.Check(err)
	for line := range strings.Lines(string(list)) {
		if pid, ok := strings.CutPrefix(line, name+" "); ok {
			box.pid, err = strconv.Atoi(strings.TrimSpace(pid))
			ts.Check(err)
		}
	}
	if box.pid == 0 {
		ts.Fatalf("kakuri ps does not list %s: %s", name, list)
	}
	ts.Setenv(name, strconv.Itoa(box.pid))
	scriptBoxes(ts)[name] = box
}

func scriptBoxes(ts *testscript.TestScript) map[string]*scriptBox {
	return ts.Value(scriptKey("boxes")).(map[string]*scriptBox)
}

func (b *scriptBox) end() {
	select {
	case <-b.ended:
		return
	default:
	}
	if b.pid != 0 {
		syscall.Kill(b.pid, syscall.SIGKILL)
	} else {
		b.runner.Kill()
	}
	<-b.ended
}

func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || scriptBoxes(ts)[args[0]] == nil {
		ts.Fatalf("usage: end NAME")
	}
	scriptBoxes(ts)[args[0]].end()
}

func scriptKillRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || scriptBoxes(ts)[args[0]] == nil {
		ts.Fatalf("usage: killrun NAME")
	}
	box := scriptBoxes(ts)[args[0]]
	ts.Check(box.runner.Kill())
	<-box.ended
}

func scriptCmpID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cmpid FILE FILE")
	}
	if a, b := strings.TrimSpace(ts.ReadFile(args[0])), strings.TrimSpace(ts.ReadFile(args[1])); a != b || len(a) != 64 {
		ts.Fatalf("%q and %q", a, b)
	}
}

func scriptEnvOut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: envout NAME COMMAND ...")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSuffix(ts.ReadFile("stdout"), "\n"))
}

func scriptSteps(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: steps FILE N")
	}
	least, err := strconv.Atoi(args[1])
	ts.Check(err)
	var p plan.Plan
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &p))
	if len(p.Steps) < least {
		ts.Fatalf("%d steps, want %d", len(p.Steps), least)
	}
	for _, s := range p.Steps {
		if s.Op == nil || s.Cause.String() == "" {
			ts.Fatalf("a step without operation or cause: %+v", s)
		}
	}
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/rogpeppe/go-internal/testscript"
)

// Each file of testdata/script is one behaviour of the command line. Beside the
// commands of testscript there are:
//
//	code N COMMAND ...             run it; its exit code is N
//	start [as-user] NAME ARG ...   kakuri run --name NAME ARG..., until it runs; $NAME is its pid
//	end NAME                       kill that container's first process, and wait
//
// exec as-user COMMAND runs it as an ordinary user, whose records are in the script's
// own directory. $ROOTFS is a root file system with busybox, not to be written to.
func TestScript(t *testing.T) {
	dir := place(t)
	root := nstest.RootFS(t)
	uid, gid, err := account("kakuri-test")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", WorkdirRoot: filepath.Join(dir, "script"), RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			private := filepath.Join(env.WorkDir, "user")
			env.Vars = append(env.Vars, "ROOTFS="+root, "XDG_RUNTIME_DIR="+private, "UID="+strconv.Itoa(uid), "GID="+strconv.Itoa(gid))
			return errors.Join(os.Mkdir(private, 0o700), os.Chown(private, uid, gid), os.Chown(env.WorkDir, uid, gid))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": scriptCode, "start": scriptStart, "end": scriptEnd},
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
	pid   int
	ended chan struct{}
}

type scriptKey string

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	records, command := "/run/kakuri", []string{"kakuri"}
	if len(args) > 0 && args[0] == "as-user" {
		records, command, args = ts.Getenv("XDG_RUNTIME_DIR")+"/kakuri", []string{"as-user", "kakuri"}, args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: start [as-user] NAME ARG ...")
	}
	name := args[0]
	command = append(append(command, "run", "--name", name), args[1:]...)
	out, err := os.CreateTemp(ts.Getenv("WORK"), name)
	ts.Check(err)
	defer out.Close()
	c := exec.Command(command[0], command[1:]...)
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), out, out
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"), "HOME=/no-home")
	ts.Check(c.Start())
	box := &scriptBox{ended: make(chan struct{})}
	go func() {
		c.Wait()
		close(box.ended)
	}()
	ts.Defer(func() { box.end(c.Process) })
	e, err := engine.Open(engine.Options{Dir: records})
	ts.Check(err)
	for {
		if rec, _, err := e.Plan(name); err == nil {
			box.pid = rec.PID
			break
		}
		select {
		case <-box.ended:
			said, _ := os.ReadFile(out.Name())
			ts.Fatalf("%q ended: %s", command, said)
		default:
		}
	}
	ts.Setenv(name, strconv.Itoa(box.pid))
	scriptBoxes(ts)[name] = box
}

func scriptBoxes(ts *testscript.TestScript) map[string]*scriptBox {
	return ts.Value(scriptKey("boxes")).(map[string]*scriptBox)
}

func (b *scriptBox) end(runner *os.Process) {
	if b.pid != 0 {
		syscall.Kill(b.pid, syscall.SIGKILL)
	} else {
		runner.Kill()
	}
	<-b.ended
}

func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || scriptBoxes(ts)[args[0]] == nil {
		ts.Fatalf("usage: end NAME")
	}
	box := scriptBoxes(ts)[args[0]]
	ts.Check(syscall.Kill(box.pid, syscall.SIGKILL))
	<-box.ended
}

var _ = fmt.Sprint

package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// The namespaces to join are those in which a process is elsewhere.
func TestJoins(t *testing.T) {
	nstest.Root(t)
	c := exec.Command("sleep", "100")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	all := abi.Namespaces()
	list, err := Joins(c.Process.Pid, all[:], false)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v: %+v", err, list)
	}
	for _, j := range list {
		if j.NS != abi.NSUTS && j.NS != abi.NSIPC {
			t.Errorf("%+v", j)
		}
	}
	if list, err := Joins(os.Getpid(), all[:], false); err != nil || len(list) != 0 {
		t.Errorf("%v: %+v of its own", err, list)
	}
	if _, err := Joins(1<<22, all[:], false); err == nil || !strings.Contains(err.Error(), "there is no process 4194304") {
		t.Errorf("%v", err)
	}
}

// Plans of unshare and enter run to their end, with Docker's codes for what fails.
func TestExecute(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	nstest.NoLeaks(t, e.dir)
	unshare := func(o plan.UnshareOptions) (Result, error) {
		t.Helper()
		p, err := plan.CompileUnshare(o, e.Host())
		if err != nil {
			t.Fatal(err)
		}
		return e.Execute(context.Background(), p, Apart)
	}
	fresh := []abi.Namespace{abi.NSPID, abi.NSMount, abi.NSUTS}
	for line, code := range map[string]int{"exit 3": 3, "test $$ = 1 && exit 4": 4, "sh -c 'kill -9 $$'; exit $?": 137, "test \"$(cat /proc/1/comm)\" = sh && exit 6": 6} {
		res, err := unshare(plan.UnshareOptions{New: fresh, Fork: true, MountProc: "/proc", Args: []string{"/bin/sh", "-c", line}, Env: []string{"PATH=/bin"}})
		if err != nil || res.Code != code {
			t.Errorf("%s: %v: code %d, want %d", line, err, res.Code, code)
		}
	}
	var exit *ExitError
	if _, err := unshare(plan.UnshareOptions{New: fresh, Args: []string{"no-such-program"}}); !errors.As(err, &exit) || exit.Code != 127 {
		t.Errorf("%v", err)
	}
	if _, err := unshare(plan.UnshareOptions{New: fresh, Wd: "/no/such", Args: []string{"true"}}); !errors.As(err, &exit) || exit.Code != 125 {
		t.Errorf("%v", err)
	}
	c := exec.Command("sleep", "100")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	all := abi.Namespaces()
	joins, err := Joins(c.Process.Pid, all[:], false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.CompileEnter(plan.EnterOptions{Join: joins, Fork: true, Args: []string{"/bin/sh", "-c", "test $$ -gt 1 && test $(grep -c : /proc/net/dev) = 1 && exit 7"}}, e.Host())
	if err != nil {
		t.Fatal(err)
	}
	if res, err := e.Execute(context.Background(), p, InPlace); err != nil || res.Code != 7 {
		t.Errorf("%v: code %d", err, res.Code)
	}
}

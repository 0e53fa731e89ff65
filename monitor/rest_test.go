package monitor

import (
	"os/exec"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"golang.org/x/sys/unix"
)

// TestRestOfUnreaped: a monitor does not execute its program once more while it has a process to take away that another one traces: the next program would not know of it.
func TestRestOfUnreaped(t *testing.T) {
	nstest.Root(t)
	m := &monitor{}
	if !m.canRest() {
		t.Fatal("it never rests")
	}
	child := exec.Command("/bin/sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := launch.Adopt(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	letGo := nstest.Trace(t, false, p.PID)
	p.Signal(unix.SIGKILL)
	if st, err := p.Wait(); err != nil || st.Signal() != unix.SIGKILL {
		t.Errorf("%v: %v", st, err)
	}
	if m.canRest() {
		t.Error("it rests")
	}
	letGo()
	for end := time.Now().Add(10 * time.Second); !m.canRest(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never rests again")
		}
	}
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("its process is still there: %v", err)
	}
}

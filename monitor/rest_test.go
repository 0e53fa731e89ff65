package monitor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"golang.org/x/sys/unix"
)

// tracer traces a process, and waits for nothing that it does, until its standard input ends.
func tracer(args []string) int {
	runtime.LockOSThread()
	pid, _ := strconv.Atoi(args[0])
	if err := unix.PtraceSeize(pid); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

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
	by := nstest.Part("tracer", fmt.Sprint(p.PID))
	stdin, err := by.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := by.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := by.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Errorf("tracer: %s", line)
	}
	p.Signal(unix.SIGKILL)
	if st, err := p.Wait(); err != nil || st.Signal() != unix.SIGKILL {
		t.Errorf("%v: %v", st, err)
	}
	if m.canRest() {
		t.Error("it rests")
	}
	stdin.Close()
	by.Wait()
	for end := time.Now().Add(10 * time.Second); !m.canRest(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never rests again")
		}
	}
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("its process is still there: %v", err)
	}
}

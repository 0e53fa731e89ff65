package nstest

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Trace has another process trace some, and wait for nothing that they do, until the test lets go of them, or is over. It holds them up where it is asked to.
func Trace(t testing.TB, hold bool, pids ...int) (letGo func()) {
	t.Helper()
	c := Part(traceName, strconv.FormatBool(hold))
	for _, pid := range pids {
		c.Args = append(c.Args, strconv.Itoa(pid))
	}
	line, stdin := Background(t, c)
	letGo = func() {
		stdin.Close()
		c.Wait()
	}
	t.Cleanup(letGo)
	if line != tracing {
		t.Fatalf("nobody traces %v: %s", pids, line)
	}
	return letGo
}

const tracing = "tracing"

// trace is what traces: whether it holds up, and whom.
func trace(args []string) int {
	runtime.LockOSThread() // a thread is who traces
	for _, arg := range args[1:] {
		pid, err := strconv.Atoi(arg)
		if err == nil {
			err = unix.PtraceSeize(pid)
		}
		if err == nil && args[0] == "true" {
			err = unix.PtraceInterrupt(pid)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "trace %s: %v\n", arg, err)
			return 1
		}
	}
	fmt.Println(tracing)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

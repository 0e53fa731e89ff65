package host

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TimeOnExec tells whether this kernel puts a process into the time namespace that
// it made for its children when it calls execve: newer ones do, and no call asks
// for it. A throw-away child tries it; the answer is kept in dir for this kernel.
func TimeOnExec(dir, release string, keep bool) bool {
	file := filepath.Join(dir, "time-on-exec-"+filepath.Base(release))
	if data, err := files.Read(file); err == nil && len(data) > 0 {
		return data[0] == '1'
	}
	answer, known := tryTimeOnExec()
	if !known || !keep {
		return answer && known
	}
	text := "0"
	if answer {
		text = "1"
	}
	// Without the file, or with an empty one, the next command tries again.
	if os.MkdirAll(dir, 0o700) == nil {
		files.Replace(dir, filepath.Base(file), []byte(text), false)
	}
	return answer
}

// TimeNamespaces reports whether the kernel gives any: it may be built without them, and hardening sets their number to 0, time_namespaces(7), namespaces(7).
func TimeNamespaces() bool {
	limit, err := files.Read("/proc/sys/user/max_time_namespaces")
	return (err != nil || strings.TrimSpace(string(limit)) != "0") && unix.Access("/proc/self/ns/time", unix.F_OK) == nil
}

// tryTimeOnExec runs this program anew, in a user namespace and behind an
// unshare of the time namespace, and looks where it is. The program cannot end
// before that: its output goes to a pipe that is full.
func tryTimeOnExec() (answer, known bool) {
	r, w, err := os.Pipe()
	if err != nil {
		return false, false
	}
	defer r.Close()
	defer w.Close()
	fill(int(w.Fd()))
	inside := func(op plan.Op) plan.Step { return plan.Step{Op: op, Side: plan.Container} }
	p := plan.Plan{Steps: []plan.Step{
		{Op: &plan.Clone{New: []abi.Namespace{abi.NSUser}}},
		inside(&plan.Unshare{New: []abi.Namespace{abi.NSTime}}),
		inside(&plan.Exec{Args: []string{"/proc/self/exe", "--version"}}),
	}}
	proc, err := launch.Run(context.Background(), p, launch.Options{Stdio: [3]*os.File{nil, w, w}})
	if err != nil {
		return false, false
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(proc.PID) + "/ns/time")
	proc.Signal(unix.SIGKILL)
	proc.Wait()
	ours, err2 := os.Readlink("/proc/self/ns/time")
	return theirs != ours, err == nil && err2 == nil
}

// fill writes to a pipe until it takes no more, and leaves it blocking.
func fill(fd int) {
	unix.SetNonblock(fd, true)
	defer unix.SetNonblock(fd, false)
	block := make([]byte, 4096)
	for size := len(block); size > 0; {
		if _, err := unix.Write(fd, block[:size]); err != nil {
			size /= 2
		}
	}
}

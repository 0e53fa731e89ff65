package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// runHook runs one hook for the container, whose process is pid, as a process of the runtime
// or in the container's namespaces, and waits for its end.
func (c *Container) runHook(ctx context.Context, h *plan.RunHook, pid int) error {
	if h.Timeout > 0 {
		var stop context.CancelFunc
		const longest = math.MaxInt64 / int64(time.Second) // 292 years; what is more would be before now
		ctx, stop = context.WithTimeout(ctx, time.Duration(min(int64(h.Timeout), longest))*time.Second)
		defer stop()
	}
	s, err := newHookStreams(c.hookState(h, pid))
	if err == nil {
		err = c.hookProcess(ctx, h, pid, s)
		err = s.close(err)
	}
	if end := ctx.Err(); h.Timeout > 0 && errors.Is(end, context.DeadlineExceeded) {
		err = fmt.Errorf("hook ran past specified timeout of %.1fs", float64(h.Timeout))
	}
	if err != nil {
		return &hookError{h.Point, h.N, err}
	}
	return nil
}

// A hookError says which hook failed.
type hookError struct {
	point string
	n     int
	err   error
}

func (e *hookError) Error() string {
	return fmt.Sprintf("error running %s hook #%d: %v", e.point, e.n, e.err)
}
func (e *hookError) Unwrap() error { return e.err }

// hookState is the container's state at the point of a hook. Those of the creation come after step 2 of the lifecycle, which is
// where runtime-spec has the state "creating" end: runtime.md, "State".
func (c *Container) hookState(h *plan.RunHook, pid int) *specs.State {
	s := &specs.State{Version: c.state.Version, ID: c.ID, Status: specs.StateCreated, Pid: pid, Bundle: c.state.Bundle, Annotations: c.state.Annotated}
	switch h.Point {
	case "poststart":
		s.Status = specs.StateRunning
	case "poststop":
		s.Status, s.Pid = specs.StateStopped, 0
	}
	if h.Inside {
		s.Pid = pidInside(pid)
	}
	return s
}

// pidInside is the pid of a process in its own pid namespace.
func pidInside(pid int) int {
	status, err := files.Read("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return pid
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if f := strings.Fields(list); len(f) > 0 {
				if n, err := strconv.Atoi(f[len(f)-1]); err == nil {
					return n
				}
			}
		}
	}
	return pid
}

// hookProcess starts a hook's process and waits for it.
func (c *Container) hookProcess(ctx context.Context, h *plan.RunHook, pid int, s *hookStreams) error {
	if !h.Inside {
		return hookOutside(ctx, h, c.state.Bundle, s)
	}
	hands := Hands{c: c}
	var joined *plan.Cgroup
	if h.Point == "startContainer" {
		g, err := c.group()
		if err != nil {
			return err
		}
		if g != nil {
			defer g.Close()
			hands.group = g
		}
		if joined, err = c.joinGroup(g, ExecOptions{}); err != nil {
			return err
		}
	}
	p, err := c.planHook(h, pid, joined)
	if err != nil {
		return err
	}
	proc, err := launch.Run(ctx, p, launch.Options{Hands: hands, Stdio: s.files()})
	var exec *ExecError
	if errors.As(execFailed(err), &exec) {
		// In the words of hooks outside: the plan's would name process.args, which is not where the fault is.
		return &os.PathError{Op: "fork/exec", Path: h.Path, Err: exec.Err}
	}
	if err != nil {
		return err
	}
	status, err := proc.Wait()
	if err != nil {
		return err
	}
	return hookEnd(status)
}

// hookOutside runs a hook among the runtime's own processes, in the bundle.
func hookOutside(ctx context.Context, h *plan.RunHook, dir string, s *hookStreams) error {
	if _, err := os.Stat(dir); err != nil {
		dir = "/" // the bundle may be gone when a container is deleted
	}
	files := s.files()
	env := h.Env
	if env == nil {
		env = os.Environ() // as runc and crun have it: those of others look for programs in PATH
	}
	p, err := os.StartProcess(h.Path, h.Args, &os.ProcAttr{Dir: dir, Env: env, Files: files[:]})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.Kill() })()
	st, err := p.Wait()
	if err != nil {
		return err
	}
	return hookEnd(st.Sys().(syscall.WaitStatus))
}

func hookEnd(status syscall.WaitStatus) error {
	switch {
	case status.Signaled():
		return fmt.Errorf("signal: %s", status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}

// planHook is the plan of a hook inside. One at the creation is run before the container's root
// is the root: what the container's side still sees as its root is the host's. It begins in the container's. One at the
// start is run as the container's own process will be.
func (c *Container) planHook(h *plan.RunHook, pid int, joined *plan.Cgroup) (plan.Plan, error) {
	config, err := c.Spec()
	if err != nil {
		return plan.Plan{}, err
	}
	if h.Point == "startContainer" {
		process := *config.Process
		process.Args, process.Env, process.Terminal = h.Args, h.Env, false
		return c.planJoined(config, &process, 0, plan.Options{Cgroup: joined, File: h.Path})
	}
	facts, err := host.Read(host.Needs{})
	if err != nil {
		return plan.Plan{}, err
	}
	proc := "/proc/" + strconv.Itoa(pid)
	o := plan.EnterOptions{
		Session: true, Fork: true, Root: proc + "/root", WdInside: cmp.Or(c.state.Rootfs, "/"), File: h.Path, Args: h.Args, Env: h.Env,
		Because: func(string) string { return "hooks." + h.Point },
	}
	for _, n := range namespaces(config) {
		kind, ok := abi.ParseNamespace(string(n.Type))
		if !ok {
			return plan.Plan{}, errors.New("linux.namespaces: unknown type " + string(n.Type))
		}
		file := proc + "/ns/" + kind.ProcName()
		if kind == abi.NSTime && n.Path == "" {
			file += "_for_children" // its own execve enters it
		}
		o.Join = append(o.Join, plan.JoinNamespace{NS: kind, Path: file})
		if kind == abi.NSUser {
			o.SetUID, o.SetGID = new(uint32), new(uint32)
		}
	}
	return plan.CompileEnter(o, facts)
}

// copyConfig writes the container's config.json to a file.
func (c *Container) copyConfig(fd int) error {
	data, err := files.Read(c.dir + "/config.json")
	if err != nil {
		return err
	}
	return os.NewSyscallError("write", writeAll(fd, data))
}

// runHooks runs those of one point, in their order, until one fails.
func (c *Container) runHooks(ctx context.Context, point string) error {
	config, err := c.Spec()
	if err != nil {
		return err
	}
	if p := config.Process; p != nil && point == "startContainer" {
		// Those that have no environment get the process's.
		spec, process := *config, *p
		process.Env = environment(p.Env, c.homeOf(p.User.UID))
		spec.Process = &process
		config = &spec
	}
	for _, h := range plan.Hooks(config, point) {
		if err := c.runHook(ctx, h, c.state.PID); err != nil {
			return err
		}
	}
	return nil
}

// poststop runs the hooks after the container's end. One that fails is told of, and the others
// run: runtime-spec, runtime.md, "Lifecycle".
func (c *Container) poststop(ctx context.Context, config *specs.Spec) {
	if config == nil {
		return
	}
	for _, h := range plan.Hooks(config, "poststop") {
		if err := c.runHook(ctx, h, 0); err != nil {
			c.runtime.warn(err.Error())
		}
	}
}

// LaterHooks tells, a line each, of hooks that are no steps of the bundle's plan: they run when
// that is done, and when its process has ended.
func (b *Bundle) LaterHooks() string {
	var s strings.Builder
	for _, when := range []struct{ point, text string }{
		{"startContainer", "before the execve, inside"}, {"poststart", "after the execve"}, {"poststop", "after the end"},
	} {
		for _, h := range plan.Hooks(b.Spec, when.point) {
			fmt.Fprintf(&s, "%s: %s\n", when.text, plan.OneLine(h.String()))
		}
	}
	return s.String()
}

// hookStreams are what a hook reads and writes.
type hookStreams struct {
	in, out, errs *os.File // the hook's side
	output        [2]tail
	readers       [2]*os.File
}

// A tail keeps the first part of what is written to it, while it is read.
type tail struct {
	text bytes.Buffer
	done chan struct{}
}

// maxHookOutput bounds how much of a hook's output an error has, in bytes.
const maxHookOutput = 4 << 10

func newHookStreams(state *specs.State) (*hookStreams, error) {
	data, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	// A file in memory: a hook that does not read keeps nobody waiting.
	in, err := files.Memory("state", data)
	if err != nil {
		return nil, err
	}
	s := &hookStreams{in: in}
	for i, to := range []**os.File{&s.out, &s.errs} {
		if err != nil {
			break
		}
		if s.readers[i], *to, err = os.Pipe(); err == nil {
			s.output[i].done = make(chan struct{})
			go s.output[i].read(s.readers[i])
		}
	}
	if err != nil {
		return nil, s.close(err)
	}
	return s, nil
}

func (t *tail) read(from *os.File) {
	defer close(t.done)
	all := files.Rest(from)
	io.CopyN(&t.text, all, maxHookOutput)
	io.Copy(io.Discard, all)
}

func (s *hookStreams) files() [3]*os.File { return [3]*os.File{s.in, s.out, s.errs} }

// close gives the error of a hook what it wrote. A process that it left behind may hold its
// streams: they are not waited for.
func (s *hookStreams) close(err error) error {
	const patience = 100 * time.Millisecond
	for _, f := range []*os.File{s.in, s.out, s.errs} {
		f.Close()
	}
	for i, r := range s.readers {
		if r == nil {
			continue
		}
		r.SetReadDeadline(time.Now().Add(patience))
		<-s.output[i].done
		r.Close()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w, stdout: %s, stderr: %s", err, plan.OneLine(s.output[0].text.String()), plan.OneLine(s.output[1].text.String()))
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An ExecConfig is another process for a running container. The zero value of a field is what the container's own process has.
type ExecConfig struct {
	Command     []string
	User        string // name|uid[:name|gid], as the container's own files have it
	Workdir     string // absolute
	Env         []string
	Privileged  bool // with all capabilities that there are in the container's user namespace
	TTY         bool
	Interactive bool // stdin is the caller's
	Detach      bool // return when it runs, without streams
	DetachKeys  string
}

// Exec runs another process in a running container, and unless it is detached stays until its end. It has the container's environment, limits, seccomp
// filter and capabilities. An error is an [*ExitError] with Docker's exit code where the process was not started: 126 for what cannot be executed, 127 for what is
// not there.
func (e *Engine) Exec(ctx context.Context, ref string, x ExecConfig, s Streams) (Result, error) {
	p, err := e.execution(ref, x, s)
	if err != nil {
		return Result{}, err
	}
	p.event("exec_create: " + strings.Join(x.Command, " "))
	if x.Detach {
		if done, err := p.byMonitor(); done || err != nil {
			return p.res, err
		}
		p.streams = Streams{Started: s.Started}
	}
	return p.run(ctx)
}

// An execution is one more process of a container, on its way.
type execution struct {
	*Engine
	c       Container
	box     *oci.Container
	x       ExecConfig
	streams Streams
	keys    []byte // that detach
	process *specs.Process
	options oci.ExecOptions
	res     Result
}

// execution is the process that is asked for, where the container may have it.
func (e *Engine) execution(ref string, x ExecConfig, s Streams) (*execution, error) {
	if len(x.Command) == 0 {
		return nil, errors.New("no exec command specified")
	}
	c, box, err := e.running(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case box.Status() == oci.StatusPaused:
		return nil, ErrConflict{fmt.Sprintf("Container %s is paused, unpause the container before exec", ref)}
	case x.Privileged && c.guarded():
		return nil, &ExitError{126, errors.New("--privileged: the container has --egress, whose rules the process could take away")}
	case x.Command[0] == "":
		return nil, &ExitError{127, errors.New(`exec: "": executable file not found in $PATH`)}
	}
	process, err := e.execProcess(c, box, x)
	switch {
	case err != nil && box.Ending():
		return nil, ErrNotRunning{ID: c.ID}
	case err != nil:
		return nil, err
	}
	if rows, columns, ok := s.size(); ok && x.TTY {
		process.ConsoleSize = &specs.Box{Height: uint(rows), Width: uint(columns)}
	}
	keys, err := ParseDetachKeys(x.DetachKeys)
	if err != nil {
		return nil, &ExitError{1, err} // as with Docker
	}
	o := oci.ExecOptions{Causes: execCauses(x)}
	if !e.host.Privileged() {
		o.Member = c.CommandPID()
	}
	return &execution{Engine: e, c: c, box: box, x: x, streams: s, keys: keys, process: process, options: o, res: Result{ID: files.NewID()}}, nil
}

// event tells of the process.
func (p *execution) event(action string) {
	p.Engine.event(&p.c, action, map[string]string{"execID": p.res.ID})
}

// run starts the process as this one's child, and unless it is detached stays until its end.
func (p *execution) run(ctx context.Context) (Result, error) {
	streams, err := openExec(p.x, p.streams, p.box, p.process)
	if err != nil {
		return Result{}, &ExitError{125, err}
	}
	defer streams.close()
	streams.keys = p.keys
	proc, err := p.box.LaunchExec(ctx, p.process, p.options, oci.Launch{Stdio: streams.child})
	if errors.Is(err, oci.ErrNotRunning) || err != nil && p.box.Ending() {
		return p.res, ErrNotRunning{ID: p.c.ID}
	}
	if err != nil {
		return p.res, execError(err)
	}
	p.event("exec_start: " + strings.Join(p.x.Command, " "))
	ended := p.noteExec(&p.c, p.res.ID, proc.PID)
	if p.streams.Started != nil {
		p.streams.Started(p.c)
	}
	if p.x.Detach {
		// While this process lives it is the parent: the container's first process does not end before all others are waited for.
		go proc.Wait()
		return p.res, p.leaveTerminal(proc)
	}
	status, err := streams.attend(proc)
	if errors.Is(err, ErrDetached) {
		p.res.Detached = true
		return p.res, p.leaveTerminal(proc)
	}
	ended()
	return p.ended(status, err)
}

// ended completes the result of a process that has ended; err is of its streams.
func (p *execution) ended(status syscall.WaitStatus, err error) (Result, error) {
	p.res.Code = launch.ExitCode(status)
	if status.Signaled() {
		p.res.Signal = status.Signal()
	}
	p.res.Warnings = append(p.res.Warnings, p.c.Config.killedByFilter(p.res.Code)...)
	p.Engine.event(&p.c, "exec_die", map[string]string{"execID": p.res.ID, "exitCode": strconv.Itoa(p.res.Code)})
	if errors.Is(err, syscall.EPIPE) {
		p.res.Code = abi.SIGPIPE.ExitCode()
	} else if err != nil {
		return p.res, &ExitError{125, err}
	}
	return p.res, nil
}

// leaveTerminal gives the terminal of a process that goes on to the container's monitor.
func (p *execution) leaveTerminal(proc *launch.Process) error {
	if proc.Master == nil {
		return nil
	}
	defer proc.Master.Close()
	m, err := p.dial(p.c)
	if err == nil {
		defer m.Close()
		err = m.Keep(proc.Master)
	}
	if err != nil {
		return &ExitError{125, fmt.Errorf("the process's terminal goes with this command: %w", err)}
	}
	return nil
}

// byMonitor has the container's monitor start the process, which is there for its end as no command is. It is not done where there is no monitor that can.
func (p *execution) byMonitor() (done bool, err error) {
	m, err := p.dial(p.c)
	if err != nil {
		return false, nil
	}
	defer m.Close()
	pid, err := m.Exec(monitor.Exec{ID: p.res.ID, Member: p.options.Member, Causes: p.options.Causes}, p.process)
	var refused *monitor.Failure
	switch {
	case err == nil:
		p.noteExec(&p.c, p.res.ID, pid)
		if p.streams.Started != nil {
			p.streams.Started(p.c)
		}
		return true, nil
	case errors.Is(err, errors.ErrUnsupported):
		return false, nil
	case p.box.Ending():
		return false, ErrNotRunning{ID: p.c.ID}
	case errors.As(err, &refused):
		return false, &ExitError{refused.Code, refused}
	}
	return false, &ExitError{126, err}
}

// execError gives a process that did not start Docker's exit code.
func execError(err error) error {
	f := monitor.ExecFailure(err)
	if errors.Is(err, oci.ErrPaused) {
		return &ExitError{f.Code, f}
	}
	_, told := monitor.LaunchError(err)
	return &ExitError{f.Code, told}
}

// execCauses say what an error's step is there for: nobody has written a config.json of the process.
func execCauses(x ExecConfig) map[string]string {
	causes := map[string]string{"process": "as the container's own", "process.args": "command"}
	if x.Workdir != "" {
		causes["process.cwd"] = "-w"
	}
	if x.User != "" {
		causes["process.user"] = "-u"
	}
	return causes
}

// execProcess is the process of runtime-spec.
func (e *Engine) execProcess(c Container, box *oci.Container, x ExecConfig) (*specs.Process, error) {
	p, err := box.Process(oci.ProcessChanges{Args: x.Command, Terminal: x.TTY})
	if err != nil {
		return nil, err
	}
	if x.Workdir != "" {
		if !path.IsAbs(x.Workdir) {
			const unstarted = 128 // Docker's code for what a process was not started for, but for its program
			return nil, &ExitError{unstarted, fmt.Errorf("-w: the working directory must be an absolute path: %q", x.Workdir)}
		}
		p.Cwd = path.Clean(x.Workdir)
	}
	root := "/proc/" + strconv.Itoa(c.CommandPID()) + "/root"
	home := ""
	if x.User != "" {
		if p.User, home, err = resolveUser(inRoot(root), x.User); err != nil {
			return nil, err
		}
		// A group of --group-add is the container's, of a device say, and no user's: Docker's execs have it, too.
		if err := addGroups(inRoot(root), &p.User, c.Config.GroupAdd); err != nil {
			return nil, err
		}
	}
	for _, v := range x.Env {
		if err := checkEnv(v); err != nil {
			return nil, err
		}
	}
	p.Env = execEnv(p.Env, c.Config.Env, x, home)
	p.Capabilities = execCaps(p.Capabilities, x.Privileged, e.allCaps(), p.User.UID)
	return p, nil
}

// execEnv are a command's variables, in Docker's order: those of the container's own process, then -e, and HOME last, which is that of the user if neither the image nor a
// flag has set it; so is TERM, of a terminal, before what they have set. An empty home is for no other user than the container's.
func execEnv(env, config []string, x ExecConfig, home string) []string {
	own := func(name string) bool { // what the engine gave
		return !slices.ContainsFunc(config, func(e string) bool { return e == name || strings.HasPrefix(e, name+"=") })
	}
	isHome := func(v string) bool { return strings.HasPrefix(v, "HOME=") }
	var last []string
	if i := slices.IndexFunc(env, isHome); i >= 0 && own("HOME") {
		last = []string{env[i]}
		env = slices.Delete(slices.Clone(env), i, i+1)
	}
	if home != "" && own("HOME") {
		last = []string{"HOME=" + home}
	}
	if own("TERM") {
		env = setEnv(env, "TERM")
		at := 0
		for at < len(env) && (strings.HasPrefix(env[at], "PATH=") || strings.HasPrefix(env[at], "HOSTNAME=")) {
			at++
		}
		if x.TTY {
			env = slices.Insert(env, at, "TERM=xterm")
		}
	}
	if env = setEnv(env, x.Env...); slices.ContainsFunc(env, isHome) {
		return env
	}
	return append(env, last...)
}

// checkEnv refuses what execve(2) cannot pass as a variable.
func checkEnv(v string) error {
	if name, _, _ := strings.Cut(v, "="); name == "" {
		return fmt.Errorf("-e %q: a variable needs a name", v)
	}
	if strings.ContainsRune(v, 0) {
		return fmt.Errorf("-e %q: a variable has no NUL character", v)
	}
	return nil
}

// setEnv sets each NAME=VALUE of a list, where the name is already in its place, as Docker does, and takes each NAME away; the last one of a name counts. An image may
// have a hundred thousand.
func setEnv(env []string, list ...string) []string {
	last := make(map[string]string, len(list))
	for _, v := range list {
		name, _, _ := strings.Cut(v, "=")
		last[name] = v
	}
	placed := make(map[string]bool, len(list))
	var out []string
	for i, v := range slices.Concat(env, list) {
		name, _, set := strings.Cut(v, "=")
		if to, again := last[name]; again && (set || i >= len(env)) {
			if !strings.Contains(to, "=") || placed[name] {
				continue
			}
			placed[name], v = true, to
		}
		out = append(out, v)
	}
	return out
}

func (e *Engine) allCaps() []string {
	return capNames(1<<(e.host.LastCap+1) - 1)
}

// execCaps are the capabilities of a user: root has those that the container may have, another one none, unless a file grants them.
func execCaps(own *specs.LinuxCapabilities, privileged bool, all []string, uid uint32) *specs.LinuxCapabilities {
	var bounding []string
	switch {
	case privileged:
		bounding = all
	case own != nil:
		bounding = own.Bounding
	}
	caps := &specs.LinuxCapabilities{Bounding: bounding}
	if uid == 0 {
		caps.Permitted, caps.Effective = bounding, bounding
	}
	if own != nil && !privileged {
		caps.Inheritable, caps.Ambient = own.Inheritable, own.Ambient
	}
	return caps
}

// execStreams are the streams of one more process: pipes, or a terminal, never the caller's own descriptors.
type execStreams struct {
	caller  Streams
	tty     bool
	keys    []byte
	child   [3]*os.File // the process's ends, nil for those of a terminal
	in      *os.File    // our ends
	out     [2]*os.File
	sinks   sinks
	failed  [2]error
	copied  sync.WaitGroup
	cooked  func() // gives the caller's terminal its mode back
	leaving chan struct{}
}

func openExec(x ExecConfig, s Streams, box *oci.Container, p *specs.Process) (_ *execStreams, err error) {
	t := &execStreams{caller: s, tty: x.TTY, leaving: make(chan struct{})}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if !x.Interactive {
		t.caller.In = nil
	}
	if t.sinks, err = openSinks(s); err != nil {
		return nil, err
	}
	if t.tty {
		return t, nil
	}
	uid, gid, err := hostIDs(box, p.User)
	if err != nil {
		return nil, err
	}
	if t.caller.In == nil {
		t.child[0], err = os.OpenFile("/dev/null", os.O_RDONLY, 0)
	} else if t.child[0], t.in, err = os.Pipe(); err == nil {
		err = giveStream(t.child[0], uid, gid)
	}
	for i := 0; i < 2 && err == nil; i++ {
		if t.sinks[i] == nil {
			t.child[i+1], err = os.OpenFile("/dev/null", os.O_WRONLY, 0)
		} else if t.out[i], t.child[i+1], err = os.Pipe(); err == nil {
			err = giveStream(t.child[i+1], uid, gid)
		}
	}
	return t, err
}

// giveStream lets the container's user open a pipe anew, by /dev/stdout. An ordinary user may not give it to another id; but only who
// has the pipe already finds it.
func giveStream(f *os.File, uid, gid int) error {
	err := f.Chown(uid, gid)
	if errors.Is(err, os.ErrPermission) {
		err = f.Chmod(0o666)
	}
	return err
}

// hostIDs are the ids of a container's user on the host.
func hostIDs(box *oci.Container, u specs.User) (uid, gid int, err error) {
	spec, err := box.Spec()
	if err != nil {
		return 0, 0, err
	}
	uid, gid = int(u.UID), int(u.GID)
	if spec.Linux != nil {
		uid, gid = mappedID(spec.Linux.UIDMappings, u.UID), mappedID(spec.Linux.GIDMappings, u.GID)
	}
	return uid, gid, nil
}

// mapsID reports whether a mapping has an id of the container.
func mapsID(m specs.LinuxIDMapping, id uint32) bool {
	return id >= m.ContainerID && id-m.ContainerID < m.Size
}

func mappedID(maps []specs.LinuxIDMapping, id uint32) int {
	for _, m := range maps {
		if mapsID(m, id) {
			return int(m.HostID + id - m.ContainerID)
		}
	}
	return int(id)
}

// attend carries the process to its end, or until the caller detaches.
func (t *execStreams) attend(proc *launch.Process) (syscall.WaitStatus, error) {
	for _, f := range t.child {
		if f != nil {
			f.Close()
		}
	}
	stop := func() {}
	switch {
	case t.tty && proc.Master != nil:
		stop = t.terminal(proc)
	default:
		if t.in != nil {
			go func() {
				io.Copy(t.in, t.caller.In)
				t.in.Close()
			}()
		}
		for i := range t.out {
			if t.out[i] != nil {
				t.copied.Go(func() { t.copyOut(i, t.out[i], proc) })
			}
		}
	}
	defer stop()
	type end struct {
		status syscall.WaitStatus
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := proc.Wait()
		t.copied.Wait()
		ended <- end{status, err}
	}()
	select {
	case <-t.leaving:
		return 0, ErrDetached
	case x := <-ended:
		return x.status, errors.Join(x.err, t.failed[0], t.failed[1])
	}
}

// copyOut copies what the process writes. A pipe that nobody reads any more would end the program if it wrote there itself.
func (t *execStreams) copyOut(i int, from *os.File, proc *launch.Process) {
	_, err := io.Copy(t.sinks[i], from)
	if errors.Is(err, syscall.EIO) && t.tty {
		err = nil // the container's side is closed
	}
	if errors.Is(err, syscall.EPIPE) {
		proc.Signal(syscall.SIGKILL)
	}
	if err != nil {
		t.failed[i] = fmt.Errorf("%s: %w", streamNames[i], err)
	}
}

// terminal connects the caller's with that of the process.
func (t *execStreams) terminal(proc *launch.Process) (stop func()) {
	master := proc.Master
	t.in = master
	size := make(chan os.Signal, 1)
	if caller := t.caller.Terminal; caller != nil {
		resize := func() {
			if size, err := unix.IoctlGetWinsize(int(caller.Fd()), unix.TIOCGWINSZ); err == nil {
				unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size)
			}
		}
		signal.Notify(size, unix.SIGWINCH)
		resize()
		go func() {
			for range size {
				resize()
			}
		}()
		if t.caller.In != nil {
			t.cooked = makeRaw(caller, true)
		}
	}
	if t.caller.In != nil {
		go func() {
			_, err := io.Copy(master, newDetacher(t.caller.In, t.keys))
			if errors.Is(err, ErrDetached) {
				close(t.leaving)
			}
		}()
	}
	if t.sinks[0] != nil {
		t.copied.Go(func() { t.copyOut(0, master, proc) })
	}
	return func() { signal.Stop(size); close(size) }
}

// close gives everything back, the caller's terminal mode first.
func (t *execStreams) close() {
	if t.cooked != nil {
		t.cooked()
	}
	t.sinks.close(t.caller)
	for _, f := range []*os.File{t.child[0], t.child[1], t.child[2], t.in, t.out[0], t.out[1]} {
		if f != nil {
			f.Close()
		}
	}
}

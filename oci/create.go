package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/kakuri/kakuri/cgroup/limits"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ProcessOptions are how a process is connected to its caller.
type ProcessOptions struct {
	PIDFile       string // gets the pid as the caller sees it
	ConsoleSocket string // gets the terminal's master side: SCM_RIGHTS
	PIDFDSocket   string // gets a pidfd in the same way
	KeepFDs       uint   // descriptors after 2 that are passed on
	Keyring       bool   // false leaves the caller's session keyring in place
}

// Create makes the container of a bundle up to the execve of its process, which then waits for
// [Container.Start]. On an error nothing is left of it.
func (r *Runtime) Create(ctx context.Context, id string, b *Bundle, o ProcessOptions) (c *Container, err error) {
	c, proc, err := r.make(ctx, id, b, o, waiting, nil)
	if err != nil {
		return nil, err
	}
	closeMaster(proc)
	return c, nil
}

// A Launch is what an engine adds to a bundle, and how it is connected to the process.
type Launch struct {
	// Plan is what of the container config.json has no words for: root, init, causes. Bundle, ID, Cgroup and
	// how the process waits are filled in.
	Plan    plan.Options
	Stdio   [3]*os.File // the container's streams, nil for those of a terminal
	Timings bool        // measure each step
	Before  func(n int) // see [launch.Options]
	// Hold leaves the process waiting before its execve, as create does, for somebody who wants nothing but its namespaces.
	Hold bool
	// TimeOnExec is the fact of the host that takes a trial: see plan.Facts.
	TimeOnExec bool
	// Keep does the steps that somebody has to answer for as long as the container runs: plan.MakeRules, plan.HoldPorts, plan.PublishPorts and plan.UplinkPorts, which
	// plan.UnpublishPorts takes back, and plan.ServeNames.
	Keep func(op plan.Op, pid int) error
	// Serve, when set, gets to start the program of a plan.ServeRoot, gives the file that takes what it says, and waits for its end.
	Serve func(program string, start func(log *os.File) (*launch.Process, error)) error
	// Started, when set, is called with the first process when all is built and recorded, before its execve. An error ends it.
	Started func(w Witness) error
}

// Launch makes a container that is this process's child, and starts it: it waits for nobody, lives on when this process ends,
// and its terminal is in the Process. Who calls waits for its end, and deletes it. On an error nothing of it is left.
func (r *Runtime) Launch(ctx context.Context, id string, b *Bundle, l Launch) (*Container, *launch.Process, error) {
	c, p, err := r.make(ctx, id, b, ProcessOptions{Keyring: true}, 0, &l)
	return c, p, limits.Because(err, l.Plan.Causes)
}

// abort ends a process that was made and cannot be handed over.
func abort(p *launch.Process) {
	p.Signal(unix.SIGKILL) // it may have ended by itself
	p.Wait()
	closeMaster(p)
}

// closeMaster closes the terminal's master side, which somebody else has by now.
func closeMaster(p *launch.Process) {
	if p.Master != nil {
		p.Master.Close()
	}
}

// compile works out the container's cgroup, nil for none, and its plan.
func (r *Runtime) compile(id string, spec *specs.Spec, facts plan.Facts, o plan.Options) (plan.Plan, *group, error) {
	g, err := r.newGroup(id, spec, facts)
	if err != nil {
		return plan.Plan{}, nil, err
	}
	o.Cgroup, o.ID, o.AllCPUs = g.plan(spec), id, true
	o.Links = linkSources(spec, o.Bundle)
	p, err := plan.Compile(spec, facts, o)
	if err != nil {
		if g != nil {
			g.Close()
		}
		return p, nil, err
	}
	if g != nil {
		p.Warnings = append(p.Warnings, g.limits.Warnings...)
	}
	return p, g, nil
}

// linkSources reads the symbolic links that mounts with the option copy-symlink are to copy. Podman asks for it where
// its users say no-dereference.
func linkSources(spec *specs.Spec, bundle string) map[int]string {
	var links map[int]string
	for i, m := range spec.Mounts {
		if !slices.Contains(m.Options, "copy-symlink") {
			continue
		}
		source := m.Source
		if !filepath.IsAbs(source) {
			source = filepath.Join(bundle, source)
		}
		if target, err := os.Readlink(source); err == nil {
			if links == nil {
				links = map[int]string{}
			}
			links[i] = target
		}
	}
	return links
}

// Plan compiles the plan of a container without making it; wait as for create, else as for a run in the foreground.
func (r *Runtime) Plan(id string, b *Bundle, wait bool) (plan.Plan, plan.Facts, error) {
	facts, err := host.Read(b.Needs())
	if err != nil {
		return plan.Plan{}, facts, err
	}
	o := plan.Options{Bundle: b.Dir, Foreground: !wait}
	if wait {
		o.Wait = filepath.Join(r.Root, id)
	}
	p, g, err := r.compile(id, b.withHome(), facts, o)
	if g != nil {
		g.Close()
	}
	return p, facts, err
}

// PlanLaunch compiles the plan of a [Runtime.Launch] without making anything.
func (r *Runtime) PlanLaunch(id string, b *Bundle, l Launch) (plan.Plan, error) {
	facts, err := host.Read(b.Needs())
	if err != nil {
		return plan.Plan{}, err
	}
	facts.TimeOnExec = l.TimeOnExec
	o := l.Plan
	o.Bundle, o.Attended = b.Dir, true
	p, g, err := r.compile(id, b.withHome(), facts, o)
	if g != nil {
		g.Close()
	}
	return p, limits.Because(err, l.Plan.Causes)
}

// PlanLaunched compiles anew the plan of a [Runtime.Launch] that made the container, as [Container.Plan] does.
func (c *Container) PlanLaunched(l Launch) (plan.Plan, error) {
	o := l.Plan
	o.Attended = true
	return c.plan(o, l.TimeOnExec)
}

// Plan compiles anew the plan that the container was made by, for the cgroup that it is in and with the limits that it has by
// now: package verify reads back what it asks for. The host has to be as it was, and the caller who made the container.
func (c *Container) Plan() (plan.Plan, error) {
	return c.plan(plan.Options{Wait: c.dir}, false)
}

func (c *Container) plan(o plan.Options, timeOnExec bool) (plan.Plan, error) {
	spec, err := c.Spec()
	if err != nil {
		return plan.Plan{}, err
	}
	b := &Bundle{Dir: c.state.Bundle, Spec: spec}
	facts, err := host.Read(b.Needs())
	if err != nil {
		return plan.Plan{}, err
	}
	facts.TimeOnExec = facts.TimeOnExec || timeOnExec
	o.Bundle, o.ID, o.AllCPUs = b.Dir, c.ID, true
	if o.Cgroup, err = c.recorded(spec); err != nil {
		return plan.Plan{}, err
	}
	return plan.Compile(b.withHome(), facts, o)
}

func (r *Runtime) warn(s string) {
	if r.Warn != nil {
		r.Warn(s)
	}
}

// notice tells of what a cgroup had to be made without.
func (r *Runtime) notice(g *group) {
	tell := r.Notice
	if tell == nil {
		tell = r.warn
	}
	for _, n := range g.Notices() {
		tell(n)
	}
}

// debug tells what goes on, in the words that people look for in the log of runc.
func (r *Runtime) debug(format string, args ...any) {
	if r.Debug != nil {
		r.Debug(format, args...)
	}
}

// debugPlan tells what is about to be done.
func (r *Runtime) debugPlan(p plan.Plan) {
	r.debug("nsexec container setup: %d steps", len(p.Steps))
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case *plan.Affinity:
			if s.Side == plan.Runtime { // the new process begins with it
				r.debug("nsexec: affinity: %#x", firstCPUs(op.CPUs))
			}
		case *plan.Seccomp:
			r.debug("seccomp filter flags: %d", op.Flags)
		}
	}
}

// firstCPUs has a bit for each of the first 64 processors that is in list.
func firstCPUs(list []plan.Range) (mask uint64) {
	for _, r := range list {
		for n := r.First; n <= min(r.Last, 63); n++ {
			mask |= 1 << n
		}
	}
	return mask
}

// rootfs is the absolute path of a bundle's root file system.
func rootfs(b *Bundle) string {
	switch {
	case b.Spec.Root == nil:
		return ""
	case filepath.IsAbs(b.Spec.Root.Path):
		return filepath.Clean(b.Spec.Root.Path)
	}
	return filepath.Join(b.Dir, b.Spec.Root.Path)
}

func namespaces(s *specs.Spec) []specs.LinuxNamespace {
	if s.Linux == nil {
		return nil
	}
	return s.Linux.Namespaces
}

// makesOwn reports whether a container has a new namespace of this kind.
func makesOwn(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(namespaces(s), func(n specs.LinuxNamespace) bool { return n.Type == kind && n.Path == "" })
}

// joins reports whether a container joins a namespace of this kind.
func joins(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(namespaces(s), func(n specs.LinuxNamespace) bool { return n.Type == kind && n.Path != "" })
}

// checkConsole refuses a terminal that nobody would have, and a socket for none.
func checkConsole(p *specs.Process, o ProcessOptions, detached bool) error {
	terminal := p != nil && p.Terminal
	switch {
	case terminal && detached && o.ConsoleSocket == "":
		return errors.New("cannot allocate tty if runc will detach without setting console socket: pass --console-socket, or set process.terminal to false")
	case !(terminal && detached) && o.ConsoleSocket != "":
		return errors.New("cannot use console socket if runc will not detach or allocate tty: drop --console-socket, or set process.terminal")
	case terminal && !detached:
		return haveTerminal()
	}
	return nil
}

// haveTerminal reports as an error that none of this process's streams is a terminal, and that it has no other one: what is
// typed could not reach the container, and nobody could end it by that.
func haveTerminal() error {
	for fd := range 3 {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			return nil
		}
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open /dev/tty: %w: process.terminal needs a terminal: run it in one, detach it with a console socket, or set process.terminal to false", err)
	}
	return unix.Close(fd)
}

// inherited is what a process is to have of this one's beside its streams.
type inherited struct {
	keep   uint       // how many descriptors after 2
	absent []plan.FDs // of those, which there are not
	env    []string   // says which of them are sockets to listen at
}

// inherit is what is inherited of the sockets that this process was started with and more descriptors after them.
func inherit(more uint) (from inherited, err error) {
	sockets, env := listening()
	from.env = env
	from.keep, from.absent, err = kept(sockets + more)
	return from, err
}

// listening is how many sockets this process was started with by LISTEN_FDS, and their part of the
// environment inside: sd_listen_fds(3). The container's process finds itself as pid 1.
func listening() (n uint, env []string) {
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return 0, nil
	}
	count, err := strconv.ParseUint(os.Getenv("LISTEN_FDS"), 10, 16)
	if err != nil || count == 0 {
		return 0, nil
	}
	env = []string{"LISTEN_FDS=" + strconv.FormatUint(count, 10), "LISTEN_PID=1"}
	if names, ok := os.LookupEnv("LISTEN_FDNAMES"); ok {
		env = append(env, "LISTEN_FDNAMES="+names)
	}
	return uint(count), env
}

// kept narrows the n descriptors after 2 that are to be passed on to what the caller has: up to its highest, without the absent ranges.
// Podman's --preserve-fd 5 says "three" to its runtime, with nothing at 3 and 4; runc takes what it has there itself for the
// caller's, and passes that on.
func kept(n uint) (keep uint, absent []plan.FDs, err error) {
	if n == 0 {
		return 0, nil, nil
	}
	have, err := files.Inherited() // what is not of these is of this program, which opened it where none was
	if err != nil {
		return 0, nil, err
	}
	next := uint(3)
	for _, have := range have {
		fd := uint(have)
		if fd-3 >= n {
			break
		}
		if fd > next {
			absent = append(absent, plan.FDs{First: next, Last: fd - 1})
		}
		next = fd + 1
	}
	return next - 3, absent, nil
}

// connect hands out what the caller asked for of a process.
func connect(p *launch.Process, o ProcessOptions) error {
	if o.ConsoleSocket != "" {
		if err := sendFD(o.ConsoleSocket, []byte(p.Master.Name()), int(p.Master.Fd()), answerTime); err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
	}
	if o.PIDFDSocket != "" {
		fd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		defer unix.Close(fd)
		if err := sendFD(o.PIDFDSocket, []byte("pidfd"), fd, answerTime); err != nil {
			return fmt.Errorf("pidfd socket: %w", err)
		}
	}
	if o.PIDFile != "" {
		return writePIDFile(o.PIDFile, p.PID)
	}
	return nil
}

// writePIDFile makes the file in one step: who waits for it finds the whole number. A device, such as /dev/null, is written to: a file in its place would be
// everybody's on the machine.
func writePIDFile(name string, pid int) error {
	if st, err := os.Lstat(name); err == nil && st.Mode()&os.ModeDevice != 0 {
		if err := os.WriteFile(name, []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("pid file: %w", err)
		}
		return nil
	}
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL | unix.O_CLOEXEC
	f, err := os.OpenFile(temp, flags, 0o666)
	if errors.Is(err, os.ErrExist) { // of a command that was killed
		os.Remove(temp)
		f, err = os.OpenFile(temp, flags, 0o666)
	}
	if err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("pid file: %w", err)
	}
	return nil
}

// RunOptions are those of a run in the foreground or detached.
type RunOptions struct {
	ProcessOptions
	Detach bool // return when the process runs
	Keep   bool // leave the state behind when it has ended
}

// Run creates a container, starts it, and unless it is detached waits for its end, with this process's streams and
// signals, takes it away and returns its exit code: its own, or 128 plus a signal.
func (r *Runtime) Run(ctx context.Context, id string, b *Bundle, o RunOptions) (int, error) {
	if o.Detach {
		c, proc, err := r.make(ctx, id, b, o.ProcessOptions, waiting, nil)
		if err != nil {
			return 0, err
		}
		closeMaster(proc)
		if err := c.Start(ctx); err != nil {
			return 0, errors.Join(err, c.deleteEnded(ctx))
		}
		return 0, nil
	}
	// The container ends with the thread that cloned it: this one stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	how := foreground
	if len(plan.Hooks(b.Spec, "startContainer"))+len(plan.Hooks(b.Spec, "poststart")) > 0 {
		how |= waiting
	}
	c, proc, err := r.make(ctx, id, b, o.ProcessOptions, how, nil)
	if err != nil {
		return 0, err
	}
	if how&waiting != 0 {
		if err := c.start(ctx); err != nil {
			abort(proc)
			c.heard.close()
			return 0, errors.Join(err, c.Delete(context.WithoutCancel(ctx), true))
		}
	}
	told := make(chan error, 1)
	go func() {
		told <- c.heard.forward(proc.PID, os.Getpid()) // who started this program knows this one
		c.heard.close()
	}()
	code, err := attend(proc)
	if err := <-told; err != nil {
		r.warn(err.Error())
	}
	if !o.Keep {
		err = errors.Join(err, c.deleteEnded(ctx))
	}
	return code, err
}

// attend passes signals and, with a terminal, streams on until the process ends, and returns its exit code.
func attend(proc *launch.Process) (int, error) {
	t, err := attach(proc.Master)
	if err != nil {
		proc.Signal(unix.SIGKILL)
		_, e := proc.Wait()
		return 0, errors.Join(err, e)
	}
	defer t.close()
	stop := launch.Forward(proc, launch.ForwardOptions{Resize: t.resize()})
	defer stop()
	status, err := proc.Wait()
	t.drain()
	if err != nil {
		return 0, err
	}
	return launch.ExitCode(status), nil
}

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci/criu"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// RestoreOptions are those of [Runtime.Restore].
type RestoreOptions struct {
	ImageOptions
	ProcessOptions
	Detach          bool   // return when the processes run
	LSMProfile      string // TYPE:NAME, in the place of the profile that was dumped
	LSMMountContext string // for mounts that have one
}

// oldestLSM is the version of CRIU that can take another profile.
const oldestLSM = 31600

// A restoring is a container on its way out of an image.
type restoring struct {
	c     *Container
	o     *RestoreOptions
	image image
	group *group
	plan  plan.Plan
	spec  *specs.Spec

	ctx    context.Context
	opts   *criu.Opts
	binds  []boundMount
	extra  []*os.File  // for CRIU, from criu.FirstFD
	master *os.File    // of the container's terminal, where it is this process's to copy
	thread chan func() // for the thread that starts CRIU, and is in its mount namespace; closed when that may end
}

// Restore makes a container of a bundle and an image that [Container.Checkpoint] wrote. Unless it is detached it waits for its
// end, with this process's streams and signals, takes it away and returns its exit code. On an error
// nothing is left of it.
func (r *Runtime) Restore(ctx context.Context, id string, b *Bundle, o RestoreOptions) (int, error) {
	x, err := r.restore(ctx, id, b, &o)
	if x != nil {
		defer close(x.thread)
	}
	if err != nil || o.Detach {
		return 0, err
	}
	proc, err := launch.Adopt(x.c.state.PID)
	if err != nil {
		return 0, err
	}
	proc.Master = x.master
	code, err := attend(proc)
	return code, errors.Join(err, x.c.deleteEnded(ctx))
}

// restore is Restore up to the moment when the processes run.
func (r *Runtime) restore(ctx context.Context, id string, b *Bundle, o *RestoreOptions) (x *restoring, err error) {
	if err := checkConsole(b.Spec.Process, o.ProcessOptions, o.Detach); err != nil {
		return nil, err
	}
	x = &restoring{o: o, ctx: ctx, spec: b.withHome(), thread: make(chan func())}
	x.image.log = "restore.log"
	defer x.close()
	facts, err := x.look(b)
	if err != nil {
		return x, err
	}
	if x.c, err = r.reserve(id); err != nil {
		return x, err
	}
	defer x.c.unlock()
	x.c.config = x.spec
	defer func() {
		if err != nil {
			err = errors.Join(err, x.undo())
		}
	}()
	if x.plan, x.group, err = r.compile(id, x.spec, facts, plan.Options{Bundle: b.Dir, ID: id, Foreground: !o.Detach}); err != nil {
		return x, err
	}
	for _, w := range x.plan.Warnings {
		r.warn(w)
	}
	if err := x.c.note(b, x.group, 0); err != nil {
		return x, err
	}
	for _, do := range []func() error{x.options, x.sameRights, x.begin, x.able, x.enterGroup, x.enterResctrl, x.makeSources, x.run} {
		if err := do(); err != nil {
			return x, err
		}
	}
	return x, nil
}

// look finds out what there is, of the image and of the host, before anything is made.
func (x *restoring) look(b *Bundle) (facts plan.Facts, err error) {
	if mapsUsers(b.Spec) {
		return facts, errors.New("linux.namespaces: a container in a user namespace cannot be restored: no image is of one, and its processes would be in none")
	}
	if err := x.o.openDirs(&x.image, false); err != nil {
		return facts, err
	}
	if err := imageFiles(x.image.dir); err != nil {
		return facts, err
	}
	if x.opts, err = x.o.opts(&x.image, b.Spec.Annotations); err != nil {
		return facts, err
	}
	return host.Read(b.Needs())
}

// able asks CRIU whether it can do what is wanted of it.
func (x *restoring) able() error {
	if err := x.image.ask(x.ctx, x.c.runtime); err != nil {
		return err
	}
	if x.image.version < oldestLSM && (x.o.LSMProfile != "" || x.o.LSMMountContext != "") {
		return errors.New("--lsm-profile and --lsm-mount-context require at least CRIU 3.16")
	}
	if x.o.LazyPages {
		return x.image.want(x.ctx, criu.Features{LazyPages: true})
	}
	return nil
}

// run has CRIU make the processes, and writes down which the first is.
func (x *restoring) run() error {
	if err := x.image.do(x.ctx, x.c.runtime, criu.Request{Type: criu.Restore, Opts: x.opts}, x.notice); err != nil {
		return err
	}
	x.c.state.CRIU = nil
	if err := x.c.save(); err != nil {
		return err
	}
	if x.c.state.Restoring {
		return errors.New("criu says that the container is restored, and has not said which process that is")
	}
	if x.o.PIDFile != "" {
		return writePIDFile(x.o.PIDFile, x.c.state.PID)
	}
	return nil
}

// close closes what is of use until the processes run.
func (x *restoring) close() {
	x.image.close()
	if x.group != nil {
		x.group.Close()
	}
	for _, f := range x.extra {
		f.Close()
	}
}

// undo ends and removes what there is of the container.
func (x *restoring) undo() error {
	if x.image.session != nil {
		x.image.session.Kill()
	}
	if x.master != nil {
		x.master.Close()
		x.master = nil
	}
	ctx := context.WithoutCancel(x.ctx)
	err := x.c.end()
	if x.group == nil || x.group.made || x.c.state.Systemd != nil {
		err = errors.Join(err, x.c.removeGroup(ctx))
	}
	if op := plan.RemoveResctrlOf(x.spec, x.c.ID); op != nil {
		err = errors.Join(err, removeResctrl(op))
	}
	err = errors.Join(err, x.c.remove())
	if x.c.state.PID != 0 {
		x.c.poststop(ctx, x.c.config)
	}
	return err
}

// options fills in what depends on the bundle.
func (x *restoring) options() error {
	o := x.opts
	o.Sibling, o.EvasiveDevices = true, true
	o.LSMProfile, o.LSMMountContext = x.o.LSMProfile, x.o.LSMMountContext
	if makesOwn(x.spec, specs.MountNamespace) {
		o.Root = filepath.Join(x.placesDir(), "root")
	}
	if err := x.namespaces(); err != nil {
		return err
	}
	if err := x.mounts(); err != nil {
		return err
	}
	return x.streams()
}

// namespaces are those that are joined: what the image calls external by descriptor, the others by their path.
func (x *restoring) namespaces() error {
	for _, n := range outsideNamespaces(x.spec) {
		f, err := os.OpenFile(n.path, os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("the %s namespace of config.json has to be there: %w", n.name, err)
		}
		x.give(n.key, f)
	}
	for _, n := range namespaces(x.spec) {
		switch {
		case n.Path == "" || n.Type == specs.NetworkNamespace || n.Type == specs.PIDNamespace:
		case n.Type == specs.CgroupNamespace:
			return errors.New("linux.namespaces: CRIU cannot restore into a cgroup namespace that is there: take its path out")
		default:
			x.opts.Join = append(x.opts.Join, criu.Join{NS: nsName(n.Type), File: n.Path})
		}
	}
	return nil
}

// give passes an open file on to CRIU, which is to have it for what the image calls by a name.
func (x *restoring) give(name string, f *os.File) {
	x.opts.Inherit = append(x.opts.Inherit, criu.Inherit{Key: name, FD: criu.FirstFD + len(x.extra)})
	x.extra = append(x.extra, f)
}

// streams has this process's streams take the place of the pipes that were the container's.
func (x *restoring) streams() error {
	const most = 64 << 10
	data, err := readAt(x.image.dir, descriptorsFile, most)
	if err != nil {
		return fmt.Errorf("--image-path: %w: is it the image of a container?", err)
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("--image-path: %s: %w", filepath.Join(x.image.dir.Name(), descriptorsFile), err)
	}
	// As at a creation: root inside could change the mode of the machine's null device for all.
	var own [3]*os.File
	null, err := guardNull(x.spec, &own)
	if err != nil {
		return err
	}
	stream := func(name string, fd int) {
		if p := x.spec.Process; p != nil && p.Terminal {
			return // this process's streams are none of the container's: what the image has there it has made itself
		}
		if own[fd] != nil {
			x.give(name, own[fd])
			return
		}
		x.opts.Inherit = append(x.opts.Inherit, criu.Inherit{Key: name, FD: fd})
	}
	for fd, s := range list[:min(len(list), firstFile)] {
		if strings.HasPrefix(s, pipePrefix) {
			stream(s, fd)
		}
	}
	for _, s := range list[min(len(list), firstFile):] {
		name, isNull := strings.CutSuffix(s, nullSuffix)
		if !strings.HasPrefix(name, "file[") {
			continue
		}
		if !isNull {
			stream(name, 1) // one that can be written to: the container may have several of one file
			continue
		}
		if null == nil {
			if null, err = ownNull(x.spec.Linux); err != nil {
				return err
			}
		}
		x.give(name, null)
	}
	return nil
}

// begin starts CRIU, for a container with mounts of its own in a mount namespace of its own: what is mounted for it is
// gone with it, however it ends. The thread stays, since a process that was dumped with the wish to die with its parent's
// thread has that one for it now.
func (x *restoring) begin() error {
	go func() {
		runtime.LockOSThread() // for good: it ends with this function
		for do := range x.thread {
			do()
		}
	}()
	if err := x.onThread(x.start); err != nil {
		return err
	}
	// From here on another command can end it.
	pid := x.image.session.PID()
	if err := x.c.noteCRIU(pid); err != nil {
		return err
	}
	return x.adopt(pid, true)
}

// onThread calls f on the thread that starts CRIU.
func (x *restoring) onThread(f func() error) error {
	done := make(chan error)
	x.thread <- func() { done <- f() }
	return <-done
}

// start is begin on that thread.
func (x *restoring) start() (err error) {
	if x.opts.Root != "" {
		for _, do := range []func() error{x.makeRoot, x.reopen} {
			if err := do(); err != nil {
				return err
			}
		}
	}
	// As at a creation: no keys of the caller. CRIU restores none, so that what the container had is gone.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("a session keyring: keyctl: %w", err)
	}
	if err := launch.Do(x.inherited()); err != nil {
		return err
	}
	x.image.session, err = criu.Start(criu.Options{Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, Extra: x.extra})
	return err
}

// inherited are the steps of the container's plan that CRIU does not restore, and which the processes that it makes have from whoever starts it.
func (x *restoring) inherited() plan.Plan {
	var p plan.Plan
	for _, s := range x.plan.Steps {
		switch s.Op.(type) {
		case *plan.Affinity, *plan.IOPriority:
			p.Steps = append(p.Steps, s)
		}
	}
	return p
}

// adopt notes the process by which the container can be ended.
func (x *restoring) adopt(pid int, restoring bool) error {
	p := OpenProcess(pid)
	if p == nil {
		return fmt.Errorf("process %d went away", pid)
	}
	defer p.Close()
	x.c.state.PID, x.c.state.Begun, x.c.state.Restoring = pid, p.Witness().Begun, restoring
	return x.c.save()
}

// makeRoot mounts the container's root where CRIU can pivot into it, in a mount namespace of the calling thread.
func (x *restoring) makeRoot() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w: CRIU needs root", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("slave propagation: %w", err)
	}
	if err := x.makePlacesDir(); err != nil {
		return err
	}
	if err := unix.Mkdir(x.opts.Root, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: x.opts.Root, Err: err}
	}
	// A first time for the places of mounts, which CRIU does not make, then clean.
	if err := x.attachRoot(x.makePlaces); err != nil {
		return err
	}
	if err := unix.Unmount(x.opts.Root, unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "umount", Path: x.opts.Root, Err: err}
	}
	return x.attachRoot(share)
}

// reopen opens the directories of the image once more, in the mount namespace of the calling thread: CRIU mounts in its working
// directory, and the kernel lets nobody mount in another's namespace.
func (x *restoring) reopen() error {
	old := x.image
	if err := x.o.openDirs(&x.image, false); err != nil {
		return err
	}
	old.close()
	x.opts.ImagesDir = int(x.image.dir.Fd())
	if x.image.work != nil {
		x.opts.WorkDir = int(x.image.work.Fd())
	}
	return nil
}

// attachRoot mounts the root, and has f look at it.
func (x *restoring) attachRoot(f func(root int) error) error {
	if err := attachTree(boundMount{source: x.c.state.Rootfs, recursive: true}, unix.AT_FDCWD, x.opts.Root); err != nil {
		return fmt.Errorf("config.json root.path: %w", err)
	}
	root, err := unix.Open(x.opts.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: x.opts.Root, Err: err}
	}
	defer unix.Close(root)
	return f(root)
}

// makePlaces makes what mounts of the container are mounted on, where the root has it not: as at a creation. What lies in
// another file system of the container is in the image.
func (x *restoring) makePlaces(root int) error {
	var fresh []string // places of file systems that come out of the image
	for _, s := range x.plan.Steps {
		source, dest, recursive, own := "", "", false, false
		switch op := s.Op.(type) {
		case *plan.Mount:
			dest, own = op.Dest, true
		case *plan.Bind:
			source, dest, recursive, own = op.Source, op.Dest, op.Recursive, op.Source == ""
			if op.Inside {
				how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
				fd, err := unix.Openat2(root, "."+filepath.Clean("/"+op.Source), &how)
				if err != nil {
					continue // of /proc, or another file system that comes out of the image
				}
				defer unix.Close(fd)
				source = "/proc/self/fd/" + strconv.Itoa(fd)
			}
		}
		if dest = filepath.Clean("/" + dest); dest == "/" || slices.ContainsFunc(fresh, func(f string) bool { return within(dest, f) }) {
			continue
		}
		if err := makePlace(root, dest, boundMount{source: source, recursive: recursive}); err != nil {
			return fmt.Errorf("%s: %w", s.Cause.String(), err)
		}
		if own {
			fresh = append(fresh, dest)
		}
	}
	return nil
}

// within reports whether a path is one of a directory, or that itself.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// makePlace makes a path below root, a directory unless the mount's source is something else, and mounts it there, for
// mounts inside of it.
func makePlace(root int, dest string, b boundMount) error {
	dir := true
	if b.source != "" {
		st, err := os.Stat(b.source)
		if err != nil {
			return err
		}
		dir = st.IsDir()
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	at, err := unix.Openat2(root, ".", &how)
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer func() { unix.Close(at) }()
	parts := strings.Split(strings.TrimPrefix(dest, "/"), "/")
	for i, name := range parts {
		path := strings.Join(parts[:i+1], "/")
		next, err := unix.Openat2(root, path, &how)
		if err == unix.ENOENT {
			if i+1 == len(parts) && !dir {
				err = makeFile(at, name)
			} else {
				err = unix.Mkdirat(at, name, 0o755)
			}
			if err == nil {
				next, err = unix.Openat2(root, path, &how)
			}
		}
		if err != nil {
			return &os.PathError{Op: "make the place of a mount", Path: "/" + path, Err: err}
		}
		unix.Close(at)
		at = next
	}
	if b.source == "" {
		return nil
	}
	return attachTree(b, at, "")
}

func makeFile(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// enterGroup makes the container's cgroup and puts CRIU there, with whatever it restores.
func (x *restoring) enterGroup() error {
	g := x.group
	if g == nil {
		return nil
	}
	apply := func() error {
		notices, err := g.Apply(g.limits)
		for _, n := range notices {
			x.c.runtime.warn(n)
		}
		return err
	}
	if err := g.Create(g.limits); err != nil {
		return err
	}
	g.made = true
	pid := x.image.session.PID()
	if g.bus == nil {
		if err := apply(); err != nil {
			return err
		}
	}
	if err := g.Join(pid, ""); err != nil {
		return err
	}
	if uid := owner(x.spec); uid != nil {
		if err := g.Delegate(int(*uid)); err != nil {
			return err
		}
	}
	if g.bus != nil {
		if err := apply(); err != nil {
			return err
		}
	}
	x.c.state.Cgroups = g.Paths() // without those that could not be made
	x.c.runtime.notice(g)
	var err error
	if x.opts.CgroupRoots, err = cgroupsOf(pid); err != nil {
		return err
	}
	return x.c.save()
}

// enterResctrl has CRIU use the caches that its processes are to use.
func (x *restoring) enterResctrl() error {
	for _, s := range x.plan.Steps {
		if op, ok := s.Op.(*plan.JoinResctrl); ok {
			if err := joinResctrl(op, x.image.session.PID()); err != nil {
				return fmt.Errorf("%s: %w", s.Cause.String(), err)
			}
		}
	}
	return nil
}

// cgroupsOf is where a process counts: proc_pid_cgroup(5).
func cgroupsOf(pid int) (list []criu.CgroupRoot, err error) {
	data, err := files.Read("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, controller := range strings.Split(f[1], ",") {
			list = append(list, criu.CgroupRoot{Controller: controller, Path: f[2]})
		}
	}
	return list, nil
}

// notice does what is to be done at a stage of a restore.
func (x *restoring) notice(n criu.Notice) error {
	if n.PID > 0 && n.PID != x.c.state.PID {
		if err := x.adopt(n.PID, true); err != nil {
			return err
		}
	}
	switch n.Script {
	case "setup-namespaces":
		// That of the machine's is not to be changed for it; the others may be joined later.
		if err := x.sameNamespaces(n.PID, specs.NetworkNamespace); err != nil {
			return err
		}
		if err := x.connect(n.PID); err != nil {
			return err
		}
		for _, point := range []string{"prestart", "createRuntime"} {
			for _, h := range plan.Hooks(x.spec, point) {
				if err := x.c.runHook(x.ctx, h, n.PID); err != nil {
					return err
				}
			}
		}
	case "orphan-pts-master":
		return x.terminal(n.FDs)
	case "post-restore":
		if n.PID <= 0 {
			return errors.New("criu: it restored no process")
		}
		// It does not run yet.
		if err := x.sameNamespaces(n.PID, specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace, specs.UserNamespace); err != nil {
			return err
		}
		x.c.state.NewTime = x.inNewTime(n.PID)
		return x.adopt(n.PID, false)
	}
	return nil
}

// connect makes of a network namespace of the container's own what config.json says: CRIU, which is not to look into it, makes an empty one, in which even what
// listens on the loopback device is out of reach.
func (x *restoring) connect(pid int) (err error) {
	if !makesOwn(x.spec, specs.NetworkNamespace) {
		return nil
	}
	var p plan.Plan
	for _, s := range x.plan.Steps {
		switch op := s.Op.(type) {
		case *plan.LoopbackUp, *plan.OpenProc:
			p.Steps = append(p.Steps, s)
		case *plan.Sysctl:
			if op.OfNetwork() {
				p.Steps = append(p.Steps, s)
			}
		}
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	<-thread.Aside(func() {
		if err = os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)); err == nil {
			err = launch.Do(p)
		}
	})
	return err
}

// inNewTime reports whether CRIU has put a process into a time namespace that its configuration has not: its clocks
// are to go on where they were.
func (x *restoring) inNewTime(pid int) bool {
	for _, n := range namespaces(x.spec) {
		if n.Type == specs.TimeNamespace {
			return false
		}
	}
	theirs, err1 := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/time")
	ours, err2 := os.Readlink("/proc/self/ns/time")
	return err1 == nil && err2 == nil && theirs != ours
}

// terminal takes the master side of the container's terminal.
func (x *restoring) terminal(fds []int) error {
	if len(fds) == 0 {
		return errors.New("criu: the message with the terminal has no descriptor")
	}
	if x.o.ConsoleSocket != "" {
		if err := sendFD(x.o.ConsoleSocket, []byte("orphan-pts-master"), fds[0], answerTime); err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
		return nil
	}
	if x.o.Detach || x.master != nil {
		return nil // nobody is there to have it
	}
	fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	x.master = os.NewFile(uintptr(fd), "orphan-pts-master")
	return nil
}

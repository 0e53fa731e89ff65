package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kakuri/kakuri/cgroup"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/oci/specjson"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Runtime keeps containers in a directory: Root/ID with
//
//	state.json    what a later process needs to know, replaced as a whole
//	config.json   the configuration as it was at the creation
//	start         a FIFO; there while the container waits for its start
//	started       a FIFO that the container keeps open until its execve
//
// Root/ID itself is locked (flock) by who changes something. A process that is killed leaves a state
// that Delete takes away.
type Runtime struct {
	Root string
	// Systemd has systemd make the cgroups of new containers: linux.cgroupsPath is SLICE:PREFIX:NAME then.
	Systemd bool
	// UserSystemd has the systemd of an ordinary user, where there is one, make the cgroup of a container that is to have limits and names no cgroup: the caller's own may be
	// root's, as in a login by ssh, and where it is the user's that systemd is to be its only writer.
	UserSystemd bool
	// NoCgroup leaves containers in the caller's cgroup, without limits.
	NoCgroup bool
	Warn     func(string) // told of what a plan leaves out; nil is none
	// Notice is told of what the caller may not do, and did not ask for; nil is Warn.
	Notice func(string)
	// Debug is told what goes on, as fmt.Printf would be; nil is none.
	Debug func(format string, args ...any)

	hierarchies sync.Once
	host        *cgroup.Host
	hostErr     error
}

// cgroups finds the hierarchies of this host, once.
func (r *Runtime) cgroups() (*cgroup.Host, error) {
	r.hierarchies.Do(func() { r.host, r.hostErr = cgroup.Detect() })
	return r.host, r.hostErr
}

// Prepare does what can be done before it is known which container is asked for.
func (r *Runtime) Prepare() {
	Dedicate()
	r.cgroups() // whose error comes again
}

// DefaultRoot is where state is kept unless a caller says otherwise: below /run for root, else in the caller's own runtime directory.
// Who is root in a user namespace, as rootless podman is, and not by that name, has that of the user outside, too: runc's rule.
func DefaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && (os.Geteuid() != 0 || os.Getenv("USER") != "root" && host.InUserNamespace()) {
		return dir + "/kakuri-runtime"
	}
	return rootOfRoot
}

const rootOfRoot = "/run/kakuri-runtime"

// guard refuses the directory that nobody has named where somebody else has made it, in an XDG_RUNTIME_DIR that is a directory of all, or may write to it: configurations
// of containers are read from there, with what they have run outside. What --root names is the caller's choice.
func (r *Runtime) guard() error {
	if r.Root == rootOfRoot || r.Root != DefaultRoot() {
		return nil
	}
	// Where there is none, who is to make something in it says why that cannot be.
	if _, err := os.Lstat(r.Root); err == nil && !files.OwnDir(r.Root, 0o022) {
		return fmt.Errorf("%s is not a directory of this user alone: set XDG_RUNTIME_DIR, or --root", r.Root)
	}
	return nil
}

// Errors that callers of a runtime tell apart. Their texts are those of runc, which other programs look for.
var (
	ErrExists     = errors.New("container with given ID already exists")
	ErrNotExist   = errors.New("container does not exist")
	ErrNotRunning = errors.New("container not running")
	ErrNotPaused  = errors.New("container not paused")
	ErrPaused     = errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	ErrInvalidID  = errors.New("invalid container ID format")
)

// An ExecError is a program of the container that is not there, or cannot be executed, when all else is done. Its text is that of runc: of a name that is in no directory
// of PATH from the beginning by which Cloud Foundry's Garden knows it, whose callers try another shell then; of a path what execve says, of a missing interpreter, too.
type ExecError struct {
	Program string
	Found   bool // it was there when the container was created: what is missing is its interpreter, or it has gone since
	Tried   bool // execve said so, whose answer is the same where the program is there and its interpreter is not
	Err     error
}

// Error is one line.
func (e *ExecError) Error() string {
	missing := errors.Is(e.Err, os.ErrNotExist)
	if missing && e.Found {
		return "exec " + e.Program + ": " + e.Err.Error() + ": it was there when the container was created; so it has gone since, or the interpreter that it names, by its first line or its ELF header, is not there"
	}
	if missing && !strings.Contains(e.Program, "/") {
		s := fmt.Sprintf("unable to start container process: exec: %q: executable file not found in $PATH", e.Program)
		if e.Tried {
			s += ", or it is there, and the interpreter that it names is not"
		}
		return s
	}
	return "exec " + e.Program + ": " + e.Err.Error()
}

// Unwrap gives the error of the kernel.
func (e *ExecError) Unwrap() error { return e.Err }

// execFailed makes an ExecError of the error of a plan's last step, or of the one that looks for its program.
func execFailed(err error) error {
	var e *launch.Error
	if errors.As(err, &e) {
		switch x := e.Step.Op.(type) {
		case *plan.Exec:
			return &ExecError{Program: x.Args[0], Tried: true, Err: e.Err}
		case *plan.FindProgram:
			return &ExecError{Program: x.Program, Err: e.Err}
		}
	}
	return err
}

// The status of a container beyond those of runtime-spec.
const (
	StatusPaused specs.ContainerState = "paused"
)

// A Container is one of a Runtime's.
type Container struct {
	ID      string
	dir     string // Root/ID
	fd      int    // that directory, locked while it is not negative
	runtime *Runtime
	state   record
	config  *specs.Spec // read when it is needed
	heard   *notices    // of a process in the foreground
	over    bool        // see Over
	ooms    *oomKills   // see RememberOOM
}

// record is state.json.
type record struct {
	Version     string            `json:"ociVersion"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	PID         int               `json:"pid,omitempty"`         // 0 until there is a process
	Begun       uint64            `json:"begun,omitempty"`       // when that process began, in clock ticks since the boot: proc_pid_stat(5), field 22
	Owner       uint32            `json:"owner"`                 // effective uid of who created it
	Cgroups     map[string]string `json:"cgroups,omitempty"`     // directories by controller; version 2's by the empty name
	Systemd     *string           `json:"systemd,omitempty"`     // linux.cgroupsPath, where systemd makes the cgroup
	UserSystemd bool              `json:"userSystemd,omitempty"` // that one is a user's own, and not the machine's
	OwnPIDs     bool              `json:"ownPids,omitempty"`     // has a pid namespace of its own: its end is that of all its processes
	Annotated   map[string]string `json:"annotations,omitempty"`
	Stdio       []string          `json:"stdio,omitempty"`      // the pipes among the first three descriptors at its creation: "pipe:[INODE]"
	CRIU        *Witness          `json:"criu,omitempty"`       // the one that dumps or restores it at this moment
	Foreground  bool              `json:"foreground,omitempty"` // it ends with the command that made it
	Restoring   bool              `json:"restoring,omitempty"`  // PID is CRIU's, or of a process that CRIU has not finished
	NewTime     bool              `json:"newTime,omitempty"`    // CRIU made it a time namespace that config.json has not
	Kin         *kin              `json:"kin,omitempty"`        // where neither a pid namespace nor a cgroup ends its processes
	Covers      *covered          `json:"covers,omitempty"`     // where the root is built in place
}

// validID reports whether an id can be the name of a directory: letters, digits and "_+-.".
func validID(id string) bool {
	return id != "" && id != "." && id != ".." && len(id) <= maxID && badSign(id) == ""
}

// maxID is how long an ID may be, in bytes.
const maxID = 1024

// badSign is the first sign of an ID that none has, or nothing.
func badSign(id string) string {
	for _, c := range id {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_+-.", c)) {
			return string(c)
		}
	}
	return ""
}

// refusedID says what is wrong with an ID that is not valid.
func refusedID(id string) error {
	switch bad := badSign(id); {
	case len(id) > maxID:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrInvalidID, maxID)
	case bad != "":
		return fmt.Errorf("%w: %q: invalid character %q: an ID has letters and digits, of the other signs _, +, - and . only", ErrInvalidID, id, bad)
	}
	return fmt.Errorf("%w: %q is none", ErrInvalidID, id)
}

// reserve makes the directory of a new container, and locks it.
func (r *Runtime) reserve(id string) (*Container, error) {
	if !validID(id) {
		return nil, refusedID(id)
	}
	if err := r.guard(); err != nil {
		return nil, err
	}
	c := &Container{ID: id, dir: filepath.Join(r.Root, id), fd: -1, runtime: r}
	err := unix.Mkdir(c.dir, 0o711)
	if err == unix.ENOENT {
		if err := os.MkdirAll(r.Root, 0o711); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		err = unix.Mkdir(c.dir, 0o711)
	}
	if err == unix.EEXIST {
		return nil, ErrExists
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: mkdir %s: %w", c.dir, err)
	}
	if err := c.lock(); err != nil {
		unix.Rmdir(c.dir)
		return nil, err
	}
	return c, nil
}

// Open finds a container.
func (r *Runtime) Open(id string) (*Container, error) {
	if !validID(id) {
		return nil, fmt.Errorf("%w: %q", ErrInvalidID, id)
	}
	if err := r.guard(); err != nil {
		return nil, err
	}
	c := &Container{ID: id, dir: filepath.Join(r.Root, id), fd: -1, runtime: r}
	return c, c.load()
}

// List returns the containers there are, in the order of their names. One that ends meanwhile is left out.
func (r *Runtime) List() ([]*Container, error) {
	if err := r.guard(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Container
	for _, e := range entries {
		if !e.IsDir() || !validID(e.Name()) {
			continue
		}
		c, err := r.Open(e.Name())
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			r.warn(fmt.Sprintf("container %s: %v: delete --force takes it away", e.Name(), err))
			continue
		}
		list = append(list, c)
	}
	return list, nil
}

// lock waits for who changes this container, and reads its state again. Unlock gives it back.
func (c *Container) lock() error {
	fd, err := c.waitLock()
	if errors.Is(err, os.ErrNotExist) {
		return ErrNotExist
	}
	if err != nil {
		return err
	}
	// It may have been removed, and another made of that name, while this waited.
	if !files.Same(fd, c.dir) {
		unix.Close(fd)
		return ErrNotExist
	}
	c.fd = fd
	return nil
}

// hookTime is how long a command of a container's hook waits for who runs the hook. One that the hook leaves in the background gets the lock when it has ended.
const hookTime = time.Second

// waitLock has the container's directory locked. A command of one of the container's hooks would wait for who waits for the hook: it is refused.
func (c *Container) waitLock() (fd int, err error) {
	for end := time.Now().Add(hookTime); ; time.Sleep(10 * time.Millisecond) {
		fd, err := files.LockDir(c.dir, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fd, err
		}
		switch pid := files.Holder(c.dir); {
		case pid <= 0 || !c.hooked() || !process.Descends(pid):
			return files.LockDir(c.dir, unix.LOCK_EX)
		case time.Now().After(end):
			return -1, fmt.Errorf("container %s is being changed by process %d, which waits for the end of this command's caller: a hook can ask for the state, kill and exec, or fail", c.ID, pid)
		}
	}
}

// hooked reports whether the container has hooks.
func (c *Container) hooked() bool {
	spec, err := c.Spec()
	c.config = nil // when the lock is had, the container may be another one of that id
	return err == nil && spec.Hooks != nil
}

func (c *Container) unlock() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// locked runs f with the lock held, on the state as it is then.
func (c *Container) locked(f func() error) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.unlock()
	if err := c.load(); err != nil {
		return err
	}
	return f()
}

// load reads state.json. A container that is not made yet, or never was, has none.
func (c *Container) load() error {
	data, err := files.Read(c.dir + "/state.json")
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(c.dir); err != nil {
			return ErrNotExist
		}
		c.state = record{Version: specs.Version}
		return nil
	}
	if err != nil {
		return err
	}
	c.state = record{}
	if err := leanjson.Unmarshal(data, &c.state); err != nil {
		return fmt.Errorf("%s/state.json: %w", c.dir, err)
	}
	return nil
}

// save replaces state.json.
func (c *Container) save() error {
	data, err := leanjson.Marshal(&c.state)
	if err != nil {
		return err
	}
	return c.write("state.json", append(data, '\n'))
}

// write replaces a file of the state directory as a whole: a reader finds the old or the new one.
func (c *Container) write(name string, data []byte) error {
	if err := files.ReplaceAt(c.fd, name, data, false); err != nil {
		return &os.PathError{Op: "write", Path: c.dir + "/" + name, Err: err}
	}
	return nil
}

// remove takes the state directory away.
func (c *Container) remove() error {
	if err := c.uncover(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// Spec returns the configuration that the container was created with.
func (c *Container) Spec() (*specs.Spec, error) {
	if c.config != nil {
		return c.config, nil
	}
	data, err := files.Read(c.dir + "/config.json")
	if err != nil {
		return nil, err
	}
	if c.config, err = specjson.Decode(data); err == nil {
		ownIDs(c.config) // as when it was loaded
		err = idmapOptions(c.config)
	}
	return c.config, err
}

// Status returns what the container is at this moment: runtime-spec, runtime.md, state.
func (c *Container) Status() specs.ContainerState {
	p := c.process()
	switch {
	case c.state.PID == 0:
		return specs.StateCreating
	case p == nil:
		return specs.StateStopped
	}
	defer p.Close()
	if c.state.Restoring {
		return specs.StateCreating
	}
	if c.frozen() {
		return StatusPaused
	}
	if c.waits() {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// Settle waits for whoever is creating the container: runc knows no status "creating", and who asks until there is an answer takes the first one. Not where
// the creation itself may be who asks, by a hook or an agent of seccomp. ErrNotExist says that the creation has failed meanwhile, or that no more
// than a name is there, as with runc: whoever made that is about to go on, or was killed.
func (c *Container) Settle() error {
	if c.state.PID != 0 {
		return nil
	}
	// One that has no config.json yet has not come to its hooks.
	if spec, err := c.Spec(); err == nil && asksItself(spec) || err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return c.locked(func() error {
		if _, err := c.Spec(); c.state.PID == 0 && errors.Is(err, os.ErrNotExist) {
			return ErrNotExist
		}
		return nil
	})
}

// asksItself reports whether a creation has other programs run meanwhile, which may ask for the container.
func asksItself(spec *specs.Spec) bool {
	if spec.Linux != nil && spec.Linux.Seccomp != nil && spec.Linux.Seccomp.ListenerPath != "" {
		return true
	}
	return slices.ContainsFunc([]string{"prestart", "createRuntime", "createContainer"}, func(point string) bool { return len(plan.Hooks(spec, point)) > 0 })
}

// Paused reports whether a container that is known to run is told to stand still; Status finds out whether it runs, too.
func (c *Container) Paused() bool { return c.state.PID != 0 && !c.state.Restoring && c.frozen() }

// frozen reports whether the container's cgroup is told to stand still.
func (c *Container) frozen() bool {
	h, err := c.runtime.cgroups()
	if err != nil || len(c.state.Cgroups) == 0 {
		return false
	}
	frozen, err := h.Frozen(c.state.Cgroups)
	return err == nil && frozen
}

// waits reports whether the container's process waits for its start: it reads from the FIFO.
func (c *Container) waits() bool {
	fd, err := unix.Open(c.dir+"/start", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// State is the state of runtime-spec.
func (c *Container) State() *specs.State {
	s := &specs.State{Version: c.state.Version, ID: c.ID, Status: c.Status(), Bundle: c.state.Bundle, Annotations: c.state.Annotated}
	if s.Status != specs.StateStopped {
		s.Pid = c.state.PID
	}
	return s
}

// Created, Rootfs, Owner and PID tell of a container what lists show.
func (c *Container) Created() time.Time { return c.state.Created }

// Rootfs is the absolute path of the root file system.
func (c *Container) Rootfs() string { return c.state.Rootfs }

// Owner is the uid of who created it.
func (c *Container) Owner() uint32 { return c.state.Owner }

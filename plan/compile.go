package plan

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Options are what a plan depends on beside its spec and the host.
type Options struct {
	// Bundle is the absolute path that relative root.path and mount sources are below.
	Bundle string
	// Causes gives reasons for fields of the spec: JSON path to flag or default.
	// A path stands for everything below it too.
	Causes map[string]string
	// Root, when set, takes the place of the spec's root.path.
	Root *Root
	// IDMapRoot id-maps the root file system with the container's user namespace, so
	// that ids on disk are the ids inside; mounts have the option idmap for that. It
	// needs privileges.
	IDMapRoot bool
	// RootNodev makes device nodes of the root file system useless.
	RootNodev bool
	// Init leaves an init as pid 1 that reaps and passes signals on.
	Init bool
	// Boottime and Monotonic override the spec's whole seconds, in nanoseconds,
	// when the spec has a new time namespace.
	Boottime, Monotonic int64
	// Cgroup is the container's cgroup, nil for that of the caller.
	Cgroup *Cgroup
	// KeepFDs is how many descriptors above 2 the container gets.
	KeepFDs uint
	// Absent are ranges among them where the caller has none: nothing else may be left there.
	Absent []FDs
	// Streams are those of the standard streams that are to be the process's user's.
	Streams []uint32
	// Nulls are those of the standard streams that are the machine's null device: where the container has one of its own, that takes its place.
	Nulls []uint32
	// DefaultLimits are the rlimits nobody asked for by name: where the host
	// forbids raising one, it is lowered with a warning.
	DefaultLimits bool
	// Foreground ends the container when the process that launched it ends, and has
	// it wait before execve until the runtime says start.
	Foreground bool
	// Attended has it wait before its execve until the runtime says start, and live on when
	// that ends: its parent is one that another may take the place of.
	Attended bool
	// Wait, when set, is an absolute directory with two FIFOs: the process waits before
	// its execve until it reads a byte from "start", and keeps "started" open until then. It
	// goes on without the runtime.
	Wait string
	// Joined is a process to be made in a container that exists: it may open a
	// terminal in the container's own /dev/pts.
	Joined bool
	// Told are the capabilities of the first process of a container that is joined. What it was made without for want of it is no news, and its
	// standard error is that of the other one, where a caller has no log of its own: CRI-O has none.
	Told *specs.LinuxCapabilities
	// Chroot is the directory that a joined process gets for its root, of a container that has
	// no mount namespace of its own: /proc/PID/root.
	Chroot string
	// AllCPUs lets the process run on all processors of its control group, whatever the
	// caller is bound to.
	AllCPUs bool
	// ID is the container's, which names what it is given beside its plan.
	ID string
	// File is the program where process.args[0] is another name.
	File string
	// InheritFlags leaves a bind mount the flags of its source that none of its options names.
	// Without it a bind with options has those only, as runc's and that of mount(8) have.
	InheritFlags bool
	// NoNewKeyring leaves the caller's session keyring in place.
	NoNewKeyring bool
	// Borrowed are bind mounts of the spec whose source is another mount namespace's.
	Borrowed []Borrowed
	// Subpaths are bind mounts of the spec that show a part of their source only.
	Subpaths []Subpath
	// Links are the bind mounts of the spec with the option copy-symlink whose source is a symbolic link:
	// its text, by the number of the mount.
	Links map[int]string
	// Network connects the container's new network namespace; nil leaves it alone. Causes may
	// have reasons for "network", "network.endpoints[N]" and "network.publish".
	Network *Network
}

// A Subpath has the spec's bind mount at Dest show what is at Path in the directory that is its source. No link
// is followed there: other containers may write to that directory.
type Subpath struct{ Dest, Path string }

// A SpecError is a spec that cannot be compiled, by the JSON path of its fault.
type SpecError struct {
	Field  string
	Reason string
}

// Error gives the path first.
func (e *SpecError) Error() string { return "config.json: " + e.Field + ": " + e.Reason }

func specErr(field, format string, args ...any) error {
	return &SpecError{Field: OneLine(field), Reason: OneLine(fmt.Sprintf(format, args...))}
}

// Compile turns an OCI runtime-spec configuration into a plan for a host: no
// system call is made, and the same arguments give an equal plan. The error
// is a [*SpecError], or that of the seccomp room.
func Compile(spec *specs.Spec, host Facts, o Options) (Plan, error) {
	if o.Network != nil && o.Network.World && !host.MapsIDs() {
		host = host.InWorld() // of whoever carries it out
	}
	if g := o.Cgroup; g != nil && g.nowhere() {
		o.Cgroup = nil
	}
	c := &compiler{spec: spec, host: host, o: o, next: regFree, trees: map[int]Reg{}, places: map[int]Reg{}, devAt: -1}
	if spec.Process == nil || len(spec.Process.Args) == 0 {
		return Plan{}, specErr("process.args", "there is no command")
	}
	if spec.Linux == nil {
		c.linux = &specs.Linux{}
	} else {
		c.linux = spec.Linux
	}
	for _, part := range []func() error{
		c.unapplied, c.namespaces, c.mayFork, c.ids, c.sources, c.enter, c.root, c.mounts, c.devices, c.terminal, c.paths,
		c.hooks, c.pivot, c.limits, c.credentials, c.treesFirst,
	} {
		if err := part(); err != nil {
			return Plan{}, err
		}
	}
	if n := len(c.plan.Steps); n > maxSteps {
		return Plan{}, specErr("mounts, hooks", "the plan has %d steps, and %d is the most: there are that many mounts, hooks or other lists", n, maxSteps)
	}
	return c.plan, nil
}

// maxSteps bounds a plan: the container's side names a step in 16 bits.
const maxSteps = 65535

// StartWord is what the last [Sync] before execve says.
const StartWord = "start"

// A compiler builds one plan; each method adds the steps of one part.
type compiler struct {
	spec  *specs.Spec
	linux *specs.Linux
	host  Facts
	o     Options
	plan  Plan
	next  Reg

	fresh      []abi.Namespace // to make in the clone, or where joinsFirst by the process itself
	joins      []join          // to join, user first, pid last
	tasks      []Reg           // by which the process enters its cgroup
	own        [8]bool         // the container has this namespace for itself
	userNS     bool            // a user namespace, new or joined
	late       []abi.Namespace // to make by the process itself: it joins the user namespace that owns them first, or its cgroup
	joined     Reg             // the joined user namespace
	joinsFirst bool            // the process joins namespaces before it makes its user namespace, and the others with that
	left       bool            // the caller's chroot was left
	uids       []IDMapping
	gids       []IDMapping

	borrowed        []Step      // that fetch mounts from other mount namespaces
	trees           map[int]Reg // mounts[i] whose source is a tree that was opened, or made, before
	places          map[int]Reg // mounts[i] whose source was opened before, on either side
	hookPlace       Reg         // what the bundle that hooks find lies over
	turn            Reg         // a source that is opened in its turn, until it is mounted
	recursive       []Step      // binds with all that is mounted below their sources
	treesAt         int         // the number of the step before which their trees are opened
	opens           []Step      // of the runtime's side that open sources of trees
	maps            []mapping   // of those trees
	mapped          []mapped    // user namespaces that were made to map mounts
	views           []Reg       // the same for the root's views
	toSend          []Reg
	dev             Reg // /dev made on the runtime's side, with its nodes
	devAt           int // mounts[devAt] is that /dev, if any
	hasPts          bool
	readonlyDev     Cause            // of a /dev that is read-only in the end
	hasProc, hasSys bool             // their mounts are kept in registers
	ownDev, ownSys  bool             // in them is nothing but what the plan and the kernel make
	stub            *Stub            // where one makes the last execve
	stubFilters     bool             // the stub loads the filter
	noCapset        bool             // the filter does not let every capset through
	profile         *seccomp.Program // the filter, when it was compiled
	loaded          *Seccomp         // the step that loads it
	stubForks       bool             // the stub makes the process that goes on: see mayFork
	tried           Reg              // the working directory, which only the user may have a right to
	connecting      bool             // the runtime's side connects the network namespace, and the container's has not waited for it

	mounted map[string]int // destinations of mounts made so far, and the order of the last one at each, from 1
	order   int
}

// cause finds the reason of a field: its own, or that of a path above it.
func (c *compiler) cause(field string) Cause {
	for p := field; p != ""; p = p[:max(strings.LastIndexAny(p, ".["), 0)] {
		if why, ok := c.o.Causes[p]; ok {
			return Cause{Field: field, Reason: why}
		}
	}
	return Cause{Field: field}
}

// from names a field for a warning: by what put it there, where that is known, as the caller may have written no config.json.
func (c *compiler) from(field string) string { return cmp.Or(c.cause(field).Reason, field) }

func because(format string, args ...any) Cause { return Cause{Reason: fmt.Sprintf(format, args...)} }

func (c *compiler) add(side Side, op Op, cause Cause, check Check) {
	c.plan.Steps = append(c.plan.Steps, Step{Op: op, Side: side, Cause: cause, Check: check})
}

// outside adds a step of the runtime's side.
func (c *compiler) outside(op Op, cause Cause, check Check) { c.add(Runtime, op, cause, check) }

// inside adds a step of the container's side.
func (c *compiler) inside(op Op, cause Cause, check Check) { c.add(Container, op, cause, check) }

func (c *compiler) warn(format string, args ...any) {
	c.plan.Warnings = append(c.plan.Warnings, OneLine(fmt.Sprintf(format, args...)))
}

func (c *compiler) reg() (Reg, error) {
	if c.next >= regTemp {
		return 0, specErr("mounts", "more mounts than there are registers to hold them (%d)", regTemp-regFree)
	}
	c.next++
	return c.next - 1, nil
}

// fits refuses a path of the container that no system call would take (PATH_MAX):
// its directories are made one by one.
func fits(field, p string) error {
	if len(p) > 4095 {
		return specErr(field, "a path has at most 4095 bytes, this one has %d", len(p))
	}
	return nil
}

// source makes a path of the host absolute. What is before ".." in it may be a link, which the kernel follows.
func (c *compiler) source(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return c.o.Bundle + "/" + p
}

package engine

import (
	"io"
	"os"
	"time"
)

// A Run is what a container is asked to be. Fields have Docker's names and
// meanings; the zero value of each is Docker's default, or kakuri's own where
// it isolates more (user namespace, time namespace, no network).
type Run struct {
	Name    string
	Image   string // "host" or "host:all"; empty with Rootfs
	Rootfs  string // a directory that is the root file system
	Command []string

	Entrypoint *string // overrides the image's; an empty one clears it
	Env        []string
	Workdir    string
	User       string // name|uid[:name|gid]
	GroupAdd   []string
	Hostname   string
	Domainname string

	TTY         bool
	Rows        uint16 // of the terminal at first; 0 leaves the kernel's
	Columns     uint16
	Interactive bool // stdin stays open
	Init        bool
	StopSignal  string

	Mounts   []Mount
	ReadOnly bool
	Devices  []Device
	ShmSize  int64 // bytes; 0 is 64 MiB

	CapAdd, CapDrop []string
	Privileged      bool
	SecurityOpt     []string
	Ulimits         []Ulimit
	Sysctls         map[string]string

	// Modes of namespaces: empty is its own. "host" shares the caller's,
	// "container:NAME" that of a running container.
	PID, IPC, UTS, UserNS, Network, CgroupNS string

	// Offsets of the clocks of the container's time namespace.
	Boottime, Monotonic time.Duration
}

// A Mount is one of -v, --mount and --tmpfs.
type Mount struct {
	Type     string // bind, tmpfs
	Source   string // absolute
	Dest     string
	Options  []string // as runtime-spec has them
	MustHave bool     // a missing source is an error; otherwise it is made a directory
	Flag     string   // as the caller wrote it, for explain
}

// A Device is a --device.
type Device struct {
	Host, Inside string
	Access       string // of rwm
	Flag         string
}

// A Ulimit is a --ulimit.
type Ulimit struct {
	Name       string // nofile
	Soft, Hard int64  // -1 is unlimited
}

// Streams are the caller's side of a container's standard streams. Nil ones are
// the null device.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal is the caller's terminal, whose mode and size a container's
	// terminal follows; nil without one.
	Terminal *os.File
	// Signals has the signals that this process gets passed on to the container.
	Signals bool
	// Started, when not nil, is called once the container runs.
	Started func(Container)
}

// An ExitError is a refusal or a fault of the engine, or of the command's start,
// with Docker's exit code for it: 125, 126 or 127.
type ExitError struct {
	Code int
	Err  error
}

// Error is that of the cause.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

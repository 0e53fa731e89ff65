package uplink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// What carries packets out of the namespace: [Config.Mode], [Status.Mode].
const (
	Builtin = "builtin" // the stack of kakuri-uplink
	Pasta   = "pasta"   // pasta(1)
	Auto    = "auto"    // the second where it runs, else the first; in a Config alone
)

// MTU is that of the device that leads out, in bytes; pasta has the same. Bridges behind it should have it, too.
const MTU = 65520

// DefaultMode is that of a Config that has none: docs/decisions.md says why.
const DefaultMode = Builtin

// ModeVariable is the variable of the environment by which a user chooses another one.
const ModeVariable = "KAKURI_UPLINK"

// CheckMode refuses a mode that there is not, and names those there are.
func CheckMode(mode string) error {
	if mode == Builtin || mode == Pasta || mode == Auto {
		return nil
	}
	return fmt.Errorf("%s=%s: there are the modes %s, %s and %s", ModeVariable, mode, Builtin, Pasta, Auto)
}

// Choice is what a Config without a Mode gives in this process's environment, and why.
func Choice() (mode, why string) {
	switch mode := os.Getenv(ModeVariable); mode {
	case "":
		return DefaultMode, "the default"
	case Auto:
		if program := InPath(Pasta); program != "" {
			return Pasta, program + " is installed, and " + ModeVariable + "=" + mode
		}
		return Builtin, "pasta is not installed (package passt), and " + ModeVariable + "=" + mode
	default:
		return mode, ModeVariable + "=" + mode
	}
}

// Program is the name of the program that an uplink is.
const Program = "kakuri-uplink"

// Config says what is to be connected.
type Config struct {
	// Run is a directory of the caller, made where it is not there: for the socket, the lock, and the records of ports.
	Run string
	// UserNS and NetNS are the namespaces, the second owned by the first, the first made by the caller.
	UserNS, NetNS *os.File
	// Program is where kakuri-uplink is. Empty is beside the calling program, or where PATH finds it.
	Program string
	// Mode is [Builtin], [Pasta] or [Auto]. Empty is what [ModeVariable] says, or [DefaultMode].
	Mode string
	// Used is a file that those have a lock of, flock(2), who need the uplink: a few seconds after the last one has gone it ends. Who begins to need
	// it has the file's directory locked meanwhile. Empty: it ends when it is told to.
	Used string
	// PastaProgram is where pasta is; empty is where PATH finds it.
	PastaProgram string
	// Warn is told of a process of the uplink that was stopped by a signal, and goes on now; nil is none.
	Warn func(text string)
}

// Status is how an uplink does its work.
type Status struct {
	PID     int    // of kakuri-uplink
	Mode    string // [Pasta] or [Builtin]
	Why     string // it is that one: "/usr/bin/pasta is installed"
	Program string // that of pasta
	// Device leads out. It has the addresses, and the default routes lead to the gateways by it.
	Device             string
	MTU                int // [MTU]
	Addr4, Addr6       netip.Prefix
	Gateway4, Gateway6 netip.Addr
	Ping               string // empty, or why ping(8) has no answer from outside
	// Refused counts requests for a TCP connection that were left unanswered, since who asked, RefusedLast the last time, had as many as were free.
	Refused     uint64
	RefusedLast netip.Addr
}

// ErrGone says that no uplink runs in the directory.
var ErrGone = errors.New("no uplink runs")

// An Uplink is a connection to the program. It is for one goroutine at a time.
type Uplink struct {
	run    string
	conn   *os.File
	warn   func(text string)
	silent bool // it did not answer once, and what comes is no answer to a later question
}

// Start starts an uplink and waits until packets pass. It goes on after the caller. ctx ends the wait, and with it the
// program, and so does patience. Where one runs in the directory already, that is an error.
func Start(ctx context.Context, c Config) (*Uplink, error) {
	if err := MakeDir(c.Run); err != nil {
		return nil, err
	}
	program, err := find(c.Program)
	if err != nil {
		return nil, err
	}
	if u, err := Open(c.Run, c.Warn); err == nil {
		u.Close()
		return nil, fmt.Errorf("an uplink runs in %s already", c.Run)
	}
	if err := ended(c.Run, c.Warn); err != nil {
		return nil, err
	}
	ready, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		said.Close()
		return nil, err
	}
	defer null.Close()
	mode := cmp.Or(c.Mode, os.Getenv(ModeVariable), DefaultMode)
	if err := CheckMode(mode); err != nil {
		return nil, err
	}
	args := []string{program, "serve", "--run", c.Run, "--mode", mode}
	if c.Used != "" {
		args = append(args, "--used", c.Used)
	}
	if c.PastaProgram != "" {
		args = append(args, "--pasta", c.PastaProgram)
	}
	p, err := os.StartProcess(program, args, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{null, null, null, c.UserNS, c.NetNS, said},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	said.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := c.await(ctx, program, p, ready); err != nil {
		return nil, err
	}
	return Open(c.Run, c.Warn)
}

// await waits until the program p says by a pipe that packets pass, or why they do not. Where it says neither in time, p is ended.
func (c *Config) await(ctx context.Context, program string, p *os.Process, ready io.Reader) error {
	ended := make(chan struct{})
	go func() { p.Wait(); close(ended) }()
	soon, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	stop := context.AfterFunc(soon, func() { p.Kill() })
	defer stop()
	defer process.Again(lookAgain, func() {
		if self := process.Open(p.Pid); self != nil { // it may not have the lock yet, and others be in the record
			wake(self, Program, c.Warn)
			self.Close()
		}
		Wake(c.Run, c.Warn)
	})()
	text, err := io.ReadAll(io.LimitReader(ready, 64<<10))
	if ctx.Err() != nil {
		return fmt.Errorf("start %s: %w", program, ctx.Err())
	}
	if soon.Err() != nil {
		<-ended
		return fmt.Errorf("start %s: process %d was not ready within %v, and was ended: %s may tell more: %w", program, p.Pid, startPatience, filepath.Join(c.Run, "log"), ErrSilent)
	}
	var a Answer
	if err == nil {
		err = leanjson.Unmarshal(text, &a)
	}
	if err != nil {
		return fmt.Errorf("start %s: it ended without a word: see %s", program, filepath.Join(c.Run, "log"))
	}
	if err := a.err(); err != nil {
		<-ended // with the lock
		return err
	}
	return nil
}

// MakeDir makes the directory of an uplink, and refuses one that others may write to.
func MakeDir(run string) error {
	if !filepath.IsAbs(run) {
		return fmt.Errorf("uplink: directory %q: it has to be a path from the root", run)
	}
	if err := os.MkdirAll(filepath.Join(run, portsDir), 0o700); err != nil {
		return err
	}
	if !files.OwnDir(run, 0o022) {
		return fmt.Errorf("uplink: directory %s is another one's, or others may write to it: remove it", run)
	}
	return nil
}

// find gives the path of kakuri-uplink.
func find(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(self), Program); executable(p) {
			return p, nil
		}
	}
	if p := InPath(Program); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("%s is neither beside this program nor in PATH: it is a part of kakuri, and makes networks of ordinary users", Program)
}

// Possible finds out what a Config without a Program and a Mode would lack, and names the way out. Nil is no promise: nothing is started.
func Possible() error {
	mode, _ := Choice()
	if err := CheckMode(mode); err != nil {
		return err
	}
	if _, err := find(""); err != nil {
		return err
	}
	if mode == Pasta && InPath(Pasta) == "" {
		return errors.New("pasta is not installed (package passt), and " + ModeVariable + "=" + mode)
	}
	fd, err := OpenDevice()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// OpenDevice opens the device from which those of tun(4) are made: nothing is made yet.
func OpenDevice() (int, error) {
	const name = "/dev/net/tun"
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	out := ""
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EACCES):
		out = ": distributions let everyone open it: as root, chmod 666 " + name
	case errors.Is(err, unix.EPERM):
		out = ": this container is to be run with --device " + name
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		out = ": as root, modprobe tun makes it; in a container it is there by --device " + name
	}
	return -1, fmt.Errorf("%s: %w%s", name, err, out)
}

// InPath is where PATH finds a program, or empty.
func InPath(name string) string {
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		if p := filepath.Join(dir, name); filepath.IsAbs(p) && executable(p) {
			return p
		}
	}
	return ""
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil
}

// Open connects to the uplink of a directory. The error is [ErrGone] where none runs. Whoever waits for an answer has an uplink go on that was stopped by a
// signal, and tells warn, which may be nil; one that does not answer for all that is [ErrSilent].
func Open(run string, warn func(text string)) (*Uplink, error) {
	dir, err := os.Open(run)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrGone, run)
	}
	if err != nil { // one may run there
		return nil, fmt.Errorf("uplink: %w", err)
	}
	defer dir.Close()
	conn, err := seqpacket.Dial(int(dir.Fd()), ControlName)
	if errors.Is(err, seqpacket.ErrNobody) {
		return nil, fmt.Errorf("%w in %s", ErrGone, run)
	}
	if errors.Is(err, unix.EAGAIN) {
		return nil, silent(run)
	}
	if err != nil {
		return nil, fmt.Errorf("uplink in %s: %w", run, err)
	}
	return &Uplink{run: run, conn: conn, warn: warn}, nil
}

// Close closes the connection. The program goes on.
func (u *Uplink) Close() error { return u.conn.Close() }

// Status asks how it does its work.
func (u *Uplink) Status() (Status, error) {
	a, _, err := u.ask(AskStatus, "")
	if err != nil {
		return Status{}, err
	}
	return a.Status, nil
}

// Namespaces gives descriptors of the namespaces that it keeps.
func (u *Uplink) Namespaces() (user, net *os.File, err error) {
	_, fds, err := u.ask(AskNamespaces, "")
	if err != nil {
		return nil, nil, err
	}
	if len(fds) != 2 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, nil, errors.New("uplink: it sent no namespaces")
	}
	return os.NewFile(uintptr(fds[0]), "user"), os.NewFile(uintptr(fds[1]), "net"), nil
}

// Publish takes ports of the machine for an owner, and passes on what comes to them: all of them, or none. It gives them
// with the port that the kernel chose where HostPort is 0. An owner that has some already gets these in their place.
func (u *Uplink) Publish(owner string, ports []plan.Publish) ([]plan.Publish, error) {
	if len(ports) == 0 {
		return nil, u.Unpublish(owner)
	}
	if err := WritePorts(u.run, owner, ports); err != nil {
		return nil, err
	}
	if _, _, err := u.ask(AskPublish, owner); err != nil {
		// One that does not answer hears, when it does, that they are wanted no more: it gives back what has no record.
		_, gone := removePorts(u.run, owner)
		return nil, errors.Join(err, gone)
	}
	return ReadPorts(u.run, owner)
}

// Unpublish gives an owner's ports back, and ends what passes by them. One that has none is no error.
func (u *Uplink) Unpublish(owner string) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	if had, err := removePorts(u.run, owner); err != nil || !had {
		return err
	}
	_, _, err := u.ask(AskUnpublish, owner)
	return err
}

// Own reports whether an address is one of the machine's.
func (u *Uplink) Own(a netip.Addr) (bool, error) {
	answer, _, err := u.ask(AskOwn, a.String())
	return answer.Own, err
}

// End ends the program, and returns when the directory is free for another one. Namespaces without a process end with it.
func (u *Uplink) End() error {
	if _, _, err := u.ask(AskEnd, ""); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	return ended(u.run, u.warn)
}

// ended waits until an uplink that is about to end, or was killed, is gone.
func ended(run string, warn func(text string)) error {
	// It keeps the lock to its end.
	f, err := os.OpenFile(filepath.Join(run, LockName), os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO has a lock as well
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	defer Mind(run, warn)()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(until) {
			return fmt.Errorf("it does not end: %w", silent(run))
		}
	}
}

// Unpublish is [Uplink.Unpublish] for one who does not know whether an uplink runs in the directory; warn is that of [Open].
func Unpublish(run, owner string, warn func(text string)) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	u, err := Open(run, warn)
	if err != nil {
		// The record is what counts: see [Uplink.Unpublish].
		_, gone := removePorts(run, owner)
		if errors.Is(err, ErrGone) {
			return gone
		}
		return errors.Join(err, gone)
	}
	defer u.Close()
	if err := u.Unpublish(owner); !errors.Is(err, ErrGone) {
		return err
	}
	return nil
}

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/process"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// ErrNone is no world: no process is in one.
var ErrNone = errors.New("this user has no network world: it is made with the first container on a network")

// A Maker is what a world is made with.
type Maker struct {
	UIDs, GIDs []plan.IDMapping // the world's ids; 0 is the user's own
	Facts      plan.Facts
	Hands      launch.Hands // that run newuidmap(1)
	// Members gives the pids of processes whose user namespaces are the world's children, for sure: containers that go on when all else of a
	// world has ended. It is asked when there is no world.
	Members func() []int
	Warn    func(text string) // told of an uplink that was stopped by a signal, and goes on now; nil is none
}

// A World is the two namespaces, open.
type World struct {
	run, dir  string
	warn      func(text string)
	user, net *os.File
	lock      int // of who makes worlds and starts programs in them; -1 for none
	rec       record
	made      bool
}

// record is RUN/world/world.json: how the namespaces are known again. Their numbers are those of nsfs, which the kernel gives to others once the
// namespaces are gone, to those of a stranger's sandbox as well: so they say nothing without a process that was started in them, or the uplink
// that has kept them.
type record struct {
	Boot      string
	User, Net uint64
	In        []process.Witness // what was started in it and stays, the newest first
	Uplink    bool              `json:",omitempty"` // it is to be connected with the machine's network
}

// Take returns the user's world, made where there is none. The caller has its lock until Close.
func Take(ctx context.Context, run string, m Maker) (*World, error) {
	w, err := open(run, m.Warn, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	err = w.find()
	if errors.Is(err, ErrNone) {
		err = w.make(ctx, m)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("networks of an ordinary user: %w", err)
	}
	return w, nil
}

// Find returns the user's world, or [ErrNone]; warn is that of [Maker].
func Find(run string, warn func(text string)) (*World, error) {
	if _, err := os.Stat(run + "/world/world.json"); errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	w, err := open(run, warn, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	if err := w.find(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func open(run string, warn func(text string), how int) (*World, error) {
	w := &World{run: run, dir: run + "/world", warn: warn, lock: -1}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	defer uplink.Mind(uplink.Dir(run), warn)() // which has the lock as well when it ends
	var err error
	w.lock, err = files.LockDir(w.dir, how)
	return w, err
}

// Close lets go of the lock and the namespaces. A world that no process is in is gone with that.
func (w *World) Close() {
	for _, f := range []*os.File{w.user, w.net} {
		if f != nil {
			f.Close()
		}
	}
	if w.lock >= 0 {
		unix.Close(w.lock)
	}
	w.user, w.net, w.lock = nil, nil, -1
}

// Made reports whether this call of [Take] has made it.
func (w *World) Made() bool { return w.made }

// read reads the record of the world that there is.
func (w *World) read() error {
	data, err := files.Read(w.dir + "/world.json")
	if errors.Is(err, os.ErrNotExist) {
		return ErrNone
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &w.rec); err != nil || w.rec.Boot != bootID() {
		w.rec = record{}
		return ErrNone
	}
	return nil
}

// find opens the namespaces by a process that is in both.
func (w *World) find() error {
	if err := w.read(); err != nil {
		return err
	}
	for _, in := range w.rec.In {
		if w.enter(in) {
			return nil
		}
	}
	// Those may have ended; the uplink keeps the namespaces, and is in neither.
	if w.ofUplink() {
		return nil
	}
	return ErrNone
}

// Devices are the names of the network devices in the user's world, by a process that is there: proc(5). It enters nothing and takes no lock. Where nobody is in a world the error is
// [ErrNone].
func Devices(run string) (list []string, err error) {
	w := &World{dir: run + "/world"}
	if err := w.read(); err != nil {
		return nil, err
	}
	for _, in := range w.rec.In {
		dir := "/proc/" + strconv.Itoa(in.PID)
		var st unix.Stat_t
		if !in.Alive() || unix.Stat(dir+"/ns/net", &st) != nil || st.Ino != w.rec.Net {
			continue
		}
		data, err := files.Read(dir + "/net/dev")
		if err != nil || !in.Alive() {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if name, _, ok := strings.Cut(line, ":"); ok {
				list = append(list, strings.TrimSpace(name))
			}
		}
		return list, nil
	}
	return nil, ErrNone
}

// orphaned opens the user namespace of a world whose network namespace has ended, with all monitors and the uplink, while containers go on: it is
// the parent of theirs, and nobody else may connect them.
func (w *World) orphaned(members []int) bool {
	const getParent = 0xb702 // NS_GET_PARENT: ioctl_nsfs(2)
	if w.rec.User == 0 {
		return false
	}
	for _, pid := range members {
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/user")
		if err != nil {
			continue
		}
		fd, err := unix.IoctlRetInt(int(f.Fd()), getParent)
		f.Close()
		if err != nil {
			continue
		}
		// As long as there is a child of it, its number is nobody else's.
		parent := os.NewFile(uintptr(fd), "user")
		if ino, err := inode(parent); err == nil && ino == w.rec.User {
			w.user = parent
			return true
		}
		parent.Close()
	}
	return false
}

// enter opens the namespaces of a process that was started in the world, if it goes on.
func (w *World) enter(in process.Witness) bool {
	if !in.Alive() {
		return false
	}
	dir := "/proc/" + strconv.Itoa(in.PID) + "/ns/"
	user, err := openNS(dir+"user", w.rec.User)
	if err != nil {
		return false
	}
	net, err := openNS(dir+"net", w.rec.Net)
	if err != nil {
		user.Close()
		return false
	}
	if !in.Alive() { // it ended meanwhile, and its pid may be another's
		user.Close()
		net.Close()
		return false
	}
	w.user, w.net = user, net
	return true
}

// ofUplink takes the namespaces that the uplink keeps, if they are the world's.
func (w *World) ofUplink() bool {
	u, err := uplink.Open(uplink.Dir(w.run), w.warn)
	if err != nil {
		return false
	}
	defer u.Close()
	user, net, err := u.Namespaces()
	if err != nil {
		return false
	}
	its, err1 := inode(user)
	netIts, err2 := inode(net)
	if err1 != nil || err2 != nil || its != w.rec.User || netIts != w.rec.Net {
		user.Close()
		net.Close()
		u.End() // of a world that nobody is in any more
		return false
	}
	w.user, w.net = user, net
	return true
}

// Uplink has the world connected with the machine's network, and returns the connection to who does that, for the caller to close. One that was
// killed is started again, for the same namespaces. One that does not answer is an error: who is to be connected would find that out later, and not know why.
func (w *World) Uplink(ctx context.Context) (*uplink.Uplink, error) {
	u, err := uplink.Open(uplink.Dir(w.run), w.warn)
	if err == nil {
		if _, err = u.Status(); err != nil {
			u.Close()
		}
	}
	if errors.Is(err, uplink.ErrGone) {
		if err := touch(w.dir + "/used"); err != nil {
			return nil, err
		}
		u, err = uplink.Start(ctx, uplink.Config{Run: uplink.Dir(w.run), UserNS: w.user, NetNS: w.net, Used: w.dir + "/used", Warn: w.warn})
	}
	if err != nil {
		return nil, fmt.Errorf("networks of an ordinary user: %w", err)
	}
	if w.rec.Uplink {
		return u, nil
	}
	w.rec.Uplink = true
	if err := w.write(); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// touch makes a file where there is none, and of what is none.
func touch(name string) error {
	if st, err := os.Lstat(name); err == nil && !st.Mode().IsRegular() {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_RDONLY|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Heal starts the uplink of a world again that has lost its own, and is used. It is quick where there is nothing to do. warn is that of [Maker].
func Heal(ctx context.Context, run string, warn func(text string)) error {
	if !used(run) {
		return nil
	}
	uplink.Wake(uplink.Dir(run), warn)
	u, err := uplink.Open(uplink.Dir(run), warn)
	if err == nil {
		return u.Close()
	}
	if !errors.Is(err, uplink.ErrGone) {
		return err
	}
	w, err := open(run, warn, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.find(); err != nil || !w.rec.Uplink {
		if errors.Is(err, ErrNone) {
			return nil
		}
		return err
	}
	if u, err = w.Uplink(ctx); err != nil {
		return err
	}
	return u.Close()
}

// used reports whether a program that stays is in the world.
func used(run string) bool {
	f, err := os.OpenFile(run+"/world/used", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(files.Flock(f, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// openNS opens a namespace, which has to be the one of a number: a process may have gone elsewhere, or its pid to another.
func openNS(path string, ino uint64) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if got, err := inode(f); err != nil || ino != 0 && got != ino {
		f.Close()
		return nil, errors.Join(err, ErrNone)
	}
	return f, nil
}

func inode(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Ino, nil
}

func bootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(data)
}

// make makes the namespaces by a process that ends at once: the descriptors keep them until the first program is there.
func (w *World) make(ctx context.Context, m Maker) error {
	var p plan.Plan
	var err error
	var members []int
	if m.Members != nil && w.rec.User != 0 {
		members = m.Members()
	}
	if w.orphaned(members) {
		p = plan.CompileWorldAgain(path(w.user))
	} else if p, err = plan.CompileWorld(m.UIDs, m.GIDs, m.Facts); err != nil {
		return err
	}
	made := errors.New("made")
	_, err = launch.Run(ctx, p, launch.Options{Hands: m.Hands, Start: func(pid int) (err error) {
		dir := "/proc/" + strconv.Itoa(pid) + "/ns/"
		if w.user == nil {
			if w.user, err = openNS(dir+"user", 0); err != nil {
				return err
			}
		}
		if w.net, err = openNS(dir+"net", 0); err != nil {
			return err
		}
		return made
	}})
	if !errors.Is(err, made) {
		return err
	}
	w.rec = record{Boot: bootID()}
	if w.rec.User, err = inode(w.user); err != nil {
		return err
	}
	if w.rec.Net, err = inode(w.net); err != nil {
		return err
	}
	w.made = true
	return w.write()
}

func (w *World) write() error {
	data, err := json.Marshal(w.rec)
	if err != nil {
		return err
	}
	return files.Replace(w.dir, "world.json", data, false)
}

// path leads to an open file, in this process.
func path(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// A Program is one to be started in the world.
type Program struct {
	File      string // absolute, or below /proc/self
	Args, Env []string
	Stdio     [3]*os.File // nil are this process's own
	Stays     bool        // when this process ends; else it ends with the calling thread, which is to be locked
	KeepFDs   bool        // it has this process's descriptors that are not close-on-exec
}

// Start starts a program in the world, as root there. The caller waits for its end. One that stays has, for its standard output, the lock that tells
// the uplink of its life.
func (w *World) Start(ctx context.Context, p Program) (*launch.Process, error) {
	if p.Stays {
		used, err := os.OpenFile(w.dir+"/used", os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		defer used.Close()
		if err := files.Flock(used, unix.LOCK_SH); err != nil {
			return nil, err
		}
		p.Stdio[1] = used
	}
	steps := plan.CompileInWorld(plan.WorldProgram{User: path(w.user), Net: path(w.net), File: p.File, Args: p.Args, Env: p.Env, Stays: p.Stays})
	proc, err := launch.Run(ctx, steps, launch.Options{Stdio: p.Stdio, KeepFDs: p.KeepFDs})
	runtime.KeepAlive(w)
	if err != nil || !p.Stays {
		return proc, err
	}
	w.rec.In = slices.DeleteFunc(w.rec.In, func(in process.Witness) bool { return !in.Alive() })
	if p := process.Open(proc.PID); p != nil {
		w.rec.In = slices.Insert(w.rec.In, 0, p.Witness())
		p.Close()
	}
	return proc, w.write()
}

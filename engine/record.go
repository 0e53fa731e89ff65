package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kakuri/kakuri/engine/dirs"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/leanjson"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
)

// The file system is the database. A container is a directory, named by its id:
//
//	container.json  the Record, replaced as a whole
//	state.json      the State: written by its monitor while it has one, else by who holds the lock
//	state.spare     the one before it, which is overwritten and takes its place where the disk is full
//	config.json     the OCI spec of the last start,
//	setup.json      what that has no words for,
//	task.json       what its monitor has to know,
//	networks.json   which networks it is on, for who answers for names, and
//	linkers         who has its address in /etc/hosts, by --link
//
// It lies in Data/containers, or in Dir/containers where the container is removed when it ends, and so does not outlive a boot. The
// directory itself is locked (flock) by who changes the container; Data/lock is, shared, by who makes one, and by who looks for what a
// killed one left. Its time is when a start last did so.
//
// Names and ranges of ids are links, in Data/names and Data/ids, whose target is the id of the container that has them: link and target are
// made in one step. Dir/creating has a link for each container that is being made, until it is there as a whole, and Dir/intents says what is being
// changed of one that runs.

// A Record is what a container is for as long as it exists.
type Record struct {
	ID      string
	Name    string
	Created time.Time
	Config  Config // as it was asked for, with what the image adds
	// NetworkAsked is the network mode that it was made with, once a connect or a disconnect has changed what Config has; empty before.
	NetworkAsked string   `json:",omitempty"`
	Image        string   // as lists show it: the reference, or the root directory
	ImageID      string   `json:",omitempty"` // digest of its config; empty for the image host and for a directory
	Chain        []string `json:",omitempty"` // the image's layers by diffID, lowest first
	Command      []string // what runs: entrypoint and arguments

	Slot   int    // its range of ids, see slotBase; -1 for none
	UserNS bool   // it has a user namespace of its own
	IPC    string `json:",omitempty"` // its ipc mode: who may join

	Volumes []MountPoint `json:",omitempty"` // what is mounted, once that is decided

	ProcessLabel string `json:",omitempty"` // of SELinux, chosen when it is made
	MountLabel   string `json:",omitempty"` // of its files

	// Guarded has rules for what may be reached in its network namespace, or in one that it could get at: it may not have what takes them away.
	Guarded bool `json:",omitempty"`

	// Of the last start: networks, and ports of the host.
	Connections []Connection   `json:",omitempty"`
	Ports       []plan.Publish `json:",omitempty"`
}

// A MountPoint is a volume, directory or tmpfs that a container has, in the words of Docker's inspect.
type MountPoint struct {
	Type        string // bind, volume, tmpfs, image
	Name        string `json:",omitempty"` // of a volume
	Source      string // on the host
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
	Anonymous   bool `json:",omitempty"` // goes with its container
	Lent        bool `json:",omitempty"` // a volume without a name that another container lent it: it goes with the last of them
	// Chain is the layers of an image that is mounted, the lowest first.
	Chain []string `json:",omitempty"`
}

// A State is how a container is: see [monitor.State].
type State = monitor.State

// An Exit is how a container's process ended: see [monitor.Exit].
type Exit = monitor.Exit

// A Container is a record, and the state at the time that it was read.
type Container struct {
	Record
	State
	dir     string
	written []byte // its record as writeRecord has left it on the disk, under a lock that is held since
}

// Dir is the container's directory.
func (c *Container) Dir() string { return c.dir }

// Active reports whether the container has a process, or is about to have one again.
func (c *Container) Active() bool {
	return c.Status == monitor.Running || c.Status == monitor.Restarting
}

// CommandPID returns the process that runs the container's command: its first one,
// or with an init the first child of that, whose namespaces an ordinary user may
// read where the init's are closed.
func (c Container) CommandPID() int { return monitor.CommandPID(c.PID) }

func (c *Container) task() (monitor.Task, error) { return monitor.ReadTask(c.dir) }

func (e *Engine) names() string    { return e.data + "/names" }
func (e *Engine) ids() string      { return e.data + "/ids" }
func (e *Engine) creating() string { return e.dir + "/creating" }

// homes are the directories that containers lie in.
func (e *Engine) homes() [2]string { return [2]string{e.dir + "/containers", e.data + "/containers"} }

// home is the directory of a container.
func (e *Engine) home(r Record) string {
	if r.Config.AutoRemove {
		return e.homes()[0] + "/" + r.ID
	}
	return e.homes()[1] + "/" + r.ID
}

// find returns the directory of an id, empty for none.
func (e *Engine) find(id string) string { return e.dirWith(id, "/container.json") }

// dirOf is find, also for one without a record.
func (e *Engine) dirOf(id string) string { return e.dirWith(id, "") }

func (e *Engine) dirWith(id, file string) string {
	for _, home := range e.homes() {
		if dir := home + "/" + id; exists(dir + file) {
			return dir
		}
	}
	return ""
}

// read reads a container. The error is ErrNotExist for one that is gone, or not there yet, and else an [ErrDamaged], unless it is [files.Scarce].
func (e *Engine) read(dir string) (Container, error) {
	c, err := e.readWhole(dir)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, os.ErrNotExist), files.Scarce(err):
		return Container{dir: dir}, err
	}
	return Container{dir: dir}, ErrDamaged{filepath.Base(dir), err}
}

func (e *Engine) readWhole(dir string) (Container, error) {
	c := Container{dir: dir}
	if err := monitor.ReadJSON(dir+"/container.json", &c.Record); err != nil {
		return c, err
	}
	if id := filepath.Base(dir); c.ID != id {
		return c, fmt.Errorf("%s/container.json: it is not that of %s", dir, files.ShortID(id))
	}
	var err error
	if c.State, err = monitor.ReadState(dir); err != nil {
		return c, err
	}
	if c.Lost() && exists(monitor.Place(e.dir, c.ID)) && exists(e.dir+"/runtime/"+c.ID) {
		// A start would wait for the end of the monitor that it has.
		return c, fmt.Errorf("%s/state.json: its state was lost, and it runs", dir)
	}
	if c.Active() && !exists(monitor.Place(e.dir, c.ID)) {
		// It may have ended since the state was read, which says so by now.
		if c.State, err = monitor.ReadState(dir); err != nil {
			return c, err
		}
	}
	if c.Active() && !exists(monitor.Place(e.dir, c.ID)) && !c.Lives() {
		// Its monitor would have a place, or have written that it ended: there was a boot since.
		c.Status, c.PID, c.ExitCode, c.Error, c.Finished = monitor.Exited, 0, 255, wentDown, time.Time{} // nobody knows when
		c.Death = &monitor.Death{Cause: "unknown"}
	}
	if c.Status == monitor.Creating && e.find(c.ID) != "" && !exists(e.creating()+"/"+c.ID) {
		c.Status = monitor.Created
	}
	return c, nil
}

// wentDown is the error of a container that a boot has ended.
const wentDown = "the machine went down while it ran"

// writeRecord replaces a container's record, unless this is what it wrote last: a run that makes a container and starts it holds its lock over
// both, and what waits for the disk is half of such a start.
func (c *Container) writeRecord() error {
	data, err := leanjson.Marshal(&c.Record)
	if err != nil || bytes.Equal(data, c.written) {
		return err
	}
	c.written = nil
	if err := files.Replace(c.dir, "container.json", append(data, '\n'), !c.Config.AutoRemove); err != nil {
		return err
	}
	c.written = data
	return nil
}

// exit is how the container ended last.
func (c *Container) exit() Exit {
	x := Exit{Code: c.ExitCode, OOMKilled: c.OOMKilled, Error: c.Error}
	if c.Death != nil {
		x.Signal = c.Death.Signal
	}
	return x
}

// writeState replaces a container's state, where it has no monitor.
func (c *Container) writeState() error { return monitor.WriteState(c.dir, c.State) }

// connection is what the container has on the network of an id; nil where it is not on it.
func (c *Container) connection(network string) *Connection {
	i := slices.IndexFunc(c.Connections, func(x Connection) bool { return x.NetworkID == network })
	if i < 0 {
		return nil
	}
	return &c.Connections[i]
}

// Find returns the container of that name or id, or of the only id that starts so.
func (e *Engine) Find(ref string) (Container, error) {
	id, err := e.resolve(ref)
	if err != nil {
		return Container{}, err
	}
	for range 3 {
		dir := e.find(id)
		if dir == "" {
			break
		}
		c, err := e.read(dir)
		if !errors.Is(err, os.ErrNotExist) {
			return c, err
		}
	}
	if dir := e.dirOf(id); dir != "" && e.lacks(dir) {
		return Container{}, ErrDamaged{id, errors.New("it has none")}
	}
	return Container{}, ErrNoSuchContainer{ref}
}

// lacks reports whether a container's directory is without its record, and nobody makes or removes it.
func (e *Engine) lacks(dir string) bool {
	if exists(e.creating()+"/"+filepath.Base(dir)) || !free(dir) {
		return false
	}
	_, err := e.read(dir)
	return errors.Is(err, os.ErrNotExist) && !e.leaving(dir)
}

// leaving reports whether the directory of a container goes, or is gone: a monitor takes one with --rm away without its lock, first what is reserved for it, then the
// directory, and its own place after all else. Who asks has found something missing before.
func (e *Engine) leaving(dir string) bool {
	home, id := filepath.Split(dir)
	ended := filepath.Clean(home) == filepath.Clean(e.homes()[0]) && monitor.Attended(e.dir, id) && !exists(e.dir+"/runtime/"+id)
	return ended || !exists(dir)
}

// resolve finds the id of a reference.
func (e *Engine) resolve(ref string) (string, error) {
	ref = strings.TrimSuffix(strings.TrimPrefix(ref, "/"), "/") // as Docker's inspect shows names, and as a path of its API ends
	if files.IsID(ref) && e.find(ref) != "" {
		return ref, nil
	}
	if ValidName(ref) {
		if id, err := files.ReservedFor(e.names() + "/" + ref); err == nil {
			return id, nil
		}
	}
	return e.byPrefix(ref)
}

// byPrefix finds the only id that starts so.
func (e *Engine) byPrefix(ref string) (string, error) {
	if ref == "" || strings.Trim(ref, "0123456789abcdef") != "" {
		return "", ErrNoSuchContainer{ref}
	}
	found := ""
	for _, home := range e.homes() {
		list, err := files.List(home)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for _, id := range list {
			if files.IsID(id) && strings.HasPrefix(id, ref) {
				if found != "" {
					return "", ErrAmbiguous{ref}
				}
				found = id
			}
		}
	}
	if found == "" {
		return "", ErrNoSuchContainer{ref}
	}
	return found, nil
}

// ListOptions say which containers [Engine.List] returns.
type ListOptions struct {
	All    bool // those that do not run, too
	making bool // those that are just being made, too: what they need is in use
}

// List returns containers, the newest last, and takes away what killed processes left.
func (e *Engine) List(o ListOptions) ([]Container, error) {
	if !e.look {
		e.tidy()
	}
	list, damaged, err := e.listAll(o)
	for _, d := range damaged {
		e.caution(d)
	}
	return list, err
}

// listed is List, looks for nothing that was left, and tells of nothing.
func (e *Engine) listed(o ListOptions) ([]Container, error) {
	list, _, err := e.listAll(o)
	return list, err
}

// listAll is the containers, and why others are none.
func (e *Engine) listAll(o ListOptions) (list []Container, damaged []error, err error) {
	var dirs []string
	for _, home := range e.homes() {
		list, err := files.List(home)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
		for _, id := range list {
			if files.IsID(id) && (o.All || exists(monitor.Place(e.dir, id))) {
				dirs = append(dirs, home+"/"+id)
			}
		}
	}
	out := make([]Container, len(dirs))
	why := make([]error, len(dirs))
	inParallel(len(dirs), func(i int) {
		c, err := e.read(dirs[i])
		if err != nil {
			why[i] = ignoreMissing(err) // else it is gone
			return
		}
		if (o.making || c.Status != monitor.Creating) && (o.All || c.Active()) {
			out[i] = c
		}
	})
	out = slices.DeleteFunc(out, func(c Container) bool { return c.ID == "" })
	slices.SortFunc(out, func(a, b Container) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, slices.DeleteFunc(why, func(err error) bool { return err == nil }), nil
}

// inParallel calls do for 0 to n-1 on all processors, where these are many.
func inParallel(n int, do func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			do(i)
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n/4) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// lock waits for who changes a container, and reads it as it is then. The lock is an open file, which the caller closes.
func (e *Engine) lock(ref string) (c Container, lock *os.File, err error) {
	for range 100 {
		if c, err = e.Find(ref); err != nil {
			return c, nil, err
		}
		f, err := e.lockOf(&c)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went away, or another one has its name now
		}
		if err != nil {
			return c, nil, err
		}
		now, err := e.read(c.dir)
		if err == nil && exists(e.intents()+"/"+now.ID) {
			e.complain(e.bringToEnd(&now))
			now, err = e.read(c.dir)
		}
		if err == nil && files.Same(int(f.Fd()), c.dir) {
			return now, f, nil
		}
		f.Close()
	}
	return c, nil, ErrNoSuchContainer{ref}
}

// lockDir is [files.LockDir] as a file.
func lockDir(dir string, how int) (*os.File, error) {
	fd, err := files.LockDir(dir, how)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// mkdirs makes the directories that containers are kept in. The first command of a boot that does looks for names that are still reserved, as by a rename that was killed with the machine.
func (e *Engine) mkdirs() error {
	first := !exists(e.dir + "/runtime")
	for _, dir := range []string{e.dir, e.data, e.names(), e.ids(), e.creating(), e.homes()[0], e.homes()[1], e.dir + "/monitor", e.dir + "/runtime", e.intents()} {
		if err := os.MkdirAll(filepath.Clean(dir), 0o700); err != nil {
			return dirs.NotMade(e.data, err)
		}
	}
	if first {
		e.complain(e.sweepNames())
	}
	return nil
}

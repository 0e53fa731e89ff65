package engine

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// The file system is the database. A running container is one file in the
// directory containers, named ID.SLOT.NAME: so a listing alone tells which
// names and which ranges of ids are taken. Whoever runs the container holds a lock
// on its file; a file that nobody holds belongs to a process that was killed,
// and the next command undoes what it left.
//
// The file's first line is the Container, as JSON, the second its plan.

// A Container is the record of a running container.
type Container struct {
	ID      string
	Name    string
	Image   string
	Command []string
	Created time.Time
	PID     int               // of its first process, on the host; 0 before it runs
	Started uint64            // start time of that process, see proc_pid_stat(5)
	UserNS  bool              // it has a user namespace of its own
	Slot    int               // its range of ids, see slotBase
	IPC     string            `json:",omitempty"` // its ipc mode: who may join
	Undo    []json.RawMessage `json:",omitempty"`

	// The process that runs the container, and its start time: it holds the file's lock.
	Runner        int
	RunnerStarted uint64

	// Its namespaces, where no pid namespace of its own ends its processes: see endStrays.
	Mounts string `json:",omitempty"`
	Users  string `json:",omitempty"` // empty without a user namespace of its own
}

// CommandPID returns the process that runs the container's command: its first one,
// or with an init the first child of that, whose namespaces an ordinary user may
// read where the init's are closed.
func (c Container) CommandPID() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.PID))
	if err != nil || string(data) != "init\n" {
		return c.PID
	}
	data, _ = os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.PID, c.PID))
	if first := strings.Fields(string(data)); len(first) > 0 {
		if pid, err := strconv.Atoi(first[0]); err == nil {
			return pid
		}
	}
	return c.PID
}

// slots is how many ranges of 65,536 ids there are, from slotBase(0) on.
const slots = 4096

// slotBase is the first id of the host in a slot's range: 0x70000000 is above
// what user databases and other engines hand out.
func slotBase(slot int) uint32 { return 0x70000000 + uint32(slot)<<16 }

// An entry is a container's file, locked.
type entry struct {
	path string
	file *os.File
	rec  Container

	company bool  // there were other containers' files when this one was made
	strays  error // what is left of the container: its file stays, for the next command
}

// entryName splits the name of a container's file.
func entryName(file string) (id string, slot int, name string, ok bool) {
	part := strings.SplitN(file, ".", 3)
	if len(part) != 3 || len(part[0]) != 64 {
		return "", 0, "", false
	}
	slot, err := strconv.Atoi(part[1])
	return part[0], slot, part[2], err == nil
}

func (e *Engine) containers() string { return filepath.Join(e.dir, "containers") }

// lockNames takes the lock under which names and slots are given out.
func (e *Engine) lockNames(how int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(e.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// reserve gives a container its id, name and slot, and makes its file, locked.
func (e *Engine) reserve(rec Container) (*entry, error) {
	if err := os.MkdirAll(e.containers(), 0o700); err != nil {
		return nil, err
	}
	unlock, err := e.lockNames(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := readNames(e.containers())
	if err != nil {
		return nil, err
	}
	if err := choose(&rec, list); err != nil {
		return nil, err
	}
	ent := &entry{path: filepath.Join(e.containers(), fmt.Sprintf("%s.%d.%s", rec.ID, rec.Slot, rec.Name)), rec: rec, company: len(list) > 0}
	ent.file, err = os.OpenFile(ent.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// A sweep may hold it for a moment, to see that there is nothing in it yet.
	if err := flock(ent.file, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, ent.remove())
	}
	if err := ent.write(nil); err != nil {
		return nil, errors.Join(err, ent.remove())
	}
	return ent, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// choose fills in what the caller left open, so that it collides with none of
// the files in list.
func choose(rec *Container, list []string) error {
	names, taken := map[string]string{}, map[int]bool{}
	for _, file := range list {
		if id, slot, name, ok := entryName(file); ok {
			names[name], taken[slot] = id, true
		}
	}
	if id, ok := names[rec.Name]; ok && rec.Name != "" {
		return fmt.Errorf("the name %q is taken by container %s: choose another one with --name, or end that container", rec.Name, shortID(id))
	}
	for try := 0; rec.Name == ""; try++ {
		n := randomName()
		if try >= 100 {
			n += strconv.Itoa(try) // most pairs of words are taken
		}
		if names[n] == "" {
			rec.Name = n
		}
	}
	rec.Slot = -1
	for s := range slots {
		if !taken[s] {
			rec.Slot = s
			break
		}
	}
	if rec.Slot < 0 {
		return fmt.Errorf("all %d ranges of ids are taken by running containers", slots)
	}
	return nil
}

// newID returns 64 hexadecimal digits; the first twelve are never all decimal,
// since some programs take such a host name for a number.
func newID() string {
	for {
		var b [32]byte
		random(b[:])
		id := hex.EncodeToString(b[:])
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// random fills b from the kernel: getrandom(2). Package crypto/rand does the same
// behind two dozen packages that every start would pay for.
func random(b []byte) {
	for n := 0; n < len(b); {
		got, err := unix.Getrandom(b[n:], 0)
		if err != nil && err != unix.EINTR {
			panic("getrandom: " + err.Error()) // no error but EINTR exists for a buffer of this process
		}
		n += max(got, 0)
	}
}

// ValidName reports whether Docker would take name for a container.
func ValidName(name string) bool {
	if len(name) < 2 || len(name) > 128 {
		return false
	}
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return true
}

// write replaces the file's content: readers see the old or the new one, or a
// first line without an end, which they take for not there yet.
func (x *entry) write(p *plan.Plan) error {
	line, err := json.Marshal(x.rec)
	if err != nil {
		return err
	}
	data := append(line, '\n')
	if p != nil {
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		data = append(append(data, text...), '\n')
	}
	if _, err := x.file.WriteAt(data, 0); err != nil {
		// Half a plan is none. What there is of the first line was there before, or the run ends.
		x.file.Truncate(int64(len(line) + 1))
		return fmt.Errorf("record of the container: %w", err)
	}
	return x.file.Truncate(int64(len(data)))
}

func (x *entry) remove() error {
	if x.strays != nil {
		return x.file.Close()
	}
	err := os.Remove(x.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, x.file.Close())
}

// decode reads a container's file.
func decode(r io.Reader) (Container, []byte, error) {
	var rec Container
	data, err := io.ReadAll(r)
	if err != nil {
		return rec, nil, err
	}
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return rec, nil, errors.New("the record is not whole")
	}
	return rec, rest, json.Unmarshal(line, &rec)
}

// List returns the running containers, oldest first, and undoes what killed
// processes left.
func (e *Engine) List() ([]Container, error) {
	if err := e.sweep(); err != nil {
		return nil, err
	}
	list, err := e.entries()
	if err != nil {
		return nil, err
	}
	var out []Container
	for _, file := range list {
		f, err := os.Open(filepath.Join(e.containers(), file))
		if err != nil {
			continue // ended meanwhile
		}
		rec, _, err := decode(f)
		f.Close()
		if err == nil && rec.PID != 0 {
			out = append(out, rec)
		}
	}
	slices.SortFunc(out, func(a, b Container) int { return a.Created.Compare(b.Created) })
	return out, nil
}

func (e *Engine) entries() ([]string, error) {
	list, err := readNames(e.containers())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(list, func(f string) bool { _, _, _, ok := entryName(f); return !ok }), err
}

// Find returns the running container of that name or id, or of the only id
// that starts so.
func (e *Engine) Find(ref string) (Container, error) {
	c, _, err := e.find(ref)
	return c, err
}

// Plan returns the plan by which a running container was made.
func (e *Engine) Plan(ref string) (Container, plan.Plan, error) {
	c, data, err := e.find(ref)
	if err != nil {
		return c, plan.Plan{}, err
	}
	var p plan.Plan
	if len(data) == 0 {
		return c, p, fmt.Errorf("container %s: its plan is not recorded yet: try again", c.Name)
	}
	return c, p, json.Unmarshal(data, &p)
}

func (e *Engine) find(ref string) (Container, []byte, error) {
	list, err := e.entries()
	if err != nil {
		return Container{}, nil, err
	}
	var match []string
	for _, file := range list {
		id, _, name, _ := entryName(file)
		if name == ref || id == ref {
			match = []string{file}
			break
		}
		if ref != "" && strings.HasPrefix(id, ref) {
			match = append(match, file)
		}
	}
	switch len(match) {
	case 0:
		return Container{}, nil, fmt.Errorf("no such container: %s (kakuri ps lists those that run)", ref)
	case 1:
	default:
		return Container{}, nil, fmt.Errorf("%s: %d containers have ids that start so", ref, len(match))
	}
	f, err := os.Open(filepath.Join(e.containers(), match[0]))
	if err != nil {
		return Container{}, nil, fmt.Errorf("no such container: %s", ref)
	}
	defer f.Close()
	rec, rest, err := decode(f)
	if err == nil && (rec.PID == 0 || !alive(rec)) {
		err = errors.New("it is not running")
	}
	if err != nil {
		return rec, nil, fmt.Errorf("container %s: %w", ref, err)
	}
	return rec, rest, nil
}

// alive reports whether a record's process is that of the record, and not a
// later one with its number.
func alive(rec Container) bool { return aliveAt(rec.PID, rec.Started) }

func aliveAt(pid int, started uint64) bool {
	now, err := startTime(pid)
	return err == nil && now == started
}

// startTime reads when a process started, in clock ticks since boot: with its
// number this names a process for good. See proc_pid_stat(5), field 22.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The command's name is in parentheses, and may hold any character.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// sweep undoes what processes that were killed left: it takes the lock of each
// file that nobody holds, ends the container if it still runs, undoes, and
// removes the file.
func (e *Engine) sweep() error {
	list, err := e.entries()
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range list {
		p := filepath.Join(e.containers(), file)
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if !abandoned(f) {
			f.Close()
			continue
		}
		if err := e.bury(&entry{path: p, file: f}); err != nil {
			errs = append(errs, fmt.Errorf("container file %s: %w", file, err))
		}
	}
	return errors.Join(errs...)
}

// abandoned takes the lock of a container's file whose runner is gone. The lock may outlive
// the runner: a process that it had just cloned has not yet closed what it inherited, or
// another command takes away what is left. Both are done soon.
func abandoned(f *os.File) bool {
	for range 1000 {
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
		rec, _, err := decode(io.NewSectionReader(f, 0, maxRecord))
		if err != nil || rec.Runner == 0 || aliveAt(rec.Runner, rec.RunnerStarted) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// maxRecord bounds the first line of a container's file, and its plan.
const maxRecord = 64 << 20

// removeTorn removes a file without a whole record: its process was killed before
// it had done anything, or is about to write the first one. That one holds the lock of the
// names.
func (e *Engine) removeTorn(p string) error {
	unlock, err := e.lockNames(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // somebody starts a container: the next command looks again
	}
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return nil // gone meanwhile
	}
	if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
		if _, _, err := decode(f); err != nil {
			return (&entry{path: p, file: f}).remove()
		}
	}
	return f.Close()
}

// bury ends and undoes one container whose runner is gone. Its file goes last:
// what cannot be undone now is found again by the next command.
func (e *Engine) bury(x *entry) error {
	rec, _, err := decode(x.file)
	if err != nil {
		x.file.Close()
		return e.removeTorn(x.path)
	}
	if rec.PID != 0 && alive(rec) {
		if fd, err := unix.PidfdOpen(rec.PID, 0); err == nil {
			if alive(rec) {
				unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
				pollEnd([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}})
			}
			unix.Close(fd)
		}
	}
	if err := errors.Join(endStrays(rec), e.undo(rec)); err != nil {
		x.file.Close()
		return err
	}
	return x.remove()
}

package volume

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/fvbommel/sortorder"
	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// Local is the driver that there is: Docker's own.
const Local = "local"

// A Volume is what a volume is asked to be.
type Volume struct {
	Name      string
	Driver    string
	Created   time.Time
	Labels    map[string]string `json:",omitempty"`
	Options   map[string]string `json:",omitempty"` // type, device, o
	Anonymous bool              `json:",omitempty"` // nobody gave it a name

	dir string
}

// Dir is where the volume's files lie: the mount point that inspect tells.
func (v Volume) Dir() string { return v.dir + "/_data" }

// Config asks for a volume. An empty name is made up, and the volume is anonymous.
type Config struct {
	Name    string
	Driver  string // empty is local
	Labels  map[string]string
	Options map[string]string
}

// NoVolumeError is a name that no volume has. Its text is Docker's.
type NoVolumeError struct{ Name string }

func (e *NoVolumeError) Error() string { return fmt.Sprintf("get %s: no such volume", e.Name) }

// A DamagedError is a volume whose record cannot be read: it can be removed by force, with its files, and nothing else.
type DamagedError struct {
	Name, Dir string // Dir is where its files are
	Err       error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("volume %s: its record cannot be read: %v: its files are in %s, and kakuri volume rm -f %[1]s removes it with them", e.Name, e.Err, e.Dir)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// A Store is a directory of volumes. It may be used by several processes.
type Store struct {
	dir string
	// RemoveAll, when not nil, takes the place of [files.RemoveAll]: files of a volume may be of ids that the
	// caller has no rights over.
	RemoveAll func(path string) error
}

// Open returns the store of a directory, which need not exist yet.
func Open(dir string) *Store { return &Store{dir: dir} }

func (s *Store) removeAll(path string) error {
	if s.RemoveAll != nil {
		return s.RemoveAll(path)
	}
	return files.RemoveAll(path)
}

// Lock has nobody else remove a volume, or with exclusive make and use one, until unlock.
func (s *Store) Lock(exclusive bool) (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.dir+"/"+lockFile, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if err := files.Flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockFile is in the same directory as volumes, which are by their names.
const lockFile = "lock"

// CheckName says why no volume can be created by a name: Docker's rule, and what a file system takes.
func CheckName(name string) error {
	switch {
	case len(name) == 1: // by one, Docker's command on Windows would know a drive
		return fmt.Errorf("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	case !files.IsName(name, 255) || name == lockFile:
		return fmt.Errorf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	return nil
}

// Create makes a volume. One of that name that is there is returned as it is, with made false.
func (s *Store) Create(c Config) (v Volume, made bool, err error) {
	v = Volume{Name: c.Name, Driver: cmp.Or(c.Driver, Local), Created: time.Now().Truncate(time.Second), Labels: c.Labels, Options: c.Options}
	if v.Name == "" {
		v.Name, v.Anonymous = files.NewID(), true
	}
	if err := CheckName(v.Name); err != nil {
		return v, false, err
	}
	if v.Driver != Local {
		return v, false, fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found: the driver that there is is local", v.Name, v.Driver, v.Driver)
	}
	if err := checkOptions(v.Options); err != nil {
		return v, false, fmt.Errorf("create %s: %w", v.Name, err)
	}
	unlock, err := s.Lock(false)
	if err != nil {
		return v, false, err
	}
	defer unlock()
	for range 100 {
		old, err := s.Get(v.Name)
		if !errors.As(err, new(*NoVolumeError)) {
			return old, false, err
		}
		if err := s.place(&v); !errors.Is(err, os.ErrExist) {
			return v, err == nil, err
		}
	}
	return v, false, fmt.Errorf("create %s: it comes and goes", v.Name)
}

// place makes the volume's directory beside its place, and moves it there.
func (s *Store) place(v *Volume) error {
	temp := s.dir + "/.new-" + files.NewID()
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(temp) // of no effect when it was moved
	if err := os.Mkdir(temp+"/_data", 0o755); err != nil {
		return err
	}
	if err := os.Chmod(temp+"/_data", 0o755); err != nil { // whatever the umask is
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := files.Replace(temp, "volume.json", data, true); err != nil {
		return err
	}
	v.dir = filepath.Join(s.dir, v.Name)
	if err := files.MoveNew(unix.AT_FDCWD, temp, unix.AT_FDCWD, v.dir); err != nil {
		return &os.PathError{Op: "rename", Path: v.dir, Err: err}
	}
	return files.SyncDir(s.dir)
}

// Get returns the volume of a name, a [*NoVolumeError], or for one that cannot be read a [*DamagedError], unless the error is [files.Scarce].
func (s *Store) Get(name string) (Volume, error) {
	if CheckName(name) != nil {
		return Volume{}, &NoVolumeError{name}
	}
	missing := func(err error) bool { return errors.Is(err, os.ErrNotExist) && !exists(s.dir+"/"+name) }
	v, err := s.read(name)
	if missing(err) {
		return Volume{}, &NoVolumeError{name}
	}
	if errors.Is(err, os.ErrNotExist) { // a volume comes and goes with its record: it may have come just now
		v, err = s.read(name)
	}
	switch {
	case err == nil:
		return v, nil
	case missing(err):
		return Volume{}, &NoVolumeError{name}
	case files.Scarce(err):
		return Volume{}, err
	}
	return Volume{}, &DamagedError{name, s.dir + "/" + name + "/_data", err}
}

func (s *Store) read(name string) (Volume, error) {
	v := Volume{dir: filepath.Join(s.dir, name)}
	file := v.dir + "/volume.json"
	data, err := files.Read(file)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("%s: %w", file, err)
	}
	if v.Name != name {
		return v, fmt.Errorf("%s: it is not that of volume %s", file, name)
	}
	return v, nil
}

// Would is the volume that there would be by a name, without options; an empty name stands for one that is made up.
func (s *Store) Would(name string) Volume {
	if name == "" {
		name = "NEW"
	}
	return Volume{Name: name, Driver: Local, dir: filepath.Join(s.dir, name)}
}

// List returns all volumes by name, and those that cannot be read.
func (s *Store) List() (list []Volume, damaged []*DamagedError, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		v, err := s.Get(e.Name())
		var hurt *DamagedError
		switch {
		case errors.As(err, new(*NoVolumeError)): // it is gone
		case errors.As(err, &hurt):
			damaged = append(damaged, hurt)
		case err != nil:
			return nil, nil, err
		default:
			list = append(list, v)
		}
	}
	sort.Slice(list, func(i, j int) bool { return sortorder.NaturalLess(list[i].Name, list[j].Name) }) // v2 before v10, as Docker's client
	return list, damaged, nil
}

// Remove removes a volume, one that cannot be read with force only. used tells who uses it, and is asked while nobody can begin to: see
// [Store.Lock], which whoever uses a volume has to hold until it can be seen that it does.
func (s *Store) Remove(name string, force bool, used func(Volume) ([]string, error)) error {
	gone, lock, err := s.unlink(name, force, used)
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	return s.removeAll(gone)
}

// unlink takes a volume's name away, and returns where it is now: a directory that is locked, by which others know that somebody removes it.
func (s *Store) unlink(name string, force bool, used func(Volume) ([]string, error)) (gone string, lock int, err error) {
	unlock, err := s.Lock(true)
	if err != nil {
		return "", -1, err
	}
	defer unlock()
	v, err := s.Get(name)
	if force && errors.As(err, new(*DamagedError)) {
		v, err = Volume{Name: name, dir: filepath.Join(s.dir, name)}, nil
	}
	if err != nil {
		return "", -1, err
	}
	users, err := used(v)
	if err != nil {
		return "", -1, err
	}
	if len(users) > 0 {
		return "", -1, &InUseError{name, users}
	}
	if err := v.detach(); err != nil && !errors.Is(err, os.ErrNotExist) { // where its directory of files is gone
		return "", -1, err
	}
	if lock, err = files.LockDir(v.dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock = -1 // it is no directory, say: then a sweep goes to it as well
	}
	gone = s.dir + "/.rm-" + files.NewID()
	if err = os.Rename(v.dir, gone); err == nil {
		err = files.SyncDir(s.dir)
	}
	if err != nil {
		unix.Close(lock)
	}
	return gone, lock, err
}

// InUseError is a volume that containers have. Its text is Docker's.
type InUseError struct {
	Name  string
	Users []string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("remove %s: volume is in use - [%s]", e.Name, strings.Join(e.Users, ", "))
}

// Sweep removes what killed processes left, and returns its names.
func (s *Store) Sweep() ([]string, error) {
	left, unlock, err := s.left()
	defer unlock()
	var errs []error
	for _, name := range left {
		errs = append(errs, s.removeAll(filepath.Join(s.dir, name)))
	}
	return left, errors.Join(append(errs, err)...)
}

// Left lists what [Store.Sweep] would remove.
func (s *Store) Left() ([]string, error) {
	left, unlock, err := s.left()
	unlock()
	return left, err
}

// left lists that, and keeps others from making a volume, or from removing the same, until unlock.
func (s *Store) left() (list []string, unlock func(), err error) {
	unlock = func() {}
	if list, err = s.halves(); len(list) == 0 || err != nil {
		return nil, unlock, err
	}
	exclusive, err := s.Lock(true)
	if err != nil {
		return nil, unlock, err
	}
	var locks []int
	unlock = func() {
		for _, fd := range locks {
			unix.Close(fd)
		}
		exclusive()
	}
	if list, err = s.halves(); err != nil { // nobody makes one now
		return nil, unlock, err
	}
	list = slices.DeleteFunc(list, func(name string) bool {
		half := filepath.Join(s.dir, name)
		fd, err := files.LockDir(half, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			locks = append(locks, fd)
		}
		return errors.Is(err, unix.EWOULDBLOCK) || !exists(half) // somebody removes it, or has, perhaps between the two calls of the lock
	})
	return list, unlock, nil
}

// halves lists what was begun to be made, or to be removed.
func (s *Store) halves() (list []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") || strings.HasPrefix(e.Name(), ".rm-") {
			list = append(list, e.Name())
		}
	}
	return list, err
}

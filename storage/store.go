package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Options say where a store is.
type Options struct {
	Data     string // absolute directory for what stays
	Run      string // absolute directory for what a reboot ends: mounts
	Rootless bool   // without the rights of root
	IDs      IDs    // of a rootless store
	// Linger is how long the mount of an image outlives its last user: the next container finds it, and what is in memory of
	// its files. A sweep takes it away then.
	Linger time.Duration
	Label  string // of SELinux, which files of images are shown with where indexes are mounted; empty is what the kernel gives them
	Driver string // "erofs", "dirs" or "fuse-overlayfs"; empty is what this machine can, by trial
}

// IDs are the ids that an ordinary user's containers have, and with them the files of images and containers.
type IDs struct {
	UIDs, GIDs []plan.IDMapping
	Facts      plan.Facts // of this machine and user
	Join       string     // the file of a user namespace with these ids; empty is a new one
}

// A Store keeps layers and what containers write above them. Its methods may be called at the same
// time, and other processes may have the same store open.
type Store struct {
	o Options

	scanned cache

	choose      sync.Once
	driver, why string
	cannot      error        // why no view can be a container's root
	fuse        string       // the program of [driverFuse]
	overlay     func() error // the trial of the kernel's overlay
}

// The directories of a store, below Options.Data.
const (
	layersDir  = "layers"  // HEX.tar, by diffID
	indexesDir = "indexes" // HEX, by chain
	dirsDir    = "dirs"    // HEX, by diffID
	ephemeral  = "ephemeral"
	containers = "containers"
	lockFile   = "storage.lock"
)

// Open makes the directories of a store where they are missing, and takes away what killed processes have
// left half made.
func Open(o Options) (*Store, error) {
	if !filepath.IsAbs(o.Data) || !filepath.IsAbs(o.Run) {
		return nil, fmt.Errorf("storage: directories %q and %q have to be absolute", o.Data, o.Run)
	}
	switch o.Driver {
	case "", driverErofs, driverDirs, driverFuse:
	default:
		return nil, fmt.Errorf("storage: there is no driver %q: it is %s, %s or %s", o.Driver, driverErofs, driverDirs, driverFuse)
	}
	dirs := []string{layersDir, indexesDir, dirsDir}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(o.Data, dir), 0o700); err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
	}
	s := &Store{o: o}
	s.overlay = s.tryOverlay
	for _, dir := range dirs {
		if err := s.sweepTemps(s.path(dir)); err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
	}
	return s, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.o.Data}, elem...)...)
}

// lock takes the store's lock: shared for what adds, exclusive for what takes away. It is held for short
// acts only, and never while bytes come from elsewhere.
func (s *Store) lock(how int) (unlock func(), err error) { return lockPath(s.path(lockFile), how) }

// lockPath takes the lock of a file, which it makes.
func lockPath(name string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := files.Flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// openLock opens a file to lock it alone. NFS gives that lock to who may write to the file only: its server knows no flock(2) but locks of ranges.
func openLock(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// tempPrefix begins the names of files that are being written. Who writes one holds its lock.
const tempPrefix = ".tmp-"

// A temp is a file that has its place in the end, or leaves nothing.
type temp struct {
	*os.File
	named bool // it has a name meanwhile, since the file system knows no O_TMPFILE
	saved bool // its bytes are on the disk: see save
}

// newTemp begins a file that is to be in dir.
func newTemp(dir string) (*temp, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &temp{File: os.NewFile(uintptr(fd), filepath.Join(dir, tempPrefix))}, nil
	}
	if err != unix.EOPNOTSUPP && err != unix.EISDIR && err != unix.EINVAL {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return newNamedTemp(dir)
}

// newNamedTemp is for file systems without O_TMPFILE. A sweep that comes between the making and the lock may have
// taken the file away: then there is another.
func newNamedTemp(dir string) (*temp, error) {
	for {
		f, err := os.CreateTemp(dir, tempPrefix)
		if err != nil {
			return nil, err
		}
		err = files.Flock(f, unix.LOCK_EX)
		if err == nil && files.Same(int(f.Fd()), f.Name()) {
			return &temp{File: f, named: true}, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// discard gives the file up; after place it only closes.
func (t *temp) discard() {
	if t.named {
		os.Remove(t.Name())
	}
	t.Close()
}

// save has the file's bytes, which are all there, be on the disk.
func (t *temp) save() (err error) {
	if !t.saved {
		err = t.Sync()
		t.saved = err == nil
	}
	return err
}

// place gives the file its name, when its bytes are on the disk. A file that has the name already stays: it
// is the same.
func (t *temp) place(name string) error {
	if err := t.save(); err != nil {
		return err
	}
	var err error
	if t.named {
		err = os.Link(t.Name(), name)
	} else {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", t.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return unlinked(name, err)
	}
	return files.SyncDir(filepath.Dir(name))
}

// unlinked is the error of a link that could not be made. That of a memory stick says no more than that it is not permitted, and so does that of a directory that nobody may
// change: link(2), FS_IOC_SETFLAGS(2const).
func unlinked(name string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno); errno != unix.EPERM && errno != unix.EOPNOTSUPP && errno != unix.ENOSYS {
		return &os.PathError{Op: "link", Path: name, Err: err}
	}
	or := ""
	if errno == unix.EPERM {
		or = "; or " + filepath.Dir(name) + " is immutable or append-only: lsattr -d tells, and chattr -ia has it be neither"
	}
	return fmt.Errorf("link %s: %w: the file system of %s has no hard links, and then no owners of files either, as vfat and exfat: have kakuri's data on another one (ext4, xfs, btrfs), which an ordinary user names by XDG_DATA_HOME, and root mounts there%s", name, errno, filepath.Dir(filepath.Dir(name)), or)
}

// replace is place in the stead of a file that has the name already: at any moment one of the two has it.
func (t *temp) replace(name string) error {
	if err := files.Flock(t.File, unix.LOCK_EX); err != nil { // while it has the name of one that is written
		return err
	}
	next := filepath.Join(filepath.Dir(name), tempPrefix+rand.Text())
	if err := t.place(next); err != nil {
		return err
	}
	if err := os.Rename(next, name); err != nil {
		os.Remove(next)
		return err
	}
	return files.SyncDir(filepath.Dir(name))
}

// sweepTemps takes away files and directories that nobody writes any more.
func (s *Store) sweepTemps(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		open := openLock
		if e.IsDir() {
			open = os.Open
		}
		f, err := open(name)
		if err != nil {
			continue // of another sweep
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if e.IsDir() {
				err = s.remove(name)
			} else {
				err = os.Remove(name)
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// short is a digest as messages show it.
func short(id digest.Digest) string {
	hex := id.Encoded()
	return hex[:min(12, len(hex))]
}

// List gives the layers that are there, by diffID.
func (s *Store) List() ([]Layer, error) {
	list, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	var layers []Layer
	for _, e := range list {
		hex, ok := strings.CutSuffix(e.Name(), ".tar")
		id := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !ok || id.Validate() != nil {
			continue
		}
		l, err := s.stat(id)
		if err != nil {
			continue // taken away meanwhile
		}
		layers = append(layers, l)
	}
	slices.SortFunc(layers, func(a, b Layer) int { return strings.Compare(string(a.DiffID), string(b.DiffID)) })
	return layers, nil
}

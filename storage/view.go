package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A View is a chain of layers as the root file system of containers.
type View struct {
	s     *Store
	chain []digest.Digest
	id    digest.Digest // of the chain
	lower string
	names []string
	steps plan.Plan
	fuse  string // the program that lays the layers over each other; none where the kernel does
}

// The directories of a store, below Options.Run.
const (
	mountsDir = "mounts" // HEX, by chain: the index is mounted there
	usersDir  = "users"  // HEX/USER: who uses that mount
	runLock   = "storage.lock"
)

// View has a chain ready to be a container's root: its index is made where it is missing, and mounted, or its
// layers are unpacked. user is who uses it until [Store.Release], a container's id; an empty one only wants to
// read.
func (s *Store) View(ctx context.Context, chain []digest.Digest, user string) (*View, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	if strings.ContainsAny(user, "/\x00") {
		return nil, fmt.Errorf("%q cannot use an image: it is no file name", user)
	}
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v := &View{s: s, chain: chain, id: chainID(chain)}
	name, _ := s.Driver()
	if user == "" || name != driverErofs { // the kernel finds out else, when it opens them for the mount
		if err := s.complete(chain); err != nil {
			return nil, err
		}
	}
	if err := s.index(ctx, v.id, chain); err != nil {
		return nil, err
	}
	if name != driverErofs {
		if s.cannot != nil && user != "" {
			return nil, s.cannot
		}
		if name == driverFuse {
			v.fuse = s.fuse
		}
		return v, v.unpack(ctx)
	}
	switch found, err := s.cut(v.id.Encoded()); {
	case len(found) > 0:
		return nil, found[0]
	case err != nil:
		return nil, fmt.Errorf("%s, an index of layers, is damaged: %w: kakuri system check --repair removes it, and the next command makes it anew", s.indexPath(v.id), err)
	}
	v.lower = s.runPath(mountsDir, v.id.Encoded())
	if user == "" {
		if !isMounted(v.lower) {
			v.steps = v.mounting(s.o.Label)
		}
		return v, nil
	}
	return v, v.mount(user)
}

// complete reports the first layer of a chain that is not there: a [*NoLayerError].
func (s *Store) complete(chain []digest.Digest) error {
	for _, id := range chain {
		if _, err := s.stat(id); err != nil {
			return err
		}
	}
	return nil
}

// cut finds the tars of an index that are shorter than what it was made of: a call for each, which reads no byte of it. The error is an index that is there, and is none or
// has lost its end. That a tar or an index is not there, who mounts it says.
func (s *Store) cut(hex string) (found []*CutLayerError, err error) {
	f, err := files.Open(s.path(indexesDir, hex))
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	devices, err := erofs.Devices(f)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		id := digest.NewDigestFromEncoded(digest.SHA256, d.Tag)
		l, err := s.stat(id)
		if size := (l.Size + erofs.BlockSize - 1) &^ (erofs.BlockSize - 1); err == nil && size < d.Size {
			found = append(found, &CutLayerError{id, size, d.Size})
		}
	}
	return found, nil
}

// Layers are the view as plan's, with a directory that [View.NewUpper] made, or an empty one to keep writes in
// memory, unless it [View.NeedsUpper].
func (v *View) Layers(upper string, volatile bool) *plan.Layers {
	l := &plan.Layers{Lower: v.lower, Names: v.names, Upper: upper, Volatile: volatile && upper != ""}
	if v.fuse != "" && upper != "" {
		l.Server = v.server(upper, l.Volatile)
	}
	return l
}

// Sources are the files and directories of the store that the view is made of, which the kernel reads for whoever reads the view.
func (v *View) Sources() (list []string) {
	if name, _ := v.s.Driver(); name == driverErofs {
		list = append(list, v.s.indexPath(v.id))
		for _, id := range v.chain {
			list = append(list, v.s.layerPath(id))
		}
		return list
	}
	for _, name := range v.names {
		list = append(list, filepath.Join(v.lower, name))
	}
	return list
}

// NeedsUpper reports whether a container whose root is the view has a directory for writes on the disk, also where it may not write.
func (v *View) NeedsUpper() bool { return v.fuse != "" }

// Plan is what made the view ready: the mount of its index, if this call made it. Without a user it is what would.
func (v *View) Plan() plan.Plan { return v.steps }

// runPath is a path below Options.Run.
func (s *Store) runPath(elem ...string) string {
	return filepath.Join(append([]string{s.o.Run}, elem...)...)
}

// lockRun takes the lock under which indexes are mounted and unmounted.
func (s *Store) lockRun() (unlock func(), err error) {
	if err := os.MkdirAll(s.o.Run, 0o700); err != nil {
		return nil, err
	}
	return lockPath(s.runPath(runLock), unix.LOCK_EX)
}

// mount mounts the index where nobody has, and notes the user.
func (v *View) mount(user string) (err error) {
	s, hex := v.s, v.id.Encoded()
	unlock, err := s.lockRun()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(s.runPath(usersDir, hex), 0o700); err != nil {
		return err
	}
	note, err := os.OpenFile(s.runPath(usersDir, hex, user), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	note.Close()
	defer func() {
		if err != nil {
			s.release(hex, user)
		}
	}()
	if isMounted(v.lower) {
		return nil
	}
	if err := ownMount(s.runPath(mountsDir)); err != nil {
		return err
	}
	if err := os.MkdirAll(v.lower, 0o700); err != nil {
		return err
	}
	// fsconfig(2) takes strings of 255 bytes.
	if len(s.layerPath(v.chain[0])) > 255 {
		return fmt.Errorf("the data directory %s has too long a name for the kernel's mount call: %d bytes are possible", s.o.Data, 255-len("/layers/.tar")-64)
	}
	v.steps = v.mounting(s.o.Label)
	err = launch.Do(v.steps)
	if err != nil && s.o.Label != "" {
		// The policy knows no such label, or does not let this process give it: containers without one run all the same.
		v.steps = v.mounting("")
		err = launch.Do(v.steps)
	}
	if err != nil {
		if missing := s.complete(v.chain); missing != nil {
			return missing
		}
		return fmt.Errorf("mount an image's index: %w", err)
	}
	return nil
}

// mounting is the plan that mounts the index, with a label of SELinux for all files or without.
func (v *View) mounting(label string) plan.Plan {
	op := &plan.MountIndex{Index: v.s.indexPath(v.id), At: v.lower}
	if label != "" {
		op.Options = []string{"context=" + label}
	}
	for _, id := range v.chain {
		op.Tars = append(op.Tars, v.s.layerPath(id))
	}
	return plan.Plan{Steps: []plan.Step{{
		Op: op, Undo: &plan.Unmount{At: v.lower}, Cause: plan.Cause{Reason: "one mount for all containers of the image"},
	}}}
}

// erofsMagic is EROFS_SUPER_MAGIC_V1 of the kernel's magic.h.
const erofsMagic = 0xe0f5e1e2

// isMounted reports whether an index is mounted on a directory, where this process sees it.
func isMounted(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && uint32(st.Type) == erofsMagic
}

// ownMount makes a directory a private mount: what is mounted in it does not come to be in other
// mount namespaces, where it would stay.
func ownMount(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == unix.ENOSPC {
		return fmt.Errorf("open_tree %s: %w: %s", dir, err, launch.NoMoreMounts)
	}
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: dir, Err: err}
	}
	// What is attached to a shared mount is shared from then on.
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err != nil {
		unix.Unmount(dir, unix.MNT_DETACH)
		return &os.PathError{Op: "mount_setattr", Path: dir, Err: err}
	}
	return nil
}

// Release says that a user of a chain's view is gone. The last one takes the mount along.
func (s *Store) Release(chain []digest.Digest, user string) error {
	unlock, err := s.lockRun()
	if err != nil {
		return err
	}
	defer unlock()
	return s.release(chainID(chain).Encoded(), user)
}

// release is Release under the lock. Without a user it looks whether there are any.
func (s *Store) release(hex, user string) error {
	if user != "" {
		if err := os.Remove(s.runPath(usersDir, hex, user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.lingers(hex) {
		return nil
	}
	err := os.Remove(s.runPath(usersDir, hex))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil // of others
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.unmount(hex)
}

// lingers reports whether the last user of a chain is not gone for long. The time of the directory is that of the
// last change of users.
func (s *Store) lingers(hex string) bool {
	if s.o.Linger <= 0 {
		return false
	}
	st, err := os.Stat(s.runPath(usersDir, hex))
	return err == nil && time.Since(st.ModTime()) < s.o.Linger
}

// unmount takes the mount of a chain away; who uses it still keeps it.
func (s *Store) unmount(hex string) error {
	os.Remove(s.runPath(usersDir, hex)) // unless there are users
	if _, err := os.Lstat(s.runPath(usersDir, hex)); err == nil {
		if err := s.unmountOne(hex); err != nil {
			return err
		}
	}
	return s.tidy()
}

func (s *Store) unmountOne(hex string) error {
	at := s.runPath(mountsDir, hex)
	if isMounted(at) {
		if err := detach(at); err != nil {
			return err
		}
	}
	os.Remove(s.runPath(usersDir, hex)) // unless there are users
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// detach unmounts what is mounted on a directory, with all that is mounted below that.
func detach(at string) error {
	return launch.Do(plan.Plan{Steps: []plan.Step{{Op: &plan.Unmount{At: at}}}})
}

// tidy unmounts what nobody uses, and what a killed process has left between two steps. Where nobody uses any, the private mount that they
// lie on takes them along: each umount(2) waits for all processors (synchronize_rcu_expedited).
func (s *Store) tidy() error {
	list, err := files.ListOwn(s.runPath(mountsDir))
	if err != nil {
		return nil
	}
	unused := slices.DeleteFunc(list, func(hex string) bool {
		_, err := os.Lstat(s.runPath(usersDir, hex))
		return err == nil
	})
	var errs []error
	if len(unused) == len(list) {
		errs = append(errs, detach(s.runPath(mountsDir)))
	}
	for _, hex := range unused {
		errs = append(errs, s.unmountOne(hex))
	}
	return errors.Join(errs...)
}

// SweepUsers releases the views of users that are no more, of processes that were killed.
func (s *Store) SweepUsers(alive func(user string) bool) error {
	unlock, err := s.lockRun()
	if err != nil {
		return err
	}
	defer unlock()
	chains, err := files.ListOwn(s.runPath(usersDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, c := range chains {
		users, err := files.ListOwn(s.runPath(usersDir, c))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(users) == 0 {
			errs = append(errs, s.release(c, ""))
		}
		for _, u := range users {
			if !alive(u) {
				errs = append(errs, s.release(c, u))
			}
		}
	}
	return errors.Join(append(errs, s.tidy())...)
}

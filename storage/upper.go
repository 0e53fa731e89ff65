package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"golang.org/x/sys/unix"
)

// An Upper is how the directory for what a container writes is made.
type Upper struct {
	ID        string
	Ephemeral bool  // it is of no use after a power failure, and lies with others of that kind
	Size      int64 // bytes that may be written; 0 is no limit. Only file systems with project quotas can
}

// upperPath is the directory of the directories "upper" and "work". Where the first is something else, as a link to what the container has not written, that is
// an error, beside the directory.
func (s *Store) upperPath(id string) (string, error) {
	if id == "" || strings.HasPrefix(id, ".") || strings.ContainsAny(id, "/\x00") {
		return "", fmt.Errorf("%q is no container's id", id)
	}
	for _, kind := range []string{ephemeral, containers} {
		switch st, err := os.Lstat(s.path(kind, id, "upper")); {
		case err == nil && !st.IsDir():
			return s.path(kind, id), &fs.PathError{Op: "open", Path: s.path(kind, id, "upper"), Err: unix.ENOTDIR}
		case err == nil:
			return s.path(kind, id), nil
		}
	}
	return "", &fs.PathError{Op: "open", Path: s.path(containers, id, "upper"), Err: fs.ErrNotExist}
}

// UpperPath is the directory that [View.NewUpper] has or would make.
func (s *Store) UpperPath(u Upper) string {
	if dir, _ := s.upperPath(u.ID); dir != "" {
		return dir
	}
	if u.Ephemeral {
		return s.path(ephemeral, u.ID)
	}
	return s.path(containers, u.ID)
}

// NewUpper makes the directory that takes a container's writes, DATA/containers/ID or DATA/ephemeral/ID with "upper" and
// "work" in it, or has the one that is there ready to be mounted once more. Its root looks as the image's.
func (v *View) NewUpper(u Upper) (_ string, err error) {
	s := v.s
	kind := containers
	if u.Ephemeral {
		kind = ephemeral
	}
	if dir, err := s.upperPath(u.ID); err == nil {
		if err := v.again(dir); err != nil {
			return "", err
		}
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !s.o.Rootless && v.fuse == "" {
		switch err := s.remembered("upper", s.tryUpper); {
		case errors.As(err, new(unkeptError)):
			return "", fmt.Errorf("the file system of %s keeps nothing that a container writes: the kernel lays an overlay over it no further than: %w: mount another one there (ext4, xfs, btrfs), or run it with --read-only", s.o.Data, err)
		case err != nil:
			return "", fmt.Errorf("try whether %s keeps what a container writes: %w", s.o.Data, err)
		}
	}
	dir := s.path(kind, u.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			v.s.removeUpper(dir, u.ID)
		}
	}()
	if u.Size > 0 {
		if err := setQuota(dir, u.ID, u.Size); err != nil {
			return "", err
		}
	}
	if err := s.resetWork(dir); err != nil {
		return "", err
	}
	if err := v.checkServed(dir, true); err != nil {
		return "", err
	}
	// It appears when it is whole.
	temp := filepath.Join(dir, tempPrefix+"upper")
	if err := clearWay(temp); err != nil {
		return "", err
	}
	if err := os.Mkdir(temp, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := v.dressRoot(temp); err != nil {
		return "", err
	}
	return dir, os.Rename(temp, filepath.Join(dir, "upper"))
}

// again prepares the directory that a container has had before.
func (v *View) again(dir string) error {
	if err := v.checkServed(dir, false); err != nil {
		return err
	}
	if v.fuse != "" {
		if err := v.s.do(context.Background(), job{Op: jobForget, Path: filepath.Join(dir, "upper")}, nil, nil); err != nil {
			return err
		}
	}
	return v.s.resetWork(dir)
}

// dressRoot gives a directory the looks of the image's root.
func (v *View) dressRoot(dir string) error {
	index, err := files.Open(v.s.indexPath(v.id))
	if err != nil {
		return err
	}
	defer index.Close()
	img, err := erofs.Open(index, make([]io.ReaderAt, len(v.chain))) // the root is no file of a tar
	if err != nil {
		return err
	}
	root, err := img.Root()
	if err != nil {
		return err
	}
	if !v.s.o.Rootless {
		if err := os.Chown(dir, int(root.UID), int(root.GID)); err != nil {
			return err
		}
	}
	if err := unix.Chmod(dir, root.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: dir, Err: err}
	}
	for _, x := range root.Xattrs {
		if err := unix.Setxattr(dir, x.Name, []byte(x.Value), 0); err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return &os.PathError{Op: "setxattr " + x.Name, Path: dir, Err: err}
		}
	}
	return nil
}

// clearWay takes away what is in the place of a directory and is none: by a link somebody else's would be used.
func clearWay(dir string) error {
	if st, err := os.Lstat(dir); err != nil || st.IsDir() {
		return nil
	}
	return files.RemoveAll(dir)
}

// resetWork empties the directory that overlayfs works in: after a volatile mount it refuses another
// one otherwise.
func (s *Store) resetWork(dir string) error {
	work := filepath.Join(dir, "work")
	if err := clearWay(work); err != nil {
		return err
	}
	list, err := os.ReadDir(work)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range list {
		if err := s.remove(filepath.Join(work, e.Name())); err != nil {
			return err
		}
	}
	return os.MkdirAll(work, 0o700)
}

// RemoveUpper takes away what a container wrote. One that is not there is none.
func (s *Store) RemoveUpper(id string) error {
	dir, err := s.upperPath(id)
	switch {
	case dir != "":
	case errors.Is(err, fs.ErrNotExist):
		dir = s.path(containers, id)
	default:
		return err
	}
	return s.removeUpper(dir, id)
}

func (s *Store) removeUpper(dir, id string) error {
	unlimited := clearQuota(dir, id)
	// "upper" last: it is what tells that there is one.
	for _, name := range []string{"work", tempPrefix + "upper", servedMark, "upper"} {
		p := filepath.Join(dir, name)
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := s.remove(p); err != nil {
			return errors.Join(unlimited, err)
		}
	}
	if filepath.Base(filepath.Dir(dir)) == ephemeral {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(unlimited, err)
		}
	}
	return unlimited
}

// SweepUppers takes away what containers have written that are no more, of the ephemeral kind.
func (s *Store) SweepUppers(alive func(id string) bool) error {
	list, err := files.ListOwn(s.path(ephemeral))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range list {
		if alive(id) {
			continue
		}
		if err := s.RemoveUpper(id); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := files.RemoveAll(s.path(ephemeral, id)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The driver of directories has a directory DATA/dirs/HEX for each layer, in the form that an overlay with the
// option userxattr reads. It appears under its name when it is whole. One that is being made, or taken away, has a
// name that begins with tempPrefix, and is locked by who does it.

// maxDirs is how many directories an overlay has at most: package plan refuses more, after they are unpacked.
const maxDirs = 127

// unpack has all layers of the view in directories.
func (v *View) unpack(ctx context.Context) error {
	if len(v.chain) > maxDirs {
		return fmt.Errorf("an image of %d layers: %d directories are the most of an overlay (the driver erofs takes more)", len(v.chain), maxDirs)
	}
	times := map[digest.Digest]int{}
	for _, id := range v.chain {
		name := id.Encoded()
		if times[id]++; times[id] > 1 {
			// overlayfs takes no directory twice.
			name = fmt.Sprintf("%s.%d", name, times[id])
		}
		opaque, err := v.s.unpackLayer(ctx, id, name)
		if err != nil {
			return fmt.Errorf("unpack layer %s: %w", short(id), err)
		}
		if opaque {
			v.names = nil
		}
		v.names = append(v.names, name)
	}
	slices.Reverse(v.names)
	v.lower = v.s.path(dirsDir)
	return nil
}

// opaqueMark is the mark of a layer that hides all of the lower ones, for which overlayfs has none.
const opaqueMark = ".opaque"

// unpackLayer makes the directory of a layer where it is missing, and tells whether it hides the lower ones.
func (s *Store) unpackLayer(ctx context.Context, id digest.Digest, name string) (opaque bool, err error) {
	dir := s.path(dirsDir, name)
	if _, err := os.Lstat(dir); err == nil {
		_, err := os.Lstat(dir + opaqueMark)
		return err == nil, nil
	}
	// One at a time: the tar is the lock, by a descriptor that who unpacks it does not get.
	lock, err := openLock(s.layerPath(id))
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if err := files.Flock(lock, unix.LOCK_EX); err != nil {
		return false, err
	}
	tar, err := files.Open(s.layerPath(id))
	if err != nil {
		return false, err
	}
	defer tar.Close()
	if _, err := os.Lstat(dir); err == nil {
		_, err := os.Lstat(dir + opaqueMark)
		return err == nil, nil
	}
	temp, err := newTempDir(s.path(dirsDir))
	if err != nil {
		return false, err
	}
	defer s.discardDir(temp)
	if err := temp.Chmod(0o755); err != nil {
		return false, err
	}
	if err := keepsLinks(temp.name); err != nil {
		return false, err
	}
	var out bytes.Buffer
	if err := s.do(ctx, job{Op: jobUnpack, Path: temp.name}, tar, &out); err != nil {
		return false, err
	}
	var done archive.Result
	if err := json.Unmarshal(out.Bytes(), &done); err != nil {
		return false, err
	}
	if done.Opaque {
		if err := os.WriteFile(dir+opaqueMark, nil, 0o600); err != nil {
			return false, err
		}
	}
	// What is lost with the power has to be lost whole.
	if err := unix.Syncfs(int(temp.Fd())); err != nil {
		return false, os.NewSyscallError("syncfs", err)
	}
	return done.Opaque, temp.place(dir)
}

// keepsLinks refuses a file system that gives to what a symbolic link leads to what the link itself was to be given, as sshfs does: it would be a file
// of the server's, which the image chose, and no owner but one is kept there, either.
func keepsLinks(dir string) error {
	link := filepath.Join(dir, ".link")
	if err := os.Symlink(".nothing", link); err != nil {
		return err
	}
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	err := unix.UtimesNanoAt(unix.AT_FDCWD, link, now, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		err = fmt.Errorf("the file system of %s follows symbolic links where it is not to, as sshfs does: have the data on another one: XDG_DATA_HOME=DIR, or a mount there", filepath.Dir(dir))
	}
	return errors.Join(err, os.Remove(link))
}

// A tempDir is a directory that is being made, or taken away.
type tempDir struct {
	*os.File
	name string
}

// newTempDir makes one, locked. A sweep that came between the making and the lock has taken it away: then there is
// another.
func newTempDir(parent string) (*tempDir, error) {
	for {
		name, err := os.MkdirTemp(parent, tempPrefix)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if _, err := os.Lstat(name); err == nil {
				return &tempDir{f, name}, nil
			}
		}
		f.Close()
	}
}

// place gives the directory its name.
func (d *tempDir) place(name string) error {
	if err := os.Rename(d.name, name); err != nil {
		return err
	}
	d.name = ""
	return files.SyncDir(filepath.Dir(name))
}

// discardDir takes the directory away with all that is in it, unless it has its place. What stays after an error goes with
// the next Open.
func (s *Store) discardDir(d *tempDir) error {
	defer d.Close()
	if d.name == "" {
		return nil
	}
	return s.remove(d.name)
}

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

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// GC takes away all layers that used does not name, with what was made of them, and tells which and how many bytes. used is asked under the store's exclusive lock. Who puts layers that
// used does not name yet, or has a use of one in hand, keeps others from collecting meanwhile, by a lock of their room. A process that is killed in it leaves some of them for the next one.
func (s *Store) GC(used func(digest.Digest) bool) (removed []digest.Digest, bytes int64, err error) {
	unlock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, 0, err
	}
	x, err := s.collect(used)
	unlock()
	if err = errors.Join(err, s.discard(x.dead)); err != nil {
		err = fmt.Errorf("remove layers: %w", err)
	}
	return x.removed, x.bytes, err
}

// Remove takes one layer away, whoever uses it: a damaged one, to be put again.
func (s *Store) Remove(id digest.Digest) error {
	if err := valid(id); err != nil {
		return err
	}
	if _, err := s.Layer(id); err != nil {
		return err
	}
	unlock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	x, err := s.collect(func(other digest.Digest) bool { return other != id })
	unlock()
	return errors.Join(err, s.discard(x.dead))
}

// A collection is what was taken away under the lock. Its directories have other names, and take long to remove: that comes after it.
type collection struct {
	removed []digest.Digest
	bytes   int64
	dead    []*tempDir
}

func (s *Store) discard(dead []*tempDir) (err error) {
	for _, d := range dead {
		err = errors.Join(err, s.discardDir(d))
	}
	return err
}

func (s *Store) collect(used func(digest.Digest) bool) (x collection, err error) {
	layers, err := s.List()
	if err != nil {
		return x, err
	}
	keep := map[string]bool{}
	for _, l := range layers {
		if used(l.DiffID) {
			keep[l.DiffID.Encoded()] = true
		}
	}
	// The tar comes last: as long as it is there, the next collection finds the rest.
	if err := s.dropIndexes(keep); err != nil {
		return x, err
	}
	if x.dead, err = s.dropDirs(keep); err != nil {
		return x, err
	}
	for _, pass := range []func(name string) bool{
		func(name string) bool { return !strings.HasSuffix(name, ".tar") },
		func(string) bool { return true },
	} {
		if err := s.dropFiles(layersDir, func(name string) bool {
			hex, _, _ := strings.Cut(name, ".")
			return keep[hex] || !pass(name)
		}); err != nil {
			return x, err
		}
	}
	for _, l := range layers {
		if !keep[l.DiffID.Encoded()] {
			x.removed, x.bytes = append(x.removed, l.DiffID), x.bytes+l.Size
		}
	}
	return x, nil
}

// bigFile is from how many bytes on a file's content is given back by another process: the kernel takes 0.1 ms for a megabyte that is in memory.
const bigFile = 16 << 20

// named reports whether a name in the store is one that the store gives: all else there is somebody's who knows why, or the directory another one's, by a link.
func named(name string) bool {
	hex, _, _ := strings.Cut(name, ".")
	return files.IsID(hex)
}

// dropFiles removes the files of a directory that keep does not name.
func (s *Store) dropFiles(dir string, keep func(name string) bool) error {
	list, err := os.ReadDir(s.path(dir))
	if err != nil {
		return err
	}
	var gone []*os.File
	defer func() { freeLater(gone) }()
	for _, e := range list {
		name := s.path(dir, e.Name())
		if !named(e.Name()) || keep(e.Name()) {
			continue
		}
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() && i.Size() >= bigFile {
			if fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
				gone = append(gone, os.NewFile(uintptr(fd), name))
			}
		}
		if err := os.RemoveAll(name); err != nil { // also of a directory that somebody has put there
			return err
		}
	}
	return nil
}

// freeLater closes files that have no name any more. The kernel gives back their content with the last descriptor, and whoever has that waits for it: a
// process is left with them that ends when this one has let go, or is killed.
func freeLater(files []*os.File) {
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var pipe [2]int
	if len(files) == 0 || unix.Pipe2(pipe[:], unix.O_CLOEXEC) != nil {
		return
	}
	defer unix.Close(pipe[1])
	until := os.NewFile(uintptr(pipe[0]), "pipe")
	defer until.Close()
	if pid, err := launch.Hold(until, files...); err == nil {
		go func() {
			for err := error(unix.EINTR); err == unix.EINTR; {
				_, err = unix.Wait4(pid, nil, 0, nil)
			}
		}()
	}
}

// dropIndexes removes the indexes of chains that are no longer whole, with their mounts.
func (s *Store) dropIndexes(keep map[string]bool) error {
	return s.dropFiles(indexesDir, func(name string) bool {
		f, err := files.Open(s.path(indexesDir, name))
		if errors.Is(err, fs.ErrNotExist) || files.Scarce(err) {
			return true
		}
		whole := err == nil
		if whole {
			defer f.Close()
			var devices []erofs.Device
			devices, err = erofs.Devices(f)
			whole = err == nil
			for _, d := range devices {
				whole = whole && keep[d.Tag]
			}
		}
		if !whole && isMounted(s.runPath(mountsDir, name)) {
			if unlock, err := s.lockRun(); err == nil {
				s.unmount(name)
				unlock()
			}
		}
		return whole
	})
}

// dropDirs gives the directories of layers that are gone another name, under which they are removed later.
func (s *Store) dropDirs(keep map[string]bool) (dead []*tempDir, err error) {
	list, err := os.ReadDir(s.path(dirsDir))
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		hex, _, _ := strings.Cut(e.Name(), ".")
		if !named(e.Name()) || keep[hex] {
			continue
		}
		name := s.path(dirsDir, e.Name())
		if !e.IsDir() {
			if err := os.Remove(name); err != nil {
				return dead, err
			}
			continue
		}
		d, err := newTempDir(s.path(dirsDir))
		if err != nil {
			return dead, err
		}
		dead = append(dead, d)
		err = os.Rename(name, filepath.Join(d.name, hex))
		if errors.Is(err, unix.EACCES) && s.o.Rootless {
			// A directory gets another one above it by who may write to it: the root of an image has mode 0555 in some, or another owner.
			err = s.do(context.Background(), job{Op: jobMove, Path: name, To: filepath.Join(d.name, hex)}, nil, nil)
		}
		if err != nil {
			return dead, err
		}
	}
	return dead, nil
}

// Check reads a layer, with its compressed forms, and compares it with the digests. A damaged one is a [*DigestError]; a
// damaged compressed form is removed as well.
func (s *Store) Check(ctx context.Context, id digest.Digest) error {
	l, err := s.Layer(id)
	if err != nil {
		return err
	}
	if err := checkFile(ctx, l.path, "layer", id); err != nil {
		return err
	}
	list, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		part := strings.Split(e.Name(), ".")
		if len(part) != 3 || part[0] != id.Encoded() {
			continue
		}
		name := s.path(layersDir, e.Name())
		err := checkFile(ctx, name, "compressed form of layer "+short(id), blobDigest(part[1]))
		var damaged *DigestError
		if errors.As(err, &damaged) {
			err = errors.Join(err, os.Remove(name))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func checkFile(ctx context.Context, name, what string, id digest.Digest) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := id.Algorithm().Digester()
	if _, err := io.Copy(sum.Hash(), &contextReader{ctx, f}); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if got := sum.Digest(); got != id {
		return &DigestError{what, id, got}
	}
	return nil
}

// UpperUsage is how many bytes the files have that a container has written, as Docker counts them; none, where it has no upper directory yet.
func (s *Store) UpperUsage(id string) (int64, error) {
	dir, err := s.upperPath(id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	fd, err := unix.Open(filepath.Join(dir, "upper"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return 0, nil // it went meanwhile
	}
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	upper := os.NewFile(uintptr(fd), dir)
	defer upper.Close()
	n, err := archive.Size(context.Background(), upper)
	if etc, e := unix.Openat(fd, "etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); e == nil {
		defer unix.Close(etc)
		if isMtab(etc, "mtab") {
			n -= int64(len(plan.MtabTarget)) // which the container has not written: see Diff
		}
	}
	return n, err
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

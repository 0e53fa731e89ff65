package content

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/namespace"
	"golang.org/x/sys/unix"
)

// CopyOptions are those of cp.
type CopyOptions struct {
	Archive bool // keep owners in each case; otherwise files copied out belong to the caller, and those copied in to root where the container has not their owner
	Follow  bool // copy what the link SRC leads to
}

// CopyToOptions are those of [View.CopyTo].
type CopyToOptions struct {
	KeepTypes bool // do not put a directory in the place of another file, nor the reverse
	Archive   bool // an owner in the archive that the container has not is an error; otherwise such a file is root's
}

// baseOf is the name that a path has in an archive: "." has no name of its own.
func baseOf(p string) string {
	switch base := path.Base(p); {
	case base == "/" || base == ".." || justContent(p):
		return "."
	default:
		return base
	}
}

// justContent reports whether a path means what is in a directory, and not the directory itself.
func justContent(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// wantsDir reports whether a path is written as that of a directory.
func wantsDir(p string) bool { return strings.HasSuffix(p, "/") || justContent(p) }

// copyFrom packs what the container has at a path, by the names that Docker gives it: that of what a followed link leads to, and ./NAME for what is in a directory.
func (v *View) copyFrom(ctx context.Context, w io.Writer, p string, follow bool) error {
	s, err := v.stat(p)
	if err != nil {
		return err
	}
	o := archive.WriteOptions{Rename: baseOf(p), Follow: follow}
	if follow && s.LinkTarget != "" {
		o.Rename = baseOf(s.LinkTarget)
	}
	if o.Rename == "." {
		o.Edit = func(h *tar.Header) error {
			h.Name = belowDot(h.Name)
			if h.Typeflag == tar.TypeLink {
				h.Linkname = belowDot(h.Linkname)
			}
			return nil
		}
	}
	return v.pack(ctx, w, p, o)
}

// belowDot is a name in an archive of a directory's content, beginning as that of the directory does.
func belowDot(name string) string { return "./" + strings.TrimPrefix(name, "./") }

// pack writes what the container has at a path. Ids are those of the container.
func (v *View) pack(ctx context.Context, w io.Writer, p string, o archive.WriteOptions) error {
	o.Follow, o.UID, o.GID = o.Follow || wantsDir(p), idInside(v.uid), idInside(v.gid)
	err := archive.Write(ctx, w, v.root, p, o)
	var at *archive.EntryError
	if err != nil && !errors.As(err, &at) && errors.Is(err, unix.ENOENT) {
		return v.pathError(p, err)
	}
	return err
}

// write unpacks an archive into a directory of the container, whose ids the archive has. One that the container has not is an error of Archive, and else root.
func (v *View) write(ctx context.Context, r io.Reader, dir string, o CopyToOptions) error {
	own := func(m namespace.IDMap) func(uint32) (uint32, error) {
		return func(id uint32) (uint32, error) {
			out, err := idOutside(m, id)
			if err != nil && !o.Archive {
				out, err = idOutside(m, 0)
			}
			return out, err
		}
	}
	return v.asRoot(func() error {
		f, err := archive.OpenIn(v.root, dir, unix.O_PATH)
		if err != nil {
			return v.pathError(dir, err)
		}
		fi, err := f.Stat()
		f.Close()
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return fmt.Errorf("%s in container %s: extraction point is not a directory", dir, v.name)
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && slices.Contains(v.passing, st.Dev) {
			return ErrInMemory{dir, v.name}
		}
		_, err = archive.Apply(ctx, v.root, r, archive.Options{
			Dir: dir, KeepTypes: o.KeepTypes, UID: own(v.uid), GID: own(v.gid), NoOwner: !o.Archive && os.Geteuid() != 0, Devices: archive.RefuseDevices,
		})
		if errors.Is(err, unix.EROFS) {
			return fmt.Errorf("container %s: what is mounted at %s is read-only: %w", v.name, dir, err)
		}
		return err
	})
}

// A target is where a copy goes: a directory that is there, and the name in it; "." is the directory
// itself.
type target struct{ dir, name string }

// destination finds that place by Docker's rules. stat looks at a path and follows links; it is ErrNotExist where there is
// nothing. src is as the caller wrote it.
func destination(src string, isDir bool, dst string, stat func(string) (fs.FileMode, error)) (target, error) {
	mode, err := stat(dst)
	switch {
	case err == nil && mode.IsDir():
		return target{dst, baseOf(src)}, nil
	case err == nil && isDir:
		return target{}, fmt.Errorf("cannot copy a directory to %s, which is a file", dst)
	case err == nil && wantsDir(dst):
		return target{}, fmt.Errorf("%s: not a directory", dst)
	case err == nil:
		return target{filepath.Dir(dst), filepath.Base(dst)}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return target{}, err
	case !isDir && wantsDir(dst):
		return target{}, fmt.Errorf("no such directory: %s", dst)
	}
	dst = strings.TrimRight(strings.TrimSuffix(dst, "/."), "/")
	dir := filepath.Dir(dst)
	if mode, err := stat(dir); err != nil || !mode.IsDir() {
		return target{}, fmt.Errorf("no such directory: %s", dir)
	}
	return target{dir, filepath.Base(dst)}, nil
}

// copyOut copies from the container to a path of the host, which is the caller's and is followed. The archive on the way
// is the container's making, and unpacked as such.
func (v *View) copyOut(ctx context.Context, src, dst string, o CopyOptions) error {
	s, err := v.stat(src)
	if err != nil {
		return err
	}
	asked := src
	if s.LinkTarget != "" && o.Follow {
		src = s.LinkTarget
		if s, err = v.lstat(src); err != nil {
			return err
		}
	}
	// What a followed link leads to gets the name of the link, and a link to nothing beside it is where that leads to.
	if dst, err = endOfLinks(dst); err != nil {
		return err
	}
	to, err := destination(asked, s.Mode.IsDir(), dst, func(p string) (fs.FileMode, error) {
		fi, err := os.Stat(p)
		if err != nil {
			return 0, err
		}
		// A copy takes the place of what it is called. /dev/null as a file of the machine's is no longer empty, and breaks what counts on that.
		if m := fi.Mode(); m&fs.ModeDevice != 0 {
			return 0, fmt.Errorf("invalid output path: %q must be a directory or a regular file: got a device", p)
		} else if !m.IsDir() && !m.IsRegular() {
			return 0, fmt.Errorf("invalid output path: %q must be a directory or a regular file", p)
		}
		return fi.Mode(), nil
	})
	if err != nil {
		return err
	}
	if real := files.RealPath(filepath.Join(to.dir, to.name)); real != "" && to.dir != dst {
		to = target{filepath.Dir(real), filepath.Base(real)} // a link to a file: the file is what is written
	}
	dir, err := os.Open(to.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	opts, pack := archive.Options{KeepTypes: true, NoOwner: !o.Archive}, archive.WriteOptions{Rename: to.name}
	if !o.Archive {
		pack.Edit = withoutRights
	}
	if os.Geteuid() != 0 || v.noNodes {
		opts.Devices = archive.SkipDevices
	}
	return archive.Pump(func(w io.Writer) error { return v.pack(ctx, w, src, pack) },
		func(r io.Reader) error { _, err := archive.Apply(ctx, dir, r, opts); return err })
}

// withoutRights takes from a file of a container what it gives to whoever runs or opens it, as cp(1) does: it becomes the caller's own, and a program of the container would
// run with the caller's rights for everybody on the machine. A node of a device is for its owner alone.
func withoutRights(h *tar.Header) error {
	const setIDs, owners = 0o6000, 0o600
	switch h.Typeflag {
	case tar.TypeDir: // of which set-group-ID is no right
	case tar.TypeChar, tar.TypeBlock:
		h.Mode &= owners
	default:
		h.Mode &^= setIDs
		delete(h.PAXRecords, "SCHILY.xattr.security.capability")
	}
	return nil
}

// endOfLinks gives the name that a link to nothing leads to beside itself, and any other path as it is. A link to nothing elsewhere is refused, as by cp(1):
// one that was copied out of a container before is that one's making, and the next file would come to be where it says.
func endOfLinks(p string) (string, error) {
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	for range maxLinks {
		to, err := os.Readlink(p)
		if err != nil {
			break
		}
		if strings.Contains(to, "/") {
			return "", fmt.Errorf("%s is a link to %s, where nothing is: name that, or remove the link", p, to)
		}
		p = filepath.Join(filepath.Dir(p), to)
	}
	return p, nil
}

// copyIn copies a path of the host, which is the caller's and is followed, into the container.
func (v *View) copyIn(ctx context.Context, src, dst string, o CopyOptions) error {
	look := os.Lstat
	if o.Follow || wantsDir(src) {
		look = os.Stat
	}
	fi, err := look(src)
	if err != nil {
		return err
	}
	to, err := destination(src, fi.IsDir(), dst, func(p string) (fs.FileMode, error) {
		s, err := v.stat(p)
		if err == nil && s.LinkTarget != "" {
			s, err = v.lstat(s.LinkTarget)
		}
		if errors.As(err, new(ErrNoSuchPath)) {
			return 0, fs.ErrNotExist
		}
		return s.Mode, err
	})
	if err != nil {
		return err
	}
	if to.dir != dst {
		real, err := v.follow(path.Join(to.dir, to.name))
		if err != nil {
			return err
		}
		to = target{path.Dir(real), path.Base(real)}
	}
	if o.Follow {
		real := files.RealPath(src)
		if real == "" {
			return &fs.PathError{Op: "open", Path: src, Err: fs.ErrNotExist} // it was there a moment ago
		}
		src = real
	}
	from, name := filepath.Dir(src), filepath.Base(src)
	if fi.IsDir() {
		from, name = src, "."
	}
	dir, err := os.Open(from)
	if err != nil {
		return err
	}
	defer dir.Close()
	pack := archive.WriteOptions{Rename: to.name}
	if v.noNodes && !o.Archive { // of an ordinary user's view of files, whose own are root's there and all others nobody's
		root := func(uint32) (uint32, error) { return 0, nil }
		pack.UID, pack.GID = root, root
	}
	return archive.Pump(func(w io.Writer) error {
		return archive.Write(ctx, w, dir, name, pack)
	}, func(r io.Reader) error {
		return v.write(ctx, r, to.dir, CopyToOptions{KeepTypes: true, Archive: o.Archive})
	})
}

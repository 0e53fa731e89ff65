package engine

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
	"time"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// Files of a container are reached by a descriptor of its root directory, as one of its own processes has it: with
// the volumes, tmpfs and mounts that are there at that moment. Names are looked up below it by
// archive, so that whatever the container does meanwhile, nothing of the host is read or written.

// A PathStat is what a container has at a path, in the form of Docker's API.
type PathStat struct {
	Name       string      `json:"name"`
	Size       int64       `json:"size"`
	Mode       fs.FileMode `json:"mode"`
	Mtime      time.Time   `json:"mtime"`
	LinkTarget string      `json:"linkTarget"` // of a symbolic link: where it leads in the container
}

// CopyOptions are those of cp.
type CopyOptions struct {
	Archive bool // keep owners in each case; otherwise files copied out belong to the caller, and those copied in to root where the container has not their owner
	Follow  bool // copy what the link SRC leads to
}

// ErrNoSuchPath is a path that a container has not. Its text is Docker's.
type ErrNoSuchPath struct{ Path, Container string }

func (e ErrNoSuchPath) Error() string {
	return fmt.Sprintf("Could not find the file %s in container %s", e.Path, e.Container)
}

// A view is a container's files, as this process sees them.
type view struct {
	name     string // of the container
	root     *os.File
	uid, gid namespace.IDMap
	facts    plan.Facts
	pid      int      // whose root it is
	served   bool     // by a program: who is not in the container's user namespace sees nothing of it
	noNodes  bool     // this process can make no device
	passing  []uint64 // devices of file systems that begin anew at each start, of a container that does not run
}

// idOutside gives the id that this process sees for one of the container's.
func idOutside(m namespace.IDMap, id uint32) (uint32, error) {
	out, ok := m.Outside(id)
	if !ok {
		return 0, fmt.Errorf("the container has no id %d", id)
	}
	return out, nil
}

// idInside is the reverse; who is nobody in the container is the overflow id there: proc_sys_kernel(5).
func idInside(m namespace.IDMap) func(uint32) (uint32, error) {
	return func(id uint32) (uint32, error) {
		if in, ok := m.Inside(id); ok {
			return in, nil
		}
		return overflow, nil
	}
}

// overflow is how the kernel shows an id that a user namespace has not: user_namespaces(7).
const overflow = 65534

// rootOf gives the ids that this process sees for the container's root.
func rootOf(uids, gids namespace.IDMap) (uid, gid int, err error) {
	u, err := idOutside(uids, 0)
	if err != nil {
		return 0, 0, err
	}
	g, err := idOutside(gids, 0)
	return int(u), int(g), err
}

// asRoot runs f on a thread that makes files as root of the container: a file system that was mounted in a user
// namespace takes files of its own ids only.
func (v *view) asRoot(f func() error) error {
	uid, gid, err := rootOf(v.uid, v.gid)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 || uid == 0 && gid == 0 {
		return f()
	}
	<-thread.Aside(func() {
		if err = takeIDs(uid, gid); err == nil {
			err = f()
		}
	})
	return err
}

// takeIDs changes the thread's ids for files, and gives back the capabilities that this costs: setfsuid(2).
func takeIDs(uid, gid int) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	unix.Setfsgid(gid)
	unix.Setfsuid(uid)
	return os.NewSyscallError("capset", unix.Capset(&hdr, &caps[0]))
}

// maxLinks is how many links in a row a path may have: path_resolution(7).
const maxLinks = 40

// stat looks at a path, and where it is a link, at where that leads.
func (v *view) stat(p string) (PathStat, error) {
	s, err := v.lstat(p)
	if err != nil || s.Mode&fs.ModeSymlink == 0 {
		return s, err
	}
	s.LinkTarget, err = v.follow(p)
	return s, err
}

func (v *view) lstat(p string) (PathStat, error) {
	f, err := archive.OpenIn(v.root, p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return PathStat{}, v.pathError(p, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return PathStat{}, err
	}
	return PathStat{Name: baseOf(p), Size: fi.Size(), Mode: fi.Mode(), Mtime: fi.ModTime()}, nil
}

// follow returns the path at the end of links at p, which need not be there.
func (v *view) follow(p string) (string, error) {
	p = path.Clean("/" + p)
	for range maxLinks {
		dir, base := path.Split(p)
		parent, err := archive.OpenIn(v.root, dir, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			return p, nil
		}
		if err != nil {
			return "", v.pathError(p, err)
		}
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), base, buf)
		parent.Close()
		if err != nil {
			return p, nil // no link, or nothing
		}
		if target := string(buf[:n]); path.IsAbs(target) {
			p = path.Clean(target)
		} else {
			p = path.Join(dir, target)
		}
	}
	return "", v.pathError(p, unix.ELOOP)
}

func (v *view) pathError(p string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return ErrNoSuchPath{p, v.name}
	}
	return fmt.Errorf("container %s: %w", v.name, err)
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
func (v *view) copyFrom(ctx context.Context, w io.Writer, p string, follow bool) error {
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
func (v *view) pack(ctx context.Context, w io.Writer, p string, o archive.WriteOptions) error {
	o.Follow, o.UID, o.GID = o.Follow || wantsDir(p), idInside(v.uid), idInside(v.gid)
	err := archive.Write(ctx, w, v.root, p, o)
	var at *archive.EntryError
	if err != nil && !errors.As(err, &at) && errors.Is(err, unix.ENOENT) {
		return v.pathError(p, err)
	}
	return err
}

// write unpacks an archive into a directory of the container, whose ids the archive has. One that the container has not is an error of Archive, and else root.
func (v *view) write(ctx context.Context, r io.Reader, dir string, o CopyToOptions) error {
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
			return ErrConflict{fmt.Sprintf("%s of container %s is in memory, and empty at each start: start the container before you copy there", dir, v.name)}
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
func (v *view) copyOut(ctx context.Context, src, dst string, o CopyOptions) error {
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
	if real := realPath(filepath.Join(to.dir, to.name)); real != "" && to.dir != dst {
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
	return pump(func(w io.Writer) error { return v.pack(ctx, w, src, pack) },
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
func (v *view) copyIn(ctx context.Context, src, dst string, o CopyOptions) error {
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
		real := realPath(src)
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
	return pump(func(w io.Writer) error {
		return archive.Write(ctx, w, dir, name, pack)
	}, func(r io.Reader) error {
		return v.write(ctx, r, to.dir, CopyToOptions{KeepTypes: true, Archive: o.Archive})
	})
}

// pump connects who writes a stream with who reads it; the reader's error comes first, since the writer's is of it.
func pump(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err := read(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // up to the writer's end
	}
	r.CloseWithError(err)
	if werr := <-written; err == nil {
		err = werr
	}
	return err
}

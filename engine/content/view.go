package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
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

// ErrNoSuchPath is a path that a container has not. Its text is Docker's.
type ErrNoSuchPath struct{ Path, Container string }

func (e ErrNoSuchPath) Error() string {
	return fmt.Sprintf("Could not find the file %s in container %s", e.Path, e.Container)
}

// ErrInMemory is a directory into which nothing can be copied while the container does not run.
type ErrInMemory struct{ Dir, Container string }

func (e ErrInMemory) Error() string {
	return fmt.Sprintf("%s of container %s is in memory, and empty at each start: start the container before you copy there", e.Dir, e.Container)
}

// A View is a container's files, as this process sees them.
type View struct {
	name     string // of the container
	root     *os.File
	uid, gid namespace.IDMap
	facts    plan.Facts
	pid      int      // whose root it is
	served   bool     // by a program: who is not in the container's user namespace sees nothing of it
	remote   bool     // some of its file systems are asked of a program or a server, which may not answer
	noNodes  bool     // this process can make no device
	passing  []uint64 // devices of file systems that begin anew at each start, of a container that does not run
}

// Open opens the root directory that a process has, of a container of that name.
func Open(pid int, name string, facts plan.Facts) (*View, error) {
	proc, err := os.Open("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	v := &View{name: name, facts: facts}
	if v.uid, v.gid, err = namespace.ReadIDMaps(nil, pid); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(proc.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: proc.Name() + "/root", Err: err}
	}
	v.root, v.pid = os.NewFile(uintptr(fd), "/"), pid
	var st unix.Statfs_t
	v.served = unix.Fstatfs(fd, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
	return v, nil
}

// Running says that the process is the container's own, which may have mounted anything meanwhile: a copy that waits for a file system's answer can be ended then, in a child.
func (v *View) Running() {
	mounts, err := namespace.ReadMounts(nil, v.pid)
	v.remote = v.served || err == nil && slices.ContainsFunc(mounts, asksOthers)
}

// asksOthers reports whether a program or another machine has the files of what is mounted.
func asksOthers(m namespace.Mount) bool {
	kind, _, _ := strings.Cut(m.Type, ".")
	return slices.Contains([]string{"fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs"}, kind)
}

// Close closes it.
func (v *View) Close() { v.root.Close() }

// Passing says that file systems at these places begin anew at each start: nothing is copied to there.
func (v *View) Passing(places []string) {
	for _, p := range places {
		f, err := archive.OpenIn(v.root, p, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil {
			v.passing = append(v.passing, st.Dev)
		}
		f.Close()
	}
}

// Stat looks at a path.
func (v *View) Stat(ctx context.Context, path string) (s PathStat, err error) {
	err = answered(&s, func(out io.Writer) error { return v.do(ctx, job{Op: jobStat, Path: path}, nil, out) })
	return s, err
}

// CopyFrom writes a tar of what there is at a path. Its names begin with the last name of the path; with "/." at
// the end it is what is in the directory, and they begin with ".". A link is packed as a link, unless follow is set: then what it leads to has its own name. Ids are the container's.
func (v *View) CopyFrom(ctx context.Context, path string, w io.Writer, follow bool) error {
	return v.do(ctx, job{Op: jobFrom, Path: path, Follow: follow}, nil, w)
}

// CopyTo unpacks a tar into a directory.
func (v *View) CopyTo(ctx context.Context, path string, r io.Reader, o CopyToOptions) error {
	return v.do(ctx, job{Op: jobTo, Path: path, KeepTypes: o.KeepTypes, Archive: o.Archive}, r, nil)
}

// CopyOut copies a path to one of the host, by the rules of cp. The host's path is the caller's: its links
// are followed, those that the container puts into it are not.
func (v *View) CopyOut(ctx context.Context, src, dst string, o CopyOptions) error {
	return v.do(ctx, job{Op: jobOut, Path: src, Dst: dst, Follow: o.Follow, Archive: o.Archive}, nil, nil)
}

// CopyIn copies a path of the host to one of the container, by the rules of cp.
func (v *View) CopyIn(ctx context.Context, src, dst string, o CopyOptions) error {
	return v.do(ctx, job{Op: jobIn, Path: src, Dst: dst, Follow: o.Follow, Archive: o.Archive}, nil, nil)
}

// Export writes a tar of the root file system, without what is mounted in it.
func (v *View) Export(ctx context.Context, w io.Writer) error {
	return v.do(ctx, job{Op: jobExport}, nil, w)
}

// do has a job be done on the container's files where it may be done.
func (v *View) do(ctx context.Context, j job, in io.Reader, out io.Writer) error {
	j.Name, j.Passing = v.name, v.passing
	if os.Geteuid() == 0 || mapped(v.uid) <= 1 && mapped(v.gid) <= 1 && !v.served {
		if !v.remote {
			return j.run(ctx, v, in, out)
		}
		// A thread that waits for an answer takes this process's signals, and heeds none; and where a program has begun with one, the kernel does not let who waits for it
		// end: Ctrl-C would do nothing. So a child waits, which is killed when this process ends, and what is copied into the container is read here.
		j.UIDs, j.GIDs = v.uid, v.gid
		return enter(ctx, storage.IDs{Facts: v.facts}, j, in, out, v.root)
	}
	// The host's paths are the caller's, and mean the same in the child: it has the same working directory.
	ids := storage.IDs{UIDs: mappings(v.uid), GIDs: mappings(v.gid), Facts: v.facts}
	if v.served {
		ids.Join = fmt.Sprintf("/proc/%d/ns/user", v.pid)
	}
	return enter(ctx, ids, j, in, out, v.root)
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

// asRoot runs f on a thread that makes files as root of the container: a file system that was mounted in a user
// namespace takes files of its own ids only.
func (v *View) asRoot(f func() error) error {
	uid, err := idOutside(v.uid, 0)
	if err != nil {
		return err
	}
	gid, err := idOutside(v.gid, 0)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 || uid == 0 && gid == 0 {
		return f()
	}
	<-thread.Aside(func() {
		if err = takeIDs(int(uid), int(gid)); err == nil {
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
func (v *View) stat(p string) (PathStat, error) {
	s, err := v.lstat(p)
	if err != nil || s.Mode&fs.ModeSymlink == 0 {
		return s, err
	}
	s.LinkTarget, err = v.follow(p)
	return s, err
}

func (v *View) lstat(p string) (PathStat, error) {
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
func (v *View) follow(p string) (string, error) {
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

func (v *View) pathError(p string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return ErrNoSuchPath{p, v.name}
	}
	return fmt.Errorf("container %s: %w", v.name, err)
}

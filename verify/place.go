package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// A place is what a lookup inside the container arrives at.
type place struct {
	missing bool // nothing is there
	closed  bool // a directory above it is closed to everyone inside

	mode         uint32 // S_IFMT and permissions
	major, minor uint32 // of the device that it is
	mount        int    // id of the mount it is on, as in mountinfo
	top          bool   // it is the root of that mount
	fs           string // type of the file system; empty where that is not known
	readonly     bool   // mount or file system
	empty        bool   // it is a directory on a tmpfs, with nothing in it
}

// at looks up a path of the container, and judges what is there.
func (r *reader) at(name string, judge func(place) answer) answer {
	p, err := r.look(name)
	if err != nil {
		return cannot(err)
	}
	return judge(p)
}

// look looks up a path of the container. What is there is not opened in earnest, but for a
// directory on a tmpfs, which nothing can make wait.
func (r *reader) look(name string) (place, error) {
	if r.rootErr != nil {
		return place{}, r.rootErr
	}
	fd, err := r.lookup(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == unix.ENOTDIR:
		return place{missing: true}, nil
	case err == unix.EACCES && r.served():
		return place{}, errServed
	case err == unix.EACCES && r.closed(name):
		return place{closed: true}, nil
	case err != nil:
		return place{}, fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	p, err := r.examine(fd)
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// errServed is why nothing can be looked up below a root that fuse-overlayfs shows, by its user and by root neither: fuse(4), allow_other.
var errServed = errors.New("the root is shown by a program (FUSE), which the kernel has answer those in the container's user namespace alone: see there by kakuri exec")

// served reports whether the root is on a FUSE.
func (r *reader) served() bool {
	return slices.ContainsFunc(r.mounts, func(m namespace.Mount) bool {
		return m.Point == "/" && (m.Type == "fuse" || strings.HasPrefix(m.Type, "fuse."))
	})
}

// lookup opens a path below the process's root with O_PATH. Its errors are bare errnos.
func (r *reader) lookup(name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for tries := 0; ; tries++ {
		// EAGAIN: something was moved in the meantime, openat2(2).
		fd, err := unix.Openat2(int(r.root.Fd()), name, &how)
		if err != unix.EINTR && (err != unix.EAGAIN || tries == 100) {
			return fd, err
		}
	}
}

func (r *reader) examine(fd int) (place, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return place{}, err
	}
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fd, &sfs); err != nil {
		return place{}, err
	}
	p := place{
		mode: uint32(st.Mode), major: st.Rdev_major, minor: st.Rdev_minor,
		mount: int(st.Mnt_id), top: st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		readonly: sfs.Flags&unix.ST_RDONLY != 0,
	}
	for _, m := range r.mounts {
		if m.ID == p.mount {
			p.fs = m.Type
		}
	}
	if p.mode&unix.S_IFMT == unix.S_IFDIR && sfs.Type == unix.TMPFS_MAGIC {
		var err error
		if p.empty, err = empty(fd); err != nil && err != unix.EACCES {
			return place{}, err
		}
	}
	return p, nil
}

// empty tells whether the directory has no entries. A mask is readable for everyone.
func empty(dir int) (bool, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	_, err = f.Readdirnames(1)
	if err == io.EOF {
		return true, nil
	}
	return false, err
}

// closed tells whether the container cannot reach name either, where the caller may not:
// the directory in the way belongs to a user and a group without ids inside, so that no
// capability of the container counts there (capabilities(7), "Interaction with user
// namespaces"), and lets nobody else through.
func (r *reader) closed(name string) bool {
	uids, gids, err := r.maps()
	if err != nil {
		return false
	}
	for dir := path.Dir(path.Clean("/" + name)); dir != "/"; dir = path.Dir(dir) {
		fd, err := r.lookup(dir)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		_, user := uids.Inside(st.Uid)
		_, group := gids.Inside(st.Gid)
		return err == nil && !user && !group && st.Mode&0o001 == 0
	}
	return false
}

// mount finds the mount of checks[i]: the one that a lookup of its path arrives at or,
// where a later step of the plan has covered it, the one below.
func (r *reader) mount(i int, c *plan.MountCheck) answer {
	if r.mountsErr != nil {
		return cannot(r.mountsErr)
	}
	if above, hidden := covers(r.plan, r.checks, i); above > 0 || hidden != nil {
		return judgeStack(c, r.mounts, above, hidden)
	}
	p, err := r.look(c.Dest)
	if err != nil {
		return cannot(err)
	}
	return judgeMount(c, p, r.mounts)
}

// covers counts what later steps of the plan put over the mount of checks[i]: above is the
// mounts at the same path, and hidden how many there are at each directory above it; nil for none.
func covers(p plan.Plan, checks []plan.NumberedCheck, i int) (above int, hidden map[string]int) {
	dest := path.Clean(checks[i].Check.(*plan.MountCheck).Dest)
	for _, later := range checks[i+1:] {
		at := ""
		switch c := later.Check.(type) {
		case *plan.MountCheck:
			at = c.Dest
		case *plan.MaskCheck:
			at = c.Path
		case *plan.ReadonlyCheck:
			if _, ok := p.Steps[later.N-1].Op.(*plan.ReadonlyPath); ok {
				at = c.Path
			}
		case *plan.DeviceCheck:
			if op, ok := p.Steps[later.N-1].Op.(*plan.Device); ok && op.Bind != "" {
				at = c.Path
			}
		}
		if at == "" {
			continue
		}
		switch at = path.Clean(at); {
		case at == dest:
			above++
		case strings.HasPrefix(dest, at+"/"):
			if hidden == nil {
				hidden = map[string]int{}
			}
			hidden[at]++
		}
	}
	return above, hidden
}

// hidden tells whether a path, or for a directory an entry of it, is the host's of the
// same name. What a view shows keeps its times and its size; what was made inside has
// its own.
func (r *reader) hidden(c *plan.HiddenCheck) answer {
	p, err := r.look(c.Path)
	if err != nil {
		return cannot(err)
	}
	if how, ok := p.masked(); ok {
		return yes(how)
	}
	names := []string{""}
	if p.mode&unix.S_IFMT == unix.S_IFDIR {
		dir, err := os.Open(c.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return yes("made inside")
		case errors.Is(err, fs.ErrPermission):
			return yes("closed to the caller on the host, too")
		}
		if err != nil {
			return cannot(err)
		}
		defer dir.Close()
		if names, err = dir.Readdirnames(1000); err != nil && err != io.EOF {
			return cannot(err)
		}
	}
	for _, name := range names {
		same, err := r.hosts(path.Join(c.Path, name))
		if err != nil {
			return cannot(err)
		}
		if same {
			return no("shows the host's " + path.Join(c.Path, name))
		}
	}
	return yes("made inside")
}

// hosts tells whether the path shows the same inside as on the host.
func (r *reader) hosts(name string) (bool, error) {
	var ours, theirs unix.Stat_t
	if err := unix.Lstat(name, &ours); err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES {
		return false, nil // for a caller that may not look, the container may not either
	} else if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(r.root.Fd()), name, &how)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false, nil
	}
	if err == unix.EACCES && r.served() {
		return false, errServed
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &theirs); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return ours.Mode == theirs.Mode && ours.Size == theirs.Size && ours.Mtim == theirs.Mtim, nil
}

// rootMount looks at what is mounted at "/". op is the step that put it there.
func (r *reader) rootMount(op plan.Op) answer {
	if r.mountsErr != nil {
		return cannot(r.mountsErr)
	}
	ours, err := namespace.ReadMounts(nil, os.Getpid())
	if err != nil {
		return cannot(err)
	}
	if attach, ok := op.(*plan.AttachRoot); ok && attach.Path == "/" {
		ours = nil // the host's root is what was asked for
	}
	return judgeRoot(r.mounts, ours)
}

// attributes turns the options of a mount into MOUNT_ATTR_* bits. A mount that says
// nothing of access times keeps them all.
func attributes(m namespace.Mount) uint64 {
	var set uint64
	atime := uint64(abi.MountAttrStrictatime)
	for _, word := range strings.Split(m.Options, ",") {
		switch word {
		case "ro":
			set |= abi.MountAttrRdonly
		case "nosuid":
			set |= abi.MountAttrNosuid
		case "nodev":
			set |= abi.MountAttrNodev
		case "noexec":
			set |= abi.MountAttrNoexec
		case "nodiratime":
			set |= abi.MountAttrNodiratime
		case "nosymfollow":
			set |= abi.MountAttrNosymfollow
		case "idmapped":
			set |= abi.MountAttrIdmap
		case "noatime":
			atime = abi.MountAttrNoatime
		case "relatime":
			atime = abi.MountAttrRelatime
		}
	}
	// A file system that is read-only as a whole is so here, too.
	if super, _, _ := strings.Cut(m.Super, ","); super == "ro" {
		set |= abi.MountAttrRdonly
	}
	return set | atime
}

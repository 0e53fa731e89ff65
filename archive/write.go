package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WriteOptions say how files become an archive. The zero value packs everything as it is.
type WriteOptions struct {
	Limits Limits // of which Bytes, Entries, Depth, Name and Xattrs are asked
	// Rename is the name of the tree in the archive; empty is its last own name, "." has its
	// content at the archive's root.
	Rename string
	// Follow packs what a link leads to, when the name that was asked for is one. Other links are packed as links.
	Follow bool
	// OneMount packs mount points as empty files and directories, and opens none: a server of files may not answer.
	OneMount bool
	// Known, when not nil, tells of OneMount's whether an owner is one of the tree's: all that can be seen is what is mounted there. What is somebody else's is root's then.
	Known func(uid, gid uint32) bool
	// Layer turns overlayfs's marks into whiteouts: the reverse of [Options].Layer.
	Layer bool
	// Served is that fuse-overlayfs has written the directory, which marks by names what it cannot mark else.
	Served bool
	// UID and GID turn owners of files into owners of the archive; nil keeps them.
	UID, GID func(uint32) (uint32, error)
	// Skip, when not nil, leaves out a file, which is open with O_PATH, and has a name in the archive, with all that is below it.
	Skip func(f *os.File, name string) bool
	// Frame, when not nil, reports whether a directory, by its header with attributes, is left out where nothing of it is packed. Of Layer's, those that hide what is below are not asked about, nor what is in them.
	Frame func(h *tar.Header) bool
	// Edit, when not nil, may change each header before it is written.
	Edit func(h *tar.Header) error
}

// Write packs what a path below root leads to, as a tar in PAX format. The path is looked up as [OpenIn]
// does; below it no link is followed. Another process may change the tree meanwhile: then the
// archive has some of it, but nothing from outside of root and what is mounted in it.
//
// Files of a directory are in the order of their names, so equal trees make equal archives. Times keep their nanoseconds.
// Sockets are left out, and so is what file systems of the kernel (proc, sysfs, cgroup, devpts)
// have, unless the path itself lies in one. Holes become zeros.
func Write(ctx context.Context, w io.Writer, root *os.File, path string, o WriteOptions) error {
	flags := unix.O_PATH
	if !o.Follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := OpenIn(root, path, flags)
	if err != nil {
		return err
	}
	o.Limits = o.Limits.or()
	pk := &packer{ctx: ctx, tar: tar.NewWriter(w), o: o, links: map[inode]string{}, buf: make([]byte, 128<<10)}
	name := o.Rename
	if name == "" {
		_, name = split(strings.TrimRight(path, "/"))
	}
	if name == "" || name == ".." {
		name = "."
	}
	if err := pk.file(f, name, 0, nil); err != nil {
		return err
	}
	return pk.tar.Close()
}

type packer struct {
	ctx     context.Context
	tar     *tar.Writer
	o       WriteOptions
	links   map[inode]string // the first name of files that have several
	names   int              // bytes of these
	listed  int              // bytes of the names of the directories under way
	frames  []*tar.Header    // directories that wait for something that is packed of them, outermost first
	entries int64
	bytes   int64
	buf     []byte
	waited  time.Duration // for leases
}

type inode struct{ major, minor, ino uint64 }

// maxKeptNames bounds the names that are kept until the end, in bytes: of files that have several, and of directories; and those of the directories under way. It is
// enough for some three million, while one that is deep in directories may have 4 kB.
const maxKeptNames = 256 << 20

// above is what a file's directory says about the file.
type above struct {
	mount uint64
	marks bool // whiteouts may be empty files
	anew  bool // nothing of a layer below is to be seen in it
}

// file packs one file, and what is below it. It closes f, which is of O_PATH.
func (p *packer) file(f *os.File, name string, depth int, up *above) error {
	defer f.Close()
	if p.o.Skip != nil && p.o.Skip(f, name) {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if err := p.one(f, name, depth, up); err != nil {
		var at *EntryError
		if errors.As(err, &at) {
			return err
		}
		return &EntryError{name, err}
	}
	return nil
}

func (p *packer) one(f *os.File, name string, depth int, up *above) error {
	if err := p.count(name, depth); err != nil {
		return err
	}
	var st unix.Statx_t
	if p.o.OneMount && up != nil {
		if err := remembered(f, 0, &st); err != nil {
			return err
		}
		if st.Mnt_id != up.mount {
			return p.mountPoint(f, name)
		}
	}
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return err
	}
	h, err := p.header(f, name, &st)
	if h == nil || err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(f, h, name, depth, &st, up)
	case unix.S_IFREG:
		return p.regular(f, h, name, &st, up)
	case unix.S_IFCHR:
		if p.o.Layer && st.Rdev_major == 0 && st.Rdev_minor == 0 {
			return p.hide(name)
		}
	}
	return p.put(h)
}

// count asks whether one more file is taken.
func (p *packer) count(name string, depth int) error {
	if p.entries++; p.entries > p.o.Limits.Entries {
		return &LimitError{"entries", p.o.Limits.Entries}
	}
	if depth > p.o.Limits.Depth {
		return &LimitError{"directories in a name", int64(p.o.Limits.Depth)}
	}
	if len(name) > p.o.Limits.Name {
		return &LimitError{"bytes in a name", int64(p.o.Limits.Name)}
	}
	return nil
}

// header makes the header of a file, without its attributes; nil for a socket.
func (p *packer) header(f *os.File, name string, st *unix.Statx_t) (*tar.Header, error) {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(st.Mode & 0o7777),
		ModTime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
	}
	if base := name[strings.LastIndexByte(name, '/')+1:]; p.o.Layer && strings.HasPrefix(base, whPrefix) {
		return nil, errors.New("a name that begins with .wh. hides files in a layer, and cannot be a file's: rename it")
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
		h.Size = int64(st.Size)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		target, err := readlink(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		h.Linkname, h.Mode = target, 0o777
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(st.Rdev_major), int64(st.Rdev_minor)
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	return h, p.owner(h, st)
}

func (p *packer) owner(h *tar.Header, st *unix.Statx_t) error {
	uid, gid := st.Uid, st.Gid
	var err error
	if p.o.UID != nil {
		if uid, err = p.o.UID(uid); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if p.o.GID != nil {
		if gid, err = p.o.GID(gid); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	h.Uid, h.Gid = int(uid), int(gid)
	return nil
}

// readlink reads a link that is open with O_PATH.
func readlink(fd int) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (p *packer) put(h *tar.Header) error {
	frames := p.frames
	p.frames = nil
	for _, frame := range frames {
		if err := p.put(frame); err != nil {
			return err
		}
	}
	if p.o.Edit != nil {
		if err := p.o.Edit(h); err != nil {
			return err
		}
	}
	return p.tar.WriteHeader(h)
}

// hide writes the whiteout of a name.
func (p *packer) hide(name string) error {
	dir, base := split(name)
	return p.put(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: join(dir, whPrefix+base), Mode: 0o600})
}

// remembered is statx(2) of what the kernel knows without asking who serves the files: a program of a container's may never answer, and who waits for
// one that has read the question waits beyond any signal.
func remembered(f *os.File, mask int, st *unix.Statx_t) error {
	return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, mask, st)
}

// mountPoint packs the place of a mount, which is below it and not to be seen. A directory that nobody may write is as its file system has it, be it the kernel's or
// one that tells us nothing, and not as anybody makes one.
func (p *packer) mountPoint(f *os.File, name string) error {
	var st unix.Statx_t
	if remembered(f, unix.STATX_BASIC_STATS, &st) != nil { // fuse(4) of a user namespace that we are not in
		st.Mode = unix.S_IFDIR
		if _, err := openat2(int(f.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY, 0, beneath); err == unix.ENOTDIR {
			st.Mode = unix.S_IFREG | 0o644
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK { // whose target would be asked for
		st.Mode = unix.S_IFREG | 0o644
	}
	h, err := p.header(f, name, &st)
	if h == nil || err != nil {
		return err
	}
	h.Size = 0
	if p.o.Known != nil && !p.o.Known(st.Uid, st.Gid) {
		h.Uid, h.Gid = 0, 0
	}
	if h.Typeflag == tar.TypeDir && h.Mode&0o200 == 0 {
		h.Mode = 0o755
	}
	return p.put(h)
}

// directory packs a directory with what is in it.
func (p *packer) directory(path *os.File, h *tar.Header, name string, depth int, st *unix.Statx_t, up *above) error {
	fd, err := openat2(int(path.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, beneath)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	marks, err := p.attributes(fd, h)
	if err != nil {
		return err
	}
	in := &above{mount: st.Mnt_id, marks: marks[opaqueXattr] == "x", anew: up != nil && up.anew}
	if p.o.Frame != nil && !in.anew && p.o.Frame(h) {
		around := len(p.frames)
		p.frames = append(p.frames, h)
		defer func() { p.frames = p.frames[:min(around, len(p.frames))] }()
	} else if err := p.put(h); err != nil {
		return err
	}
	if up != nil && up.mount != st.Mnt_id && ofKernel(fd) {
		return nil
	}
	served := marks[servedXattr] == "y" || marks[servedRootXattr] == "y" || p.o.Served && HasServedMark(fd)
	if served || marks[opaqueXattr] == "y" {
		if err := p.hide(join(name, whPrefix+".opq")); err != nil {
			return err
		}
		in.anew = true
	}
	before := p.listed
	defer func() { p.listed = before }()
	names, err := p.list(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if served && IsServedMark(n) {
			continue
		}
		if gone, is := ServedWhiteout(n); p.o.Served && is {
			if err := p.hide(join(name, gone)); err != nil {
				return err
			}
			continue
		}
		fd, err := openat2(int(dir.Fd()), n, unix.O_PATH|unix.O_NOFOLLOW, 0, beneath)
		if err == unix.ENOENT {
			continue // removed meanwhile
		}
		if err != nil {
			return &EntryError{join(name, n), err}
		}
		if err := p.file(os.NewFile(uintptr(fd), n), join(name, n), depth+1, in); err != nil {
			return err
		}
	}
	return nil
}

// list gives the names of a directory, sorted. One whose files a program serves may have no end, and each that is in it, too.
func (p *packer) list(dir *os.File) ([]string, error) {
	var list []string
	for p.ctx.Err() == nil {
		some, err := dir.Readdirnames(1024)
		for _, n := range some {
			p.listed += len(n) + 16 // of a string itself
		}
		if p.listed > maxKeptNames {
			return nil, &LimitError{"bytes of names of directories in each other", maxKeptNames}
		}
		list = append(list, some...)
		switch {
		case err == io.EOF, errors.Is(err, unix.ENOENT): // removed meanwhile
			slices.Sort(list)
			return list, nil
		case err != nil:
			return nil, err
		}
	}
	return nil, p.ctx.Err()
}

// IsServedMark reports whether a file of a directory that fuse-overlayfs has marked as opaque is a part of the mark, by its name: a whiteout of
// the second one for those who know it by that, and itself. Containers cannot make such names there.
func IsServedMark(name string) bool { return name == whPrefix+".opq" || name == whOpaque }

// HasServedMark reports whether a directory has the mark of fuse-overlayfs that says by a file's name that it is opaque, as where it has no attributes.
func HasServedMark(fd int) bool {
	var st unix.Stat_t
	return unix.Fstatat(fd, whOpaque, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// ServedWhiteout gives the name that a file of an upper directory of fuse-overlayfs hides by its own, as it does where it can make no devices, on NFS for one.
// What it shows has no such names: it refuses to make them.
func ServedWhiteout(name string) (gone string, is bool) {
	gone, is = strings.CutPrefix(name, whPrefix)
	return gone, is && gone != ""
}

// ofKernel reports whether a file shows the state of the kernel.
func ofKernel(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.NSFS_MAGIC, unix.SELINUX_MAGIC:
		return true
	}
	return false
}

// regular packs a file, or one more name of a file that was packed.
func (p *packer) regular(path *os.File, h *tar.Header, name string, st *unix.Statx_t, up *above) error {
	if st.Nlink > 1 {
		id := inode{uint64(st.Dev_major), uint64(st.Dev_minor), st.Ino}
		if first, ok := p.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.put(h)
		}
		if p.names += len(name); p.names > maxKeptNames {
			return &LimitError{"bytes of names of files that have several", maxKeptNames}
		}
		p.links[id] = name
	}
	// The file that was looked at is the one that is opened.
	f, err := p.open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	marks, err := p.attributes(int(f.Fd()), h)
	if err != nil {
		return err
	}
	if _, ok := marks[whiteoutXattr]; ok && p.o.Layer && up != nil && up.marks && h.Size == 0 {
		return p.hide(name)
	}
	content := io.Reader(f)
	if !p.o.Layer && h.Size <= int64(os.Getpagesize()) && ofKernel(int(f.Fd())) {
		text, err := generated(int(f.Fd()), h.Size, up == nil)
		if err != nil {
			return err
		}
		h.Size, content = int64(len(text)), bytes.NewReader(text)
	}
	if p.bytes += h.Size; p.bytes > p.o.Limits.Bytes {
		return &LimitError{"bytes", p.o.Limits.Bytes}
	}
	if err := p.put(h); err != nil {
		return err
	}
	return p.content(content, h.Size)
}

// maxGenerated bounds a file that the kernel makes, as /proc/1/pagemap, which has no end that anybody would wait for.
const maxGenerated = 4 << 20

// generated reads a file that the kernel makes while it is read: it has no size before that, or a page's. One that was asked for is read to its end, as far as that is there
// at once. Among the files of a directory those without a size are what they seem, empty: some have no end, and what is read of others, as /proc/kmsg, is gone.
func generated(fd int, size int64, asked bool) ([]byte, error) {
	most := size
	if asked {
		most = maxGenerated
	}
	if err := unix.SetNonblock(fd, true); err != nil { // File.Fd has had it wait
		return nil, err
	}
	var text []byte
	for buf := make([]byte, 64<<10); int64(len(text)) < most; {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil && asked:
			return nil, &os.PathError{Op: "read", Path: "what the kernel makes", Err: err}
		case err != nil || n == 0:
			return text, nil
		default:
			text = append(text, buf[:n]...)
		}
	}
	if asked {
		return nil, &LimitError{"bytes in a file of the kernel's", maxGenerated}
	}
	return text[:most], nil
}

// leasePatience is how long, for all files together, is waited for processes that have leases on files: F_SETLEASE of fcntl(2). A server of files gives one up at
// once when it is told that somebody opens the file; who means harm would have each file cost as long as /proc/sys/fs/lease-break-time says.
const leasePatience = 2 * time.Second

// open opens a regular file for reading.
func (p *packer) open(path *os.File) (*os.File, error) {
	for {
		f, err := reopenFile(path, unix.O_RDONLY|unix.O_NONBLOCK)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Unwrap(err)
		case p.waited >= leasePatience:
			return nil, fmt.Errorf("a process has a lease on it, and does not give it up: %w", unix.EWOULDBLOCK)
		}
		const moment = 5 * time.Millisecond
		p.waited += moment
		select {
		case <-p.ctx.Done():
			return nil, p.ctx.Err()
		case <-time.After(moment):
		}
	}
}

// content writes exactly size bytes: the file may grow and shrink meanwhile.
func (p *packer) content(f io.Reader, size int64) error {
	for size > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		b := p.buf[:min(int64(len(p.buf)), size)]
		n, err := f.Read(b)
		if err == io.EOF {
			clear(b)
			n, err = len(b), nil
		}
		if err != nil {
			return err
		}
		if _, err := p.tar.Write(b[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// attributes adds those that are kept to a header, and returns overlayfs's marks.
func (p *packer) attributes(fd int, h *tar.Header) (marks map[string]string, err error) {
	names, err := listxattr(fd)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, name := range names {
		mark := p.o.Layer && isMark(name)
		if !mark && !keptXattr(name) {
			continue
		}
		value, there, err := p.attribute(fd, name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("extended attribute %q: %w", name, err)
		case !there:
			continue
		case mark:
			marks = with(marks, name, value)
			continue
		}
		if size += len(name) + len(value); size > p.o.Limits.Xattrs {
			return nil, &LimitError{"bytes of extended attributes in an entry", int64(p.o.Limits.Xattrs)}
		}
		if strings.Contains(name, "=") {
			return nil, fmt.Errorf("extended attribute %q: a tar cannot have a name with = in it", name)
		}
		h.PAXRecords = with(h.PAXRecords, paxXattr+name, value)
	}
	return marks, nil
}

// isMark reports whether an attribute is one of overlayfs's marks.
func isMark(name string) bool {
	return name == opaqueXattr || name == whiteoutXattr || name == servedXattr || name == servedRootXattr
}

// with is a map with one value more; it may be nil before.
func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// attribute is the value that an attribute has in the archive, where it has one there.
func (p *packer) attribute(fd int, name string) (value string, there bool, err error) {
	value, err = getxattr(fd, name)
	if err == unix.ENODATA || err == unix.EOVERFLOW { // gone by now; capabilities for a root that has no id here
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	switch {
	case name == capXattr:
		value = capabilityOf(value, p.o.UID)
	case isACL(name):
		if value, err = mapACL(value, p.o.UID, p.o.GID); err != nil {
			return "", false, nil // of a user who has no id in the archive
		}
	}
	return value, true, nil
}

// listxattr gives the names of a file's extended attributes in their order; none where the file system has
// none.
func listxattr(fd int) ([]string, error) {
	for {
		n, err := unix.Flistxattr(fd, nil)
		if err == unix.EOPNOTSUPP || n == 0 && err == nil {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("extended attributes: %w", err)
		}
		buf := make([]byte, n)
		n, err = unix.Flistxattr(fd, buf)
		if err == unix.ERANGE {
			continue // there are more by now
		}
		if err != nil {
			return nil, fmt.Errorf("extended attributes: %w", err)
		}
		names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
		slices.Sort(names)
		return names, nil
	}
}

func getxattr(fd int, name string) (string, error) {
	for {
		n, err := unix.Fgetxattr(fd, name, nil)
		if err != nil || n == 0 {
			return "", err
		}
		buf := make([]byte, n)
		n, err = unix.Fgetxattr(fd, name, buf)
		if err == unix.ERANGE {
			continue
		}
		return string(buf[:max(n, 0)]), err
	}
}

package namespace

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
)

// errNotNS is returned for files that are no namespaces.
var errNotNS = errors.New("not a namespace")

// An nsFile is an open namespace and what it says of itself. The kernel's are files of
// nsfs; tests have tables.
type nsFile interface {
	inode() uint64
	id() uint64                   // 0 where the kernel gives none
	creator() int64               // of a user namespace, in the reader's ids; -1 where unknown
	ask(relation) (nsFile, error) // another one, to be closed by the caller
	close()
}

// A relation is the way from one namespace to another, as the number of its ioctl.
type relation uint

const (
	owner  relation = unix.NS_GET_USERNS
	parent relation = unix.NS_GET_PARENT
)

// An nsFD is a file of nsfs, see ioctl_nsfs(2).
type nsFD struct {
	fd   int
	stat unix.Stat_t
}

// openNS opens the namespace that path leads to from d. What path leads to may be of a
// stranger's choosing, and change meanwhile: it is looked at before it is opened in
// earnest, since opening a device or a FIFO can have effects.
func openNS(d dir, path string, how uint64) (nsFile, error) {
	handle, err := retry(func() (int, error) {
		return unix.Openat2(int(d), path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: how})
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(handle)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(handle, &fs); err != nil {
		return nil, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, errNotNS
	}
	fd, err := retry(func() (int, error) {
		return unix.Open("/proc/self/fd/"+strconv.Itoa(handle), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return newNSFD(fd)
}

// newNSFD takes fd over.
func newNSFD(fd int) (nsFile, error) {
	n := &nsFD{fd: fd}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return n, nil
}

func (n *nsFD) inode() uint64 { return n.stat.Ino }
func (n *nsFD) close()        { unix.Close(n.fd) }

func (n *nsFD) creator() int64 {
	uid, err := unix.IoctlGetUint32(n.fd, unix.NS_GET_OWNER_UID)
	if err != nil {
		return -1
	}
	return int64(uid)
}

func (n *nsFD) id() uint64 { return ID(n.fd) }

// ID gives the number of an open namespace that is never used again, unlike the inode: ioctl_nsfs(2), since Linux 6.18 for
// all namespaces, since 6.11 for mount namespaces. It is 0 where the kernel gives none.
func ID(fd int) uint64 {
	for _, request := range [...]uint{unix.NS_GET_ID, unix.NS_GET_MNTNS_ID} {
		if id, err := unix.IoctlGetInt(fd, request); err == nil {
			return uint64(id)
		}
	}
	return 0
}

func (n *nsFD) ask(r relation) (nsFile, error) {
	fd, err := unix.IoctlRetInt(n.fd, uint(r))
	if err != nil {
		return nil, err // EPERM: outside of what the reader may know
	}
	return newNSFD(fd)
}

// Open opens a namespace of the process pid, for setns(2) or for the functions below; the
// caller closes it. The error is fs.ErrNotExist when the process is gone or the kernel has
// no such type, fs.ErrPermission when it is another user's.
func Open(proc *os.File, pid int, t abi.Namespace) (*os.File, error) {
	d, done, err := openProcess(proc, pid)
	if err != nil {
		return nil, err
	}
	defer done()
	name := "ns/" + t.ProcName()
	fd, err := retry(func() (int, error) { return unix.Openat(int(d), name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &processError{pid, name, err}
	}
	return os.NewFile(uintptr(fd), t.ProcName()+" namespace of process "+strconv.Itoa(pid)), nil
}

// Identify returns the type and the inode of an open namespace, whatever way it was
// opened. The error tells that f is something else.
func Identify(f *os.File) (abi.Namespace, uint64, error) {
	flag, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", f.Name(), errNotNS)
	}
	t, ok := abi.NamespaceOfFlag(uint64(flag))
	if !ok {
		return 0, 0, fmt.Errorf("%s: namespace of the unknown type %#x", f.Name(), flag)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("%s: stat: %w", f.Name(), err)
	}
	return t, st.Ino, nil
}

// Within reports whether the open pid or user namespace f is outer or below it, by NS_GET_PARENT: ioctl_nsfs(2). It is false where the reader may not know, which is beyond its
// own namespace. [Namespace.Within] is the same for what was read before.
func Within(f, outer *os.File) bool {
	var own, up unix.Stat_t
	if unix.Fstat(int(f.Fd()), &own) != nil || unix.Fstat(int(outer.Fd()), &up) != nil {
		return false
	}
	return within(&nsFD{fd: int(f.Fd()), stat: own}, up.Ino)
}

func within(f nsFile, outer uint64) bool {
	if f.inode() == outer {
		return true
	}
	above, err := f.ask(parent)
	if err != nil {
		return false
	}
	defer above.close()
	return within(above, outer)
}

// PIDInside returns the pid that the pid namespace ns has for the reader's process pid,
// asked of the kernel itself: the same as [System.PIDIn] reads from status. The error is
// fs.ErrNotExist when ns does not see the process, errors.ErrUnsupported before Linux 6.11.
func PIDInside(ns *os.File, pid int) (int, error) {
	return translate(ns, unix.NS_GET_TGID_IN_PIDNS, pid)
}

// PIDOutside returns the reader's pid for what is pid in the pid namespace ns. Its errors
// are those of PIDInside.
func PIDOutside(ns *os.File, pid int) (int, error) {
	return translate(ns, unix.NS_GET_TGID_FROM_PIDNS, pid)
}

func translate(ns *os.File, request uintptr, pid int) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, ns.Fd(), request, uintptr(pid))
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOTTY:
		return 0, fmt.Errorf("%s: translate pid %d: %w: the kernel can since Linux 6.11", ns.Name(), pid, errors.ErrUnsupported)
	}
	return 0, fmt.Errorf("%s: translate pid %d: %w", ns.Name(), pid, &processError{pid, "", errno})
}

package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRead bounds what Read reads, in bytes.
const maxRead = 100 << 20

// Read reads a regular file to its end, by plain system calls: package os would
// start the network poller first, at each start of a container. Errors are
// those of open(2) and read(2) with the path.
func Read(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return readOpen(fd, name)
}

func readOpen(fd int, name string) ([]byte, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	switch kind := st.Mode & unix.S_IFMT; {
	case err != nil: // as on a disk, or a server of files, that fails
	case kind == unix.S_IFDIR:
		err = unix.EISDIR
	case kind != unix.S_IFREG:
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: name, Err: err}
	}
	if st.Size > maxRead {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("larger than 100 MB")}
	}
	size := int(st.Size)
	if size == 0 {
		size = 8 << 10 // of a file that is made while it is read
	}
	data := make([]byte, 0, size)
	for {
		if len(data) > maxRead {
			return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("larger than 100 MB")}
		}
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return data, nil
		default:
			if data = data[:len(data)+n]; int64(len(data)) == st.Size {
				return data, nil
			}
			if len(data) == cap(data) {
				data = append(data, 0)[:len(data)]
			}
		}
	}
}

// Head reads the beginning of a file, of which others may have made any size: most bytes, or less where it ends before. Errors are as those of [Read].
func Head(name string, most int) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var data []byte
	for len(data) < most {
		data = slices.Grow(data, 512)
		n, err := unix.Read(fd, data[len(data):min(cap(data), most)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return data, nil
		default:
			data = data[:len(data)+n]
		}
	}
	return data, nil
}

// ReadBelow reads a regular file of a tree that others write, whose links lead nowhere outside: at most so many bytes, and more are an error. What would hold up who
// reads it is refused: a FIFO or a device, and a file that is regular to look at but waits for something to be told, as /proc/kmsg.
func ReadBelow(root int, name string, most int) ([]byte, error) {
	fd, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var data []byte
	for len(data) <= most {
		data = slices.Grow(data, 4096)
		n, err := unix.Read(fd, data[len(data):min(cap(data), most+1)])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return nil, fmt.Errorf("%s is no regular file, but waits for something", name)
		case err != nil:
			return nil, err
		case n == 0:
			return data, nil
		default:
			data = data[:len(data)+n]
		}
	}
	return nil, fmt.Errorf("%s has more than %d bytes", name, most)
}

// openRegular looks at what there is before it opens it: to open a device does things already, as the watchdog's, and who cannot open that himself may have made its node.
func openRegular(root int, name string) (int, error) {
	path, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, fmt.Errorf("%s is no regular file", name)
	}
	return open("/proc/self/fd/"+strconv.Itoa(path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
}

// ReadOwn reads a regular file where it and its directory are the caller's or root's, and nobody else's to write to. Otherwise it is as if there were none, whose error is
// [fs.ErrNotExist]: what others make there is not even told of, or they could have each command fail.
func ReadOwn(name string) ([]byte, error) {
	none := &os.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	at, err := unix.Open(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, none
	}
	defer unix.Close(at)
	if own(at) != unix.S_IFDIR {
		return nil, none
	}
	fd, err := unix.Openat(at, filepath.Base(name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if own(fd) != unix.S_IFREG {
		return nil, none
	}
	return io.ReadAll(io.LimitReader(f, maxRead))
}

// own is what kind of file fd is, as far as nobody but the caller and root may write to it; otherwise 0.
func own(fd int) (kind uint32) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != unix.Geteuid() {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

// An UntrustedError is a file, or a directory, that [ReadTrusted] and [Trusted] leave out. It is [fs.ErrNotExist], so that who has the right to make one has nobody's command fail.
type UntrustedError struct{ Path, Why string }

func (e *UntrustedError) Error() string { return e.Path + ": " + e.Why }

// Is reports that the file counts as none.
func (e *UntrustedError) Is(target error) bool { return target == fs.ErrNotExist }

// ReadTrusted is [Read] of a file that says whom to trust, below a directory that the caller's surroundings name: it has to be the caller's or root's, and not everybody's to
// write to. Otherwise it is an [UntrustedError]; but links are followed that are the caller's or root's as well, and a group may write, as people have their own files.
func ReadTrusted(name string) ([]byte, error) {
	to, err := followTrusted(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(to, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if err == unix.ELOOP {
		return nil, &UntrustedError{name, "it is exchanged while it is read"}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if err := untrusted(fd, name); err != nil {
		return nil, err
	}
	return readOpen(fd, name)
}

// Trusted says why a path does not lead to what [ReadTrusted] would take, or to a directory in which it would.
func Trusted(name string) error {
	to, err := followTrusted(name)
	if err != nil {
		return err
	}
	fd, err := unix.Open(to, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return untrusted(fd, name)
}

// maxLinks is how many links the kernel follows.
const maxLinks = 40

// followTrusted is the name at the end of the links that are at a path. One of another user's may lead to what is root's and was never meant for this.
func followTrusted(name string) (string, error) {
	at := name
	for range maxLinks {
		to, err := trustedLink(at, name)
		if err != nil || to == "" {
			return at, err
		}
		if !filepath.IsAbs(to) {
			to = at[:strings.LastIndexByte(at, '/')+1] + to // not cleaned: ".." is the kernel's to follow
		}
		at = to
	}
	return "", &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
}

// trustedLink is what a link has, or empty where there is none but another file.
func trustedLink(at, name string) (string, error) {
	fd, err := unix.Open(at, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	if err := untrusted(fd, name); err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// untrusted says why what is open is not the caller's or root's, or may be written to by everybody, as is not meant by the mode of a link.
func untrusted(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	switch {
	case st.Uid == 0 || int(st.Uid) == unix.Geteuid():
		if link || st.Mode&0o002 == 0 {
			return nil
		}
		return &UntrustedError{name, "everybody may write to it: chmod o-w it"}
	case link:
		return &UntrustedError{name, fmt.Sprintf("it is, or leads to, a link of the user %d, and has to be the caller's or root's", st.Uid)}
	}
	return &UntrustedError{name, fmt.Sprintf("it is the user %d's, and has to be the caller's or root's", st.Uid)}
}

// OwnDir reports whether a path is a directory, and no link, of the caller's, with none of these rights for others.
func OwnDir(dir string, others uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == unix.Geteuid() && st.Mode&others == 0
}

// List is the names in a directory, by fewer calls than package os needs. Errors are as those of [Read].
func List(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return listOf(fd, dir, err)
}

// ListOwn is [List] of a directory that the program made itself, for who takes away what is found there: a link in its place leads to files of others, and is an error.
func ListOwn(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR {
		if to, e := os.Readlink(dir); e == nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: fmt.Errorf("it has to be a directory, and is a link to %q: remove it", to)}
		}
	}
	return listOf(fd, dir, err)
}

func listOf(fd int, dir string, err error) ([]string, error) {
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var list []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return list, &os.PathError{Op: "getdents64", Path: dir, Err: err}
		}
		if n == 0 {
			return list, nil
		}
		_, _, list = unix.ParseDirent(buf[:n], -1, list)
	}
}

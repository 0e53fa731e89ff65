package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/files"
)

// A fileAt is where a file is: its directory, by a descriptor, and its name there. HOME may be another's, as by some sudo: he could exchange what is on
// a path between any two looks at it, and choose which file of the caller's is written.
type fileAt struct {
	dir  int
	name string
}

// openFileAt finds a file. The file and its directory may be links of the caller's or root's, which are followed. With create, directories that are missing are made.
func openFileAt(path string, create bool) (fileAt, error) {
	p, err := follow(unix.AT_FDCWD, filepath.Dir(path), create)
	if err != nil {
		return p, err
	}
	defer p.close()
	if create {
		if err := unix.Mkdirat(p.dir, p.name, 0o700); err != nil && err != unix.EEXIST {
			return fileAt{}, err
		}
	}
	dir, err := unix.Openat(p.dir, p.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fileAt{}, err
	}
	return follow(dir, filepath.Base(path), create)
}

// follow is where a name leads to in the end, from a directory that it closes.
func follow(at int, name string, create bool) (fileAt, error) {
	for range 40 { // which the kernel follows, too: path_resolution(7)
		parent, base := filepath.Split(name)
		p := fileAt{at, parent}
		dir, err := p.openDir(create)
		p.close()
		if err != nil {
			return fileAt{}, err
		}
		p = fileAt{dir, cmp.Or(base, ".")}
		to, err := p.ownLink()
		if err != nil {
			p.close()
			return fileAt{}, err
		}
		if to == "" {
			return p, nil
		}
		at, name = dir, to[:1]+strings.TrimRight(to[1:], "/")
	}
	unix.Close(at)
	return fileAt{}, unix.ELOOP
}

// openDir opens a directory that a link of the caller's, or the caller, has named.
func (p fileAt) openDir(create bool) (fd int, err error) {
	name := cmp.Or(p.name, ".")
	if create {
		path := name
		if p.dir != unix.AT_FDCWD && !filepath.IsAbs(name) {
			path = p.path()
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return -1, err
		}
	}
	return unix.Openat(p.dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// ownLink is what a link says, and empty where there is none. Another's is refused: it is the same one whose owner is looked at, and which is read.
func (p fileAt) ownLink() (to string, err error) {
	fd, err := unix.Openat(p.dir, p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	if st.Uid != 0 && int(st.Uid) != unix.Geteuid() {
		return "", fmt.Errorf("%s is a link of the user %d: set DOCKER_CONFIG, or HOME, to a directory of your own", p.name, st.Uid)
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", text)
	return string(text[:max(n, 0)]), err
}

// path leads to the file, whatever has the names of the directories above by now. Whatever has its own name may be another's link.
func (p fileAt) path() string { return fmt.Sprintf("/proc/self/fd/%d/%s", p.dir, p.name) }

// mostCredentials is how long a file of credentials may be, in bytes.
const mostCredentials = 16 << 20

// read reads the file, which no link leads out of its directory.
func (p fileAt) read() ([]byte, error) { return files.ReadBelow(p.dir, p.name, mostCredentials) }

func (p fileAt) close() {
	if p.dir >= 0 {
		unix.Close(p.dir)
	}
}

// causeOf is what the kernel said, without the names by which it was asked.
func causeOf(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}

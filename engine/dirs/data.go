package dirs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// rootData is where root's containers, images, volumes and networks are kept.
const rootData = "/var/lib/kakuri"

// Data is the directory of what outlives a boot: "data" below a runtime directory that somebody chose, else the caller's own. With look nothing is made or written. The error is for
// one by which others would have a say, and for a caller who has no home.
func Data(f plan.Facts, run string, look bool) (string, error) {
	dir, err := dataDir(f, run)
	if err != nil {
		return "", err
	}
	return dir, trusted(f, dir, look)
}

func dataDir(f plan.Facts, run string) (string, error) {
	switch {
	case run != "":
		return filepath.Join(run, "data"), nil
	case f.UID == 0 && f.AllIDs:
		return rootData, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kakuri"), nil
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/share/kakuri"), nil
	}
	return "", errors.New("there is no place for containers: set HOME, or XDG_DATA_HOME")
}

// trusted refuses a data directory that somebody else has made, or has put something into, where HOME is another's or everybody's: by a record there whoever
// made it has a program run, and files mounted, with the caller's rights. One of the caller's own, such as a tmpfs that was just mounted, is closed to others.
func trusted(f plan.Facts, dir string, look bool) error {
	if err := wayTo(f, dir); err != nil {
		return err
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // who is to make it says why that cannot be: see [NotMade]
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&0o002 == 0 {
		return nil
	}
	if st.Uid != f.UID {
		return fmt.Errorf("everybody may write to %s: set HOME, or XDG_DATA_HOME, to a directory of your own", dir)
	}
	fd, err := unix.Openat(at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if !look { // before anybody looks what is in it: nothing comes in meanwhile
		if err := unix.Fchmod(fd, st.Mode&0o755); err != nil && err != unix.EROFS {
			return &os.PathError{Op: "chmod", Path: dir, Err: err}
		}
	}
	err = ownOnly(f, fd, dir)
	if err != nil && !look {
		unix.Fchmod(fd, st.Mode&0o7777) // or the next command would take it for closed, and for looked through
	}
	return err
}

// NotMade is the error of who was to make something in a data directory, with what the caller can do where that cannot be made itself: HOME may be another's, as
// root's by sudo -E, or nobody's.
func NotMade(dir string, err error) error {
	if dir == rootData || unix.Access(dir, unix.F_OK) == nil || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	for above != "/" && unix.Access(above, unix.F_OK) != nil {
		above = filepath.Dir(above)
	}
	if why := unix.Faccessat(unix.AT_FDCWD, above, unix.W_OK|unix.X_OK, unix.AT_EACCESS); why == unix.EACCES || why == unix.EROFS {
		return fmt.Errorf("%s cannot be made in %s: %w: set HOME, or XDG_DATA_HOME, to a directory of your own", dir, above, why)
	}
	return err
}

// wayTo refuses a path that somebody else may lead elsewhere: whoever a directory or a link in it belongs to, or everybody, where what is in a directory is
// not kept for its owner (sticky, as /tmp). The owner of / is root, or whom this user namespace does not know: nothing is kept from him.
func wayTo(f plan.Facts, dir string) error {
	var root, st unix.Stat_t
	if err := unix.Lstat("/", &root); err != nil {
		return &os.PathError{Op: "stat", Path: "/", Err: err}
	}
	const most = 40 // links, as the kernel has it
	at, rest := "/", strings.Split(dir, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" {
			continue
		}
		next := filepath.Join(at, name) // at has no link in it, so that .. leads where the kernel goes
		if unix.Lstat(next, &st) != nil {
			return nil // what is missing is made, and one's own
		}
		if st.Uid != f.UID && st.Uid != 0 && st.Uid != root.Uid {
			return fmt.Errorf("%s is of the user %d: %s", next, st.Uid, ownWay(dir, next))
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(next)
			if links++; err != nil || links > most {
				return nil // who opens it says so
			}
			if filepath.IsAbs(to) {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
			continue
		case unix.S_IFDIR:
			if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 && len(rest) > 0 {
				return fmt.Errorf("everybody may put something else in the place of what is in %s: chmod o-w %[1]s, or set HOME, or XDG_DATA_HOME, to another directory", next)
			}
		}
		at = next
	}
	return nil
}

// ownWay is what can be done where a directory on the way to the data directory is another's.
func ownWay(dir, at string) string {
	if dir == rootData {
		return "chown root " + at + ", if what is in it may act with your rights"
	}
	return "set HOME, or XDG_DATA_HOME, to a directory of your own"
}

// ownOnly refuses a directory that has something of another user's in it.
func ownOnly(f plan.Facts, fd int, dir string) error {
	list, err := files.List(dir)
	if err != nil {
		return err
	}
	for _, name := range list {
		var in unix.Stat_t
		if unix.Fstatat(fd, name, &in, unix.AT_SYMLINK_NOFOLLOW) == nil && in.Uid != f.UID {
			return fmt.Errorf("everybody may write to %s, and %s in it is of the user %d: remove what is not yours there, then chmod o-w %[1]s", dir, name, in.Uid)
		}
	}
	return nil
}

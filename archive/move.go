package archive

import (
	"context"
	"math"
	"os"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// Merge moves all that is in from to the directory to, which is on the same file system. A directory that both have
// keeps what it has in to, and gets owner, permissions, times and attributes of that in from, as to itself
// does. Other files take the place of what is there.
func Merge(from, to *os.File) error {
	names, err := namesIn(int(from.Fd()))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := mergeOne(int(from.Fd()), int(to.Fd()), name); err != nil {
			return &EntryError{name, err}
		}
	}
	return Like(from, to)
}

func mergeOne(from, to int, name string) error {
	err := files.MoveNew(from, name, to, name)
	if err != unix.EEXIST {
		return err
	}
	old, err := openat2(to, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return moveOver(from, to, name)
	}
	if err != nil {
		return err
	}
	oldDir := os.NewFile(uintptr(old), name)
	defer oldDir.Close()
	dir, err := openat2(from, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err := removeAll(to, name, DefaultLimits().Depth); err != nil {
			return err
		}
		return unix.Renameat(from, name, to, name)
	}
	if err != nil {
		return err
	}
	newDir := os.NewFile(uintptr(dir), name)
	defer newDir.Close()
	return Merge(newDir, oldDir)
}

// moveOver replaces a file that is no directory.
func moveOver(from, to int, name string) error {
	err := unix.Renameat(from, name, to, name)
	if err != unix.ENOTDIR {
		return err
	}
	if err := unix.Unlinkat(to, name, 0); err != nil { // a directory takes the place of a file
		return err
	}
	return unix.Renameat(from, name, to, name)
}

// Like gives the directory to owner, permissions, times and kept attributes of the directory from.
func Like(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	fd := int(to.Fd())
	if err := likeOwner(fd, &st); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	names, err := listxattr(int(from.Fd()))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !keptXattr(name) {
			continue
		}
		value, err := getxattr(int(from.Fd()), name)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func likeOwner(fd int, st *unix.Stat_t) error {
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Uid == st.Uid && now.Gid == st.Gid {
		return nil
	}
	return unix.Fchown(fd, int(st.Uid), int(st.Gid))
}

// namesIn lists an open directory from its beginning.
func namesIn(dir int) ([]string, error) {
	fd, err := openat2(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, beneath)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

// Size adds up the bytes of the files below a directory, each file once, as Docker has it: holes count, directories and what is mounted in them do not. No link
// is followed, and what goes away meanwhile or may not be read is not counted, nor what lies deeper than archives go.
func Size(ctx context.Context, dir *os.File) (int64, error) {
	s := &sizer{ctx: ctx, seen: map[inode]bool{}}
	err := s.dir(int(dir.Fd()), 0)
	return s.bytes, err
}

type sizer struct {
	ctx   context.Context
	seen  map[inode]bool
	bytes int64
}

func (s *sizer) dir(dir, depth int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if depth > DefaultLimits().Depth {
		return nil
	}
	names, _ := namesIn(dir)
	for _, name := range names {
		st, err := lstat(dir, name)
		if err != nil {
			continue
		}
		if isDir(st) {
			if err := s.below(dir, name, depth); err != nil {
				return err
			}
			continue
		}
		id := inode{uint64(st.Dev), 0, st.Ino}
		if st.Nlink > 1 {
			if s.seen[id] {
				continue
			}
			s.seen[id] = true
		}
		s.bytes += min(st.Size, math.MaxInt64-s.bytes) // files with holes may have any size
	}
	return nil
}

func (s *sizer) below(dir int, name string, depth int) error {
	fd, err := openat2(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, beneath|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return s.dir(fd, depth+1)
}

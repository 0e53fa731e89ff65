package files

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tick is more than file systems tell times by, which is up to 10 ms.
const tick = 50 * time.Millisecond

// A Seen is a file or a directory as it was at some moment, held open: whether it still is as it was can be asked a thousand times a second, for that
// takes no way through directories, which is most of what stat(2) costs.
type Seen struct {
	fd int
	st unix.Stat_t
}

// See holds what lies at path, which need not be readable. What is read of it after that is at least as new.
func See(path string) (*Seen, error) {
	fd, err := open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	s := &Seen{fd: fd}
	if err := unix.Fstat(fd, &s.st); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	return s, nil
}

// Same reports whether nothing was written to it since, and its name leads to it still: to be renamed, replaced or removed changes a file's ctime.
func (s *Seen) Same() bool {
	var st unix.Stat_t
	return unix.Fstat(s.fd, &st) == nil && st.Ctim == s.st.Ctim && st.Mtim == s.st.Mtim && st.Nlink == s.st.Nlink && st.Size == s.st.Size
}

// Settled reports whether its last change was long enough ago that one more would be seen by its time.
func (s *Seen) Settled() bool { return time.Since(time.Unix(s.st.Ctim.Unix())) > tick }

// Close lets go of it.
func (s *Seen) Close() { unix.Close(s.fd) }

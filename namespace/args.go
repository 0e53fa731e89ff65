package namespace

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostArgs is as much as is read of a command line, in bytes. A process has that be any part of its memory: PR_SET_MM_MAP of prctl(2).
	mostArgs = 64 << 10

	argsPatience = time.Second // with the first command line that does not come, half of that with the next one, and so on
	mostLate     = 64          // such ones, each of which keeps a thread: then no more are read
)

// ErrLate is the error for a command line that does not come.
var ErrLate = errors.New("the process has who reads its command line wait")

// An ArgsReader reads the command lines of processes, one after the other. They are in the memory of processes, which can have whoever reads that wait
// for as long as they like: a file system of their own, fuse(4), does not answer, and meanwhile nobody gets at that memory. Such a process costs a
// moment, and many of them not much more. The zero value is ready.
type ArgsReader struct {
	buf  []byte
	late int
}

// Read returns the arguments of a process, below /proc where proc is nil; none of a kernel's thread, or of one that has ended. At most 64 KiB of them are
// read. The error is fs.ErrNotExist when the process is gone, and ErrLate when they do not come.
func (r *ArgsReader) Read(proc *os.File, pid int) ([]string, error) {
	d, done, err := openProcess(proc, pid)
	if err != nil {
		return nil, err
	}
	defer done()
	args, err := r.read(d)
	if err != nil {
		return nil, &processError{pid, "cmdline", err}
	}
	return args, nil
}

// read is Read of the process whose directory is d. Its errors are bare errnos, and ErrLate.
func (r *ArgsReader) read(d dir) ([]string, error) {
	if r.late == mostLate {
		return nil, ErrLate
	}
	fd, err := d.open("cmdline") // which waits for nothing
	if err != nil {
		return nil, err
	}
	type result struct {
		data []byte
		err  error
	}
	came, buf := make(chan result, 1), r.buf
	go func() {
		defer unix.Close(fd)
		data, err := readMost(fd, buf, mostArgs)
		came <- result{data, err}
	}()
	late := time.NewTimer(max(argsPatience>>r.late, time.Millisecond))
	defer late.Stop()
	select {
	case got := <-came:
		if got.err != nil {
			return nil, got.err
		}
		r.buf = got.data
		return splitArgs(got.data), nil
	case <-late.C:
		r.buf, r.late = nil, r.late+1
		return nil, ErrLate
	}
}

// splitArgs takes a cmdline apart. What a process wrote over its arguments (setproctitle(3))
// has no NUL, or many at its end.
func splitArgs(data []byte) []string {
	if s := strings.TrimRight(string(data), "\x00"); s != "" {
		return strings.Split(s, "\x00")
	}
	return nil
}

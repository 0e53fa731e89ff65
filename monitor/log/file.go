package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A file is the log of the drivers that have one: NAME, and NAME.1, NAME.2 … of older lines, which gzip(1) may have
// made NAME.1.gz.
type file struct {
	form    form
	name    string
	o       options
	fd      *os.File
	size    int64
	buf     []byte
	ends    []int // where each entry of buf ends
	packing sync.WaitGroup
}

// bufSize is how much goes into one write: a batch of small lines is not a call each.
const bufSize = 64 << 10

func openFile(name string, o options, how form) (*file, error) {
	f := &file{form: how, name: name, o: o}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// open opens the newest file, and takes away the end of it that is no whole entry.
func (f *file) open() error {
	fd, err := os.OpenFile(f.name, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	st, err := fd.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", f.name)
	}
	if err == nil {
		f.size = st.Size()
		err = f.mend(fd)
	}
	if err != nil {
		fd.Close()
		return err
	}
	f.fd = fd
	return nil
}

func (f *file) mend(fd *os.File) error {
	// Escaped, a byte has six at most.
	tail := make([]byte, min(f.size, 8*pieceSize))
	if len(tail) == 0 {
		return nil
	}
	if _, err := fd.ReadAt(tail, f.size-int64(len(tail))); err != nil {
		return err
	}
	n := f.form.torn(tail, f.size)
	if n == 0 {
		return nil
	}
	f.size -= n
	return fd.Truncate(f.size)
}

func (f *file) keep(list []entry) (int, error) {
	kept := 0
	f.buf, f.ends = f.buf[:0], f.ends[:0]
	for i := range list {
		f.buf = f.form.append(f.buf, &list[i])
		f.ends = append(f.ends, len(f.buf))
		// Docker looks before it writes whether a file is full: one is longer by an entry at most.
		full := f.o.maxSize > 0 && f.size+int64(len(f.buf)) >= f.o.maxSize
		if len(f.buf) < bufSize && !full && i < len(list)-1 {
			continue
		}
		n, err := f.flush()
		kept += n
		if err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// flush writes the buffer, after a change to a new file if this one is full, and returns how many entries of it were kept.
func (f *file) flush() (int, error) {
	if f.fd == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if f.o.maxSize > 0 && f.size >= f.o.maxSize {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.write(f.buf)
	if err == nil {
		f.size += int64(n)
		kept := len(f.ends)
		f.buf, f.ends = f.buf[:0], f.ends[:0]
		if cap(f.buf) > 4*bufSize {
			f.buf = nil
		}
		return kept, nil
	}
	// What is whole stays, what is not is taken away again: a shorter file needs no room.
	kept, end := 0, 0
	for kept < len(f.ends) && f.ends[kept] <= n {
		end = f.ends[kept]
		kept++
	}
	f.size += int64(end)
	if n > end {
		if e := f.fd.Truncate(f.size); e != nil {
			err = errors.Join(err, e)
		}
	}
	f.buf, f.ends = f.buf[:0], f.ends[:0]
	return kept, err
}

func (f *file) write(p []byte) (int, error) {
	n, err := f.fd.Write(p)
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // the log's own name tells its reader nothing
	}
	return n, err
}

// rotate makes the newest file an older one. The oldest goes first, so that a full disk has room again.
func (f *file) rotate() error {
	f.packing.Wait()
	if f.o.maxFile < 2 {
		f.size = 0
		return f.fd.Truncate(0)
	}
	oldest := f.older(f.o.maxFile - 1)
	os.Remove(oldest + ".gz")
	os.Remove(oldest)
	for n := f.o.maxFile - 1; n >= 1; n-- {
		for _, end := range []string{"", ".gz"} {
			if n == 1 && end != "" {
				continue // the newest is never packed
			}
			if err := os.Rename(f.older(n-1)+end, f.older(n)+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	f.fd.Close()
	f.fd = nil
	if err := f.open(); err != nil {
		return err
	}
	if f.o.compress {
		f.pack(f.older(1))
	}
	return nil
}

func (f *file) older(n int) string {
	if n == 0 {
		return f.name
	}
	return f.name + "." + strconv.Itoa(n)
}

// Gzip finds the program that packs older files: empty where there is none, and they stay as they are.
func Gzip() string {
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/local/bin/"} {
		if unix.Access(dir+"gzip", unix.X_OK) == nil {
			return dir + "gzip"
		}
	}
	return ""
}

// pack has gzip(1) make the file a smaller one, beside all else. It writes to a new file that has its name when it is whole: who reads the log meets
// the one or the other.
func (f *file) pack(name string) {
	program := Gzip()
	if program == "" {
		return
	}
	in, err := os.Open(name)
	if err != nil {
		return
	}
	os.Remove(name + ".gz.new") // of a monitor that was killed
	out, err := os.OpenFile(name+".gz.new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		in.Close()
		return
	}
	p, err := os.StartProcess(program, []string{"gzip", "-c"}, &os.ProcAttr{Env: []string{}, Files: []*os.File{in, out, nil}})
	in.Close()
	out.Close()
	if err != nil {
		os.Remove(name + ".gz.new")
		return
	}
	f.packing.Go(func() {
		st, err := p.Wait()
		if err != nil || !st.Success() || os.Rename(name+".gz.new", name+".gz") != nil {
			os.Remove(name + ".gz.new")
			return
		}
		os.Remove(name)
	})
}

func (f *file) close() error {
	f.packing.Wait()
	if f.fd == nil {
		return nil
	}
	return f.fd.Close()
}

package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/kakuri/kakuri/archive"
	"golang.org/x/sys/unix"
)

// A bundle is files by name: an archive of images, or a directory of them. A name is a key, and is looked up
// nowhere but in the bundle itself: "../x" is not there.
type bundle interface {
	open(name string) (io.ReadCloser, int64, error) // fs.ErrNotExist
	Close() error
}

// small reads a file of a bundle into memory.
func small(b bundle, name string, max int64) ([]byte, error) {
	r, size, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > max {
		return nil, fmt.Errorf("%s: %d bytes, want %d at most", printable(name), size, max)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("%s: %w", printable(name), err)
	}
	return raw, nil
}

func has(b bundle, name string) bool {
	r, _, err := b.open(name)
	if err != nil {
		return false
	}
	r.Close()
	return true
}

// A dirBundle is a directory, of which a descriptor is all that is used.
type dirBundle struct{ dir *os.File }

func (b dirBundle) Close() error { return b.dir.Close() }

func (b dirBundle) open(name string) (io.ReadCloser, int64, error) {
	fd, err := unix.Openat2(int(b.dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK, // a FIFO does not keep us
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Limits of an archive's table of contents.
const (
	maxEntries = 100_000
	maxLinks   = 8
)

// A tarBundle is an archive in a file: where each entry's content lies in it.
type tarBundle struct {
	f       *os.File
	own     bool
	entries map[string]tarEntry
}

type tarEntry struct {
	at, size int64
	link     string // of another entry
}

func (b *tarBundle) Close() error {
	if !b.own {
		return nil
	}
	return b.f.Close()
}

func (b *tarBundle) open(name string) (io.ReadCloser, int64, error) {
	for range maxLinks {
		e, ok := b.entries[path.Clean(name)]
		if !ok {
			break
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(b.f, e.at, e.size)), e.size, nil
		}
		name = e.link
	}
	return nil, 0, &fs.PathError{Op: "open", Path: printable(name), Err: fs.ErrNotExist}
}

// openBundle reads what images are loaded from: an archive, compressed or not, which may be a pipe. From a file that is not
// compressed nothing is copied.
func (s *Store) openBundle(ctx context.Context, r io.Reader, rules *Settings) (*tarBundle, error) {
	f, ok := r.(*os.File)
	if ok {
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			ok = false
		}
	}
	var start int64
	if ok {
		var err error
		if start, err = f.Seek(0, io.SeekCurrent); err != nil {
			return nil, err
		}
	}
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, _ := buffered.Peek(6)
	if ok && archive.DetectCompression(head) == archive.None {
		if _, err := f.Seek(start, io.SeekStart); err != nil {
			return nil, err
		}
		return indexTar(ctx, f, false)
	}
	return s.spool(ctx, buffered, rules)
}

// spool copies an archive into a file without a name, inflated.
func (s *Store) spool(ctx context.Context, r io.Reader, rules *Settings) (*tarBundle, error) {
	in, err := rules.inflate(r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, err := s.temporary()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, &ctxReader{ctx, in}); err != nil {
		f.Close()
		return nil, fmt.Errorf("archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	b, err := indexTar(ctx, f, true)
	if err != nil {
		f.Close()
	}
	return b, err
}

// entryOf is where a file is whose header has just been read, or what a link leads to.
func entryOf(f *os.File, name string, h *tar.Header) (e tarEntry, err error) {
	e.size = h.Size
	switch h.Typeflag {
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse") {
				return e, fmt.Errorf("archive: %s: a sparse file, which no archive of images has", printable(name))
			}
		}
		e.at, err = f.Seek(0, io.SeekCurrent) // the reader has no buffer: it is at the content
	case tar.TypeSymlink:
		e.link = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		e.link = path.Clean(h.Linkname)
	default:
		err = fmt.Errorf("archive: %s: an entry of type %q, which no archive of images has", printable(name), h.Typeflag)
	}
	return e, err
}

// indexTar notes where the files of an archive are.
func indexTar(ctx context.Context, f *os.File, own bool) (*tarBundle, error) {
	b := &tarBundle{f: f, own: own, entries: map[string]tarEntry{}}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name := path.Clean(h.Name)
		e, err := entryOf(f, name, h)
		if err != nil {
			return nil, err
		}
		if _, twice := b.entries[name]; twice {
			return nil, fmt.Errorf("archive: %s: it is there twice", printable(name))
		}
		if len(b.entries) == maxEntries {
			return nil, fmt.Errorf("archive: more than %d entries", maxEntries)
		}
		b.entries[name] = e
	}
	if len(b.entries) == 0 {
		return nil, errors.New("archive: it is empty, or no tar")
	}
	return b, nil
}

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// A Kind is what an entry does to a tree.
type Kind int

// File adds a file of any type. Whiteout hides the file Path of lower layers, Opaque all that
// lower layers have in the directory Path: image-spec, layer.md, "Whiteouts".
const (
	File Kind = iota
	Whiteout
	Opaque
)

// An Entry is an entry of an archive that may be taken.
type Entry struct {
	Kind Kind
	// Path is relative to the root, without empty, "." and ".." names; it is "." for the
	// root itself. Links of the tree may still lie in it.
	Path string
	// Target is what a hard link leads to, in the form of Path.
	Target string
	// Mode has the type and the permissions as st_mode has them. A hard link's type is 0.
	Mode     uint32
	UID, GID uint32
	Size     int64 // bytes of content, holes included
	// Xattrs are those that are kept: security.capability, POSIX ACLs, and user.*, without overlayfs's.
	Xattrs map[string]string
	// Sparse content does not lie in the stream as it is; other content begins at the
	// stream's byte Offset.
	Sparse bool
	Offset int64
	// Header is the entry as the archive has it.
	Header *tar.Header
}

// ReaderOptions say how [NewReader] reads. The zero value reads a layer.
type ReaderOptions struct {
	Limits Limits
	// Plain takes names that begin with ".wh." for names of files: the archive is no layer.
	Plain bool
	// Seek passes over contents that nobody reads, where the stream is an [io.Seeker] that is at its
	// beginning. Otherwise they are read, since whoever hashes the stream wants to see them.
	Seek bool
}

// A Reader reads the entries of a tar one by one, and refuses what is malformed, leads
// out of the root, or goes beyond limits. It does not read ahead of the stream.
type Reader struct {
	o       ReaderOptions
	in      *counter
	tar     *tar.Reader
	entries int64
	bytes   int64
}

// NewReader reads a tar from r.
func NewReader(r io.Reader, o ReaderOptions) *Reader {
	o.Limits = o.Limits.or()
	in := &counter{r: r}
	if s, ok := r.(io.Seeker); ok && o.Seek {
		return &Reader{o: o, in: in, tar: tar.NewReader(&seeker{in, s})}
	}
	return &Reader{o: o, in: in, tar: tar.NewReader(in)}
}

// A seeker is a counter that may pass over bytes.
type seeker struct {
	*counter
	s io.Seeker
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	n, err := s.s.Seek(offset, whence)
	if err == nil {
		s.n = n
	}
	return n, err
}

// counter counts what was read. It has no Seek.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// Next returns the next entry, and io.EOF behind the last one. Any other error is final; it
// is an [*EntryError] where it belongs to an entry, and may wrap a [*LimitError].
func (r *Reader) Next() (*Entry, error) {
	for {
		h, err := r.tar.Next()
		if err == io.EOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("tar stream, at byte %d: %w", r.in.n, err)
		}
		if r.entries++; r.entries > r.o.Limits.Entries {
			return nil, &LimitError{"entries", r.o.Limits.Entries}
		}
		e, err := r.entry(h)
		if err != nil {
			return nil, &EntryError{h.Name, err}
		}
		if e != nil {
			return e, nil
		}
	}
}

// Read reads the content of the entry that Next returned.
func (r *Reader) Read(p []byte) (int, error) { return r.tar.Read(p) }

// entry judges a header. It returns nil for entries that are no files.
func (r *Reader) entry(h *tar.Header) (*Entry, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil, nil
	}
	e := &Entry{Header: h, Size: h.Size, Offset: r.in.n, Sparse: sparse(h)}
	var err error
	if e.Path, err = r.path(h.Name); err != nil {
		return nil, err
	}
	if r.bytes += max(h.Size, 0); h.Size > r.o.Limits.Bytes || r.bytes > r.o.Limits.Bytes {
		return nil, &LimitError{"bytes", r.o.Limits.Bytes}
	}
	if !r.o.Plain {
		if skip, err := e.whiteout(); skip || err != nil {
			return nil, err
		}
		if e.Kind != File {
			return e, nil
		}
	}
	if err := e.fill(h, r); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entry) fill(h *tar.Header, r *Reader) (err error) {
	if e.Mode, err = mode(h); err != nil {
		return err
	}
	if e.Path == "." && e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.New("the root of the archive is not a directory")
	}
	if h.Typeflag == tar.TypeLink {
		if e.Target, err = r.path(h.Linkname); err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	}
	if h.Typeflag == tar.TypeSymlink && (h.Linkname == "" || len(h.Linkname) > 4095) {
		return fmt.Errorf("a symbolic link to a name of %d bytes: 1 to 4095 are possible", len(h.Linkname))
	}
	if e.UID, err = id(h.Uid); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if e.GID, err = id(h.Gid); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if e.Mode&unix.S_IFMT == unix.S_IFCHR || e.Mode&unix.S_IFMT == unix.S_IFBLK {
		if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
			return fmt.Errorf("device %d:%d: there are 0:0 to 4095:1048575", h.Devmajor, h.Devminor)
		}
	}
	e.Xattrs, err = xattrs(h, r.o.Limits.Xattrs)
	return err
}

// path makes a name relative to the root, without looking at the tree.
func (r *Reader) path(name string) (string, error) {
	return cleanPath(name, r.o.Limits)
}

func cleanPath(name string, l Limits) (string, error) {
	if len(name) > l.Name {
		return "", &LimitError{"bytes in a name", int64(l.Name)}
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." && len(parts) == 0:
			return "", errors.New(`the name leads out of the root by ".."`)
		case part == "..":
			parts = parts[:len(parts)-1]
		case len(part) > 255:
			return "", fmt.Errorf("a name of %d bytes: file systems have 255", len(part))
		case strings.Contains(part, "\x00"):
			return "", errors.New("a name with a NUL in it")
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) > l.Depth {
		return "", &LimitError{"directories in a name", int64(l.Depth)}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// The names that stand for the absence of others: image-spec, layer.md. Those with the
// prefix twice, but for the opaque one, were notes of aufs to itself.
const (
	whPrefix = ".wh."
	whNotes  = whPrefix + whPrefix
	whOpaque = whNotes + ".opq"
)

// whiteout turns an entry that hides others into what it says. skip is for notes of aufs.
func (e *Entry) whiteout() (skip bool, err error) {
	dir, base := split(e.Path)
	if i := strings.Index("/"+dir, "/"+whPrefix); i >= 0 {
		if strings.HasPrefix(("/" + dir)[i+1:], whNotes) {
			return true, nil
		}
		return false, errors.New("a file below a whiteout")
	}
	name, ok := strings.CutPrefix(base, whPrefix)
	switch {
	case !ok:
		return false, nil
	case base == whOpaque:
		e.Kind, e.Path = Opaque, dir
	case strings.HasPrefix(base, whNotes):
		return true, nil
	case name == "" || name == "." || name == "..":
		return false, fmt.Errorf("a whiteout of the name %q", name)
	default:
		e.Kind, e.Path = Whiteout, join(dir, name)
	}
	return false, nil
}

// split gives the directory and the last name of a clean path.
func split(p string) (dir, base string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	if base == "." {
		return dir
	}
	return dir + "/" + base
}

func mode(h *tar.Header) (uint32, error) {
	perm := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	//lint:ignore SA1019 old archives have RegA
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse:
		return unix.S_IFREG | perm, nil
	case tar.TypeDir:
		return unix.S_IFDIR | perm, nil
	case tar.TypeSymlink:
		return unix.S_IFLNK | 0o777, nil
	case tar.TypeChar:
		return unix.S_IFCHR | perm, nil
	case tar.TypeBlock:
		return unix.S_IFBLK | perm, nil
	case tar.TypeFifo:
		return unix.S_IFIFO | perm, nil
	case tar.TypeLink:
		return perm, nil
	}
	return 0, fmt.Errorf("an entry of the type %q, which is none of POSIX's", h.Typeflag)
}

// id checks an owner: the last number means "nobody in particular" to chown(2).
func id(n int) (uint32, error) {
	if n < 0 || int64(n) >= 1<<32-1 {
		return 0, fmt.Errorf("the id %d: there are 0 to 4294967294", n)
	}
	return uint32(n), nil
}

// sparse reports whether the reader puts the content together from a map.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

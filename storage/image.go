package storage

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Image opens the view for reading without the kernel. No path of the host is looked up, and no
// permission is asked. Of a hundred layers mostly one or two are read: each is opened by its first reader, and stays open until Close.
func (v *View) Image() (*Image, error) {
	index, err := files.Open(v.s.indexPath(v.id))
	if err != nil {
		return nil, err
	}
	tars := make([]lazyTar, len(v.chain))
	list := make([]io.ReaderAt, len(v.chain))
	for i, id := range v.chain {
		tars[i] = lazyTar{s: v.s, id: id}
		list[i] = &tars[i]
	}
	img, err := erofs.Open(index, list)
	if err != nil {
		index.Close()
		return nil, fmt.Errorf("index of an image: %w", err)
	}
	return &Image{img, index, tars}, nil
}

// A lazyTar is a layer's tar, which its first reader opens.
type lazyTar struct {
	s  *Store
	id digest.Digest

	once sync.Once
	file *os.File
	err  error
}

// ReadAt implements [io.ReaderAt].
func (t *lazyTar) ReadAt(p []byte, off int64) (int, error) {
	t.once.Do(func() { t.file, t.err = t.s.openTar(t.id) })
	if t.err != nil {
		return 0, t.err
	}
	return t.file.ReadAt(p, off)
}

// close has nobody open it any more.
func (t *lazyTar) close() {
	t.once.Do(func() { t.err = fs.ErrClosed })
	if t.file != nil {
		t.file.Close()
	}
}

// An Image is an image's files.
type Image struct {
	*erofs.Image
	index *os.File
	tars  []lazyTar
}

// Close closes the image.
func (i *Image) Close() {
	for n := range i.tars {
		i.tars[n].close()
	}
	i.index.Close()
}

// ReadFile reads a regular file of the image, of at most limit bytes; links are followed within the image. The
// error is fs.ErrNotExist where there is none.
func (i *Image) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := i.Lookup(name)
	if err != nil {
		return nil, err
	}
	if f.Mode&unix.S_IFMT != unix.S_IFREG || int64(f.Size) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("no regular file of up to %d bytes", limit)}
	}
	return io.ReadAll(f.Content())
}

// Tar writes a file of the image, with all that is below it, as a tar in PAX format. A directory's content is at the tar's
// root, any other file has its own name. Links in the path are followed within the image. Holes become zeros.
func (i *Image) Tar(ctx context.Context, p string, w io.Writer) error {
	f, err := i.Lookup(p)
	if err != nil {
		return err
	}
	name := path.Base(p)
	if f.IsDir() {
		name = "."
	}
	t := &packer{ctx: ctx, w: tar.NewWriter(w), first: map[int64]string{}}
	if err := t.file(f, name); err != nil {
		return err
	}
	return t.w.Close()
}

type packer struct {
	ctx   context.Context
	w     *tar.Writer
	first map[int64]string // name of files that have several
}

func (t *packer) file(f *erofs.File, name string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	h := tarHeader(f, name)
	if h == nil {
		return nil
	}
	if !f.IsDir() && f.Nlink > 1 {
		if first, ok := t.first[f.Number]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
		} else {
			t.first[f.Number] = name
		}
	}
	if err := t.w.WriteHeader(h); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if h.Size > 0 {
		if _, err := io.Copy(t.w, f.Content()); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if !f.IsDir() {
		return nil
	}
	return f.Each(func(base string, number int64) error {
		c, err := f.File(number)
		if err != nil {
			return err
		}
		if name == "." {
			return t.file(c, base)
		}
		return t.file(c, name+"/"+base)
	})
}

// tarHeader is that of a file which has one name only; nil for a kind that no tar has.
func tarHeader(f *erofs.File, name string) *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(f.Mode & 0o7777), Uid: int(f.UID), Gid: int(f.GID), ModTime: time.Unix(f.Sec, int64(f.Nsec)),
		Linkname: f.Target,
	}
	for _, x := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
	}
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, int64(f.Size)
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFLNK:
		h.Typeflag, h.PAXRecords = tar.TypeSymlink, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(f.Rdev>>8&0xfff), int64(f.Rdev&0xff|f.Rdev>>12&0xfff00)
		if f.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil
	}
	return h
}

package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// treeLayer writes what the tree at root has and the one at below has not, or has otherwise, as a layer
// into file. An empty below is an empty tree. A file that is below only becomes a whiteout. What is in /dev, /proc, /sys and /run is left out.
func treeLayer(root, below, file string) (v1.Layer, error) {
	out, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := &treeWriter{tar: tar.NewWriter(z), root: root, below: below, seen: map[[2]uint64]string{}}
	if err := filepath.WalkDir(root, w.visit); err != nil {
		return nil, err
	}
	if err := errors.Join(w.tar.Close(), z.Close(), out.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromFile(file)
}

type treeWriter struct {
	tar         *tar.Writer
	root, below string
	seen        map[[2]uint64]string // device and inode of files with several names, to the first name
}

func (w *treeWriter) visit(p string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name, err := filepath.Rel(w.root, p)
	if err != nil {
		return err
	}
	if w.below != "" && d.IsDir() {
		if err := w.whiteouts(name, p); err != nil {
			return err
		}
	}
	if name == "." {
		return nil
	}
	if err := w.entry(name, p); err != nil {
		return err
	}
	if d.IsDir() && slices.Contains([]string{"dev", "proc", "sys", "run"}, name) {
		return fs.SkipDir
	}
	return nil
}

// whiteouts writes one for each name that the directory had below.
func (w *treeWriter) whiteouts(name, p string) error {
	old, err := os.ReadDir(filepath.Join(w.below, name))
	if err != nil {
		return nil // there was none
	}
	for _, e := range old {
		if _, err := os.Lstat(filepath.Join(p, e.Name())); errors.Is(err, fs.ErrNotExist) {
			h := &tar.Header{Name: path.Join(name, ".wh."+e.Name()), Typeflag: tar.TypeReg, Mode: 0o644}
			if err := w.tar.WriteHeader(h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *treeWriter) entry(name, p string) error {
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	if old, err := os.Lstat(filepath.Join(w.below, name)); w.below != "" && err == nil && same(old, info) {
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.ModTime, h.AccessTime, h.ChangeTime = h.ModTime.Truncate(time.Second), time.Time{}, time.Time{}
	if info.IsDir() {
		h.Name += "/"
	}
	st := info.Sys().(*syscall.Stat_t)
	if id := [2]uint64{uint64(st.Dev), st.Ino}; info.Mode().IsRegular() && st.Nlink > 1 {
		if first, ok := w.seen[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return w.tar.WriteHeader(h)
		}
		w.seen[id] = name
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		if err := attributes(p, h); err != nil {
			return err
		}
	}
	if err := w.tar.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w.tar, f)
	return err
}

// same reports whether cp -a made the one of the other, and nothing has changed it since. Of directories what
// is in them does not count.
func same(a, b fs.FileInfo) bool {
	s, t := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	if s.Mode != t.Mode || s.Uid != t.Uid || s.Gid != t.Gid || s.Rdev != t.Rdev {
		return false
	}
	return a.IsDir() || s.Size == t.Size && s.Mtim == t.Mtim
}

// attributes adds the extended attributes of p that are part of an image.
func attributes(p string, h *tar.Header) error {
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(p, names)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return err
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(value[:n])
	}
	return nil
}

// filesLayer is a layer of a few files, in memory.
func filesLayer(files []file) (v1.Layer, error) {
	var entries []tar.Header
	var texts []string
	for _, f := range files {
		entries = append(entries, tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Typeflag: tar.TypeReg, Mode: f.Mode, Size: int64(len(f.Text))})
		texts = append(texts, f.Text)
	}
	return layerOf(entries, texts)
}

// layerOf is a layer of entries with their contents, which may be fewer.
func layerOf(entries []tar.Header, texts []string) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range entries {
		h.ModTime = time.Unix(1767225600, 0)
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if i < len(texts) {
			if _, err := io.WriteString(w, texts[i]); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithCompressedCaching)
}

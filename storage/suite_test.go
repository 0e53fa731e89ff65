package storage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	goerofs "github.com/erofs/go-erofs"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// An ent is an entry of a test's tar: "d usr 755", "f usr/a text", "l link target", "h name target",
// "c null 1 3", "b disk 8 0", "p fifo", and tar.Header for the rest.
type ent any

var then = time.Unix(1_600_000_000, 123_456_789)

// layer makes a tar of entries.
func layer(t testing.TB, entries ...ent) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h, text := header(t, e)
		if h.ModTime.IsZero() {
			h.ModTime = then
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type full struct {
	tar.Header
	text string
}

func header(t testing.TB, e ent) (*tar.Header, string) {
	if f, ok := e.(full); ok {
		f.Size = int64(len(f.text))
		return &f.Header, f.text
	}
	part := strings.SplitN(e.(string), " ", 4)
	h := &tar.Header{Name: part[1], Mode: 0o644}
	part = append(part, "", "")
	switch part[0] {
	case "d":
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
		if part[2] != "" {
			fmt.Sscanf(part[2], "%o", &h.Mode)
		}
	case "f":
		h.Typeflag, h.Size = tar.TypeReg, int64(len(part[2]))
		return h, part[2]
	case "l":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, part[2], 0o777
	case "h":
		h.Typeflag, h.Linkname = tar.TypeLink, part[2]
	case "c", "b":
		h.Typeflag = tar.TypeChar
		if part[0] == "b" {
			h.Typeflag = tar.TypeBlock
		}
		fmt.Sscan(part[2]+" "+part[3], &h.Devmajor, &h.Devminor)
	case "p":
		h.Typeflag = tar.TypeFifo
	default:
		t.Fatalf("entry %q", e)
	}
	return h, ""
}

// A seen is a file as a test looks at it.
type seen struct {
	path         string
	mode         uint32
	uid, gid     uint32
	sec          int64
	nsec         uint32
	nlink        uint64
	ino          uint64
	rdev         uint64
	target, text string
	xattrs       []string
}

// lines writes a tree as text: one line a file, hard links by the first name of the file.
func lines(list []seen) []string {
	sort.Slice(list, func(i, j int) bool { return list[i].path < list[j].path })
	first := map[uint64]string{}
	var out []string
	for _, s := range list {
		kind := map[uint32]string{unix.S_IFREG: "f", unix.S_IFDIR: "d", unix.S_IFLNK: "l", unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFIFO: "p"}[s.mode&unix.S_IFMT]
		line := fmt.Sprintf("%s %q %o %d:%d", kind, s.path, s.mode&0o7777, s.uid, s.gid)
		if kind == "l" {
			line = fmt.Sprintf("%s %q %d:%d -> %q", kind, s.path, s.uid, s.gid, s.target)
		}
		if d := time.Unix(s.sec, int64(s.nsec)); !d.Equal(then) && kind != "d" {
			line += " " + d.UTC().Format(time.RFC3339Nano)
		}
		switch kind {
		case "f":
			if len(s.text) > 80 {
				s.text = fmt.Sprintf("%d bytes %s", len(s.text), digest.FromString(s.text).Encoded()[:8])
			}
			line += fmt.Sprintf(" %q", s.text)
		case "c", "b":
			line += fmt.Sprintf(" %d,%d", unix.Major(s.rdev), unix.Minor(s.rdev))
		}
		for _, x := range s.xattrs {
			line += " " + x
		}
		if kind != "d" && s.nlink > 1 {
			if first[s.ino] == "" {
				first[s.ino] = s.path
			}
			line += fmt.Sprintf(" links=%d of %q", s.nlink, first[s.ino])
		}
		out = append(out, line)
	}
	return out
}

// look reads a tree of the kernel.
func look(t testing.TB, root string) []seen {
	t.Helper()
	var list []seen
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := seen{
			path: strings.TrimPrefix(strings.TrimPrefix(p, root), "/"), mode: st.Mode, uid: st.Uid, gid: st.Gid,
			sec: st.Mtim.Sec, nsec: uint32(st.Mtim.Nsec), nlink: uint64(st.Nlink), ino: st.Ino, rdev: st.Rdev,
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			s.target, err = os.Readlink(p)
		case unix.S_IFREG:
			var b []byte
			b, err = os.ReadFile(p)
			s.text = string(b)
		}
		if err != nil {
			return err
		}
		s.xattrs = xattrsOf(t, p)
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func xattrsOf(t testing.TB, p string) []string {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(p, buf)
	if err != nil && err != unix.EOPNOTSUPP {
		t.Fatalf("xattrs of %s: %v", p, err)
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:max(n, 0)]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		k, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			t.Fatalf("xattr %s of %s: %v", name, p, err)
		}
		list = append(list, fmt.Sprintf("%s=%q", name, value[:k]))
	}
	slices.Sort(list)
	return list
}

// lookImage reads a tree by our reader.
func lookImage(t testing.TB, img *erofs.Image) []seen {
	t.Helper()
	root, err := img.Root()
	if err != nil {
		t.Fatal(err)
	}
	var list []seen
	var visit func(f *erofs.File, p string)
	visit = func(f *erofs.File, p string) {
		s := seen{
			path: p, mode: f.Mode, uid: f.UID, gid: f.GID, sec: f.Sec, nsec: f.Nsec, nlink: uint64(f.Nlink), ino: uint64(f.Number),
			rdev: unix.Mkdev(f.Rdev>>8&0xfff, f.Rdev&0xff|f.Rdev>>12&0xfff00), target: f.Target,
		}
		if f.Mode&unix.S_IFMT == unix.S_IFREG {
			b, err := io.ReadAll(f.Content())
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			s.text = string(b)
		}
		for _, x := range f.Xattrs {
			s.xattrs = append(s.xattrs, fmt.Sprintf("%s=%q", x.Name, x.Value))
		}
		slices.Sort(s.xattrs)
		list = append(list, s)
		if f.IsDir() {
			if err := f.Each(func(name string, number int64) error {
				c, err := f.File(number)
				if err != nil {
					return err
				}
				visit(c, path.Join(p, name))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	visit(root, "")
	return list
}

// lookGo reads an image by the library of the EROFS project, which knows no names that are not UTF-8.
func lookGo(t testing.TB, index io.ReaderAt, tars []io.ReaderAt) []seen {
	t.Helper()
	img, err := goerofs.Open(index, goerofs.WithExtraDevices(tars...))
	if err != nil {
		t.Fatal(err)
	}
	var list []seen
	var visit func(p string)
	visit = func(p string) {
		info, err := img.(interface {
			Lstat(string) (os.FileInfo, error)
		}).Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*goerofs.Stat)
		s := seen{
			path: strings.TrimPrefix(p, "."), mode: uint32(st.Mode.Perm()), uid: st.UID, gid: st.GID, sec: int64(st.Mtime), nsec: st.MtimeNs,
			nlink: uint64(st.Nlink), ino: uint64(st.Ino), rdev: uint64(st.Rdev),
		}
		for _, k := range slices.Sorted(maps.Keys(st.Xattrs)) {
			name := strings.TrimSuffix(k, ".") // go-erofs' own end of a name that is all prefix
			s.xattrs = append(s.xattrs, fmt.Sprintf("%s=%q", name, st.Xattrs[k]))
		}
		mode := info.Mode()
		for bit, m := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
			if mode&bit != 0 {
				s.mode |= m
			}
		}
		switch {
		case mode.IsDir():
			s.mode |= unix.S_IFDIR
		case mode&os.ModeSymlink != 0:
			s.mode |= unix.S_IFLNK
			s.target, err = img.(interface{ ReadLink(string) (string, error) }).ReadLink(p)
		case mode.IsRegular():
			s.mode |= unix.S_IFREG
			var f interface {
				io.Reader
				io.Closer
			}
			if f, err = img.Open(p); err == nil {
				var b []byte
				b, err = io.ReadAll(f)
				f.Close()
				s.text = string(b)
			}
		case mode&os.ModeCharDevice != 0:
			s.mode |= unix.S_IFCHR
		case mode&os.ModeDevice != 0:
			s.mode |= unix.S_IFBLK
		case mode&os.ModeNamedPipe != 0:
			s.mode |= unix.S_IFIFO
		}
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		list = append(list, s)
		if mode.IsDir() {
			entries, err := img.(interface {
				ReadDir(string) ([]os.DirEntry, error)
			}).ReadDir(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				visit(path.Join(p, e.Name()))
			}
		}
	}
	visit(".")
	return list
}

// same compares two trees' lines.
func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("%s: there is    %s", what, l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("%s: missing is  %s", what, l)
		}
	}
	if len(got) != len(want) && !t.Failed() {
		t.Errorf("%s: %d files, want %d", what, len(got), len(want))
	}
}

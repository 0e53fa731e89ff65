package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Parts: map[string]func([]string) int{"fuse": fuse}}))
}

// pack makes a tar of headers; a regular file's content is its name.
func pack(t *testing.T, list ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write([]byte(h.Name))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestApplyKinds: every type of file, its owner, its permissions, its time and its attributes.
func TestApplyKinds(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	in := pack(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 5},
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o500, Uid: 7, Gid: 8},
		tar.Header{Name: "d/suid", Mode: 0o4755, Uid: 7, Gid: 8, PAXRecords: map[string]string{
			"SCHILY.xattr.user.note": "hi", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y",
			"SCHILY.xattr.user.fuseoverlayfs.opaque": "y"}},
		tar.Header{Name: "d/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Uid: 9},
		tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "/d/suid"},
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o622},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		tar.Header{Name: "no/entry/file", Mode: 0o640},
	)
	done, err := Apply(context.Background(), open(t, dir), in, Options{})
	if err != nil || done.Entries != 8 || len(done.LeftOut) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for name, want := range map[string]struct {
		mode     uint32
		uid, gid uint32
	}{
		".":             {unix.S_IFDIR | 0o711, 5, 0},
		"d":             {unix.S_IFDIR | 0o500, 7, 8},
		"d/suid":        {unix.S_IFREG | 0o4755, 7, 8},
		"d/hard":        {unix.S_IFREG | 0o4755, 7, 8},
		"d/link":        {unix.S_IFLNK | 0o777, 9, 0},
		"fifo":          {unix.S_IFIFO | 0o622, 0, 0},
		"null":          {unix.S_IFCHR | 0o666, 0, 0},
		"no/entry":      {unix.S_IFDIR | 0o755, 0, 0},
		"no/entry/file": {unix.S_IFREG | 0o640, 0, 0},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mode != want.mode || st.Uid != want.uid || st.Gid != want.gid {
			t.Errorf("%s: mode %o, owner %d:%d, %v; want %+v", name, st.Mode, st.Uid, st.Gid, err, want)
		}
	}
	names := make([]byte, 256)
	n, err := unix.Listxattr(filepath.Join(dir, "d/suid"), names)
	if err != nil || string(names[:n]) != "user.note\x00" {
		t.Errorf("attributes %q, %v", names[:n], err)
	}
}

// The names of directories that are kept until their contents are there have an end; those that come again count once.
func TestApplyManyDirectories(t *testing.T) {
	for _, c := range []struct {
		before int
		good   bool
	}{{0, true}, {maxKeptNames - 6, true}, {maxKeptNames - 5, false}} {
		stream := pack(t, tar.Header{Name: "ab/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "ab/", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "c/", Typeflag: tar.TypeDir, Mode: 0o755},
			tar.Header{Name: "ab/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "def/", Typeflag: tar.TypeDir, Mode: 0o755})
		a := &applier{ctx: t.Context(), o: Options{NoOwner: true}, root: int(open(t, nstest.Dir(t)).Fd()), in: NewReader(stream, ReaderOptions{}), dirs: map[string]dirMeta{}, parentFD: -1, kept: c.before}
		err := a.all()
		a.forget()
		if limit := new(LimitError); (err == nil) != c.good || err != nil && !errors.As(err, &limit) {
			t.Errorf("after %d bytes: %v", c.before, err)
		}
	}
}

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// readAll reads the entries of a tar as who keeps it without unpacking it: no kernel is there to refuse what a reader lets through.
func readAll(in *bytes.Buffer, o ReaderOptions) error {
	for r := NewReader(in, o); ; {
		if _, err := r.Next(); err != nil {
			return err
		}
	}
}

// TestReaderRefuses: what a file system would refuse later is refused before, for an index of a layer is made of the same entries.
func TestReaderRefuses(t *testing.T) {
	for _, h := range []tar.Header{
		{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 12, Devminor: 1},
		{Name: "a", Typeflag: tar.TypeBlock, Devmajor: 1, Devminor: 1 << 20},
		{Name: "d/" + strings.Repeat("n", 256)},
		{Name: "."}, {Name: "a/..", Typeflag: tar.TypeSymlink, Linkname: "b"},
		{Name: "a", Typeflag: tar.TypeSymlink}, {Name: "a", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("n", 4096)},
		{Name: "a/.wh."}, {Name: "a/.wh.."}, {Name: "a/.wh..."}, {Name: "a/.wh.b/c"},
	} {
		var at *EntryError
		if err := readAll(pack(t, h), ReaderOptions{}); !errors.As(err, &at) || at.Name != h.Name {
			t.Errorf("%.20s %d:%d: %v", h.Name, h.Devmajor, h.Devminor, err)
		}
	}
	deep := strings.Repeat("d/", DefaultLimits().Depth)
	for name, want := range map[string]string{
		"./a/./b//c/": "a/b/c", "a/../b": "b", "/": ".", "": ".", "a/..": ".", "...": "...", strings.Repeat("n", 255): strings.Repeat("n", 255), deep: strings.TrimSuffix(deep, "/"),
		"..": "none", "a/../../b": "none", "a\x00/b": "none", deep + "d": "none",
	} {
		got, err := cleanPath(name, DefaultLimits())
		if err != nil {
			got += "none"
		}
		if got != want {
			t.Errorf("%.20q: %.20q, %v", name, got, err)
		}
	}
	// Sizes that are more than their sum can say are no way around a bound.
	r := NewReader(strings.NewReader(""), ReaderOptions{Limits: Limits{Bytes: 10}})
	_, fits := r.entry(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 10})
	if _, err := r.entry(&tar.Header{Name: "b", Typeflag: tar.TypeReg, Size: math.MaxInt64}); fits != nil || err == nil {
		t.Errorf("10 bytes: %v, and all that there are: %v", fits, err)
	}
}

// TestLimits: each bound is of the archive as a whole, when it is read and when it is written.
func TestLimits(t *testing.T) {
	dir := nstest.Dir(t)
	for _, name := range []string{"five5", "six666"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write := func(l Limits) error {
		return Write(context.Background(), new(bytes.Buffer), open(t, dir), ".", WriteOptions{Limits: l})
	}
	read := func(l Limits) error {
		err := readAll(pack(t, tar.Header{Name: "./", Typeflag: tar.TypeDir}, tar.Header{Name: "five5"}, tar.Header{Name: "six666"}), ReaderOptions{Limits: l})
		if err.Error() == "EOF" {
			return nil
		}
		return err
	}
	for _, c := range []struct {
		l    Limits
		what string // empty: it is within
	}{
		{Limits{Bytes: 11, Entries: 3}, ""},
		{Limits{Bytes: 10}, "bytes"},
		{Limits{Entries: 2}, "entries"},
		{Limits{Name: 5}, "bytes in a name"},
	} {
		for who, err := range map[string]error{"read": read(c.l), "written": write(c.l)} {
			var limit *LimitError
			if (c.what == "") != (err == nil) || c.what != "" && (!errors.As(err, &limit) || limit.What != c.what) {
				t.Errorf("%+v, %s: %v, want %q", c.l, who, err, c.what)
			}
		}
	}
}

// TestDevices: FIFOs are taken in each case, nodes of devices by what was asked for.
func TestDevices(t *testing.T) {
	nstest.Root(t)
	for _, c := range []struct {
		how     Devices
		good    bool
		leftOut int
		tree    map[string]string
	}{
		{MakeDevices, true, 0, map[string]string{"fifo": "p", "null": "c"}},
		{SkipDevices, true, 1, map[string]string{"fifo": "p", "null": ""}},
		{RefuseDevices, false, 0, map[string]string{"fifo": "p", "null": ""}},
	} {
		dir := nstest.Dir(t)
		in := pack(t, tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}, tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})
		done, err := Apply(context.Background(), open(t, dir), in, Options{Devices: c.how})
		if (err == nil) != c.good || len(done.LeftOut) != c.leftOut {
			t.Errorf("%d: %+v, %v", c.how, done, err)
		}
		hostile.Holds(t, dir, c.tree)
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "null"), &st); err == nil && st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("%d: the device %#x", c.how, st.Rdev)
		}
	}
}

// TestOwners: owners, also of directories that have no entry, and file capabilities are those that the archive's become.
func TestOwners(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	add := func(id uint32) (uint32, error) { return id + 1000, nil }
	v2 := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	in := pack(t, tar.Header{Name: "none/f", Uid: 3, Gid: 4, PAXRecords: map[string]string{paxXattr + capXattr: v2}})
	if _, err := Apply(context.Background(), open(t, dir), in, Options{UID: add, GID: add}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]uint32{"none": {1000, 1000}, "none/f": {1003, 1004}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s is of %d:%d, %v", name, st.Uid, st.Gid, err)
		}
	}
	buf := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(dir, "none/f"), capXattr, buf)
	if want := "\x01\x00\x00\x03" + v2[4:] + "\xe8\x03\x00\x00"; err != nil || string(buf[:n]) != want {
		t.Errorf("capabilities %q, %v; want %q", buf[:max(n, 0)], err, want)
	}
}

// mounted puts a file system in memory at a new directory, with a file in it.
func mounted(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "inside"), make([]byte, 5000), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMounts: what is mounted in a tree is not removed with it, is packed unless it is asked not to be, and is not measured. A file that is a mount
// point is written to.
func TestMounts(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	for _, d := range []string{"d", "k"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mounted(t, filepath.Join(dir, "d/m"))
	inside := filepath.Join(dir, "d/m/inside")
	list := func(o WriteOptions) []string {
		var b bytes.Buffer
		o.Rename = "."
		if err := Write(context.Background(), &b, open(t, dir), ".", o); err != nil {
			t.Fatal(err)
		}
		return names(t, &b)
	}
	if got, want := list(WriteOptions{}), []string{"5 ./", "5 d/", "5 d/m/", "0 d/m/inside", "5 k/"}; !slices.Equal(got, want) {
		t.Errorf("all: %q, want %q", got, want)
	}
	if got, want := list(WriteOptions{OneMount: true}), []string{"5 ./", "5 d/", "5 d/m/", "5 k/"}; !slices.Equal(got, want) {
		t.Errorf("one mount: %q, want %q", got, want)
	}
	small, err := Size(context.Background(), open(t, dir))
	if err != nil || small >= 5000 {
		t.Errorf("%d bytes, %v", small, err)
	}
	// As large as any file can be, and made of holes.
	for _, name := range []string{inside + "1", inside + "2"} {
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, math.MaxInt64)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Size(context.Background(), open(t, filepath.Dir(inside))); err != nil || n != math.MaxInt64 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := Apply(context.Background(), open(t, dir), pack(t, tar.Header{Name: "d"}), Options{}); err == nil {
		t.Error("a directory was removed in which something is mounted")
	}
	if _, err := os.Stat(inside); err != nil {
		t.Errorf("what is mounted: %v", err)
	}

	// As /etc/hosts is one.
	point := filepath.Join(dir, "k/point")
	if err := errors.Join(os.WriteFile(point, []byte("below"), 0o644), unix.Mount(inside, point, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(point, unix.MNT_DETACH) })
	var b bytes.Buffer
	if err := Write(context.Background(), &b, open(t, dir), "k", WriteOptions{OneMount: true}); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		if h.Size != 0 {
			t.Errorf("%s, a mount point, has %d bytes", h.Name, h.Size)
		}
	}
	if _, err := Apply(context.Background(), open(t, dir), pack(t, tar.Header{Name: "k/point"}), Options{}); err != nil {
		t.Errorf("a file over a mount point: %v", err)
	}
	if data, err := os.ReadFile(inside); string(data) != "k/point" {
		t.Errorf("what is mounted has %q, %v", data, err)
	}
}

// TestMountedNode: a mount point that is no regular file is not opened to be written to, whatever that would do.
func TestMountedNode(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	node, point := filepath.Join(dir, "null"), filepath.Join(dir, "point")
	if err := errors.Join(unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.WriteFile(point, nil, 0o644), unix.Mount(node, point, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	if _, err := Apply(context.Background(), open(t, dir), pack(t, tar.Header{Name: "point"}), Options{}); err == nil {
		t.Error("a device was written to")
	}
	if list, err := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left beside it: %v, %v", list, err)
	}
}

// TestDirectoriesLast: a directory gets its permissions when all is in it, those below before those above; a link that has come to its place is not it.
func TestDirectoriesLast(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		dir := nstest.Dir(t)
		in := pack(t,
			tar.Header{Name: "closed/", Typeflag: tar.TypeDir, Mode: 0o100_000}, // of no permission at all; 0 is pack's default
			tar.Header{Name: "closed/d/", Typeflag: tar.TypeDir, Mode: 0o755},
			tar.Header{Name: "zone/", Typeflag: tar.TypeDir, Mode: 0o755},
			tar.Header{Name: "was/", Typeflag: tar.TypeDir, Mode: 0o777},
			tar.Header{Name: "was", Typeflag: tar.TypeSymlink, Linkname: "zone"},
		)
		_, err := Apply(context.Background(), open(t, dir), in, Options{NoOwner: true})
		var closed, target unix.Stat_t
		if err := errors.Join(err, unix.Lstat(filepath.Join(dir, "closed"), &closed), unix.Lstat(filepath.Join(dir, "zone"), &target)); err != nil {
			t.Fatal(err)
		}
		if closed.Mode&0o7777 != 0 || target.Mode&0o7777 != 0o755 {
			t.Errorf("modes %o and %o", closed.Mode&0o7777, target.Mode&0o7777)
		}
		opened(dir)
	})
}

// TestCut: of a file whose content does not come, or has no room, nothing is left, be there one of its name or none; directories have their permissions all the same.
func TestCut(t *testing.T) {
	nstest.Root(t)
	const size = 1 << 20
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o751}, {Name: "d/whole", Typeflag: tar.TypeReg}, {Name: "d/f", Typeflag: tar.TypeReg, Size: size}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Write(bytes.Repeat([]byte("x"), size))
	for what, test := range map[string]struct {
		in  []byte
		err string
	}{
		"cut":         {b.Bytes()[:b.Len()-size+1000], "d/f"},
		"a full disk": {b.Bytes(), `"d/f": write f: no space left on device`},
	} {
		for _, want := range [][]string{{"whole"}, {"f", "whole"}} {
			dir := nstest.Dir(t)
			if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(dir, 0) })
			if want[0] == "f" {
				if err := errors.Join(os.Mkdir(dir+"/d", 0o700), os.WriteFile(dir+"/d/f", []byte("old"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Apply(t.Context(), open(t, dir), bytes.NewReader(test.in), Options{}); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", what, err)
			}
			files, _ := os.ReadDir(dir + "/d")
			var got []string
			for _, f := range files {
				got = append(got, f.Name())
			}
			if st, err := os.Stat(dir + "/d"); err != nil || st.Mode().Perm() != 0o751 || !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q in a directory of 0751: %v", what, got, want, err)
			}
			if old, _ := os.ReadFile(dir + "/d/f"); want[0] == "f" && string(old) != "old" {
				t.Errorf("%s: %q", what, old)
			}
		}
	}
}

// TestKernelsFiles: of what shows the state of the kernel only the directory is packed, unless it is asked for itself.
func TestKernelsFiles(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	at := filepath.Join(dir, "proc")
	if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount("proc", at, "proc", 0, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	var b bytes.Buffer
	if err := Write(context.Background(), &b, open(t, dir), ".", WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, &b), []string{"5 ./", "5 proc/"}; !slices.Equal(got, want) {
		t.Errorf("%.200q, want %q", got, want)
	}
	b.Reset()
	if err := Write(context.Background(), &b, open(t, dir), "proc/sys/kernel/ostype", WriteOptions{}); err != nil || b.Len() == 0 {
		t.Errorf("a file of it: %v", err)
	}
}

// TestMerge: directories come together, other files take the place of what is there, and a link is replaced and not followed.
func TestMerge(t *testing.T) {
	nstest.Root(t)
	merges(t, Merge)
}

// TestMergeOfServer: so they do on NFS and sshfs, which cannot be told to replace nothing.
func TestMergeOfServer(t *testing.T) {
	nstest.Root(t)
	merges(t, func(from, to *os.File) (err error) {
		nstest.Refuse(t, unix.SYS_RENAMEAT2, unix.EINVAL, func() { err = Merge(from, to) })
		return err
	})
}

func merges(t *testing.T, merge func(from, to *os.File) error) {
	t.Helper()
	dir := nstest.Dir(t)
	for _, tree := range []struct {
		name string
		list []tar.Header
	}{
		{"outside", []tar.Header{{Name: "x"}}},
		{"to", []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "d/old"}, {Name: "d/both", Uid: 1}, {Name: "link", Typeflag: tar.TypeSymlink, Linkname: filepath.Join(dir, "outside")},
			{Name: "file"}, {Name: "tree/a/b"}}},
		{"from", []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 7}, {Name: "d/new"}, {Name: "d/both", Uid: 2}, {Name: "link/y"}, {Name: "file/in"}, {Name: "tree"}}},
	} {
		at := filepath.Join(dir, tree.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Apply(context.Background(), open(t, at), pack(t, tree.list...), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := merge(open(t, filepath.Join(dir, "from")), open(t, filepath.Join(dir, "to"))); err != nil {
		t.Fatal(err)
	}
	hostile.Holds(t, filepath.Join(dir, "to"), map[string]string{"d/old": "-:d/old", "d/new": "-:d/new", "d/both": "-:d/both", "link": "d", "link/y": "-:link/y", "file": "d", "file/in": "-:file/in", "tree": "-:tree"})
	hostile.Holds(t, filepath.Join(dir, "outside"), map[string]string{"x": "-:x", "y": ""})
	for name, want := range map[string]string{"to/d": "755 7", "to/d/both": "644 2"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || fmt.Sprintf("%o %d", st.Mode&0o7777, st.Uid) != want {
			t.Errorf("%s: %o %d, %v; want %s", name, st.Mode&0o7777, st.Uid, err, want)
		}
	}
}

// TestWriteLink: a link that was asked for is packed as one, unless it is to be followed; what it leads to stays within the root.
func TestWriteLink(t *testing.T) {
	dir := nstest.Dir(t)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o644), os.Symlink("/f", filepath.Join(dir, "l"))); err != nil {
		t.Fatal(err)
	}
	for follow, want := range map[bool]string{false: "2 l -> /f", true: "0 l"} {
		var b bytes.Buffer
		if err := Write(context.Background(), &b, open(t, dir), "l", WriteOptions{Follow: follow}); err != nil {
			t.Fatal(err)
		}
		if got := names(t, &b); !slices.Equal(got, []string{want}) {
			t.Errorf("follow %v: %q, want %q", follow, got, want)
		}
	}
	if err := Write(context.Background(), new(bytes.Buffer), open(t, dir), "l", WriteOptions{Layer: true, Rename: ".wh.l"}); err == nil {
		t.Error("a layer has a file whose name hides another")
	}
}

// TestServed: the files by which fuse-overlayfs marks a directory as opaque are a whiteout in a layer, and files nowhere.
func TestServed(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	d := filepath.Join(dir, "d")
	if err := errors.Join(os.Mkdir(d, 0o755), os.WriteFile(filepath.Join(d, ".wh..opq"), nil, 0o644), os.WriteFile(filepath.Join(d, whOpaque), nil, 0o644),
		os.WriteFile(filepath.Join(d, "f"), nil, 0o644), unix.Setxattr(d, servedXattr, []byte("y"), 0)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(context.Background(), &b, open(t, dir), ".", WriteOptions{Layer: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, &b), []string{"5 ./", "5 d/", "0 d/.wh..wh..opq", "0 d/f"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestShrunk: a file that became shorter while it was packed has zeros in the archive, which would have no sense behind it otherwise.
func TestShrunk(t *testing.T) {
	name := filepath.Join(nstest.Dir(t), "f")
	if err := os.WriteFile(name, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	p := &packer{ctx: t.Context(), tar: tar.NewWriter(&b), buf: make([]byte, 4)}
	if err := errors.Join(p.put(&tar.Header{Name: "f", Size: 10}), p.content(open(t, name), 10), p.tar.Close()); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	got := make([]byte, 11)
	_, err := r.Next()
	n, _ := r.Read(got)
	if err != nil || string(got[:n]) != "abc\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// TestACLOfNobody: an ACL with a user who has no id in the archive is left out, and the file is not.
func TestACLOfNobody(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	access := acl([3]uint32{1, 6, nobody}, [3]uint32{2, 4, 33}, [3]uint32{4, 0, nobody}, [3]uint32{16, 4, nobody}, [3]uint32{32, 0, nobody})
	if err := errors.Join(os.WriteFile(name, nil, 0o640), unix.Setxattr(name, aclXattr, []byte(access), 0)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Write(context.Background(), &out, open(t, dir), "f", WriteOptions{UID: func(id uint32) (uint32, error) {
		if id == 33 {
			return 0, errors.New("nobody here")
		}
		return id, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tar.NewReader(&out).Next(); err != nil || h.PAXRecords[paxXattr+aclXattr] != "" {
		t.Errorf("%+v, %v", h, err)
	}
}

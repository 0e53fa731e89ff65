package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// names lists what a tar has, as "TYPE NAME[ -> LINK]".
func names(t *testing.T, r io.Reader) []string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		s := string(h.Typeflag) + " " + h.Name
		if h.Linkname != "" {
			s += " -> " + h.Linkname
		}
		list = append(list, s)
	}
}

func apply(t *testing.T, in io.Reader, o Options) string {
	t.Helper()
	dir := nstest.Dir(t)
	if _, err := Apply(context.Background(), open(t, dir), in, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRoundTrip: what was written, unpacked and written again is the same bytes.
func TestRoundTrip(t *testing.T) {
	nstest.Root(t)
	dir := apply(t, pack(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "b\n\x01\xff", Mode: 0o600, Uid: 1 << 31, Gid: 70000},
		tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o1777},
		tar.Header{Name: "a/one", PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v\x00\n="}},
		tar.Header{Name: "a/two", Typeflag: tar.TypeLink, Linkname: "a/one"},
		tar.Header{Name: "a/link", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x", 300)},
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo},
		tar.Header{Name: "zero", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5},
	), Options{})
	// A hole, a socket, and a time with nanoseconds before 1970.
	if err := os.WriteFile(filepath.Join(dir, "hole"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "hole"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.UtimesNano(filepath.Join(dir, "hole"), []unix.Timespec{{Sec: -5, Nsec: 7}, {Sec: -5, Nsec: 7}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	var first, second bytes.Buffer
	if err := Write(context.Background(), &first, open(t, dir), ".", WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"5 ./", "5 a/", "2 a/link -> " + strings.Repeat("x", 300), "0 a/one", "1 a/two -> a/one", "0 b\n\x01\xff", "6 fifo", "0 hole", "3 zero"}
	if got := names(t, bytes.NewReader(first.Bytes())); !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	again := apply(t, bytes.NewReader(first.Bytes()), Options{})
	if err := Write(context.Background(), &second, open(t, again), "/", WriteOptions{Rename: "."}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the second archive differs from the first")
	}
	// What both lost they would agree on.
	for _, name := range []string{".", "a", "a/link", "a/one", "a/two", "b\n\x01\xff", "fifo", "hole", "zero"} {
		var old, now unix.Stat_t
		if err := errors.Join(unix.Lstat(filepath.Join(dir, name), &old), unix.Lstat(filepath.Join(again, name), &now)); err != nil {
			t.Error(err)
		}
		// All but what is of the disk, and when it was last looked at or changed.
		old.Dev, old.Ino, old.Blocks, old.Atim, old.Ctim = now.Dev, now.Ino, now.Blocks, now.Atim, now.Ctim
		if old.Mode&unix.S_IFMT == unix.S_IFDIR {
			old.Size, old.Mtim = now.Size, now.Mtim
		}
		if old != now {
			t.Errorf("%q: %+v, was %+v", name, now, old)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(again, "hole"), &st); err != nil || st.Size != 1<<20 || st.Blocks > 64 {
		t.Errorf("the hole has %d blocks of %d bytes: %v", st.Blocks, st.Size, err)
	}
}

// TestLayer: whiteouts become overlayfs's marks and whiteouts again, wherever they stand in the layer.
func TestLayer(t *testing.T) {
	nstest.Root(t)
	dir := apply(t, pack(t,
		tar.Header{Name: "new/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "new/file"},
		tar.Header{Name: ".wh.new", Mode: 0o600}, // the directory of lower layers goes, ours stays
		tar.Header{Name: "late/.wh.x", Mode: 0o600},
		tar.Header{Name: "late/x/y/z"},
		tar.Header{Name: "opaque/.wh..wh..opq", Mode: 0o600},
		tar.Header{Name: ".wh.gone", Mode: 0o600},
		tar.Header{Name: ".wh..wh.plnk/1.2", Mode: 0o600},
	), Options{Layer: true})
	var b bytes.Buffer
	if err := Write(context.Background(), &b, open(t, dir), ".", WriteOptions{Layer: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"5 ./", "0 .wh.gone", "5 late/", "5 late/x/", "0 late/x/.wh..wh..opq", "5 late/x/y/", "0 late/x/y/z",
		"5 new/", "0 new/.wh..wh..opq", "0 new/file", "5 opaque/", "0 opaque/.wh..wh..opq",
	}
	if got := names(t, &b); !slices.Equal(got, want) {
		t.Errorf("names\n%q, want\n%q", got, want)
	}
	if got := names(t, pack(t, tar.Header{Name: "x"})); len(got) != 1 {
		t.Error(got)
	}
}

// TestLayerByOverlay: the kernel reads the marks as the layer meant them, in both forms.
func TestLayerByOverlay(t *testing.T) {
	nstest.Root(t)
	for _, nodes := range []bool{true, false} {
		lower := apply(t, pack(t, tar.Header{Name: "d/old"}, tar.Header{Name: "d/keep"}, tar.Header{Name: "o/old"}, tar.Header{Name: "f"}), Options{Layer: true})
		layer := pack(t, tar.Header{Name: "d/.wh.old"}, tar.Header{Name: "o/.wh..wh..opq"}, tar.Header{Name: "o/new"}, tar.Header{Name: ".wh.f"})
		upper := apply(t, layer, Options{Layer: true, noNodes: !nodes})
		merged := nstest.Dir(t)
		if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+upper+":"+lower); err != nil {
			t.Fatal(err)
		}
		var list []string
		filepath.WalkDir(merged, func(p string, _ os.DirEntry, _ error) error {
			list = append(list, strings.TrimPrefix(p, merged))
			return nil
		})
		unix.Unmount(merged, 0)
		if want := []string{"", "/d", "/d/keep", "/o", "/o/new"}; !slices.Equal(list, want) {
			t.Errorf("with nodes %v: %q, want %q", nodes, list, want)
		}
		var b bytes.Buffer
		if err := Write(context.Background(), &b, open(t, upper), ".", WriteOptions{Layer: true}); err != nil {
			t.Fatal(err)
		}
		if got, want := names(t, &b), []string{"5 ./", "5 d/", "0 d/.wh.old", "0 .wh.f", "5 o/", "0 o/.wh..wh..opq", "0 o/new"}; !slices.Equal(got, want) {
			t.Errorf("with nodes %v: written again %q, want %q", nodes, got, want)
		}
	}
}

// A tree whose names are longer than a path can be is refused as it would be when it is read again, and the error is one that a person can read.
func TestWriteLongNames(t *testing.T) {
	dir := nstest.Dir(t)
	root := open(t, dir)
	at, err := unix.Dup(int(root.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { unix.Close(at) }()
	name := strings.Repeat("x", 250)
	for range 20 {
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	longest := 0
	var out bytes.Buffer
	err = Write(context.Background(), &out, root, ".", WriteOptions{})
	var limit *LimitError
	if !errors.As(err, &limit) || limit.What != "bytes in a name" || len(err.Error()) > 2000 {
		t.Errorf("%v", err)
	}
	for tr := tar.NewReader(&out); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		longest = max(longest, len(h.Name))
	}
	if most := DefaultLimits().Name; longest > most+1 || longest < most-300 {
		t.Errorf("the longest name has %d bytes", longest)
	}
}

// The names that are kept of files with several have an end.
func TestWriteManyLinks(t *testing.T) {
	dir := nstest.Dir(t)
	for _, name := range []string{"ab", "cd"} {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), nil, 0o644), os.Link(filepath.Join(dir, name), filepath.Join(dir, name+"2"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		before int
		good   bool
	}{{0, true}, {maxKeptNames - 8, true}, {maxKeptNames - 7, false}} {
		var out bytes.Buffer
		pk := &packer{ctx: t.Context(), tar: tar.NewWriter(&out), links: map[inode]string{}, names: c.before, o: WriteOptions{Limits: DefaultLimits()}}
		f, err := OpenIn(open(t, dir), ".", unix.O_PATH)
		if err != nil {
			t.Fatal(err)
		}
		err = pk.file(f, "x", 0, nil)
		if limit := new(LimitError); (err == nil) != c.good || err != nil && !errors.As(err, &limit) {
			t.Errorf("after %d bytes: %v", c.before, err)
		}
	}
}

// TestWriteManyNames: the names of a directory are kept until all is packed that is in it, and count for as long, together with those of the directories that it is in.
func TestWriteManyNames(t *testing.T) {
	dir := nstest.Dir(t)
	for _, name := range []string{"a/1", "b/2"} { // of 17 bytes each: two, and one more in each of them
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		before int
		good   bool
	}{{0, true}, {maxKeptNames - 3*17, true}, {maxKeptNames - 3*17 + 1, false}} {
		pk := &packer{ctx: t.Context(), tar: tar.NewWriter(io.Discard), listed: c.before, o: WriteOptions{Limits: DefaultLimits()}}
		f, err := OpenIn(open(t, dir), ".", unix.O_PATH)
		if err != nil {
			t.Fatal(err)
		}
		err = pk.file(f, "x", 0, nil)
		if limit := new(LimitError); (err == nil) != c.good || err != nil && !errors.As(err, &limit) {
			t.Errorf("after %d bytes: %v", c.before, err)
		}
		if err == nil && pk.listed != c.before {
			t.Errorf("%d bytes count on after %d", pk.listed, c.before)
		}
	}
}

// TestWriteOfKernel: what the kernel makes while it is read is in the archive as it is read, whatever its size seems to be.
func TestWriteOfKernel(t *testing.T) {
	for _, file := range []string{"/proc/version", "/proc/sys/kernel/random/boot_id", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Logf("%v", err)
			continue
		}
		root, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, asked := range []string{file, filepath.Dir(file)} {
			if asked == "/proc" {
				continue // of a whole /proc, every process
			}
			var b bytes.Buffer
			if err := Write(t.Context(), &b, root, asked, WriteOptions{}); err != nil {
				t.Fatalf("%s: %v", asked, err)
			}
			found, name := false, filepath.Base(file)
			want := want
			if asked != file && strings.HasPrefix(file, "/proc/") {
				want = nil // which may have no end
			}
			if asked != file {
				name = filepath.Base(asked) + "/" + name
			}
			for r := tar.NewReader(&b); ; {
				h, err := r.Next()
				if err != nil {
					break
				}
				if h.Name == name {
					got, _ := io.ReadAll(r)
					if found = true; !bytes.Equal(got, want) {
						t.Errorf("%s of %s: %q, want %q", file, asked, got, want)
					}
				}
			}
			if !found {
				t.Errorf("%s: no %s", asked, file)
			}
		}
	}
	// What waits is not waited for, nor read among others.
	root, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := Write(t.Context(), io.Discard, root, "self/pagemap", WriteOptions{}); !errors.As(err, new(*LimitError)) {
		t.Errorf("a file without end: %v", err)
	}
	var silent [2]int
	if err := unix.Pipe2(silent[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(silent[0])
	defer unix.Close(silent[1])
	for asked, want := range map[bool]error{true: unix.EAGAIN, false: nil} {
		if _, err := generated(silent[0], 0, asked); !errors.Is(err, want) {
			t.Errorf("nothing to be read, asked for %v: %v", asked, err)
		}
	}
	root, err = os.Open("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := Write(t.Context(), io.Discard, root, "mem", WriteOptions{}); err == nil {
		t.Error("a file that cannot be read was asked for, and is there")
	}
}

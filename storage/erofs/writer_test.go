package erofs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
)

// A memory is a file.
type memory []byte

// WriteAt implements [io.WriterAt].
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if n := off + int64(len(p)); n > int64(len(*m)) {
		*m = append(*m, make([]byte, n-int64(len(*m)))...)
	}
	return copy((*m)[off:], p), nil
}

// A forest makes trees of all kinds of files, whose contents are parts of a device or the image's own.
type forest struct {
	*rand.Rand
	w      *Writer
	device []byte
	files  []*Inode
	left   int
}

func (f *forest) name() string {
	b := make([]byte, 1+f.IntN([]int{3, 20, 255}[f.IntN(3)]))
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEF0123456789.-+~ "[f.IntN(47)]
	}
	if s := string(b); s != "." && s != ".." {
		return s
	}
	return "x"
}

func (f *forest) text(most int) string { return strings.Repeat("v", f.IntN(most)) }

func (f *forest) inode(t *testing.T, depth int) *Inode {
	i := &Inode{Mode: uint32(f.IntN(0o10000)), UID: f.Uint32() >> uint(f.IntN(32)), GID: f.Uint32() >> uint(f.IntN(32)), Sec: int64(f.IntN(1 << 32)), Nsec: uint32(f.IntN(1e9))}
	for n := range f.IntN(4) * f.IntN(2) {
		i.Xattrs = append(i.Xattrs, Xattr{fmt.Sprintf("user.%d%s", n, f.text(200)), f.text([]int{8, 600, 5000}[f.IntN(3)])})
	}
	switch kind := f.IntN(12); {
	case kind < 5:
		i.Mode |= unix.S_IFREG
		i.Offset = int64(f.IntN(len(f.device)/BlockSize)) * BlockSize
		i.Size, i.Device = uint64(f.IntN(len(f.device)-int(i.Offset)+1)), 1
	case kind == 5:
		i.Mode |= unix.S_IFREG
		text := make([]byte, f.IntN(40_000))
		for range f.IntN(4) {
			copy(text[f.IntN(len(text)+1):], strings.Repeat("s", f.IntN(6000)))
		}
		var err error
		if i.Chunks, err = f.w.Content(bytes.NewReader(text), int64(len(text))); err != nil {
			t.Fatal(err)
		}
		i.Size = uint64(len(text))
	case kind == 6:
		i.Mode = i.Mode&0o7777 | unix.S_IFLNK
		i.Target = "t" + f.text(2000)
	case kind == 7:
		i.Mode |= unix.S_IFCHR
		i.Rdev = Rdev(uint32(f.IntN(4096)), uint32(f.IntN(1<<20)))
	case kind == 8:
		i.Mode |= unix.S_IFIFO
	default:
		i.Mode |= unix.S_IFDIR
		f.dir(t, i, depth)
		return i
	}
	f.files = append(f.files, i)
	return i
}

func (f *forest) dir(t *testing.T, i *Inode, depth int) {
	i.Children = map[string]*Inode{}
	if depth == 0 {
		return
	}
	for range f.IntN([]int{3, 60}[f.IntN(2)]) {
		if f.left--; f.left < 0 {
			return
		}
		if len(f.files) > 0 && f.IntN(10) == 0 {
			i.Children[f.name()] = f.files[f.IntN(len(f.files))]
			continue
		}
		i.Children[f.name()] = f.inode(t, depth-1)
	}
}

// TestForest: what is written is what both readers read: ours, and that of the EROFS project.
func TestForest(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := &forest{Rand: rand.New(rand.NewPCG(seed, 1)), device: make([]byte, 64<<10), left: 600}
			for i := range f.device {
				f.device[i] = byte(f.Uint32())
			}
			var out memory
			f.w = NewWriter(&out, []Device{{Tag: "one", Size: int64(len(f.device))}})
			root := &Inode{Mode: unix.S_IFDIR | 0o755}
			f.dir(t, root, 4)
			if err := f.w.Finish(root, [16]byte{1}); err != nil {
				t.Fatal(err)
			}
			img, err := Open(bytes.NewReader(out), []io.ReaderAt{bytes.NewReader(f.device)})
			if err != nil {
				t.Fatal(err)
			}
			other, err := goerofs.Open(bytes.NewReader(out), goerofs.WithExtraDevices(bytes.NewReader(f.device)))
			if err != nil {
				t.Fatal(err)
			}
			if devices, err := Devices(bytes.NewReader(out)); err != nil || len(devices) != 1 || devices[0].Tag != "one" {
				t.Errorf("devices %v, %v", devices, err)
			}
			top, err := img.Root()
			if err != nil {
				t.Fatal(err)
			}
			c := &comparer{t: t, other: other, device: f.device, img: img}
			c.compare(root, top, ".")
		})
	}
}

type comparer struct {
	t      *testing.T
	img    *Image
	other  fs.FS
	device []byte
}

func (c *comparer) compare(want *Inode, got *File, p string) {
	t := c.t
	if got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Sec != want.Sec || got.Nsec != want.Nsec || got.Target != want.Target ||
		got.Rdev != want.Rdev || !slices.Equal(got.Xattrs, want.Xattrs) {
		t.Fatalf("%q: read %+v, want %+v", p, got.Inode, want)
	}
	info, err := c.other.(interface {
		Lstat(string) (fs.FileInfo, error)
	}).Lstat(p)
	if err != nil {
		t.Fatalf("go-erofs: %q: %v", p, err)
	}
	st := info.Sys().(*goerofs.Stat)
	xattrs := map[string]string{}
	for _, x := range want.Xattrs {
		xattrs[x.Name] = x.Value
	}
	if len(xattrs) == 0 {
		xattrs = st.Xattrs
	}
	if st.UID != want.UID || st.GID != want.GID || int64(st.Mtime) != want.Sec || st.MtimeNs != want.Nsec || uint32(st.Nlink) != got.Nlink || !reflect.DeepEqual(st.Xattrs, xattrs) {
		t.Fatalf("go-erofs: %q: read %+v, want %+v", p, st, want)
	}
	switch want.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		c.content(want, got, p)
	case unix.S_IFDIR:
		var names []string
		if err := got.Each(func(name string, _ int64) error { names = append(names, name); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(names, sorted(want.Children)) {
			t.Fatalf("%q has %q, want %q", p, names, sorted(want.Children))
		}
		for _, name := range names {
			child, err := got.Child(name)
			if err != nil {
				t.Fatal(err)
			}
			c.compare(want.Children[name], child, path.Join(p, name))
		}
	}
}

func (c *comparer) content(want *Inode, got *File, p string) {
	b, err := io.ReadAll(got.Content())
	if err != nil || uint64(len(b)) != want.Size {
		c.t.Fatalf("%q: %d bytes of %d, %v", p, len(b), want.Size, err)
	}
	if want.Chunks == nil && !bytes.Equal(b, c.device[want.Offset:][:want.Size]) {
		c.t.Fatalf("%q: another content", p)
	}
	again, err := fs.ReadFile(c.other, p)
	if err != nil || !bytes.Equal(again, b) {
		c.t.Fatalf("go-erofs: %q: %d bytes, %v; we read %d", p, len(again), err, len(b))
	}
}

func TestFinishRefuses(t *testing.T) {
	big := func(n int) *Inode {
		i := &Inode{Mode: unix.S_IFREG}
		for k := range n {
			i.Xattrs = append(i.Xattrs, Xattr{fmt.Sprintf("user.%d", k), strings.Repeat("v", 60_000)})
		}
		return i
	}
	dir := func(c *Inode) *Inode { return &Inode{Mode: unix.S_IFDIR, Children: map[string]*Inode{"x": c}} }
	for name, test := range map[string]struct {
		root *Inode
		size int64
	}{
		"no directory": {&Inode{Mode: unix.S_IFREG}, 0}, "attributes": {dir(big(5)), 0}, "device": {dir(&Inode{Mode: unix.S_IFREG}), 1 << 41},
	} {
		if err := NewWriter(&memory{}, []Device{{Size: test.size}}).Finish(test.root, [16]byte{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := NewWriter(&memory{}, nil).Finish(dir(big(4)), [16]byte{}); err != nil {
		t.Error(err)
	}
}

// FuzzOpen: a damaged image is an error, and no panic.
func FuzzOpen(f *testing.F) {
	var out memory
	root := &Inode{Mode: unix.S_IFDIR | 0o755, Children: map[string]*Inode{"a": {Mode: unix.S_IFREG, Size: 9, Device: 1}, "l": {Mode: unix.S_IFLNK, Target: "a", Xattrs: []Xattr{{"user.a", "b"}}}, "d": {Mode: unix.S_IFDIR}}}
	if err := NewWriter(&out, []Device{{Size: 512}}).Finish(root, [16]byte{}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(out))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Open(bytes.NewReader(b), []io.ReaderAt{bytes.NewReader(make([]byte, 512))})
		if err != nil {
			return
		}
		root, err := img.Root()
		if err != nil {
			return
		}
		n := 0
		root.Each(func(name string, number int64) error {
			if n++; n > 100 {
				return io.EOF
			}
			if c, err := root.File(number); err == nil {
				io.ReadAll(io.LimitReader(c.Content(), 1<<16))
			}
			return nil
		})
		img.Lookup("l/../d/a")
	})
}

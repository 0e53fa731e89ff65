package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/storage/erofs"
	"golang.org/x/sys/unix"
)

// layer makes a tar of headers; each file has its own name for content.
func layer(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}
func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// build makes an image of layers, nil where one is refused.
func build(t testing.TB, layers ...[]byte) *erofs.Image {
	t.Helper()
	var devices []erofs.Device
	var readers []io.ReaderAt
	for _, l := range layers {
		devices, readers = append(devices, erofs.Device{Size: int64(len(l))}), append(readers, bytes.NewReader(l))
	}
	var image memory
	var root *erofs.Inode
	w := erofs.NewWriter(&image, devices)
	for i, l := range layers {
		in := archive.NewReader(bytes.NewReader(l), archive.ReaderOptions{Limits: archive.Limits{Bytes: 1 << 24}, Seek: true})
		tree, err := Scan(t.Context(), in, int64(len(l)), w.Content)
		if err != nil {
			return nil
		}
		OnDevice(tree.Root, uint16(i+1))
		root = tree.Over(root)
	}
	if err := w.Finish(root, [16]byte{}); err != nil {
		t.Fatal(err)
	}
	img, err := erofs.Open(bytes.NewReader(image), readers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// walk calls visit for all files of an image, and reads their contents.
func walk(t testing.TB, img *erofs.Image, visit func(p string, f *erofs.File, content []byte)) {
	t.Helper()
	var in func(p string, f *erofs.File)
	in = func(p string, f *erofs.File) {
		var content []byte
		if f.Mode&unix.S_IFMT == unix.S_IFREG {
			var err error
			if content, err = io.ReadAll(f.Content()); err != nil || len(content) != int(f.Size) {
				t.Fatalf("%q: %d bytes, %v", p, len(content), err)
			}
		}
		visit(p, f, content)
		if !f.IsDir() {
			return
		}
		if err := f.Each(func(name string, number int64) error {
			c, err := f.File(number)
			if err == nil {
				in(path.Join(p, name), c)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	root, err := img.Root()
	if err != nil {
		t.Fatal(err)
	}
	in("", root)
}

// FuzzIndex: whatever the bytes of two layers, they are refused, or make an index that our reader walks to its end and
// whose files lie within the tars.
func FuzzIndex(f *testing.F) {
	f.Add(layer(f, dir("a"), reg("a/x"), hard("a/y", "a/x"), link("l", "a"), reg("l/z")), layer(f, reg("a/.wh.x"), reg("a/.wh..wh..opq"), dir("l"), reg("l/q")))
	f.Add(layer(f, reg("a"), dir("a/"), link("s", "../../s")), layer(f, hard("x", "y")))
	f.Add(layer(f, reg(strings.Repeat("n/", 300)+"n")), layer(f, reg(".wh.n"), reg(".wh..wh..opq")))
	for _, a := range hostile.Archives("/canary") {
		if b, err := io.ReadAll(io.LimitReader(a.Open(), 64<<10)); err == nil && !a.Compressed && !a.Big {
			f.Add(b, layer(f, reg("x")))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		img := build(t, a, b)
		if img == nil {
			return
		}
		walk(t, img, func(p string, _ *erofs.File, _ []byte) {
			if base := path.Base(p); p != "" && (base == ".." || base == "." || strings.ContainsAny(base, "\x00/") || strings.HasPrefix(base, ".wh.")) {
				t.Errorf("a file of the name %q", p)
			}
		})
	})
}

// A memory is a file.
type memory []byte

// WriteAt implements [io.WriterAt].
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if n := off + int64(len(p)); n > int64(len(*m)) {
		*m = append(*m, make([]byte, n-int64(len(*m)))...)
	}
	return copy((*m)[off:], p), nil
}

// What a layer takes of memory is counted, whatever it is made of, and has an end: names, also those that are hidden or lead to a file that is there, attributes, and
// what links lead to.
func TestWeight(t *testing.T) {
	attr := reg("a")
	attr.PAXRecords = map[string]string{"SCHILY.xattr.user.k": strings.Repeat("v", 1000)}
	for name, c := range map[string]struct {
		list []tar.Header
		want Weight
	}{
		"nothing":     {nil, Weight{}},
		"a file":      {[]tar.Header{reg("abc")}, Weight{1, 3}},
		"directories": {[]tar.Header{dir("a"), dir("a/b"), dir("a/b"), reg("x/y/z")}, Weight{5, 5}},
		"a link":      {[]tar.Header{link("l", strings.Repeat("t", 4000))}, Weight{1, 4001}},
		"a name more": {[]tar.Header{reg("a"), hard("bcd", "a")}, Weight{2, 5}},
		"whiteouts":   {[]tar.Header{reg(".wh.abc"), reg(".wh.d")}, Weight{2, 4}},
		"attributes":  {[]tar.Header{attr}, Weight{1, 1 + 6 + 1000}},
	} {
		scanned := func(most Weight) (*Tree, error) {
			in := archive.NewReader(bytes.NewReader(layer(t, c.list...)), archive.ReaderOptions{Limits: Limits(), Seek: true})
			return scan(t.Context(), in, 0, nil, func(w Weight) error {
				if w.Files > most.Files || w.Text > most.Text {
					return errors.New("too much")
				}
				return nil
			})
		}
		tree, err := scanned(c.want)
		if err != nil || tree.Weight != c.want {
			t.Errorf("%s: %v, want %v: %v", name, tree.Weight, c.want, err)
		}
		if c.want.Files == 0 {
			continue
		}
		if _, err := scanned(Weight{c.want.Files - 1, c.want.Text}); err == nil {
			t.Errorf("%s: a file more than may be", name)
		}
		if _, err := scanned(Weight{c.want.Files, c.want.Text - 1}); err == nil {
			t.Errorf("%s: a byte more than may be", name)
		}
	}
	for _, c := range []struct {
		w      Weight
		layers int
		good   bool
	}{
		{Weight{MaxFiles, MaxText}, 1, true}, {Weight{MaxFiles + 1, 0}, 1, false}, {Weight{0, MaxText + 1}, 1, false},
		{Weight{2 * MaxFiles, 2 * MaxText}, 2, true}, {Weight{2*MaxFiles + 1, 0}, 2, false}, {Weight{0, 2*MaxText + 1}, 2, false},
	} {
		if err := c.w.Check(c.layers); (err == nil) != c.good {
			t.Errorf("%v of %d: %v", c.w, c.layers, err)
		}
	}
}

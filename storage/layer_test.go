package storage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// only checks that a directory has these files and no others.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range list {
		have = append(have, e.Name())
	}
	if len(have) != len(names) {
		t.Fatalf("%s has %q, want %q", dir, have, names)
	}
	for i := range have {
		if have[i] != names[i] {
			t.Fatalf("%s has %q, want %q", dir, have, names)
		}
	}
}

func TestPut(t *testing.T) {
	s := open(t)
	text := layer(t, "f file "+strings.Repeat("layer", 300_000))
	id := digest.FromBytes(text)
	for _, want := range []digest.Digest{"", id, id} {
		l, err := s.Put(t.Context(), iotest.HalfReader(bytes.NewReader(text)), want)
		if err != nil {
			t.Fatal(err)
		}
		if l.DiffID != id || l.Size != int64(len(text)) {
			t.Errorf("layer %v, want %s of %d bytes", l, id, len(text))
		}
		f, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("the layer's %d bytes come back as %d: %v", len(text), len(got), err)
		}
	}
	only(t, s.path(layersDir), id.Encoded()+".tar")
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].DiffID != id {
		t.Errorf("list: %v, %v", list, err)
	}
}

// allTheTime calls look again and again, beside what the test does, until done or look says that it is enough.
func allTheTime(look func() bool) (done func()) {
	end, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			if !look() {
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// TestPutOverCut: a layer that was cut is whole again when it comes once more, by an import or a load of what no registry has.
func TestPutOverCut(t *testing.T) {
	s := open(t)
	text := layer(t, "f file "+strings.Repeat("layer", 1000))
	l, err := s.Put(t.Context(), bytes.NewReader(text), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{100, 0} {
		if err := os.Truncate(l.path, size); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), bytes.NewReader(text), l.DiffID); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(l.path); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d of %d bytes, %v", len(got), len(text), err)
		}
	}
	done := allTheTime(func() bool {
		_, err := s.Layer(l.DiffID)
		if err != nil {
			t.Errorf("one reads it meanwhile: %v", err)
		}
		return err == nil
	})
	for range 50 {
		if err := os.Truncate(l.path, 100); err != nil {
			t.Error(err)
		}
		if _, err := s.Put(t.Context(), bytes.NewReader(text), l.DiffID); err != nil {
			t.Error(err)
		}
	}
	done()
	only(t, s.path(layersDir), l.DiffID.Encoded()+".tar")
}

func TestPutRefuses(t *testing.T) {
	s := open(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	lie, tiny := digest.FromString("another"), layer(t, "f x x")
	for name, test := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		want digest.Digest
		is   func(error) bool
	}{
		"another digest": {t.Context(), bytes.NewReader(tiny), lie, func(err error) bool {
			var d *DigestError
			return errors.As(err, &d) && d.Want == lie && d.Got == digest.FromBytes(tiny)
		}},
		"reader fails": {t.Context(), iotest.ErrReader(io.ErrUnexpectedEOF), "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"canceled":     {canceled, bytes.NewReader(tiny), "", func(err error) bool { return errors.Is(err, context.Canceled) }},
		"cut":          {t.Context(), iotest.DataErrReader(io.MultiReader(bytes.NewReader(tiny[:700]), iotest.ErrReader(io.ErrUnexpectedEOF))), "", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"no tar":       {t.Context(), strings.NewReader(strings.Repeat("no tar", 1_000_000)), "", func(err error) bool { return errors.Is(err, tar.ErrHeader) }},
		"no digest":    {t.Context(), bytes.NewReader(nil), "sha256:../../etc", func(err error) bool { return err != nil }},
		"other hash":   {t.Context(), bytes.NewReader(nil), digest.Digest("sha512:" + strings.Repeat("0", 128)), func(err error) bool { return err != nil }},
	} {
		if _, err := s.Put(test.ctx, test.r, test.want); !test.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	only(t, s.path(layersDir))
	var missing *NoLayerError
	if _, err := s.Layer(lie); !errors.As(err, &missing) {
		t.Errorf("layer that is not there: %v", err)
	}
}

// TestPutTogether: the same layer by many at once, each as a process would do it.
func TestPutTogether(t *testing.T) {
	dir := t.TempDir()
	text := layer(t, "f file "+strings.Repeat("x", 1<<20))
	var wg sync.WaitGroup
	for range 8 {
		s := openIn(t, dir)
		wg.Go(func() {
			if _, err := s.Put(t.Context(), bytes.NewReader(text), digest.FromBytes(text)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	only(t, filepath.Join(dir, "data", layersDir), digest.FromBytes(text).Encoded()+".tar")
}

// TestNamedTemp: on a file system without O_TMPFILE what nobody writes goes, and the rest stays.
func TestNamedTemp(t *testing.T) {
	s := open(t)
	dir := s.path(layersDir)
	dead, err := newNamedTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	dead.Close() // as a killed process leaves it
	alive, err := newNamedTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	openIn(t, filepath.Dir(s.o.Data))
	only(t, dir, filepath.Base(alive.Name()))
	if _, err := alive.WriteString("layer"); err != nil {
		t.Fatal(err)
	}
	if err := alive.place(filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	alive.discard()
	only(t, dir, "x")
}

// Of a stream that one reader breaks off the others see no end, which is nothing to tell.
func TestSpreadStops(t *testing.T) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	full := errors.New("full")
	err = spread(t.Context(), zero,
		func(r io.Reader) error { _, err := io.ReadFull(r, make([]byte, 1<<28)); return err },
		func(r io.Reader) error { r.Read(make([]byte, 1)); return full },
	)
	if err != full {
		t.Errorf("%v", err)
	}
}

// TestFullDisk: a disk that is full is an error that says so, at each step, and leaves nothing.
func TestFullDisk(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := openIn(t, dir)
	big := layer(t, "f big "+strings.Repeat("x", 2<<20))
	if _, err := s.Put(t.Context(), bytes.NewReader(big), ""); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("put: %v", err)
	}
	only(t, s.path(layersDir))
	small := layer(t, "f small x")
	chain := put(t, s, [][]byte{small})
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := s.View(t.Context(), chain, ""); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("view: %v", err)
	}
	only(t, s.path(indexesDir))
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	view(t, s, chain, "")
	if err := s.Check(t.Context(), chain[0]); err != nil {
		t.Error(err)
	}
}

// TestNoLinks: a file system without hard links, as that of a memory stick, is told from a file that may not be written, and as far as the kernel does from a directory that nobody may change.
func TestNoLinks(t *testing.T) {
	link := &os.LinkError{Op: "link", Old: "/data/layers/.tmp-1", New: "/data/layers/a.tar", Err: unix.EPERM}
	if err := unlinked("/data/layers/a.tar", link); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "the file system of /data has no hard links") || !strings.Contains(err.Error(), "XDG_DATA_HOME") || !strings.Contains(err.Error(), "or /data/layers is immutable") {
		t.Error(err)
	}
	if err := unlinked("/data/layers/a.tar", unix.EOPNOTSUPP); !strings.Contains(err.Error(), "has no hard links") || strings.Contains(err.Error(), "immutable") {
		t.Error(err)
	}
	if err := unlinked("/data/layers/a.tar", unix.ENOSPC); !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "hard links") {
		t.Error(err)
	}
}

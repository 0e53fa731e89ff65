package storage

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gunzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

// TestBlob: a compressed layer comes back byte for byte, with what is behind its stream, where that is asked for.
func TestBlob(t *testing.T) {
	for _, keep := range []bool{true, false} {
		s := open(t)
		tar := layer(t, "f x "+many)
		blob := append(gzipped(t, tar), gzipped(t, nil)...)
		diff, id := digest.FromBytes(tar), digest.FromBytes(blob)
		l, err := s.PutBlob(t.Context(), bytes.NewReader(blob), id, gunzip, diff, keep)
		if err != nil || l.DiffID != diff {
			t.Fatalf("%v, %v", l, err)
		}
		f, err := s.Blob(diff, id)
		if !keep {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a blob that is not kept: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, blob) {
			t.Errorf("%d bytes, want %d: %v", len(got), len(blob), err)
		}
		if err := s.Check(t.Context(), diff); err != nil {
			t.Error(err)
		}
		// An uncompressed one is its own.
		if f, err := s.Blob(diff, diff); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		// A damaged blob is named, and goes; the layer stays.
		if err := os.WriteFile(s.blobPath(diff, id), blob[:20], 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DigestError
		if err := s.Check(t.Context(), diff); !errors.As(err, &damaged) || damaged.Want != id {
			t.Errorf("damaged: %v", err)
		}
		only(t, s.path(layersDir), diff.Encoded()+".tar")
	}
}

// TestBlobRefused: what lies about itself leaves nothing.
func TestBlobRefused(t *testing.T) {
	s := open(t)
	tar := layer(t, "f x "+many)
	blob := gzipped(t, tar)
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		r    io.Reader
		want digest.Digest
	}{
		"another diffID":   {bytes.NewReader(blob), digest.FromString("x")},
		"cut":              {bytes.NewReader(blob[:len(blob)-30]), digest.FromBytes(tar)},
		"not compressed":   {bytes.NewReader(tar), digest.FromBytes(tar)},
		"error at its end": {io.MultiReader(bytes.NewReader(blob), errorReader{broken}), digest.FromBytes(tar)},
	} {
		if _, err := s.PutBlob(t.Context(), test.r, digest.FromBytes(blob), gunzip, test.want, true); err == nil {
			t.Errorf("%s is taken", name)
		}
		only(t, s.path(layersDir))
	}
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

func TestCheck(t *testing.T) {
	s := open(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}, {"f y y"}}))
	for _, id := range chain {
		if err := s.Check(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	f, err := os.OpenFile(s.layerPath(chain[1]), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 700); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var damaged *DigestError
	if err := s.Check(t.Context(), chain[1]); !errors.As(err, &damaged) || damaged.Want != chain[1] {
		t.Errorf("%v", err)
	}
	// It is removed, and put again.
	if err := s.Remove(chain[1]); err != nil {
		t.Fatal(err)
	}
	put(t, s, tarsOf(t, [][]ent{{"f y y"}}))
	if err := s.Check(t.Context(), chain[1]); err != nil {
		t.Error(err)
	}
}

// TestLinkedElsewhere: what a link in the data directory leads to is neither emptied nor written to.
func TestLinkedElsewhere(t *testing.T) {
	keepers(t, func(t *testing.T, s *Store) {
		chain := put(t, s, tarsOf(t, [][]ent{{"f a a"}}))
		v := view(t, s, chain, "c")
		dir, err := v.NewUpper(Upper{ID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		is := func(what string) {
			t.Helper()
			if list, err := os.ReadDir(other); err != nil || len(list) != 1 || list[0].Name() != "theirs" {
				t.Errorf("%s: %v, %v", what, list, err)
			}
		}
		lead := func(name string) {
			t.Helper()
			if err := errors.Join(files.RemoveAll(name), os.Symlink(other, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(other+"/theirs", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		lead(s.path(lockFile))
		if unlock, err := s.lock(unix.LOCK_SH); !errors.Is(err, unix.ELOOP) {
			t.Errorf("lock: %v", err)
			unlock()
		}
		if err := os.Remove(s.path(lockFile)); err != nil {
			t.Fatal(err)
		}
		lead(dir + "/work")
		if _, err := v.NewUpper(Upper{ID: "c"}); err != nil {
			t.Error(err)
		}
		is("work")
		if st, err := os.Lstat(dir + "/work"); err != nil || !st.IsDir() {
			t.Errorf("work is %v, %v", st, err)
		}
		lead(dir + "/upper")
		if _, err := v.NewUpper(Upper{ID: "c"}); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), dir+"/upper") {
			t.Errorf("upper: %v", err)
		}
		if err := s.RemoveUpper("c"); err != nil {
			t.Error(err)
		}
		is("upper")
		if err := os.Chmod(other, 0o700); err != nil {
			t.Fatal(err)
		}
		lead(dir + "/" + tempPrefix + "upper")
		if _, err := v.NewUpper(Upper{ID: "c"}); err != nil {
			t.Error(err)
		}
		if after, err := os.Stat(other); err != nil || after.Mode().Perm() != 0o700 {
			t.Errorf("what a link led to has the looks of an image's root: %v, %v", after.Mode(), err)
		}
		for _, sub := range []string{dirsDir, indexesDir, layersDir} {
			lead(s.path(sub))
			if _, _, err := s.GC(func(digest.Digest) bool { return true }); err != nil {
				t.Errorf("%s: %v", sub, err)
			}
			is(sub)
		}
	})
}

// TestGC: what is used stays, with what was made of it, and all else goes.
func TestGC(t *testing.T) {
	keepers(t, func(t *testing.T, s *Store) {
		a := put(t, s, tarsOf(t, [][]ent{{"f base x"}, {"f a a"}}))
		b := put(t, s, tarsOf(t, [][]ent{{"f base x"}, {"f b b"}}))
		c := put(t, s, tarsOf(t, [][]ent{{"f c c"}}))
		va, _ := view(t, s, a, "ca"), view(t, s, b, "cb")
		removed, bytes, err := s.GC(func(id digest.Digest) bool { return id == a[0] || id == a[1] || id == c[0] })
		if err != nil || len(removed) != 1 || removed[0] != b[1] || bytes == 0 {
			t.Errorf("removed %v, %d bytes, %v", removed, bytes, err)
		}
		for _, id := range []digest.Digest{a[0], a[1], c[0]} {
			if _, err := s.Layer(id); err != nil {
				t.Error(err)
			}
		}
		only(t, s.path(indexesDir), chainID(a).Encoded())
		if n := mountsBelow(t, s.o.Run); n != 0 && n != 2 { // none with the driver of directories
			t.Errorf("%d mounts", n)
		}
		if _, err := os.ReadFile(shownAt(t, va) + "/a"); err != nil {
			t.Error(err)
		}
		if _, _, err := s.GC(func(digest.Digest) bool { return false }); err != nil {
			t.Error(err)
		}
		for _, dir := range []string{layersDir, indexesDir, dirsDir} {
			only(t, s.path(dir))
		}
	})
}

// life is what processes do with a store, over and over: a part of the test binary.
func life(args []string) int {
	s, err := Open(Options{Data: args[0] + "/data", Run: args[0] + "/run", Driver: args[1]})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	tars, err := filepath.Glob(args[0] + "/tars/*")
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	for {
		if err := liveOnce(s, tars); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

func liveOnce(s *Store, tars []string) error {
	ctx := contextOf()
	adding := s.o.Data + "/adding" // as the room of images has it
	unlock, err := lockPath(adding, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer func() { unlock() }()
	var chain []digest.Digest
	for _, name := range tars {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(b)
		w.Close()
		l, err := s.PutBlob(ctx, bytes.NewReader(z.Bytes()), digest.FromBytes(z.Bytes()), gunzip, "", true)
		if err != nil {
			return err
		}
		chain = append(chain, l.DiffID)
	}
	user := fmt.Sprint("u", os.Getpid())
	v, err := s.View(ctx, chain, user)
	if err != nil {
		return err
	}
	if _, err := v.NewUpper(Upper{ID: user, Ephemeral: true}); err != nil {
		return err
	}
	if err := s.RemoveUpper(user); err != nil {
		return err
	}
	if err := s.Release(chain, user); err != nil {
		return err
	}
	unlock()
	if unlock, err = lockPath(adding, unix.LOCK_EX); err != nil {
		unlock = func() {}
		return err
	}
	_, _, err = s.GC(func(id digest.Digest) bool { return id == chain[0] })
	return err
}

// TestKilled: processes that share a store are killed at any moment, and the next one finds what is used whole, and nothing that
// nobody uses.
func TestKilled(t *testing.T) {
	keepers(t, func(t *testing.T, s *Store) {
		dir := filepath.Dir(s.o.Data)
		if err := os.Mkdir(dir+"/tars", 0o755); err != nil {
			t.Fatal(err)
		}
		for i, entries := range [][]ent{{"d a", "f a/x " + many, "h a/y a/x"}, {"f a/.wh.x ", "f b b"}, {"d c", "f c/c " + many + "c"}} {
			if err := os.WriteFile(fmt.Sprintf("%s/tars/%d", dir, i), layer(t, entries...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		first, err := os.ReadFile(dir + "/tars/0")
		if err != nil {
			t.Fatal(err)
		}
		used := put(t, s, [][]byte{first})
		name, _ := s.Driver()
		for round := range 12 {
			for range 2 {
				killed(t, dir, name, round)
			}
			// What was starting a process of its own had it hold locks, for the moment until that sees that it is alone.
			var next *Store
			var left []string
			for until := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				next = openIn(t, dir)
				next.choose.Do(func() {})
				next.driver = name
				if err := next.SweepUsers(func(string) bool { return false }); err != nil {
					t.Fatal(err)
				}
				if err := next.SweepUppers(func(string) bool { return false }); err != nil {
					t.Fatal(err)
				}
				if _, _, err := next.GC(func(id digest.Digest) bool { return id == used[0] }); err != nil {
					t.Fatal(err)
				}
				if left = unused(t, s, used[0]); len(left) == 0 || time.Now().After(until) {
					break
				}
			}
			if err := next.Check(t.Context(), used[0]); err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("round %d: left are %q", round, left)
			}
			if n := mountsBelow(t, s.o.Run); n != 0 {
				t.Errorf("round %d: %d mounts are left", round, n)
			}
		}
	})
}

// unused lists the files of a store that are not of one layer.
func unused(t *testing.T, s *Store, used digest.Digest) (names []string) {
	t.Helper()
	for _, sub := range []string{layersDir, indexesDir, dirsDir, ephemeral} {
		list, err := os.ReadDir(s.path(sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range list {
			if !strings.HasPrefix(e.Name(), used.Encoded()) {
				names = append(names, sub+"/"+e.Name())
			}
		}
	}
	return names
}

// killed runs two lives beside each other, and kills both.
func killed(t *testing.T, dir, driver string, round int) {
	t.Helper()
	var lives []*lifeProcess
	for range 2 {
		lives = append(lives, startLife(t, dir, driver))
	}
	for i, l := range lives {
		l.kill(t, round*(i+1))
	}
}

// TestUpperUsage: files count with their bytes, as Docker has it, each once; directories within each other that no path reaches are counted, as far as they are looked at.
func TestUpperUsage(t *testing.T) {
	s := open(t)
	top := s.path(containers, "deep", "upper")
	if err := os.MkdirAll(top, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range maxDepth + 100 {
		if err == nil {
			err = unix.Mkdirat(fd, "a directory", 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		var below int
		below, err = unix.Openat(fd, "a directory", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
	defer files.RemoveAll(top)
	small, sparse := filepath.Join(top, "small"), filepath.Join(top, "sparse")
	err = errors.Join(os.WriteFile(small, []byte("1\n"), 0o600), os.Link(small, small+"2"), os.Symlink("small", small+"3"), os.Mkdir(top+"/etc", 0o755), os.Symlink("/proc/mounts", top+"/etc/mtab"), os.WriteFile(sparse, nil, 0o600), os.Truncate(sparse, 1000))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.UpperUsage("deep"); err != nil || n != 2+5+1000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestFreeLater: a large file has no name when it is removed, and its content is given back soon after, by somebody who ends.
func TestFreeLater(t *testing.T) {
	s := open(t)
	name := s.path(layersDir, strings.Repeat("a", 64)+".tar")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, bigFile); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	// The event comes when nobody has the file any more.
	if _, err := unix.InotifyAddWatch(watch, name, unix.IN_DELETE_SELF); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.GC(func(digest.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	only(t, s.path(layersDir))
	poll := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 60_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("the file is still open: %v", err)
		}
		return
	}
}

package storage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// drivers runs a test with each driver that this machine has.
func drivers(t *testing.T, test func(t *testing.T, s *Store)) {
	driversOf(t, []string{driverErofs, driverDirs, driverFuse}, test)
}

// keepers runs a test with each way to keep layers.
func keepers(t *testing.T, test func(t *testing.T, s *Store)) {
	driversOf(t, []string{driverErofs, driverDirs}, test)
}

func driversOf(t *testing.T, names []string, test func(t *testing.T, s *Store)) {
	nstest.Root(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if name == driverFuse {
				s.fuse = nstest.FUSE(t)
			}
			if have, why := s.Driver(); name == driverErofs && have != name {
				t.Logf("not tried: %s", why) // Linux before 6.12
				return
			}
			s.choose.Do(func() {})
			s.driver = name
			nstest.NoLeaks(t)
			test(t, s)
		})
	}
}

// shownAt mounts what a view shows, read-only, for the kernel to be asked.
func shownAt(t testing.TB, v *View) string {
	t.Helper()
	if len(v.names) == 0 {
		return v.lower
	}
	dir, empty := t.TempDir(), t.TempDir()
	lower := []string{empty} // an overlay without an upper directory has two lower ones
	for _, n := range v.names {
		lower = append(lower, filepath.Join(v.lower, n))
	}
	if v.fuse != "" {
		serve(t, v.fuse, "lowerdir="+strings.Join(lower, ":"), dir)
		return dir
	}
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// serve mounts what fuse-overlayfs shows on a directory.
func serve(t testing.TB, program, options, dir string) {
	t.Helper()
	c := exec.Command(program, "-f", "-o", options, dir)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	})
	nstest.Until(t, "a mount of "+program, func() bool {
		var st unix.Statfs_t
		return unix.Statfs(dir, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC || c.ProcessState != nil
	})
}

func view(t testing.TB, s *Store, chain []digest.Digest, user string) *View {
	t.Helper()
	v, err := s.View(t.Context(), chain, user)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		t.Cleanup(func() {
			if err := s.Release(chain, user); err != nil {
				t.Error(err)
			}
		})
	}
	return v
}

func TestDriversShowTheSame(t *testing.T) {
	for _, test := range shownCases() {
		t.Run(test.name, func(t *testing.T) {
			drivers(t, func(t *testing.T, s *Store) {
				v := view(t, s, put(t, s, tarsOf(t, test.layers)), "c1")
				same(t, "the kernel", withoutRoot(lines(look(t, shownAt(t, v)))), test.want)
				img, err := v.Image()
				if err != nil {
					t.Fatal(err)
				}
				defer img.Close()
				same(t, "the image", withoutRoot(lines(lookImage(t, img.Image))), test.want)
			})
		})
	}
}

// TestViewSources: what the kernel reads for who reads a view is what labels are given to, and an index is mounted with the label that its files are to have.
func TestViewSources(t *testing.T) {
	keepers(t, func(t *testing.T, s *Store) {
		s.o.Label = "u:object_r:ro_t:s0"
		chain := put(t, s, [][]byte{layer(t, "f a 1"), layer(t, "f b 2")})
		v := view(t, s, chain, "")
		want := []string{s.path(dirsDir, chain[1].Encoded()), s.path(dirsDir, chain[0].Encoded())}
		if s.driver == driverErofs {
			want = []string{s.indexPath(v.id), s.layerPath(chain[0]), s.layerPath(chain[1])}
		}
		if got := v.Sources(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		for _, name := range want {
			if _, err := os.Stat(name); err != nil {
				t.Error(err)
			}
		}
		plan := v.Plan()
		if got := strings.Contains(plan.Text(), "context=u:object_r:ro_t:s0"); got != (s.driver == driverErofs) {
			t.Errorf("%t:\n%s", got, plan.Text())
		}
	})
}

// TestUnknownLabel: an index whose files cannot have the label that they are to have is mounted without.
func TestUnknownLabel(t *testing.T) {
	drivers(t, func(t *testing.T, s *Store) {
		s.o.Label = "nobody:knows:this"
		shown := shownAt(t, view(t, s, put(t, s, [][]byte{layer(t, "f a 1")}), "c1"))
		if _, err := os.Stat(shown + "/a"); err != nil {
			t.Error(err)
		}
	})
}

// TestMountIsShared: containers of an image share one mount, which ends with the last of them.
func TestMountIsShared(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	first := openIn(t, dir)
	if name, why := first.Driver(); name != driverErofs {
		t.Logf("not tried: %s", why)
		return
	}
	nstest.NoLeaks(t)
	chain := put(t, first, tarsOf(t, [][]ent{{"f x x"}, {"f y y"}}))
	lower := ""
	var wg sync.WaitGroup
	for i := range 8 {
		s := openIn(t, dir)
		wg.Go(func() {
			v, err := s.View(t.Context(), chain, fmt.Sprint("c", i))
			if err != nil {
				t.Error(err)
				return
			}
			if i == 0 {
				lower = v.Layers("", false).Lower
			}
		})
	}
	wg.Wait()
	if n := mountsBelow(t, dir); n != 2 { // the private one, and the index
		t.Errorf("%d mounts", n)
	}
	if b, err := os.ReadFile(lower + "/y"); string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	alive := func(user string) bool { return user == "c3" }
	if err := first.SweepUsers(alive); err != nil {
		t.Fatal(err)
	}
	if n := mountsBelow(t, dir); n != 2 {
		t.Errorf("%d mounts while one uses it", n)
	}
	if err := first.Release(chain, "c3"); err != nil {
		t.Fatal(err)
	}
	if n := mountsBelow(t, dir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	// Once more is no error.
	if err := first.Release(chain, "c3"); err != nil {
		t.Error(err)
	}
}

// TestMountLingers: it outlives its last user for a while, and then a sweep takes it away, or the removal of the image.
func TestMountLingers(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	if name, why := s.Driver(); name != driverErofs {
		t.Logf("not tried: %s", why)
		return
	}
	nstest.NoLeaks(t)
	s.o.Linger = time.Hour
	for _, removed := range []bool{false, true} {
		chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
		view(t, s, chain, "c")
		if err := s.Release(chain, "c"); err != nil {
			t.Fatal(err)
		}
		nobody := func(string) bool { return false }
		if err := s.SweepUsers(nobody); err != nil {
			t.Fatal(err)
		}
		if n := mountsBelow(t, s.o.Run); n != 2 {
			t.Errorf("%d mounts", n)
		}
		if removed {
			if _, _, err := s.GC(func(digest.Digest) bool { return false }); err != nil {
				t.Fatal(err)
			}
		} else {
			old := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(s.runPath(usersDir, chainID(chain).Encoded()), old, old); err != nil {
				t.Fatal(err)
			}
			if err := s.SweepUsers(nobody); err != nil {
				t.Fatal(err)
			}
		}
		if n := mountsBelow(t, s.o.Run); n != 0 {
			t.Errorf("removed %v: %d mounts are left", removed, n)
		}
	}
}

func mountsBelow(t testing.TB, dir string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(strings.Fields(line)[4], dir+"/") {
			n++
		}
	}
	return n
}

// TestMountIsPrivate: no other mount namespace gets it.
func TestMountIsPrivate(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	s := openIn(t, dir)
	if name, why := s.Driver(); name != driverErofs {
		t.Logf("not tried: %s", why)
		return
	}
	v := view(t, s, put(t, s, tarsOf(t, [][]ent{{"f x x"}})), "c")
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, " "+v.lower+" ") && (strings.Contains(line, "shared:") || !strings.Contains(line, "ro,nosuid,nodev")) {
			t.Errorf("mount %s", line)
		}
	}
}

func TestViewRefuses(t *testing.T) {
	s := open(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
	missing := digest.FromString("missing")
	for name, test := range map[string]struct {
		chain []digest.Digest
		user  string
		want  string
	}{
		"no layers":       {nil, "c", "0 layers"},
		"missing layer":   {[]digest.Digest{chain[0], missing}, "c", "is not in the store"},
		"name of another": {chain, "../c", "file name"},
		"no digest":       {[]digest.Digest{"x"}, "c", "diffID"},
	} {
		if _, err := s.View(t.Context(), test.chain, test.user); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	only(t, s.path(indexesDir))
}

// TestImageOpensWhatIsRead: of an image's layers those are opened that have what is read, and a later one that has gone is found missing then.
func TestImageOpensWhatIsRead(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"f a " + strings.Repeat("a", 5000)}, {"f b " + strings.Repeat("b", 5000)}, {"f c " + strings.Repeat("c", 5000)}}))
	v := view(t, s, chain, "")
	img, err := v.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := os.Remove(s.layerPath(chain[2])); err != nil {
		t.Fatal(err)
	}
	if b, err := img.ReadFile("b", 5000); err != nil || string(b) != strings.Repeat("b", 5000) {
		t.Errorf("b: %q, %v", b, err)
	}
	if _, err := img.ReadFile("c", 5000); !errors.As(err, new(*NoLayerError)) {
		t.Errorf("a file of a layer that is gone: %v", err)
	}
	if got := openBelow(t, s.path(layersDir)); len(got) != 1 || got[0] != s.layerPath(chain[1]) {
		t.Errorf("open are %q, and one layer was read", got)
	}
	img.Close()
	if got := openBelow(t, s.path(layersDir)); len(got) != 0 {
		t.Errorf("open are %q after Close", got)
	}
	if _, err := img.ReadFile("a", 5000); err == nil {
		t.Error("a closed image opens a layer")
	}
}

// openBelow lists this process's open files below a directory.
func openBelow(t *testing.T, dir string) (list []string) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir+"/") {
			list = append(list, name)
		}
	}
	return list
}

// TestLayerIsCut: an image of which a layer's tar has become shorter is no container's root, whether its index is mounted already or not: programs of it would end by
// SIGBUS. A check names the layer without reading it.
func TestLayerIsCut(t *testing.T) {
	nstest.Root(t)
	s := openIn(t, t.TempDir())
	if name, why := s.Driver(); name != driverErofs {
		t.Logf("not tried: %s", why)
		return
	}
	nstest.NoLeaks(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"f a a"}, {"f b b"}}))
	view(t, s, chain, "first")
	st, err := os.Stat(s.layerPath(chain[1]))
	if err != nil {
		t.Fatal(err)
	}
	size := func(n int64) []Problem {
		t.Helper()
		if err := os.Truncate(s.layerPath(chain[1]), n); err != nil {
			t.Fatal(err)
		}
		list, err := s.Problems()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := size(512); len(list) != 1 || list[0].Object != "layer "+short(chain[1]) || !strings.Contains(list[0].Text, "its tar has 512 bytes, and had "+strconv.FormatInt(st.Size(), 10)) {
		t.Errorf("%+v", list)
	}
	refused := func(user string) {
		t.Helper()
		var cut *CutLayerError
		if _, err := s.View(t.Context(), chain, user); !errors.As(err, &cut) || cut.DiffID != chain[1] || cut.Size != 512 || cut.Want != st.Size() {
			t.Errorf("%v", err)
		}
	}
	refused("second")
	if err := s.Release(chain, "first"); err != nil {
		t.Fatal(err)
	}
	refused("second")
	refused("")
	if list := size(st.Size()); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	view(t, s, chain, "second")
	if err := s.Release(chain, "second"); err != nil {
		t.Fatal(err)
	}
}

// TestLayerIsGone: an image of which a layer has gone cannot be a container's root, also where its index is there.
func TestLayerIsGone(t *testing.T) {
	nstest.Root(t)
	drivers(t, func(t *testing.T, s *Store) {
		chain := put(t, s, tarsOf(t, [][]ent{{"f a a"}, {"f b b"}}))
		view(t, s, chain, "")
		if err := os.Remove(s.layerPath(chain[1])); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"c1", ""} {
			var missing *NoLayerError
			if _, err := s.View(t.Context(), chain, user); !errors.As(err, &missing) || missing.DiffID != chain[1] {
				t.Errorf("for %q: %v", user, err)
			}
		}
		if names, _ := os.ReadDir(s.runPath(usersDir)); len(names) != 0 {
			t.Errorf("users are noted: %v", names)
		}
	})
}

func TestReadFile(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	v := view(t, s, put(t, s, tarsOf(t, [][]ent{{"d etc", "f etc/real text", "l etc/passwd ../../../etc/real", "l loop loop", "l abs /etc/real", "d d", "p fifo", "c null 1 3", "l host /proc/self/root/etc/hostname"}})), "")
	img, err := v.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for name, want := range map[string]string{"etc/real": "text", "/etc/passwd": "text", "abs": "text", "etc/../abs": "text", "d/../../../abs": "text"} {
		if b, err := img.ReadFile(name, 100); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"none", "etc/real/below", "host", "etc/none/.."} {
		if _, err := img.ReadFile(name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"loop", "d", "fifo", "null", "/"} {
		if _, err := img.ReadFile(name, 100); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	if _, err := img.ReadFile("etc/real", 3); err == nil {
		t.Error("a file above the limit is read")
	}
}

// TestIndexIsCut: an index that has lost its end, which the kernel would mount, or its beginning is named with the way out, found by a check, and made anew after the repair.
func TestIndexIsCut(t *testing.T) {
	nstest.Root(t)
	s := openIn(t, t.TempDir())
	if name, why := s.Driver(); name != driverErofs {
		t.Logf("not tried: %s", why)
		return
	}
	nstest.NoLeaks(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"f a a"}, {"f b b"}}))
	for what, damage := range map[string]func(name string, size int64) error{
		"half":     func(name string, size int64) error { return os.Truncate(name, size/2) },
		"a byte":   func(name string, size int64) error { return os.Truncate(name, size-1) },
		"all":      func(name string, _ int64) error { return os.Truncate(name, 0) },
		"no magic": func(name string, size int64) error { return os.WriteFile(name, make([]byte, size), 0o600) },
	} {
		v, err := s.View(t.Context(), chain, "")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		name := s.indexPath(v.id)
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(name, st.Size()); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"", "one"} {
			if _, err := s.View(t.Context(), chain, user); err == nil || !strings.HasPrefix(err.Error(), name+", ") || !strings.Contains(err.Error(), "kakuri system check --repair") {
				t.Errorf("%s: %v", what, err)
			}
		}
		list, err := s.Problems()
		if err != nil || len(list) != 1 || list[0].Object != "index "+v.id.Encoded()[:12] {
			t.Fatalf("%s: %+v, %v", what, list, err)
		}
		if err := list[0].Mend(); err != nil {
			t.Fatal(err)
		}
		view(t, s, chain, "one")
		if err := s.Release(chain, "one"); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Problems(); err != nil || len(list) != 0 {
			t.Errorf("%s, after the repair: %+v, %v", what, list, err)
		}
	}
}

// TestSparse: files with holes are shown with their holes, and so is a tar's last file whose block is cut.
func TestSparse(t *testing.T) {
	tars := map[string][]byte{
		"old GNU format": gnuSparse(1 << 20),
		"cut at the end": cutTar(t),
	}
	for name, b := range tars {
		t.Run(name, func(t *testing.T) {
			drivers(t, func(t *testing.T, s *Store) {
				chain := put(t, s, [][]byte{b})
				root := shownAt(t, view(t, s, chain, "c"))
				got, err := os.ReadFile(root + "/file")
				if err != nil {
					t.Fatal(err)
				}
				if want := sparseText(name); !bytes.Equal(got, want) {
					t.Errorf("%d bytes, want %d", len(got), len(want))
				}
			})
		})
	}
}

func sparseText(name string) []byte {
	if name == "cut at the end" {
		return []byte("content")
	}
	b := make([]byte, 1<<20)
	copy(b[512*3:], bytes.Repeat([]byte("a"), 512))
	copy(b[1<<19:], bytes.Repeat([]byte("b"), 700))
	return b
}

// cutTar is a tar that ends with the last byte of its last file.
func cutTar(t testing.TB) []byte {
	b := layer(t, "f file content")
	return b[:bytes.Index(b, []byte("content"))+7]
}

// gnuSparse is a tar as GNU tar --sparse wrote it for long: a file of size bytes with two pieces.
func gnuSparse(size int64) []byte {
	h := make([]byte, 512)
	copy(h, "file")
	octal := func(at, n int, v int64) { copy(h[at:], fmt.Sprintf("%0*o\x00", n-1, v)) }
	octal(100, 8, 0o644)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, 512+700)
	octal(136, 12, then.Unix())
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	octal(386, 12, 512*3)
	octal(398, 12, 512)
	octal(410, 12, size/2)
	octal(422, 12, 700)
	octal(434, 12, size)
	octal(446, 12, 0)
	octal(483, 12, size)
	copy(h[148:156], "        ")
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	b := append(h, bytes.Repeat([]byte("a"), 512)...)
	b = append(b, bytes.Repeat([]byte("b"), 700)...)
	b = append(b, make([]byte, 1024-700)...)
	return append(b, make([]byte, 1024)...)
}

// overlayOf mounts a view below an upper directory, read-only.
func overlayOf(t testing.TB, upper string, v *View) string {
	t.Helper()
	dir := t.TempDir()
	lower := []string{upper}
	if len(v.names) == 0 {
		lower = append(lower, v.lower)
	}
	for _, n := range v.names {
		lower = append(lower, filepath.Join(v.lower, n))
	}
	if v.fuse != "" {
		serve(t, v.fuse, "lowerdir="+strings.Join(lower, ":"), dir)
		return dir
	}
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func xattrHeader(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1"}}
}

package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// deepDir makes directories within each other, deeper than a path can say, with a file in each tenth.
func deepDir(t *testing.T, top string, depth int) {
	t.Helper()
	fd, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := range depth {
		if err == nil {
			err = unix.Mkdirat(fd, "d", 0o755)
		}
		if err == nil && i%10 == 0 {
			err = unix.Mknodat(fd, "f", unix.S_IFREG|0o644, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		var below int
		below, err = unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
}

// TestRemoveDeepOfServer: so it is on NFS and sshfs, which cannot be told to replace nothing.
func TestRemoveDeepOfServer(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	for _, dir := range []string{top + "/a", top + "/.deep-1/full"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		deepDir(t, dir, 700)
	}
	nstest.Refuse(t, unix.SYS_RENAMEAT2, unix.EINVAL, func() {
		if err := RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// TestRemoveDeep: a directory is removed that is deeper than there may be descriptors.
func TestRemoveDeep(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	top := filepath.Join(t.TempDir(), "top")
	for _, dir := range []string{top + "/a", top + "/.deep-1", top + "/b/c"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		deepDir(t, dir, 700)
	}
	if err := RemoveAll(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// TestRemoveAll: what lies outside stays, behind links and below what is not there.
func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	keep := filepath.Join(dir, "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(dir, "top")
	if err := os.MkdirAll(top+"/closed/in", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{top + "/link", dir + "/toplink"} {
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(top+"/closed", 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir + "/toplink", top + "/", top, dir + "/no/thing"} {
		if err := RemoveAll(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || list[0].Name() != "keep" {
		t.Errorf("left: %v, %v", list, err)
	}
	if err := RemoveAll(keep + "/x"); err == nil {
		t.Error("a name below a file was removed")
	}
}

// removeTogether has several remove a directory at once.
func removeTogether(t *testing.T, top string) {
	t.Helper()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := RemoveAll(top); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// TestRemoveTogether: several remove the same directory at once, and each finds it gone.
func TestRemoveTogether(t *testing.T) {
	for range 4 {
		top := filepath.Join(t.TempDir(), "top")
		for i := range 50 {
			if err := os.MkdirAll(fmt.Sprintf("%s/%d/in", top, i), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		removeTogether(t, top)
	}
}

// TestRemoveUnchangeable: what cannot be changed by its attributes is removed with the rest, at any depth; what lies outside keeps them.
func TestRemoveUnchangeable(t *testing.T) {
	dir := t.TempDir()
	set := func(name string, flags int) {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
			t.Skipf("no attributes here: %v", err)
		}
	}
	keep := dir + "/keep"
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set(keep, 0) })
	set(keep, unix.STATX_ATTR_IMMUTABLE)
	top := dir + "/top"
	deepest := top + strings.Repeat("/d", deepest+5)
	if err := os.MkdirAll(deepest, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{top + "/f", top + "/a", deepest + "/f"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(keep, top+"/link"); err != nil {
		t.Fatal(err)
	}
	set(top+"/a", unix.STATX_ATTR_APPEND)
	set(top+"/f", unix.STATX_ATTR_IMMUTABLE)
	set(deepest+"/f", unix.STATX_ATTR_IMMUTABLE)
	for d := deepest; d != dir; d = filepath.Dir(d) {
		set(d, unix.STATX_ATTR_IMMUTABLE)
	}
	if err := RemoveAll(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
	if err := os.Remove(keep); !os.IsPermission(err) {
		t.Errorf("the file outside, to which a link led: %v", err)
	}
}

// TestRemoveDeepTogether: several remove the same deep directory at once, and one has moved up what another looks for.
func TestRemoveDeepTogether(t *testing.T) {
	for range 2 {
		top := filepath.Join(t.TempDir(), "top")
		for i := range 3 {
			dir := fmt.Sprintf("%s/%d", top, i)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			deepDir(t, dir, 3*deepest)
		}
		removeTogether(t, top)
	}
}

// A served directory is one of a server that lets its owner read it only by its mode.
type served struct {
	*os.File
	open bool
}

func (s *served) Readdirnames(n int) ([]string, error) {
	if !s.open {
		return nil, &os.PathError{Op: "readdirent", Path: s.Name(), Err: unix.EACCES}
	}
	return s.File.Readdirnames(n)
}

func (s *served) Chmod(mode os.FileMode) error {
	s.open = mode&0o400 != 0
	return s.File.Chmod(mode)
}

// TestEmptyServed: what the kernel's overlay leaves of a trial on a home by sshfs, a directory with no rights for anybody, is removed: every later command would
// stumble over it.
func TestEmptyServed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (&remover{}).empty(&served{File: f}, 0); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

package storage

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestTrialIsRemembered: what went well is not tried again, and what did not is, since a module may be loaded meanwhile.
func TestTrialIsRemembered(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	tries := 0
	answer := errors.New("no")
	try := func() error { tries++; return answer }
	for range 2 {
		if err := s.remembered("erofs", try); err != answer {
			t.Fatal(err)
		}
	}
	if tries != 2 {
		t.Errorf("a trial that failed: %d tries", tries)
	}
	answer = nil
	for range 2 {
		if err := openIn(t, dir).remembered("erofs", try); err != nil {
			t.Fatal(err)
		}
	}
	if tries != 3 {
		t.Errorf("a trial that went well: %d tries more", tries-2)
	}
}

// onOverlay is an empty directory on an overlay.
func onOverlay(t *testing.T) string {
	t.Helper()
	dir := nstest.Dir(t)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/merged", unix.MNT_DETACH) })
	return dir + "/merged"
}

// TestDataOnOverlay: where the data is on an overlay, as in a container without a volume for it, a container is refused with what is to be done, and who
// only reads is not.
func TestDataOnOverlay(t *testing.T) {
	nstest.Root(t)
	s := openIn(t, onOverlay(t))
	chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
	if name, _ := s.Driver(); name != driverDirs {
		t.Fatalf("driver %s", name)
	}
	if _, err := s.View(t.Context(), chain, "c"); err == nil || !strings.Contains(err.Error(), "is on an overlay, as in a container") {
		t.Errorf("a container: %v", err)
	}
	if _, err := s.View(t.Context(), chain, ""); err != nil {
		t.Errorf("who only reads: %v", err)
	}
}

// TestRootlessDataOnOverlay: an ordinary user whose data is on an overlay is told of both ways: another file system, and the program.
func TestRootlessDataOnOverlay(t *testing.T) {
	nstest.Root(t)
	t.Setenv("PATH", "/none")
	s, err := Open(Options{Data: onOverlay(t), Run: nstest.Dir(t), Rootless: true, IDs: ordinary(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := s.Driver(); name != driverDirs || s.cannot == nil {
		t.Fatalf("%s, %v", name, s.cannot)
	}
	for _, way := range []string{"a volume say", "is not installed"} {
		if !strings.Contains(s.cannot.Error(), way) {
			t.Errorf("%v does not say %q", s.cannot, way)
		}
	}
}

// TestRootlessDataWithoutAttributes: an ordinary user whose data is on a file system without extended attributes user.*, as tmpfs was before Linux 6.6, is told of that, and not of an input or output error.
func TestRootlessDataWithoutAttributes(t *testing.T) {
	nstest.Root(t)
	t.Setenv("PATH", "/none")
	data := nstest.Dir(t)
	if err := unix.Mount("ramfs", data, "ramfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(data, unix.MNT_DETACH)
	s, err := Open(Options{Data: data, Run: nstest.Dir(t), Rootless: true, IDs: ordinary(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	_, why := s.Driver()
	if s.cannot == nil {
		t.Fatalf("it can: %s", why)
	}
	for _, text := range []string{s.cannot.Error(), why} {
		if !strings.Contains(text, "keeps no extended attributes user.*") || !strings.Contains(text, "XDG_DATA_HOME") || strings.Contains(text, "input/output error") {
			t.Error(text)
		}
	}
}

// TestNoWritesKept: where an overlay can be mounted, and what is written through it is refused, as on NFS and 9p, no container is begun that writes, and its error has the way out.
func TestNoWritesKept(t *testing.T) {
	nstest.Root(t)
	data := nstest.Dir(t)
	s := openIn(t, data)
	chain := put(t, s, tarsOf(t, [][]ent{{"f x x"}}))
	v, err := s.View(t.Context(), chain, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(chain, "c")
	for call, errno := range map[uint32]unix.Errno{unix.SYS_FSCONFIG: unix.EINVAL, unix.SYS_SYMLINKAT: unix.EIO} {
		nstest.Refuse(t, call, errno, func() {
			_, err := v.NewUpper(Upper{ID: "c"})
			for _, word := range []string{data, errno.Error(), "mount another one there", "--read-only"} {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("%v does not say %q", err, word)
				}
			}
		})
	}
	// What there is too little of just now says nothing about the file system.
	for call, errno := range map[uint32]unix.Errno{unix.SYS_FSOPEN: unix.ENODEV, unix.SYS_FSCONFIG: unix.ENOMEM, unix.SYS_FSMOUNT: unix.EMFILE, unix.SYS_SYMLINKAT: unix.ENOSPC} {
		nstest.Refuse(t, call, errno, func() {
			_, err := v.NewUpper(Upper{ID: "c"})
			if !errors.Is(err, errno) || !strings.Contains(err.Error(), data) || strings.Contains(err.Error(), "mount another") {
				t.Errorf("%v: %v", errno, err)
			}
		})
	}
	left, err := os.ReadDir(s.path(dirsDir)) // where the layers are as well, with the driver of that name
	if left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), tempPrefix) }); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if _, err := v.NewUpper(Upper{ID: "c"}); err != nil {
		t.Error(err)
	}
}

// onTmpfs is an empty directory on a tmpfs of its own.
func onTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := nstest.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestWritesOnTmpfs: tmpfs keeps what a container writes, also before Linux 6.6, where it has no user attributes: no more is missing than a removed directory that is made anew.
func TestWritesOnTmpfs(t *testing.T) {
	nstest.Root(t)
	if err := openIn(t, onTmpfs(t, "")).tryUpper(); err != nil {
		t.Error(err)
	}
}

// TestTrialWithoutRoom: a file system without room for the trial is not taken for one that keeps nothing.
func TestTrialWithoutRoom(t *testing.T) {
	nstest.Root(t)
	data := onTmpfs(t, "nr_inodes=1000")
	s := openIn(t, data)
	if err := s.tryUpper(); err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(data, &st); err != nil {
		t.Fatal(err)
	}
	for n := st.Files - st.Ffree; ; n++ {
		if err := unix.Mount("", data, "", unix.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", n)); err != nil {
			t.Fatal(err)
		}
		err := s.tryUpper()
		if err == nil {
			break
		}
		if errors.As(err, new(unkeptError)) || n > 1000 {
			t.Fatalf("with %d inodes: %v", n, err)
		}
	}
}

// TestTrialAsContainers: the trial's overlay has its marks where a container's has them.
func TestTrialAsContainers(t *testing.T) {
	nstest.Root(t)
	s := openIn(t, nstest.Dir(t))
	dir, err := s.trialDir()
	if err != nil {
		t.Fatal(err)
	}
	defer s.discardDir(dir)
	if err := unix.Setxattr(dir.name, "user.x", nil, 0); err == unix.EOPNOTSUPP {
		t.Skip("needs a file system with user attributes")
	}
	m, err := layOver(dir.name)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m)
	if err := remakeOver(fmt.Sprintf("/proc/self/fd/%d", m)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(dir.name+"/upper/dir", "user.overlay.opaque", nil); err != nil {
		t.Errorf("a directory that was made anew has no mark: %v", err)
	}
}

// TestLocksOfNFS: what is locked alone is open for writing, without which NFS gives no such lock.
func TestLocksOfNFS(t *testing.T) {
	name := t.TempDir() + "/tar"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLock(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDWR {
		t.Errorf("%#o, %v", flags, err)
	}
}

// TestFollowedLinks: no layer is unpacked where what a symbolic link is given goes to what it leads to, as on sshfs.
func TestFollowedLinks(t *testing.T) {
	dir := t.TempDir() + "/dirs/new"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := keepsLinks(dir); err != nil {
		t.Error(err)
	}
	nstest.Refuse(t, unix.SYS_UTIMENSAT, unix.ENOENT, func() {
		if err := keepsLinks(dir); err == nil || !strings.Contains(err.Error(), "XDG_DATA_HOME=") {
			t.Error(err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

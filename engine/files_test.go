package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// stopped makes a container that is not started.
func stopped(t testing.TB, e *Engine, c Config) string {
	t.Helper()
	made, err := e.Create(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Remove(context.Background(), made.ID, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	})
	return made.ID
}

func idle(root string) Config {
	return Config{Rootfs: root, Interactive: true, Command: []string{"cat"}}
}

func put(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func has(t testing.TB, name, text string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != text {
		t.Errorf("%s is %.60q, %v; want %q", name, got, err, text)
	}
}

// TestCopy: both ways, in a container that runs and in one that does not, also as the owner of ids that the host
// does not have.
func TestCopy(t *testing.T) {
	nstest.Root(t)
	for _, runs := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%v", runs), func(t *testing.T) {
			e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
			make := stopped
			if runs {
				make = func(t testing.TB, e *Engine, c Config) string { return started(t, e, c).ID }
			}
			id := make(t, e, idle(root))
			put(t, host+"/d/f", "text")
			put(t, host+"/d/sub/g", "more")
			if err := os.Chown(host+"/d/f", 33, 44); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/etc", root+"/link"); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			in := func(src, dst string, o CopyOptions) {
				t.Helper()
				if err := e.CopyIn(ctx, id, src, dst, o); err != nil {
					t.Errorf("%s to %s: %v", src, dst, err)
				}
			}
			out := func(src, dst string, o CopyOptions) {
				t.Helper()
				if err := e.CopyOut(ctx, id, src, dst, o); err != nil {
					t.Errorf("%s to %s: %v", src, dst, err)
				}
			}
			in(host+"/d", "/tmp", CopyOptions{})
			has(t, root+"/tmp/d/sub/g", "more")
			in(host+"/d", "/tmp/new", CopyOptions{Archive: true})
			has(t, root+"/tmp/new/f", "text")
			in(host+"/d/.", "/link", CopyOptions{})
			has(t, root+"/etc/sub/g", "more")
			in(host+"/d/f", "/tmp/d/sub/g", CopyOptions{}) // over a file
			has(t, root+"/tmp/d/sub/g", "text")
			// Owners are kept, as with Docker; one that the container has not is an error of an archive.
			if err := os.Chown(host+"/d/f", 1<<20, 44); err != nil {
				t.Fatal(err)
			}
			in(host+"/d/f", "/tmp/stranger", CopyOptions{})
			if err := e.CopyIn(ctx, id, host+"/d/f", "/tmp/never", CopyOptions{Archive: true}); err == nil {
				t.Error("an archive has an owner that the container has not")
			}
			for name, want := range map[string][2]uint32{"/tmp/d/f": {33, 44}, "/tmp/new/f": {33, 44}, "/tmp/stranger": {0, 44}, "/tmp/d/sub/g": {33, 44}} {
				var st unix.Stat_t
				if err := unix.Stat(root+name, &st); err != nil || [2]uint32{st.Uid, st.Gid} != want {
					t.Errorf("%s is of %d:%d, %v; want %d", name, st.Uid, st.Gid, err, want)
				}
			}
			out("/tmp/new", host+"/back", CopyOptions{Archive: true})
			has(t, host+"/back/sub/g", "more")
			var st unix.Stat_t
			if err := unix.Stat(host+"/back/f", &st); err != nil || st.Uid != 33 || st.Gid != 44 {
				t.Errorf("back again it is of %d:%d, %v", st.Uid, st.Gid, err)
			}
			out("/tmp/new/f", host+"/one", CopyOptions{})
			has(t, host+"/one", "text")
			// A link to a file, on either side, stays, and the file is what is written.
			put(t, root+"/tmp/file", "old")
			put(t, host+"/file", "old")
			for _, dir := range []string{root + "/tmp", host} {
				if err := os.Symlink("file", dir+"/to"); err != nil {
					t.Fatal(err)
				}
			}
			in(host+"/d/f", "/tmp/to", CopyOptions{})
			out("/tmp/new/f", host+"/to", CopyOptions{})
			for _, dir := range []string{root + "/tmp", host} {
				has(t, dir+"/file", "text")
				if target, err := os.Readlink(dir + "/to"); err != nil || target != "file" {
					t.Errorf("%s/to leads to %q, %v", dir, target, err)
				}
			}
			out("/link", host, CopyOptions{})
			if target, err := os.Readlink(host + "/link"); err != nil || target != "/etc" {
				t.Errorf("the link leads to %q, %v", target, err)
			}
			out("/link", host+"/followed", CopyOptions{Follow: true})
			has(t, host+"/followed/sub/g", "more")
			s, err := e.StatPath(ctx, id, "/link")
			if err != nil || s.LinkTarget != "/etc" || s.Name != "link" || s.Mode&fs.ModeSymlink == 0 {
				t.Errorf("stat: %+v, %v", s, err)
			}
			var none ErrNoSuchPath
			if err := e.CopyOut(ctx, id, "/nothing", host, CopyOptions{}); !errors.As(err, &none) {
				t.Errorf("what is not there: %v", err)
			}
			if err := e.CopyIn(ctx, id, host+"/d", "/etc/passwd", CopyOptions{}); err == nil {
				t.Error("a directory took the place of a file")
			}
			if err := unix.Mkfifo(host+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			if err := e.CopyOut(ctx, id, "/etc/passwd", host+"/fifo", CopyOptions{}); err == nil || !strings.Contains(err.Error(), "must be a directory or a regular file") {
				t.Errorf("over a FIFO: %v", err)
			}
			if fi, err := os.Lstat(host + "/fifo"); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
				t.Errorf("the FIFO is %v, %v", fi, err)
			}
			var b bytes.Buffer
			if err := e.Export(ctx, id, &b); err != nil {
				t.Error(err)
			}
			if h := tarHeader(t, bytes.NewReader(b.Bytes()), "proc/"); h.Uid != 0 || h.Gid != 0 || h.Mode&0o7777 != 0o755 {
				t.Errorf("export has /proc with the mode %o, of %d:%d", h.Mode, h.Uid, h.Gid)
			}
			if list := tarNames(t, &b); !slices.Contains(list, "tmp/new/sub/g") || !slices.Contains(list, "proc/") || slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "proc/") && s != "proc/" }) {
				t.Errorf("export has %d names", len(list))
			}
		})
	}
}

// tarHeader is the first header of a name.
func tarHeader(t testing.TB, r io.Reader, name string) *tar.Header {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h.Name == name {
			return h
		}
	}
}

func tarNames(t testing.TB, r io.Reader) (list []string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name)
	}
}

// What a container has of programs that run with their owner's rights becomes the caller's by a copy, as which everybody on the machine would run them: as with
// cp(1), the rights stay behind unless all is to be kept. A node that anybody may open is for its owner alone.
func TestCopyOutRights(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	id := stopped(t, e, idle(root))
	put(t, root+"/d/program", "x")
	put(t, root+"/d/capable", "x")
	capability := string([]byte{1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // CAP_SETUID, effective
	err := errors.Join(os.Link(root+"/d/program", root+"/d/same"), os.Chmod(root+"/d", 0o755|os.ModeSetgid), os.Chmod(root+"/d/program", 0o755|os.ModeSetuid|os.ModeSetgid),
		unix.Setxattr(root+"/d/capable", "security.capability", []byte(capability), 0), unix.Mknod(root+"/d/node", unix.S_IFBLK|0o666, 7<<8))
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range []bool{false, true} {
		host := nstest.Dir(t)
		if err := e.CopyOut(t.Context(), id, "/d", host, CopyOptions{Archive: archive}); err != nil {
			t.Fatal(err)
		}
		got := map[string]fs.FileMode{}
		for _, name := range []string{"", "program", "same", "node"} {
			st, err := os.Lstat(filepath.Join(host, "d", name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = st.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid)
		}
		want := map[string]fs.FileMode{"": 0o755 | fs.ModeSetgid, "program": 0o755, "same": 0o755, "node": 0o600}
		if archive {
			want = map[string]fs.FileMode{"": 0o755 | fs.ModeSetgid, "program": 0o755 | fs.ModeSetuid | fs.ModeSetgid, "same": 0o755 | fs.ModeSetuid | fs.ModeSetgid}
			delete(got, "node")
		}
		if !maps.Equal(got, want) {
			t.Errorf("archive %v: %v, want %v", archive, got, want)
		}
		_, err := unix.Getxattr(filepath.Join(host, "d/capable"), "security.capability", make([]byte, 64))
		if (err == nil) != archive {
			t.Errorf("archive %v: capabilities: %v", archive, err)
		}
	}
}

// TestCopyOutToDevice: /dev/null stays what it is, also by a link, and where a directory is copied to it.
func TestCopyOutToDevice(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	id := stopped(t, e, idle(root))
	put(t, root+"/d/file", "x")
	host := nstest.Dir(t)
	null := filepath.Join(host, "null")
	if err := errors.Join(unix.Mknod(null, unix.S_IFCHR|0o666, 1<<8|3), os.Symlink("null", filepath.Join(host, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"null", "link"} {
		for _, src := range []string{"/d/file", "/d"} {
			err := e.CopyOut(t.Context(), id, src, filepath.Join(host, dst), CopyOptions{})
			if err == nil || !strings.Contains(err.Error(), "must be a directory or a regular file: got a device") {
				t.Errorf("%s to %s: %v", src, dst, err)
			}
		}
	}
	if st, err := os.Lstat(null); err != nil || st.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("null is %v, %v", st.Mode(), err)
	}
}

// TestCopyIntoMounts: what is mounted in a running container is reached, which Docker does not: tmpfs, and what the container has
// mounted itself; what is read-only is not written to.
func TestCopyIntoMounts(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	put(t, host+"/f", "text")
	c := Config{
		Rootfs: root, Interactive: true, ReadOnly: true, CapAdd: []string{"SYS_ADMIN"}, SecurityOpt: []string{"seccomp=unconfined"},
		Command: []string{"sh", "-c", "mkdir /mem/own && mount -t tmpfs own /mem/own && echo of the mount > /mem/own/g && exec cat"},
		Mounts: []Mount{
			{Type: "tmpfs", Dest: "/mem", Flag: "--tmpfs"},
			{Type: "bind", Source: host, Dest: "/srv", Options: []string{"rbind", "ro"}, Flag: "-v"},
		},
	}
	id := started(t, e, c).ID
	ctx := context.Background()
	nstest.Until(t, "the container's own mount", func() bool {
		_, err := e.StatPath(ctx, id, "/mem/own/g")
		return err == nil
	})
	for _, dst := range []string{"/mem", "/mem/own"} {
		if err := e.CopyIn(ctx, id, host+"/f", dst, CopyOptions{}); err != nil {
			t.Errorf("%s: %v", dst, err)
		}
	}
	if err := e.CopyOut(ctx, id, "/mem/own", host+"/own", CopyOptions{}); err != nil {
		t.Error(err)
	}
	has(t, host+"/own/f", "text")
	has(t, host+"/own/g", "of the mount\n")
	for _, dst := range []string{"/tmp", "/srv", "/etc/passwd"} {
		if err := e.CopyIn(ctx, id, host+"/f", dst, CopyOptions{}); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", dst, err)
		}
	}
}

// TestCopyOntoMounts: a file that is mounted in a running container is written to, and stays mounted, which is nothing that this process's own mount namespace knows of. A
// container that may mount has a parameter of the machine for one, which is this process's to write to: it stays as it is.
func TestCopyOntoMounts(t *testing.T) {
	nstest.Root(t)
	const parameter = "/proc/sys/fs/pipe-max-size"
	was, err := os.ReadFile(parameter)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(parameter, was, 0)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	put(t, host+"/mounted", "the machine's")
	put(t, host+"/f", "text")
	put(t, host+"/number", strings.TrimSpace(string(was))+"0")
	put(t, host+"/d/g", "text")
	c := Config{
		Rootfs: root, Interactive: true, CapAdd: []string{"SYS_ADMIN"}, SecurityOpt: []string{"seccomp=unconfined"},
		Command:    []string{"sh", "-c", "touch /conf && mount -o remount,rw,bind /proc/sys && mount --bind " + parameter + " /conf && mount --bind /proc/sys/fs /srv/web && touch /ready && exec cat"},
		Mounts:     []Mount{{Type: "bind", Source: host + "/mounted", Dest: "/mounted", Flag: "-v"}},
		ExtraHosts: []string{"db:192.0.2.1"},
	}
	id := started(t, e, c).ID
	ctx := context.Background()
	nstest.Until(t, "the container's own mount", func() bool {
		_, err := e.StatPath(ctx, id, "/ready")
		return err == nil
	})
	for _, dst := range []string{"/mounted", "/etc/hosts"} {
		if err := e.CopyIn(ctx, id, host+"/f", dst, CopyOptions{}); err != nil {
			t.Errorf("%s: %v", dst, err)
		}
	}
	has(t, host+"/mounted", "text")
	made, err := e.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	has(t, made.dir+"/hosts", "text")
	for src, c := range map[string]struct{ dst, says string }{"number": {"/conf", "state of the kernel"}, "d/.": {"/srv/web", "no such file"}} {
		if err := e.CopyIn(ctx, id, host+"/"+src, c.dst, CopyOptions{}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.dst, err)
		}
	}
	has(t, parameter, string(was))
	// A tree that has such directories is copied nevertheless: they are there.
	put(t, host+"/tree/proc/sys/..keep", "")
	if err := errors.Join(os.Remove(host+"/tree/proc/sys/..keep"), os.Mkdir(host+"/tree/sys", 0o700)); err != nil {
		t.Fatal(err)
	}
	put(t, host+"/tree/zfile", "text")
	if err := e.CopyIn(ctx, id, host+"/tree/.", "/", CopyOptions{}); err != nil {
		t.Error(err)
	}
	has(t, root+"/zfile", "text")
	for name, h := range map[string]tar.Header{"a directory": {Name: "mounted", Typeflag: tar.TypeDir}, "a link": {Name: "mounted", Typeflag: tar.TypeSymlink, Linkname: "x"}} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&h), w.Close()); err != nil {
			t.Fatal(err)
		}
		if err := e.CopyTo(ctx, id, "/", &b, CopyToOptions{}); err == nil {
			t.Errorf("%s in the place of what is mounted", name)
		}
	}
	has(t, "/proc/"+strconv.Itoa(made.PID)+"/root/mounted", "text")
}

// TestCopyIntoMemory: what would be gone at the start is not copied to a container that does not run.
func TestCopyIntoMemory(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	put(t, host+"/f", "text")
	c := idle(root)
	c.Mounts = []Mount{{Type: "tmpfs", Dest: "/mem", Flag: "--tmpfs"}}
	id := stopped(t, e, c)
	ctx := context.Background()
	var conflict ErrConflict
	for _, dst := range []string{"/mem", "/dev/shm", "/mem/new"} {
		if err := e.CopyIn(ctx, id, host+"/f", dst, CopyOptions{}); !errors.As(err, &conflict) {
			t.Errorf("%s: %v", dst, err)
		}
	}
	if err := e.CopyIn(ctx, id, host+"/f", "/tmp", CopyOptions{}); err != nil {
		t.Errorf("a directory on the disk: %v", err)
	}
	if err := e.Start(ctx, id, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.CopyIn(ctx, id, host+"/f", "/mem", CopyOptions{}); err != nil {
		t.Errorf("it runs: %v", err)
	}
}

// racer runs a container that exchanges two names below /w all the time, and shares that directory.
func racer(t testing.TB, e *Engine, root, shared, one, two string) string {
	t.Helper()
	return started(t, e, Config{
		Rootfs: root, Interactive: true, Command: []string{"/swapper", "/w/" + one, "/w/" + two},
		Mounts: []Mount{
			{Type: "bind", Source: shared, Dest: "/w", Options: []string{"rbind"}, Flag: "-v"},
			{Type: "bind", Source: nstest.Exe, Dest: "/swapper", Options: []string{"rbind"}, Flag: "-v"},
		},
	}).ID
}

// copies is how often a race is run.
const copies = 500

// TestCVE_2018_15664: a container that swaps a directory with a link to the host's while cp looks the path up gets nothing
// of the host, and nothing into it: CVE-2018-15664, 2019-10152, 2019-18466, 2021-41089.
func TestCVE_2018_15664(t *testing.T) {
	nstest.Root(t)
	e, root, shared, host := open(t), nstest.RootFS(t), nstest.Dir(t), nstest.Dir(t)
	canary := hostile.NewCanary(t)
	put(t, shared+"/stash/secret", "of the container")
	if err := os.Symlink(canary.Dir, shared+"/evil"); err != nil {
		t.Fatal(err)
	}
	put(t, host+"/victim", "from the caller")
	id := racer(t, e, root, shared, "stash", "evil")
	ctx := context.Background()
	well := map[string]int{}
	// On a loaded machine the racer's turns are long: go on until each way has met the directory often enough.
	for n := 0; n < copies || n < 10*copies && min(well["in"], well["out"], well["from"]) < copies/10; n++ {
		if e.CopyIn(ctx, id, host+"/victim", "/w/stash/", CopyOptions{}) == nil {
			well["in"]++
		}
		if e.CopyOut(ctx, id, "/w/stash/secret", host+"/got", CopyOptions{}) == nil {
			well["out"]++
			has(t, host+"/got", "of the container")
		}
		if s, err := e.StatPath(ctx, id, "/w/stash/secret"); err == nil && s.Size != int64(len("of the container")) {
			t.Errorf("stat of the host's: %+v", s)
		}
		var b bytes.Buffer
		if err := e.CopyFrom(ctx, id, "/w/stash/.", &b, true); err == nil {
			well["from"]++
			if bytes.Contains(b.Bytes(), []byte("canary: ")) {
				t.Fatal("the archive has the host's file")
			}
		}
		if t.Failed() {
			break
		}
	}
	canary.Check(t)
	for _, way := range []string{"in", "out", "from"} {
		if well[way] < copies/10 {
			t.Errorf("%s: only %d copies met the directory", way, well[way])
		}
	}
}

// watch counts what is opened below directories while f runs.
func watch(t *testing.T, dirs []string, f func()) (opened []string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN); err != nil {
			t.Fatal(dir, err)
		}
	}
	f()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return opened
		}
		for _, name := range strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r < ' ' || r > '~' }) {
			if len(name) > 2 {
				opened = append(opened, name)
			}
		}
	}
}

// TestCVE_2019_14271: cp runs no code of the container, and reads no file of it but those that are copied: name service
// libraries and accounts are not looked at.
func TestCVE_2019_14271(t *testing.T) {
	nstest.Root(t)
	e, root, host := open(t), nstest.RootFS(t), nstest.Dir(t)
	put(t, host+"/f", "text")
	for _, name := range []string{"lib/x86_64-linux-gnu/libnss_files.so.2", "etc/nsswitch.conf", "etc/ld.so.cache"} {
		put(t, root+"/"+name, "evil")
	}
	id := started(t, e, idle(root)).ID
	opened := watch(t, []string{root + "/lib/x86_64-linux-gnu", root + "/etc"}, func() {
		for _, o := range []CopyOptions{{}, {Archive: true}} {
			if err := e.CopyIn(context.Background(), id, host+"/f", "/tmp", o); err != nil {
				t.Error(err)
			}
			if err := e.CopyOut(context.Background(), id, "/tmp/f", host+"/back", o); err != nil {
				t.Error(err)
			}
		}
	})
	if len(opened) > 0 {
		t.Errorf("it opened %q", opened)
	}
}

// TestCVE_2026_41567: compressed archives are read by this process; programs of the container with the names of decompressors are not
// run, nor those of the host.
func TestCVE_2026_41567(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	bin := nstest.Dir(t)
	for _, dir := range []string{root + "/usr/bin", root + "/bin", bin} {
		for _, name := range []string{"xz", "unpigz", "gzip", "bzip2", "zstd", "tar", "unxz"} {
			os.Remove(dir + "/" + name)
			put(t, dir+"/"+name, "#!/bin/sh\ntouch /ran\n")
			if err := os.Chmod(dir+"/"+name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 4, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("text"))
	w.Close()
	archives := map[string][]byte{"none": plain.Bytes()}
	for _, args := range [][]string{{"gzip", "-c"}, {"bzip2", "-c"}, {"xz", "-c"}, {"zstd", "-c"}} {
		c := exec.Command(args[0], args[1:]...)
		c.Stdin = bytes.NewReader(plain.Bytes())
		out, err := c.Output()
		if errors.Is(err, exec.ErrNotFound) {
			continue // archive's tests have all
		}
		if err != nil {
			t.Fatal(args, err)
		}
		archives[args[0]] = out
	}
	t.Setenv("PATH", bin)
	id := started(t, e, idle(root)).ID
	for kind, b := range archives {
		os.Remove(root + "/tmp/f")
		opened := watch(t, []string{root + "/usr/bin", root + "/bin", bin}, func() {
			if err := e.CopyTo(context.Background(), id, "/tmp", bytes.NewReader(b), CopyToOptions{}); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		})
		has(t, root+"/tmp/f", "text")
		if len(opened) > 0 {
			t.Errorf("%s: it opened %q", kind, opened)
		}
	}
}

// TestCVE_2026_41568_and_42306: a container's mounts are made for cp while another one swaps the place of a mount, in a volume
// that both have, with a link to the host's.
func TestCVE_2026_41568_and_42306(t *testing.T) {
	nstest.Root(t)
	e, root, shared, host := open(t), nstest.RootFS(t), nstest.Dir(t), nstest.Dir(t)
	canary := hostile.NewCanary(t)
	for _, name := range []string{"sub", "stash"} {
		put(t, shared+"/"+name+"/f", "x")
	}
	os.RemoveAll(shared + "/stash")
	if err := os.Symlink(canary.Dir, shared+"/stash"); err != nil {
		t.Fatal(err)
	}
	put(t, host+"/victim", "from the caller")
	other := nstest.Dir(t)
	racer(t, e, root, shared, "sub", "stash")
	id := stopped(t, e, Config{Rootfs: nstest.RootFS(t), Command: []string{"true"}, Mounts: []Mount{
		{Type: "bind", Source: shared, Dest: "/w", Options: []string{"rbind"}, Flag: "-v"},
		{Type: "bind", Source: other, Dest: "/w/sub", Options: []string{"rbind"}, Flag: "-v"},
	}})
	ctx, well := context.Background(), 0
	for i := range 30 {
		if e.CopyIn(ctx, id, host+"/victim", "/w/sub/", CopyOptions{}) == nil {
			well++
		}
		got := fmt.Sprintf("%s/got%d", host, i)
		e.CopyOut(ctx, id, "/w/sub/.", got, CopyOptions{})
		if b, err := os.ReadFile(got + "/secret"); err == nil {
			t.Fatalf("it got the host's %q", b)
		}
	}
	canary.Check(t)
	if well == 0 {
		t.Error("no copy met the directory")
	}
}

// TestCVE_2026_17106: what a container gives to cp is unpacked as a hostile archive: a link that it has put into the caller's directory is
// replaced, and not written through.
func TestCVE_2026_17106(t *testing.T) {
	nstest.Root(t)
	e, root, shared, host := open(t), nstest.RootFS(t), nstest.Dir(t), nstest.Dir(t)
	canary := hostile.NewCanary(t)
	// As a file, and as a directory with a file below it.
	put(t, shared+"/d/victim", "evil")
	put(t, shared+"/d/x/victim", "evil")
	put(t, shared+"/e/keep", "")
	for name, target := range map[string]string{"victim": canary.Dir + "/victim", "x": canary.Dir} {
		if err := os.Symlink(target, shared+"/e/"+name); err != nil {
			t.Fatal(err)
		}
	}
	id := racer(t, e, root, shared, "d", "e")
	seen := map[string]int{}
	for range copies {
		e.CopyOut(context.Background(), id, "/w/d", host, CopyOptions{}) // a link in the place of a directory is refused
		if fi, err := os.Lstat(host + "/d/victim"); err == nil {
			seen[fi.Mode().Type().String()]++
		}
	}
	canary.Check(t)
	if len(seen) < 2 {
		t.Errorf("the copies saw only %v", seen)
	}
}

// TestCopyHostile: the corpus as the input of cp, into a container that runs, and nothing of it leaves the container.
func TestCopyHostile(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	canary := hostile.NewCanary(t)
	c := started(t, e, idle(root))
	copyHostile(t, e, c.ID, root, "/tmp/", canary)
	// By a child, as where a file system may not answer.
	_, end := silent(t, strconv.Itoa(c.PID))
	defer end()
	copyHostile(t, e, c.ID, root, "/tmp/child-", canary)
}

func copyHostile(t *testing.T, e *Engine, id, root, in string, canary *hostile.Canary) {
	t.Helper()
	for _, a := range hostile.Archives(canary.Dir) {
		if a.Big {
			continue
		}
		dir := in + a.Name
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := e.CopyTo(context.Background(), id, dir, a.Open(), CopyToOptions{Archive: true})
		if a.Nodes { // which would be a way to devices that the container was not given
			if list, bad := os.ReadDir(root + dir); err == nil || !strings.Contains(err.Error(), "a device node, which is not taken here") || bad != nil || len(list) > 0 {
				t.Errorf("%s: %v; there are %v, %v", a.Name, err, list, bad)
			}
			continue
		}
		if a.Plain == hostile.Refused && err == nil {
			t.Errorf("%s: taken", a.Name)
		}
		if a.Plain == hostile.Taken && err != nil && !strings.Contains(err.Error(), "absolute") {
			t.Errorf("%s: %v", a.Name, err)
		}
		canary.Check(t)
	}
}

// TestCopyCancelled: a copy that waits for its stream ends with its context, and leaves the container usable.
func TestCopyCancelled(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	id := stopped(t, e, idle(root))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.Copy(z, hostile.Files(200000))
	z.Close()
	if err := e.CopyTo(ctx, id, "/tmp", &b, CopyToOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := e.Start(context.Background(), id, StartOptions{}); err != nil {
		t.Error(err)
	}
}

// slow gives time to pass before what is written is taken.
type slow struct {
	text bytes.Buffer // whose ReadFrom is not this one's
	once func()
}

func (s *slow) Write(p []byte) (int, error) {
	if s.once != nil {
		s.once()
		s.once = nil
	}
	return s.text.Write(p)
}

// TestCopyOfRestarting: files of a container that its policy starts again and again are copied both ways between two runs; the next one waits for that, and comes.
func TestCopyOfRestarting(t *testing.T) {
	nstest.Root(t)
	e, ctx := open(t), t.Context()
	imported(t, e, nstest.RootFS(t), "base:1")
	c := detached(t, e, Config{
		Image: "base:1", Command: []string{"sh", "-c", "echo run >>/runs; echo run >>/vol/runs; cat /new; exit 1"},
		Restart: Restart{Policy: "always"}, Mounts: []Mount{vol("kept", "/vol")},
	})
	restarting := func() bool { c = found(t, e, c.ID); return c.Restarts >= 2 && c.Status == monitor.Restarting }
	// copied gives a file as it is between two runs, of which the second is due before the copy is done. Then it calls do.
	copied := func(name string, do func()) string {
		for {
			nstest.Until(t, "a time between two runs", restarting)
			between := false
			out := slow{once: func() {
				due := time.Now().Add(150 * time.Millisecond << c.Restarts)
				nstest.Until(t, "the next run to be due", func() bool { return time.Now().After(due) })
				if now := found(t, e, c.ID); now.Restarts == c.Restarts {
					between = true
					do()
				}
			}}
			if err := e.CopyFrom(ctx, c.ID, name, &out, false); err != nil {
				t.Fatal(err)
			}
			if between {
				return out.text.String()
			}
		}
	}
	for _, name := range []string{"/runs", "/vol/runs"} {
		if n := strings.Count(copied(name, func() {}), "run\n"); n != c.Restarts+1 {
			t.Errorf("%s has %d runs, of %d", name, n, c.Restarts+1)
		}
		nstest.Until(t, "another run", func() bool { return found(t, e, c.ID).Restarts > c.Restarts })
	}
	dir := t.TempDir()
	put(t, dir+"/new", "by hand\n")
	if err := e.CopyIn(ctx, c.ID, dir+"/new", "/new", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, "a run that has the file", func() bool { return strings.Contains(logOf(t, c), "by hand") })

	// What a killed cp has left of the process that it had goes before the next start.
	place := e.dir + "/runtime/" + monitor.StandIn(c.ID)
	if err := os.Mkdir(place, 0o711); err != nil {
		t.Fatal(err)
	}
	nstest.Until(t, place+" to be gone", func() bool { return !exists(place) })

	// Who stops it does not wait for the copy. One that is started anew has the shortest waits.
	if err := errors.Join(e.Stop(ctx, c.ID, StopOptions{}), e.Start(ctx, c.ID, StartOptions{})); err != nil {
		t.Fatal(err)
	}
	text := copied("/runs", func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := e.Stop(ctx, c.ID, StopOptions{}); err != nil {
			t.Error(err)
		}
	})
	if c = found(t, e, c.ID); c.Status != monitor.Exited || !strings.Contains(text, "run\n") {
		t.Errorf("a container that was stopped meanwhile is %s; copied were %d runs", c.Status, strings.Count(text, "run\n"))
	}
}

// silent mounts a file system at a container's /srv that answers nothing; end has whoever waits go on.
func silent(t *testing.T, pid string) (server int, end func()) {
	t.Helper()
	nstest.FUSE(t)
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { unix.Close(server) })
	ns, err := os.Open("/proc/" + pid + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	<-thread.Aside(func() {
		if err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)); err == nil {
			err = unix.Mount("silent", "/srv", "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", server))
		}
	})
	if err != nil {
		end()
		t.Fatal(err)
	}
	return server, end
}

// A copy out of a file system that does not answer, or into it, ends by a signal: who waits for a program that has begun with the answer the kernel lets not end, and so that is not the command.
func TestCopyOfNoAnswer(t *testing.T) {
	nstest.Root(t)
	output(t, kakuri(t, "run", "-d", "--name", "asks", "--userns", "host", "--rootfs", nstest.RootFS(t), "sleep", "1000"))
	defer func() { output(t, kakuri(t, "rm", "-f", "asks")) }()
	pid := strings.TrimSpace(output(t, kakuri(t, "inspect", "-f", "{{.State.Pid}}", "asks")))
	server, end := silent(t, pid)
	defer end()
	order := binary.LittleEndian
	// asked reads a question, of which the number is told. What wants no answer is none: that a question is not asked any more, and what the kernel has forgotten.
	asked := func() (id []byte) {
		const forget, interrupt, batchForget = 2, 36, 42
		for in := make([]byte, 1<<17); ; {
			ready := []unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}
			n, err := unix.Poll(ready, int(time.Minute/time.Millisecond))
			for ; err == unix.EINTR; n, err = unix.Poll(ready, int(time.Minute/time.Millisecond)) {
			}
			if err != nil || n == 0 {
				t.Fatalf("nobody asks: %v", err)
			}
			if n, err = unix.Read(server, in); err != nil || n < 40 {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if !slices.Contains([]uint32{forget, interrupt, batchForget}, order.Uint32(in[4:])) {
				return in[8:16]
			}
		}
	}
	init := order.AppendUint32(nil, 16+64) // fuse_out_header and fuse_init_out of version 7.31, with a max_write
	init = append(order.AppendUint32(init, 0), asked()...)
	init = order.AppendUint32(order.AppendUint32(init, 7), 31)
	init = append(order.AppendUint32(append(init, make([]byte, 12)...), 1<<16), make([]byte, 40)...)
	if _, err := unix.Write(server, init); err != nil {
		t.Fatal(err)
	}
	out := nstest.Dir(t)
	for _, test := range []struct {
		sig  syscall.Signal
		args []string
	}{{unix.SIGINT, []string{"asks:/srv", out}}, {unix.SIGTERM, []string{"asks:/srv", out}}, {unix.SIGTERM, []string{"-", "asks:/srv"}}} {
		sig := test.sig
		x := kakuri(t, append([]string{"cp"}, test.args...)...)
		if err := x.Start(); err != nil {
			t.Fatal(err)
		}
		asked() // and not answered
		ended := make(chan error, 1)
		go func() { ended <- x.Wait() }()
		if err := x.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
			if s := x.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != sig {
				t.Errorf("%s: %s", sig, x.ProcessState)
			}
		case <-time.After(20 * time.Second):
			end()
			t.Fatalf("%s: it waits: %v", sig, <-ended)
		}
	}
	// Other files of the container are copied, and what fails is told as always.
	output(t, kakuri(t, "cp", "/proc/version", "asks:/tmp/new"))
	output(t, kakuri(t, "cp", "asks:/tmp/new", out))
	if !exists(out + "/new") {
		t.Error("it is not there")
	}
	if said, err := kakuri(t, "cp", "asks:/none", out).CombinedOutput(); err == nil || !strings.Contains(string(said), "Could not find the file /none in container asks") {
		t.Errorf("%v: %s", err, said)
	}
}

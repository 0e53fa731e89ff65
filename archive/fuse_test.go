package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// served mounts a file system at a directory that a hostile program serves, of its own process: who waits for it waits for that one's end, beyond any signal.
func served(t *testing.T, dir, how string) (end func()) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs /dev/fuse (modprobe fuse): %v", err)
	}
	c := nstest.Part("fuse", dir, how)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	t.Cleanup(func() {
		end()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Skip("the kernel lets nobody mount fuse here")
	}
	return end
}

// fuse is the part that serves: "silent" answers nothing but the first question, "endless" has a directory of names without an end.
func fuse(args []string) int {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err == nil {
		err = unix.Mount("hostile", args[0], "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print("!")
	le := binary.LittleEndian
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, in)
		if err != nil || n < 40 {
			return 1
		}
		op := le.Uint32(in[4:]) // fuse_in_header
		if op != 26 && args[1] == "silent" {
			continue
		}
		answer, code := answerOf(op, in[40:n]), unix.Errno(0)
		if answer == nil {
			code = unix.ENOSYS
		}
		out := le.AppendUint32(nil, uint32(16+len(answer)))
		out = append(le.AppendUint32(out, -uint32(code)), in[8:16]...)
		_, _ = unix.Write(fd, append(out, answer...))
	}
}

// answerOf is what an endless directory says, by the opcodes of linux/fuse.h; nil is ENOSYS.
func answerOf(op uint32, arg []byte) []byte {
	le := binary.LittleEndian
	switch op {
	case 26: // INIT
		out := make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[20:], 1<<16)
		return out
	case 3: // GETATTR
		out := make([]byte, 16+88)
		le.PutUint64(out[16:], 1)
		le.PutUint32(out[16+60:], unix.S_IFDIR|0o755)
		return out
	case 27: // OPENDIR
		return make([]byte, 16)
	case 17: // STATFS
		return make([]byte, 80)
	case 28: // READDIR
		var out []byte
		for at, room := le.Uint64(arg[8:]), int(le.Uint32(arg[16:])); len(out)+24+256 <= room; {
			at++
			entry := make([]byte, 24+256)
			le.PutUint64(entry, at+1)
			le.PutUint64(entry[8:], at)
			le.PutUint32(entry[16:], 255)
			copy(entry[24:], fmt.Sprintf("%0255d", at))
			out = append(out, entry...)
		}
		return out
	}
	return nil
}

// TestMountThatDoesNotAnswer: where a mount is, without what is in it, is packed without a question to who serves it, which an export would wait for beyond
// any signal; nor is one that refuses to tell anything, as fuse of a container's user namespace does, the end of it.
func TestMountThatDoesNotAnswer(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	if err := os.Mkdir(filepath.Join(dir, "m"), 0o700); err != nil {
		t.Fatal(err)
	}
	end := served(t, filepath.Join(dir, "m"), "silent")
	var b bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- Write(context.Background(), &b, open(t, dir), ".", WriteOptions{Rename: ".", OneMount: true})
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		end()
		t.Fatal(<-done, ", and not before who serves it was ended")
	}
	r := tar.NewReader(&b)
	for _, want := range []string{"./", "m/"} {
		if h, err := r.Next(); err != nil || h.Name != want || h.Typeflag != tar.TypeDir || h.Mode&0o700 != 0o700 {
			t.Errorf("%+v, %v, want %s", h, err, want)
		}
	}
}

// TestEndlessDirectory: a directory whose names have no end is not held in memory.
func TestEndlessDirectory(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	served(t, dir, "endless")
	err := Write(context.Background(), io.Discard, open(t, dir), ".", WriteOptions{Rename: "."})
	if !errors.As(err, new(*LimitError)) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := Write(ctx, io.Discard, open(t, dir), ".", WriteOptions{Rename: "."}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

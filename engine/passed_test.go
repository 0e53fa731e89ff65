package engine

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// passer gives its streams to whoever listens at a socket, says so, and ends.
func passer(args []string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: args[0]})
	}
	if err == nil {
		err = unix.Sendmsg(fd, []byte{0}, unix.UnixRights(0, 1, 2), nil, 0)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	unix.Read(fd, make([]byte, 1)) // they have been taken
	os.Stdout.WriteString("passed on\n")
	return 7
}

// TestPassedStreams: a container that has given its streams to a process of another one, over a socket in a directory that both have, ends even so, and what it
// has said is whole.
func TestPassedStreams(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tty := range []bool{false, true} {
		dir := nstest.Dir(t)
		socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if err := os.Chmod(filepath.Join(dir, "s"), 0o666); err != nil {
			t.Fatal(err)
		}
		taken := make(chan []int, 1)
		go func() {
			defer close(taken)
			c, err := socket.AcceptUnix()
			if err != nil {
				return
			}
			defer c.Close()
			buf, oob := make([]byte, 1), make([]byte, 128)
			_, n, _, _, err := c.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			if list, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(list) == 1 {
				fds, _ := unix.ParseUnixRights(&list[0])
				taken <- fds
			}
			c.Write(buf)
		}()
		c := detached(t, e, Config{Name: "passer", Rootfs: root, TTY: tty, Command: []string{"/passer", "/shared/s"}, Mounts: []Mount{
			{Type: "bind", Source: nstest.Exe, Dest: "/passer", Options: []string{"rbind"}, Flag: "-v"},
			{Type: "bind", Source: dir, Dest: "/shared", Options: []string{"rbind"}, Flag: "-v"},
		}})
		x, err := e.Wait(ctx, c.ID, NotRunning)
		if err != nil || x.Code != 7 {
			t.Errorf("terminal %v: %v, code %d", tty, err, x.Code)
		}
		socket.Close() // who has not come by now will not come
		fds := <-taken
		if len(fds) != 3 {
			t.Errorf("terminal %v: %d streams were passed on", tty, len(fds))
		}
		if text := logs(t, e, c.ID, LogOptions{}); !strings.Contains(text, "passed on") {
			t.Errorf("terminal %v: it has said %q", tty, text)
		}
		if now := found(t, e, c.ID); now.Status != monitor.Exited {
			t.Errorf("terminal %v: it is %s", tty, now.Status)
		}
		if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil {
			t.Errorf("terminal %v: %v", tty, err)
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

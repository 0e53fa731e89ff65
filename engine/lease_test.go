package engine

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// leased takes a lease on a file, as a process in the container can that sees it, and gives it back at the end of the test.
func leased(t *testing.T, name string, kind int) {
	t.Helper()
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, kind); err != nil {
		t.Fatal(err)
	}
}

// TestLeasedEtc: a container takes leases on its files in /etc, which have who writes them wait for as long as /proc/sys/fs/lease-break-time says, each time. Nobody
// waits: the files of one that runs stay as they are, and a start has new ones.
func TestLeasedEtc(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "holder", Rootfs: nstest.RootFS(t), Command: []string{"cat", "/etc/hosts"}, ExtraHosts: []string{"db:192.0.2.1"}})
	for _, kind := range []int{unix.F_RDLCK, unix.F_WRLCK} {
		file := c.dir + "/hosts"
		os.Remove(file)
		put(t, file, "old")
		leased(t, file, kind)
		if err := c.rewriteHosts(func(string) string { return "new" }); err != nil {
			t.Errorf("lease %d: %v", kind, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Size != 3 {
			t.Errorf("lease %d: %d bytes, %v: it was emptied", kind, st.Size, err)
		}
		var out strings.Builder
		res, err := e.Attach(t.Context(), "holder", AttachOptions{Start: true, NoStdin: true}, Streams{Out: &out})
		if err != nil || res.Code != 0 || !strings.Contains(out.String(), "192.0.2.1\tdb\n") {
			t.Errorf("lease %d: code %d, %v: a start has %q", kind, res.Code, err, out.String())
		}
	}
	if err := e.Remove(t.Context(), "holder", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRunEtc: a container runs its own /etc/hosts as a program, which nobody can write to then. The file of one that runs stays as it is, and a start has a new one.
func TestRunEtc(t *testing.T) {
	nstest.Root(t)
	e := open(t)
	c := made(t, e, Config{Name: "runner", Rootfs: nstest.RootFS(t), Command: []string{"cat", "/etc/hosts"}, ExtraHosts: []string{"db:192.0.2.1"}})
	program, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	file := c.dir + "/hosts"
	os.Remove(file)
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	run := exec.Command(file)
	stdin, err := run.StdinPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer run.Wait()
	defer stdin.Close()
	if err := c.rewriteHosts(func(string) string { return "new" }); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	res, err := e.Attach(t.Context(), "runner", AttachOptions{Start: true, NoStdin: true}, Streams{Out: &out})
	if err != nil || res.Code != 0 || !strings.Contains(out.String(), "192.0.2.1\tdb\n") {
		t.Errorf("code %d, %v: a start has %q", res.Code, err, out.String())
	}
	if err := e.Remove(t.Context(), "runner", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// asUser runs the command as the ordinary user. What it runs has no network unless it asks for one.
func asUser(t testing.TB, u *nstest.Account, args ...string) (out string, code int) {
	t.Helper()
	if (args[0] == "run" || args[0] == "create") && !slices.Contains(args, "--network") {
		args = append([]string{args[0], "--network", "none"}, args[1:]...)
	}
	return byUser(t, u, args...)
}

// byUser runs the command as the ordinary user.
func byUser(t testing.TB, u *nstest.Account, args ...string) (out string, code int) {
	t.Helper()
	if args[0] == "run" && !slices.Contains(args, "-d") {
		args = append([]string{"run", "--rm"}, args[1:]...)
	}
	c := u.Command(nstest.Binary(t, "kakuri"), args...)
	var stderr strings.Builder
	c.Stderr = &stderr
	data, err := c.Output()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(data) + stderr.String(), c.ProcessState.ExitCode()
}

// An ordinary user runs containers of the host image, and of a directory of theirs.
func TestRootless(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	look := "id -u; id -g; grep -E 'CapEff|CapInh|CapAmb|Seccomp:' /proc/self/status; hostname; ls /root /home; wc -c </etc/shadow 2>/dev/null; cat /proc/self/uid_map; touch /etc/x 2>/dev/null; touch /tmp/x && echo tmp; " +
		"mount -t tmpfs x /mnt 2>/dev/null && echo mounts; cat /proc/net/dev | grep -c :"
	out, code := asUser(t, u, "run", "host", "sh", "-c", look)
	if code != 0 {
		t.Fatalf("code %d: %s", code, out)
	}
	for _, want := range []string{"CapEff:\t00000000800405fb", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "Seccomp:\t2", "tmp\n", "\n1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not there", want)
		}
	}
	if !strings.HasPrefix(out, "0\n0\n") || strings.Contains(out, "mounts") || strings.Contains(out, "x\n/") {
		t.Errorf("%s", out)
	}
	if m := regexp.MustCompile(`(?m)^ +0 +(\d+) +1$`).FindStringSubmatch(out); m == nil {
		t.Errorf("the caller is not root inside: %s", out)
	}
	root := nstest.RootFS(t)
	if err := filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, u.UID, u.GID)
	}); err != nil {
		t.Fatal(err)
	}
	out, code = asUser(t, u, "run", "--rootfs", root, "sh", "-c", "id -u; touch /made; stat -c %u /made; stat -c '%t:%T' /dev/null; echo x >/dev/null && cat /dev/zero | head -c2 | wc -c; exit 4")
	if code != 4 || out != "0\n0\n1:3\n2\n" {
		t.Errorf("code %d: %q", code, out)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "made"), &st); err != nil || int(st.Uid) != u.UID {
		t.Errorf("%v: a file of root inside is %d's on the host", err, st.Uid)
	}
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"run host nosuch": {127, "not found"}, "run host /etc": {126, "EACCES"}, "run --rootfs /root true": {125, "EACCES"}, "run -v /root:/x host cat /x/y": {1, "denied"}, "run -v /root/x:/x host true": {125, "/root/x"},
		"run --userns host host true": {125, "kakuri: --userns host: an ordinary user's container has a user namespace of its own: leave --userns host away"}, "run -u 70000000 host true": {125, ""}, "run --device /dev/kmsg host head -c1 /dev/kmsg": {1, ""},
	} {
		out, code := asUser(t, u, strings.Fields(args)...)
		if code != want.code || !strings.Contains(out, want.text) || strings.Count(out, "\n") > 3 {
			t.Errorf("%s: code %d: %s", args, code, out)
		}
	}
	if out, code := asUser(t, u, "ps"); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("code %d: %s", code, out)
	}
}

// With ranges of ids, other users are there inside.
func TestRootlessRanges(t *testing.T) {
	u := nstest.User(t)
	for _, f := range []string{"/etc/subuid", "/etc/subgid"} {
		if data, err := os.ReadFile(f); err != nil || !strings.Contains(string(data), u.Name+":") {
			t.Skipf("needs a line for %s in %s, which test.sh writes", u.Name, f)
		}
	}
	for _, f := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap"} {
		if !exists(f) {
			t.Skipf("needs %s (Debian: package uidmap)", f)
		}
	}
	out, code := asUser(t, u, "run", "-u", "33:44", "--group-add", "55", "host", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map | wc -l; touch /tmp/x; stat -c %u:%g /tmp/x; grep Groups /proc/self/status")
	if code != 0 || !strings.HasPrefix(out, "33\n44\n2\n33:44\n") || !strings.Contains(out, "55") {
		t.Errorf("code %d: %q", code, out)
	}
}

// Users do not see each other's containers, nor reach their records.
func TestRootlessApart(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	root := nstest.RootFS(t)
	e := openAt(t, "/run/kakuri")
	stop, c := running(t, e, Config{Rootfs: root, Name: "roots", Command: []string{"sleep", "100"}})
	defer stop()
	out, code := asUser(t, u, "ps", "-q")
	if code != 0 || out != "" {
		t.Errorf("code %d: %q", code, out)
	}
	for _, args := range [][]string{{"run", "--pid", "container:roots", "host", "true"}, {"run", "--pid", "container:" + c.ID[:12], "host", "true"}} {
		if out, code := asUser(t, u, args...); code != 125 || !strings.Contains(out, "No such container") {
			t.Errorf("%v: code %d: %s", args, code, out)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat("/run/kakuri", &st); err != nil || st.Mode&0o077 != 0 {
		t.Errorf("%v: the records have mode %o", err, st.Mode)
	}
}

// A directory for records that somebody else made is none.
func TestRuntimeDirOfAStranger(t *testing.T) {
	u := nstest.User(t)
	dir := fmt.Sprintf("/tmp/kakuri-%d", u.UID)
	for name, make := range map[string]func() error{
		"another's":      func() error { return os.Mkdir(dir, 0o700) },
		"open to others": func() error { return mkdirOwned(dir, u.UID, 0o755) },
		"a link":         func() error { return os.Symlink(u.RuntimeDir(), dir) },
		"a file":         func() error { return os.WriteFile(dir, nil, 0o600) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		c := u.Command(nstest.Binary(t, "kakuri"), "ps")
		c.Env = []string{"PATH=/bin", "HOME=/"}
		out, err := c.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "XDG_RUNTIME_DIR") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	c := u.Command(nstest.Binary(t, "kakuri"), "ps", "-q")
	c.Env = []string{"PATH=/bin", "HOME=/"}
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("without XDG_RUNTIME_DIR: %v: %s", err, out)
	}
	os.RemoveAll(dir)
}

func mkdirOwned(dir string, uid int, mode os.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chown(dir, uid, uid)
}

// A container without a cgroup, as an ordinary user's has none where nobody delegated one, is committed as it runs, unless --pause is given.
func TestRootlessCommit(t *testing.T) {
	u := nstest.User(t).OnDisk(t)
	nstest.NoLeaks(t)
	tar := filepath.Join(nstest.Dir(t), "root.tar")
	output(t, exec.Command("tar", "-C", nstest.RootFS(t), "-cf", tar, "."))
	if err := os.Chmod(tar, 0o644); err != nil {
		t.Fatal(err)
	}
	well(t, u, "import", tar, "committed/base")
	defer well(t, u, "rmi", "-f", "committed/base", "committed/made")
	well(t, u, "run", "-d", "--network", "none", "--name", "www", "committed/base", "sleep", "1000")
	defer well(t, u, "rm", "-f", "www")
	out, code := byUser(t, u, "pause", "www")
	without := strings.Contains(out, "container www has no cgroup: pause needs one: an ordinary user's has one when it was started with a limit") || strings.Contains(out, "cannot toggle freezer")
	switch {
	case code == 0:
		well(t, u, "unpause", "www")
	case !without:
		t.Fatalf("pause: code %d: %s", code, out)
	}
	if out, code := byUser(t, u, "commit", "www", "committed/made"); code != 0 || without != strings.Contains(out, "warning: container www cannot be paused, and is read while it runs: ") || !strings.Contains(out, "sha256:") {
		t.Errorf("commit: code %d: %s", code, out)
	}
	if out, code := byUser(t, u, "commit", "--pause", "www", "committed/made"); without != (code != 0) || without && !strings.Contains(out, "leave --pause away") {
		t.Errorf("commit --pause: code %d: %s", code, out)
	}
}

// TestRootlessUpdate: limits of a container without a cgroup are refused as a whole, and nothing of them is left to be done, behind which no other change could be.
func TestRootlessUpdate(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	well(t, u, "run", "-d", "--network", "none", "--name", "limited", "host", "sleep", "1000")
	defer byUser(t, u, "rm", "-f", "limited", "other")
	if out, code := byUser(t, u, "update", "--pids-limit", "100", "limited"); code != 0 && (!strings.Contains(out, "has no cgroup: update needs one") || strings.Contains(out, "of before")) {
		t.Fatalf("code %d: %s", code, out)
	}
	well(t, u, "system", "check")
	well(t, u, "rename", "limited", "other")
}

// TestForeignHome: the engine itself refuses it.
func TestForeignHome(t *testing.T) {
	u := nstest.User(t)
	home := t.TempDir()
	data := home + "/.local/share/kakuri"
	if err := errors.Join(os.MkdirAll(data, 0o755), os.Chmod(data, 0o777), os.Chown(data, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	for dir := home; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode()&0o005 == 0 {
			os.Chmod(dir, st.Mode()|0o055)
		}
	}
	c := u.Command(nstest.BinaryPath("kakuri"), "ps")
	c.Env = append(c.Env, "HOME="+home, "XDG_DATA_HOME=")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), data+" is of the user 65534: set HOME, or XDG_DATA_HOME") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestRootlessHidepid: with a procfs that hides the processes of others an ordinary user has containers all the same. Until their execve the kernel takes the containers'
// processes for such.
func TestRootlessHidepid(t *testing.T) {
	u := nstest.User(t)
	nstest.NoLeaks(t)
	for _, how := range []string{"noaccess", "invisible", "ptraceable"} {
		user := func(args ...string) (string, error) {
			c := u.Command(nstest.Binary(t, "kakuri"))
			as := exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c",
				`mount -t proc -o hidepid=$0 proc /proc && exec setpriv --reuid ` + strconv.Itoa(u.UID) + ` --regid ` + strconv.Itoa(u.GID) + ` --clear-groups "$@"`, how, c.Path}, args...)...)
			as.Dir, as.Env = c.Dir, c.Env
			out, err := as.CombinedOutput()
			return string(out), err
		}
		for _, args := range [][]string{
			{"run", "-d", "--name", "hidden", "--network", "none", "host", "sleep", "1000"}, {"exec", "hidden", "true"}, {"top", "hidden"}, {"restart", "-t", "0", "hidden"}, {"exec", "hidden", "true"},
			{"verify", "hidden"}, {"rm", "-f", "hidden"},
		} {
			if out, err := user(args...); err != nil {
				t.Errorf("hidepid=%s: %s: %v: %s", how, args, err, out)
			}
		}
	}
}

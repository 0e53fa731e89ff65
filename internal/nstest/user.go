package nstest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An Account is an ordinary user of the machine.
type Account struct {
	Name     string
	UID, GID int
	Home     string
	data     string // XDG_DATA_HOME, where it is not below the runtime directory
}

// User returns the account that test.sh makes for what runs without root.
func User(t testing.TB) *Account {
	t.Helper()
	Root(t)
	const name = "kakuri-test"
	a, err := lookup(name)
	if err != nil {
		t.Skipf("needs the account %s, which test.sh makes: %v", name, err)
	}
	if os.Geteuid() != 0 {
		return a
	}
	for _, dir := range []string{"/run/user", a.RuntimeDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(a.RuntimeDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(a.RuntimeDir(), a.UID, a.GID); err != nil {
		t.Fatal(err)
	}
	return a
}

// lookup finds an account in /etc/passwd. Package os/user would make the binary a
// dynamic one where cgo is on.
func lookup(name string) (*Account, error) {
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		return &Account{Name: name, UID: uid, GID: gid, Home: f[5]}, errors.Join(err1, err2)
	}
	return nil, fmt.Errorf("no line for it in /etc/passwd")
}

// RuntimeDir is the account's XDG_RUNTIME_DIR.
func (a *Account) RuntimeDir() string { return fmt.Sprintf("/run/user/%d", a.UID) }

// OnDisk returns the account with its data in the tests' /tmp, in place of its runtime directory: a tmpfs, on which the kernel lays no directories over each other for a user
// before Linux 6.6. The tests' /tmp is one, too, but in guests and elsewhere where KAKURI_TEST_TMP names a directory of a disk.
func (a *Account) OnDisk(t testing.TB) *Account {
	t.Helper()
	b := *a
	b.data = Dir(t) + "/data"
	if err := errors.Join(os.Mkdir(b.data, 0o700), os.Chown(b.data, a.UID, a.GID)); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Command returns a command that runs as the account, with its environment.
func (a *Account) Command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	a.dress(c)
	return c
}

func (a *Account) dress(c *exec.Cmd) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}
	c.Dir = "/"
	c.Env = []string{"HOME=" + a.Home, "USER=" + a.Name, "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + a.RuntimeDir(), "XDG_DATA_HOME=" + cmp.Or(a.data, a.RuntimeDir()+"/data")}
}

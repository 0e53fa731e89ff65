package nstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Passwd and Group are the account files of a [RootFS].
const (
	Passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nweb:x:33:33:web:/srv/web:/bin/sh\n"
	Group  = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwheel:x:10:web,daemon\nweb:x:33:\n"
)

// applets are the programs of a root file system, all of them busybox.
const applets = "[ ash awk base64 basename cat chmod chown chroot cmp cp cut date dd df dirname dmesg du echo env expr false find " +
	"grep head hostname id kill ln ls mkdir mkfifo mknod mktemp mount mv nc ps pwd readlink rm rmdir sed seq setsid sh sha256sum " +
	"sleep sort stat stty sync tail tee test timeout touch tr true tty umount uname uniq usleep wc which xargs yes"

// Dir makes a directory that ends with the test, and that every user may enter.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", strings.ReplaceAll(filepath.Base(t.Name()), " ", "_")+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// RootFS makes a small root file system: busybox, its names, a few accounts.
func RootFS(t testing.TB) string {
	t.Helper()
	dir := Dir(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (Debian: package busybox-static)")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "srv/web", "sys", "tmp", "usr", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"bin/busybox": string(program), "etc/passwd": Passwd, "etc/group": Group} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name := range strings.FieldsSeq(applets) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inspect runs in the floor's container as /bin/true, and fails where the container is not
// what config.json says.
const inspect = `#!/bin/sh
fail() { echo "$*"; exit 1; }
[ $$ = 1 ] || fail "pid $$"
[ "$(hostname)" = runc ] || fail "host name $(hostname)"
for f in null zero full random urandom tty; do [ -c /dev/$f ] || fail "no /dev/$f"; done
[ -c /dev/ptmx ] || fail "no /dev/ptmx"
for d in /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup /proc/sys; do
	grep -q " $d r" /proc/self/mountinfo || fail "$d is no mount"
done
[ -z "$(cat /proc/timer_list)" ] || fail "/proc/timer_list is not masked"
[ -z "$(ls /sys/firmware)" ] || fail "/sys/firmware is not masked"
(: >/written) 2>/dev/null && fail "the root can be written"
(: >/proc/sys/kernel/domainname) 2>/dev/null && fail "/proc/sys can be written"
(: >/dev/shm/written) || fail "/dev/shm cannot be written"
grep -q "^CapBnd:.0000000020000420" /proc/self/status || fail "$(grep CapBnd /proc/self/status)"
grep -q "^CapEff:.0000000020000420" /proc/self/status || fail "$(grep CapEff /proc/self/status)"
grep -q "^NoNewPrivs:.1" /proc/self/status || fail "no_new_privs is not set"
[ "$(ulimit -n)" = 1024 ] || fail "open files $(ulimit -n)"
grep -q "lo:" /proc/net/dev && [ "$(grep -c : /proc/net/dev)" = 1 ] || fail "$(cat /proc/net/dev)"
[ "$(cat /sys/class/net/lo/operstate)" != down ] || fail "loopback is down"
`

func TestFloor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces without a user namespace")
	}
	for _, program := range []string{"gcc", busybox} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: needs gcc and busybox-static", err)
		}
	}
	module, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	floor := buildFloor(context.Background(), module, filepath.Join(dir, "bin"))
	if floor.Err != "" {
		t.Fatal(floor.Err)
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := makeRootfs(rootfs, nil); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(rootfs, "bin")
	err = errors.Join(os.Remove(filepath.Join(bin, "true")), os.WriteFile(filepath.Join(bin, "true"), []byte(inspect), 0o755))
	for _, name := range []string{"cat", "grep", "hostname", "ls"} {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(bin, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := readCgroups()
	if err != nil {
		t.Skip(err)
	}
	// The floor makes its namespaces itself; one more keeps a fault of it from the machine.
	run := func(args ...string) (string, error) {
		cmd := exec.Command(floor.Path, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(append([]string{rootfs}, c.Hierarchies...)...); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run(filepath.Join(dir, "nothing")); err == nil || !strings.HasPrefix(out, "floor: "+dir+"/nothing: No such file") {
		t.Errorf("without a root: %v: %s", err, out)
	}
}

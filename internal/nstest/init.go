package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// runInit is pid 1 of the namespaces. It takes the path of the test binary, the
// directory of built commands, and the arguments of the binary's next start.
func runInit(args []string, o Options) int {
	code, err := initMain(args, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nstest: init:", err)
		return 1
	}
	return code
}

func initMain(args []string, o Options) (int, error) {
	if len(args) < 3 {
		return 0, errors.New("too few arguments")
	}
	if err := furnish(args[0], args[1], o); err != nil {
		return 0, err
	}
	leave, err := ownCgroups()
	if err != nil {
		return 0, err
	}
	defer func() {
		endAll()
		leave()
	}()
	if err := loopbackUp(); err != nil {
		return 0, err
	}
	mounts, groups := mountLines(), cgroups()
	os.Unsetenv("KAKURI_TEST_TMP")
	c := &exec.Cmd{
		Path: Exe, Args: args[2:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer forward(c.Process)()
	code, err := reapUntil(c.Process.Pid)
	if err != nil {
		return 0, err
	}
	var left []string
	for _, p := range alone() {
		left = append(left, "process "+p)
	}
	left = append(left, missing(mounts, mountLines(), "mount gone: ")...)
	left = append(left, missing(mountLines(), mounts, "mount ")...)
	left = append(left, missing(leftCgroups(groups), groups, "cgroup ")...)
	if len(left) > 0 {
		fmt.Fprintf(os.Stderr, "nstest: left behind in the namespaces:\n\t%s\n", strings.Join(left, "\n\t"))
		code = max(code, 1)
	}
	return code, nil
}

// loopbackUp has the network namespace have 127.0.0.1 and ::1, as every machine does.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil && !errors.Is(err, unix.EPERM) { // it is not this user's
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}

// endAll ends what is left in the pid namespace, of which this process has to be the first.
func endAll() {
	if os.Getpid() != 1 {
		return
	}
	unix.Kill(-1, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}

// furnish makes the mount namespace: private, with its own /proc, empty
// directories for state, and all else read-only.
func furnish(exe, bin string, o Options) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private propagation: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if root, err := ModuleRoot(); err == nil {
		wd = root
	}
	// What lies below the directories that are about to be covered, and is needed.
	kept, err := keepAll(wd, filepath.Dir(exe))
	if err != nil {
		return err
	}
	binTree, err := openTree(bin)
	if err != nil {
		return err
	}
	exeTree, err := openTree(exe)
	if err != nil {
		return err
	}
	disk, err := diskTree()
	if err != nil {
		return err
	}
	if err := emptyDirs(); err != nil {
		return err
	}
	if disk >= 0 {
		if err := attach(disk, "/tmp"); err != nil {
			return err
		}
	}
	for _, k := range kept {
		if err := os.MkdirAll(k.path, 0o755); err != nil {
			return err
		}
		if err := attach(k.fd, k.path); err != nil {
			return err
		}
	}
	if err := programs(exeTree, binTree, o.Parts); err != nil {
		return err
	}
	for _, p := range o.Writable {
		p = filepath.Join(wd, p)
		tree, err := openTree(p)
		if err != nil {
			return err
		}
		if err := attach(tree, p); err != nil {
			return err
		}
	}
	// Tests get no other way to write on the machine's disk, whatever fault they find.
	for _, p := range []string{"/", "/dev"} {
		if err := unix.MountSetattr(unix.AT_FDCWD, p, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("%s read-only: %w", p, err)
		}
	}
	return os.Chdir(wdOr("/"))
}

// keepAll keeps those of the directories that would be covered.
func keepAll(dirs ...string) (kept []keptTree, err error) {
	for _, p := range dirs {
		if p == home {
			continue // that of the namespaces around these
		}
		k, err := keep(p)
		if err != nil {
			return nil, err
		}
		if k.fd >= 0 {
			kept = append(kept, k)
		}
	}
	return kept, nil
}

// emptyDirs covers the directories where state is kept.
func emptyDirs() error {
	dirs := []struct{ path, mode string }{{"/tmp", "mode=1777"}, {"/run", "mode=755"}, {"/dev/shm", "mode=1777"}}
	// Where root's containers are kept; an empty directory stays, as of a kakuri that was installed.
	if data := "/var/lib/kakuri"; os.MkdirAll(data, 0o700) == nil {
		dirs = append(dirs, struct{ path, mode string }{data, "mode=700"})
	}
	for _, d := range dirs {
		if err := unix.Mount("tmpfs", d.path, "tmpfs", unix.MS_NOSUID, d.mode); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", d.path, err)
		}
	}
	return nil
}

// programs puts the test and what it starts where [Exe], [Binary] and [PartPath] say.
func programs(exeTree, binTree int, parts map[string]func([]string) int) error {
	if err := os.MkdirAll(home+"/bin", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(Exe, nil, 0o755); err != nil {
		return err
	}
	if err := attach(exeTree, Exe); err != nil {
		return err
	}
	if err := os.Mkdir(home+"/part", 0o755); err != nil {
		return err
	}
	for name := range parts {
		if err := os.Symlink("../exe", PartPath(name)); err != nil {
			return err
		}
	}
	if binTree >= 0 {
		return attach(binTree, home+"/bin")
	}
	return nil
}

// diskTree opens an empty directory in that of KAKURI_TEST_TMP, for /tmp: -1 where there is
// no such variable. Tests of namespaces within these have the usual one.
func diskTree() (int, error) {
	disk := os.Getenv("KAKURI_TEST_TMP")
	if disk == "" {
		return -1, nil
	}
	dir, err := os.MkdirTemp(disk, "tests-")
	if err != nil {
		return -1, err
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		return -1, err
	}
	return openTree(dir)
}

// wdOr looks the working directory up by name again, since it may be covered.
func wdOr(other string) string {
	if wd, err := os.Getwd(); err == nil {
		if _, err := os.Stat(wd); err == nil {
			return wd
		}
	}
	return other
}

type keptTree struct {
	fd   int
	path string
}

// keep opens the tree of a directory that one of the new mounts would cover.
func keep(p string) (keptTree, error) {
	for _, d := range []string{"/tmp/", "/run/", "/dev/shm/"} {
		if strings.HasPrefix(p, d) {
			fd, err := openTree(p)
			return keptTree{fd, p}, err
		}
	}
	return keptTree{fd: -1}, nil
}

func openTree(p string) (int, error) {
	if p == "" {
		return -1, nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open_tree %s: %w", p, err)
	}
	return fd, nil
}

func attach(tree int, p string) error {
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, p, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount on %s: %w", p, err)
	}
	return nil
}

// reapUntil waits for children, orphans among them, until pid ends.
func reapUntil(pid int) (int, error) {
	for {
		var st syscall.WaitStatus
		who, err := syscall.Wait4(-1, &st, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case who == pid && st.Signaled():
			return 128 + int(st.Signal()), nil
		case who == pid:
			return st.ExitStatus(), nil
		}
	}
}

// alone reaps what has ended, and lists the processes that are still there after
// a while.
func alone() []string {
	var left []string
	patiently(func() bool {
		for {
			var st syscall.WaitStatus
			if who, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil); who <= 0 || err != nil {
				break
			}
		}
		left = nil
		for _, p := range processes() {
			if !strings.HasPrefix(p, "1 ") {
				left = append(left, p)
			}
		}
		return len(left) == 0
	})
	return left
}

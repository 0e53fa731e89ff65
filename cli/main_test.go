package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// placeEnv names the directory that the tests of this package share, once they are in
// namespaces of their own: there commands are in bin, and scripts work in script.
const placeEnv = "KAKURI_CLI_TEST"

// TestMain runs the package's tests, as root, in a mount, pid, network, ipc and uts
// namespace of their own with an empty /run: what they start is nobody else's, and
// ends with them. Package nstest does not fit here: its file systems are read-only,
// and some of these tests build a kakuri.
//
// The test binary is kakuri itself, too, when it is started under that name.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "kakuri", "kakuri-files", "kakuri-storage", "kakuri-tls": // and what an engine of it starts
		os.Exit(Main(context.Background(), os.Args[1:], IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	case "as-user":
		os.Exit(said(asUser(os.Args[1:])))
	case "probe":
		probe(os.Args[1:])
		os.Exit(0)
	case "test-init":
		os.Exit(testInit(os.Args[1:]))
	}
	if os.Geteuid() != 0 || os.Getenv(placeEnv) != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "kakuri-cli-")
	if err != nil {
		os.Exit(said(err))
	}
	code, err := apart(dir)
	os.Exit(max(code, said(err), said(os.RemoveAll(dir))))
}

// said prints an error, and returns the exit code for it.
func said(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
	return 1
}

// apart starts the tests below an init in namespaces of their own.
func apart(dir string) (int, error) {
	for _, d := range []string{"bin", "script"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return 1, err
		}
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return 1, err
	}
	for _, name := range []string{"kakuri", "as-user", "probe"} {
		if err := os.WriteFile(filepath.Join(dir, "bin", name), program, 0o755); err != nil {
			return 1, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if err := runtimeInto(filepath.Join(dir, "bin")); err != nil {
		return 1, err
	}
	c := &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{"test-init"}, os.Args...), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Env: append(os.Environ(), placeEnv+"="+dir, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin"),
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL,
		},
	}
	runtime.LockOSThread() // the init ends with the thread that made it
	defer runtime.UnlockOSThread()
	// Who started the tests may ignore them, as nohup(1) does, and a shell that runs them in the background, and what is ignored the
	// programs of the tests could not catch: what is caught here is not ignored by a child.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	if err := c.Start(); err != nil {
		return 1, err
	}
	passSignals(c.Process)
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// runtimeInto has a kakuri-runtime lie in dir: one of KAKURI_TEST_BIN, where that names a directory, as it does where go is missing.
func runtimeInto(dir string) error {
	if built := os.Getenv("KAKURI_TEST_BIN"); built != "" {
		data, err := os.ReadFile(filepath.Join(built, "kakuri-runtime"))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "kakuri-runtime"), data, 0o755)
	}
	build := exec.Command("go", "build", "-o", dir+"/", "github.com/kakuri/kakuri/cmd/kakuri-runtime")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build kakuri-runtime: %w", err)
	}
	return nil
}

// passSignals passes on to p what would end this process.
func passSignals(p *os.Process) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	go func() {
		for s := range signals {
			p.Signal(s)
		}
	}()
}

// reapUntil waits for all children, orphans among them, until pid ends.
func reapUntil(pid int) (code int) {
	for {
		var st syscall.WaitStatus
		switch who, err := syscall.Wait4(-1, &st, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			return said(err)
		case who == pid && st.Signaled():
			return 128 + int(st.Signal())
		case who == pid:
			return st.ExitStatus()
		}
	}
}

// testInit is pid 1 of the namespaces, and starts this binary with args, its name first: fuzzing
// starts that again. What outlives the tests is a fault.
func testInit(args []string) int {
	if err := furnish(); err != nil {
		return said(err)
	}
	before := nstest.Take("/run/kakuri/containers")
	c := &exec.Cmd{
		Path: "/proc/self/exe", Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if err := c.Start(); err != nil {
		return said(err)
	}
	passSignals(c.Process)
	code := reapUntil(c.Process.Pid)
	c.Process.Release()
	for left := range slices.Values(remains(before)) {
		code = max(code, said(fmt.Errorf("left behind by the tests: %s", left)))
	}
	return code
}

// remains lists what is left since before was taken, once orphans have been reaped.
// What was killed is given a moment, as [nstest.State.Left] gives it.
func remains(before nstest.State) (left []string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		for {
			var st syscall.WaitStatus
			if pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil); err != syscall.EINTR && (err != nil || pid == 0) {
				break
			}
		}
		if left = before.Since(); len(left) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return left
}

func furnish() error {
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Where root's containers are kept; an empty directory stays, as of a kakuri that was installed.
	if err := os.MkdirAll("/var/lib/kakuri", 0o700); err != nil {
		return err
	}
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", "/var/lib/kakuri", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"),
		unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"),
		unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo),
	)
}

// place is the directory that the tests share; they skip without the namespaces.
func place(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(placeEnv)
	if dir == "" {
		t.Skip("needs root: it runs containers in namespaces of the tests, as root and as another user")
	}
	return dir
}

// asUser runs a command as the ordinary user of the tests, in place of this process.
func asUser(args []string) error {
	if len(args) == 0 {
		return errors.New("no command")
	}
	uid, gid, err := account("kakuri-test")
	if err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	// For all threads of the process, in this order.
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

// account looks a user up.
func account(name string) (uid, gid int, err error) {
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) > 3 && f[0] == name {
			_, err1 := fmt.Sscan(f[2], &uid)
			_, err2 := fmt.Sscan(f[3], &gid)
			return uid, gid, errors.Join(err1, err2)
		}
	}
	return 0, 0, fmt.Errorf("there is no account %s, which test.sh makes", name)
}

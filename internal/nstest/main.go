package nstest

import (
	"bytes"
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

	"golang.org/x/sys/unix"
)

// Options are what a package's tests need.
type Options struct {
	// Build lists commands of the module that the tests start, as go build takes
	// them: "./cmd/kakuri". Where go is missing, KAKURI_TEST_BIN names a directory
	// that holds them ready.
	Build []string
	// Prepare makes, before the namespaces, what the tests need of the machine's disk and
	// network: inside, the one is read-only and the other absent. It is for what is
	// kept, such as images that take minutes to make. Without root it is called as well.
	Prepare func() error
	// Writable are directories of the machine, relative to the module's, that are not read-only
	// for the tests: for those that write a page anew, when they are told to.
	Writable []string
	// Parts are programs that the test binary plays when it is started under their
	// name, as busybox does; they return the exit code.
	Parts map[string]func(args []string) int
	// Disk has the tests' /tmp be a directory in /var/tmp of the machine, removed in the end, where
	// KAKURI_TEST_TMP names no other: tests need a file system of a disk.
	Disk bool
}

// The names under which Main starts the binary again.
const (
	initName  = "nstest-init"  // pid 1 of the namespaces
	runName   = "nstest-run"   // the package's tests
	againName = "nstest-again" // one test, for Inside
	traceName = "nstest-trace" // who traces processes, for Trace
)

// home is where the namespaces hold what tests share.
const home = "/run/nstest"

// Exe is a path of the test binary that everyone can execute: started under the
// name of a part ([Part]) it plays that.
const Exe = home + "/exe"

// Main runs a package's tests in namespaces of their own, and returns the exit
// code for TestMain. Without root it runs them where it is; those that need more skip.
func Main(m *testing.M, o Options) int {
	hearSignals()
	name := filepath.Base(os.Args[0])
	if part, ok := o.Parts[name]; ok {
		return part(os.Args[1:])
	}
	switch {
	case name == "exe" && len(os.Args) == 2 && os.Args[1] == "--version":
		// A room under test starts its own program, to see how the kernel takes that.
		fmt.Println("nstest: no version")
		return 0
	case name == initName:
		return runInit(os.Args[1:], o)
	case name == againName:
		return m.Run()
	case name == traceName:
		return trace(os.Args[1:])
	case name != runName && (os.Geteuid() != 0 || fuzzing()):
		if err := o.prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "nstest:", err)
			return 1
		}
		return m.Run()
	case name == runName:
		return checked(m)
	}
	code, err := outside(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		return 1
	}
	return code
}

func (o Options) prepare() error {
	if o.Prepare == nil {
		return nil
	}
	return o.Prepare()
}

// fuzzing reports whether go test looks for new inputs: that starts the binary by its own
// path, and writes what it finds.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(strings.TrimLeft(a, "-"), "test.fuzz=") })
}

// checked runs the tests, and looks for what the test process itself keeps.
func checked(m *testing.M) int {
	before := Take()
	code := m.Run()
	if left := before.Left(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "nstest: left behind by the tests of this package:\n\t%s\n", strings.Join(left, "\n\t"))
		return max(code, 1)
	}
	return code
}

// outside prepares on the machine, and starts the init.
func outside(o Options) (int, error) {
	if err := o.prepare(); err != nil {
		return 0, err
	}
	bin, remove, err := build(o.Build)
	if err != nil {
		return 0, err
	}
	defer remove()
	if o.Disk && os.Getenv("KAKURI_TEST_TMP") == "" {
		dir, err := os.MkdirTemp("/var/tmp", "kakuri-tests-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		os.Setenv("KAKURI_TEST_TMP", dir)
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	args := append([]string{initName, exe, bin}, runName)
	args = append(args, testArgs()...)
	return start(args, nil, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS)
}

// testArgs gives the arguments of this binary. The log of opened files is left out: it
// would lie in a directory that is not seen inside; such tests are not to be cached anyway.
func testArgs() []string {
	var args []string
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(strings.TrimLeft(a, "-"), "test.testlogfile") {
			args = append(args, a)
		}
	}
	return args
}

// start runs this binary in new namespaces with args, and passes signals on.
func start(args []string, out *bytes.Buffer, flags uintptr) (int, error) {
	// The kernel ends the child with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := &exec.Cmd{
		Path: "/proc/self/exe", Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL},
	}
	if out != nil {
		c.Stdin, c.Stdout, c.Stderr = nil, out, out
	}
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("namespaces for the tests: %w", err)
	}
	defer forward(c.Process)()
	return exitCode(c.Wait())
}

// forward passes the signals of a user, and of go test's time limit, on to p.
func forward(p *os.Process) (stop func()) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	go func() {
		for s := range ch {
			p.Signal(s)
		}
	}()
	return func() { signal.Stop(ch); close(ch) }
}

func exitCode(err error) (int, error) {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return 0, err
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return 128 + int(st.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// build makes the commands that the tests start.
func build(list []string) (dir string, remove func(), err error) {
	nothing := func() {}
	if len(list) == 0 {
		return "", nothing, nil
	}
	if dir := os.Getenv("KAKURI_TEST_BIN"); dir != "" {
		return dir, nothing, nil
	}
	if _, err := exec.LookPath("go"); err != nil {
		return "", nothing, nil // Binary skips
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", nothing, err
	}
	if dir, err = os.MkdirTemp("", "nstest-bin"); err != nil {
		return "", nothing, err
	}
	remove = func() { os.RemoveAll(dir) }
	c := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, list...)...)
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		remove()
		return "", nothing, fmt.Errorf("go build %s: %w\n%s", strings.Join(list, " "), err, out)
	}
	return dir, remove, os.Chmod(dir, 0o755)
}

// ModuleRoot finds the directory of go.mod above the test's own.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == "/" {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
	}
}

// Binary returns the path of a command of [Options].Build, by its last name.
func Binary(t testing.TB, name string) string {
	t.Helper()
	p := BinaryPath(name)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("%s was not built: the go command, or KAKURI_TEST_BIN, is missing", name)
	}
	return p
}

// BinaryPath is where [Binary] finds a program, for an example, which has no test to skip.
func BinaryPath(name string) string { return filepath.Join(home, "bin", name) }

// PartPath is the path of a program that plays a part of [Options].Parts. It is
// the test binary under another name: see [Exe] for one to bind into a container.
func PartPath(name string) string { return home + "/part/" + name }

// Part returns a command that plays a part of [Options].Parts.
func Part(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: Exe, Args: append([]string{name}, args...)}
}

// Root skips a test that needs the namespaces, and root in them.
func Root(t testing.TB) {
	t.Helper()
	if filepath.Base(os.Args[0]) == againName {
		return // where and who the test wants to be
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces of the first user namespace, mounts, other users")
	}
	if os.Getppid() != 1 {
		t.Fatal("the package's TestMain does not use nstest.Main")
	}
}

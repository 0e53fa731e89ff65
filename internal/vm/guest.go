package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	portName = "kakuri"            // of the virtio port for events
	fromArg  = "kakuri.from="      // of the kernel's command line: the number of the first job
	unitName = "kakuri-vm.service" // that runs the jobs below systemd
	newRoot  = "/root"             // in the initramfs
)

// guestInit is the first process of a guest. It never returns while all is well: it
// becomes systemd, or turns the machine off.
func guestInit() error {
	defer powerOff()
	if err := enterRoot(); err != nil {
		return tell(err)
	}
	if os.Getenv("KAKURI_VM") == "systemd" {
		if err := writeUnit(); err != nil {
			return tell(err)
		}
		return tell(unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"container=", "PATH=" + guestPath}))
	}
	if err := prepare(); err != nil {
		return tell(err)
	}
	// Orphans of the jobs come to this process, so the jobs are another one's.
	c := exec.Command("/" + workDir + "/vm/bin/" + guestName)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return tell(err)
	}
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, 0, nil)
		if err != nil && err != syscall.EINTR {
			return tell(fmt.Errorf("wait: %w", err))
		}
		if pid == c.Process.Pid {
			return nil // it has told the rest
		}
	}
}

func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// tell has the host know of an error, as well as the console.
func tell(err error) error {
	if err == nil {
		return nil
	}
	fmt.Println("vm:", err)
	if port, perr := openPort(); perr == nil {
		json.NewEncoder(port).Encode(event{Fault: err.Error()})
	}
	return err
}

type mounted struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mountAll(list []mounted) error {
	for _, m := range list {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// enterRoot goes from the initramfs to the root disk: a rootfs cannot be pivoted away
// from, which is what the tests do.
func enterRoot() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mountAll([]mounted{
		{"proc", "/proc", "proc", safe, ""},
		{"sysfs", "/sys", "sysfs", safe, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
	}); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	disks := map[string]string{}
	for _, serial := range []string{"root", "work"} {
		disk, err := waitDisk(serial)
		if err != nil {
			return err
		}
		disks[serial] = disk
	}
	if err := mountAll([]mounted{
		{disks["root"], newRoot, "ext4", unix.MS_RELATIME, ""},
		{disks["work"], newRoot + "/" + workDir, "ext4", unix.MS_RDONLY | unix.MS_NODEV, "noload"},
		{"tmpfs", newRoot + "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"/proc", newRoot + "/proc", "", unix.MS_MOVE, ""},
		{"/sys", newRoot + "/sys", "", unix.MS_MOVE, ""},
		{"/dev", newRoot + "/dev", "", unix.MS_MOVE, ""},
	}); err != nil {
		return err
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.MkdirAll(userHome, 0o755); err != nil {
		return err
	}
	return os.Chown(userHome, userID, userID)
}

// loadModules loads what is in the initramfs, in the order of names.
func loadModules() error {
	files, err := os.ReadDir("/modules")
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile("/modules/" + f.Name())
		if err != nil {
			return err
		}
		if err := unix.InitModule(data, ""); err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", f.Name(), err)
		}
		os.Remove("/modules/" + f.Name()) // memory of the guest
	}
	return nil
}

// waitDisk finds the disk of a serial number, which its driver may be about to find, too.
func waitDisk(serial string) (string, error) {
	for range 600 {
		blocks, err := os.ReadDir("/sys/block")
		if err != nil {
			return "", err
		}
		for _, b := range blocks {
			if is, _ := os.ReadFile("/sys/block/" + b.Name() + "/serial"); strings.TrimSpace(string(is)) == serial {
				return "/dev/" + b.Name(), nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", fmt.Errorf("no disk %s", serial)
}

// prepare does what systemd does elsewhere.
func prepare() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mountAll([]mounted{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", safe, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe, "nsdelegate"},
	}); err != nil {
		return err
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, "/dev/"+link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return delegate()
}

// delegate turns all controllers on below the root of the cgroups, and puts what follows into
// a cgroup of its own, as a login or a service would be.
func delegate() error {
	const root = "/sys/fs/cgroup"
	controllers, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(controllers)) {
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+name), 0); err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
	}
	if err := os.Mkdir(root+"/vm", 0o755); err != nil {
		return err
	}
	return os.WriteFile(root+"/vm/cgroup.procs", []byte("0"), 0)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// writeUnit makes the unit that runs the jobs. The kernel's command line names it as
// what to start, with all that it asks for.
func writeUnit() error {
	const dir = "/run/systemd/system/"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(dir+unitName, []byte(`[Unit]
Description=Tests of kakuri
Wants=dbus.socket systemd-logind.service user@`+fmt.Sprint(userID)+`.service
After=basic.target dbus.socket user@`+fmt.Sprint(userID)+`.service

[Service]
Type=oneshot
Delegate=yes
ExecStart=/`+workDir+`/vm/bin/`+guestName+`
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
`), 0o644)
}

const guestPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// guestJobs runs the jobs, one after the other, and turns the machine off.
func guestJobs() error {
	defer powerOff()
	port, err := openPort()
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", guestPath); err != nil {
		return tell(err)
	}
	t := &teller{to: json.NewEncoder(port)}
	name, err := argument(jobsArg, jobsFile)
	if err != nil {
		return tell(err)
	}
	data, err := os.ReadFile("/" + workDir + "/" + name)
	if err != nil {
		return tell(err)
	}
	go func() {
		for range time.Tick(beatEvery) {
			t.tell(event{Beat: true})
		}
	}()
	var jobs []job
	if err := json.Unmarshal(data, &jobs); err != nil {
		return tell(err)
	}
	from, err := firstJob()
	if err != nil {
		return tell(err)
	}
	for _, j := range jobs[min(from, len(jobs)):] {
		t.run(j)
	}
	t.tell(event{Done: true})
	return nil
}

// firstJob gives the number of the job that this guest begins with: others did those before it.
func firstJob() (int, error) {
	n, err := argument(fromArg, "0")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(n)
}

// argument gives the value of a word of the kernel's command line.
func argument(key, none string) (string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(string(line)) {
		if v, ok := strings.CutPrefix(word, key); ok {
			return v, nil
		}
	}
	return none, nil
}

// A teller sends events, whole ones.
type teller struct {
	mu sync.Mutex
	to *json.Encoder
}

func (t *teller) tell(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to.Encode(e)
}

// run runs one job, and tells how it ends. An emulator shows races that are a test's own: as in test.sh, one or two tests that failed are run by themselves,
// three times. What comes after a test that hung is run without it.
func (t *teller) run(j job) {
	start := time.Now()
	e := event{Job: j.Name}
	failed, exit := t.try(j, j.Tests)
	e.Exit = &exit
	if j.Tests != nil {
		if failed.hung {
			for _, name := range failed.names {
				t.tell(event{Job: j.Name, Line: "--- FAIL: " + name + " (hung)"})
			}
			failed.add(t.try(j, j.Tests.without(failed.ended)))
		}
		if names := failed.alone(); exit != 0 && names != nil {
			e.Again = t.again(j, names)
		}
	}
	e.Ms = time.Since(start).Milliseconds()
	t.tell(e)
}

// try runs a job, or those tests of it, and reads what failed.
func (t *teller) try(j job, which *tests) (failed failures, exit int) {
	exit = t.command(j, which, func(line string) {
		failed.take(line)
		t.tell(event{Job: j.Name, Line: line})
	})
	return failed, exit
}

// again runs tests by themselves, and gives how that ended.
func (t *teller) again(j job, names []string) *int {
	exit := 0
	for try := 0; try < 3 && exit == 0; try++ {
		exit = t.command(j, j.Tests.only(names), func(line string) { t.tell(event{Job: j.Name, Line: "again: " + line}) })
	}
	return &exit
}

// failures are the tests that failed by what go test -v prints.
type failures struct {
	names   []string // those that hung among them
	ended   []string // tests, well or not, or by the time limit
	hung    bool     // the time limit ended all
	died    bool     // not all tests were run
	listing bool     // the next line may name one that hung
}

func (f *failures) take(line string) {
	for _, result := range []string{"PASS", "FAIL", "SKIP"} {
		if rest, is := strings.CutPrefix(line, "--- "+result+": "); is {
			name, _, _ := strings.Cut(rest, " ")
			f.ended = append(f.ended, name)
			if result == "FAIL" {
				f.names = append(f.names, name)
			}
		}
	}
	switch {
	case strings.HasPrefix(line, "panic: test timed out after "):
		f.hung = true
	case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error:"):
		f.died = true
	case f.hung && strings.TrimSpace(line) == "running tests:":
		f.listing = true
	case f.listing:
		f.takeHung(line)
	}
}

// takeHung takes a line of the list of tests that the time limit ended, up to the one behind it.
func (f *failures) takeHung(line string) {
	test, _, more := strings.Cut(strings.TrimSpace(line), " ")
	if f.listing = more && !strings.HasPrefix(line, "goroutine "); !f.listing {
		return
	}
	if name, _, _ := strings.Cut(test, "/"); !slices.Contains(f.ended, name) {
		f.names, f.ended = append(f.names, name), append(f.ended, name)
	}
}

// add adds what failed in the tests that came after one that hung. Of a second one that hangs enough is known.
func (f *failures) add(rest failures, exit int) {
	f.names = append(f.names, rest.names...)
	f.died = f.died || rest.died || rest.hung || exit != 0 && len(rest.names) == 0
}

// alone gives those that are worth being run by themselves, if they are all that was wrong.
func (f *failures) alone() []string {
	if f.died || len(f.names) > 2 {
		return nil
	}
	return f.names
}

// command runs a command of a job to its end, and gives its exit code. What it leaves running
// may hold its output open; that is waited for a while only.
func (t *teller) command(j job, which *tests, say func(line string)) int {
	r, w, err := os.Pipe()
	if err != nil {
		t.tell(event{Fault: err.Error()})
		return 1
	}
	defer r.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		eachLine(r, say)
	}()
	argv := append(slices.Clone(j.Argv), which.flags()...)
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = j.Dir
	c.Env = []string{"PATH=" + guestPath, "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=linux", "KAKURI_TEST_BIN=/" + workDir + "/vm/bin", "KAKURI_TEST_TMP=/var/tmp"}
	c.Stdout, c.Stderr = w, w
	exit := 0
	if err := c.Run(); err != nil {
		exit = 1
		if e, ok := err.(*exec.ExitError); ok && e.ExitCode() > 0 {
			exit = e.ExitCode()
		}
		defer say(err.Error())
	}
	w.Close()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.tell(event{Job: j.Name, Line: "something that it left holds its output open"})
		exit = max(exit, 1)
	}
	return exit
}

func eachLine(r io.Reader, say func(line string)) {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		if line != "" {
			say(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return
		}
	}
}

// openPort opens the port for events. It blocks when written to: a write that returned has
// reached the host, also when the machine is turned off next.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if is, _ := os.ReadFile(n); strings.TrimSpace(string(is)) == portName {
			p := "/dev/" + filepath.Base(filepath.Dir(n))
			fd, err := unix.Open(p, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			return os.NewFile(uintptr(fd), p), nil
		}
	}
	return nil, fmt.Errorf("no virtio port %s", portName)
}

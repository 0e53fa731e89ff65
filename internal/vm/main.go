// Command vm runs the project's tests on other kernels: it boots Debian's cloud
// kernels in qemu, with cgroup v2 and all its controllers, and starts the test binaries there.
//
//	go run ./internal/vm                              # three kernels, one after the other
//	go run ./internal/vm -kernel 6.1 -pkgs ./launch -run TestMount
//	go run ./internal/vm -kernel new -systemd
//	go run ./internal/vm -arch arm64
//	go run ./internal/vm -kernel 6.1 -power only
//	go run ./internal/vm -kernel 6.1 -selinux
//	go run ./internal/vm -kernel 6.12 -boot 'cgroup_disable=memory ipv6.disable=1' -without 'erofs fuse' -memory 512 -script FILE
//	go run ./internal/vm -kernel 6.12 -systemd -suite ../runc -cases 'cgroups update' -filter 'cgroup v2|unified'
//
// Kernels and the guest's root come from Debian's archive by apt, with a
// configuration of its own below -cache: nothing is installed on this machine. What
// the machine itself needs: qemu-system-x86 (or qemu-system-arm), e2fsprogs, xz-utils, apt, dpkg.
//
// On the way there are three images. The root is made once (root.go), the one with
// tests and sources anew each time (work.go), and both are mounted from disks that qemu
// throws away at the end; a third, empty disk is for tests of block IO. The guest's first
// process (guest.go) is this very program. What the tests print comes out by one
// virtio port, how each ended by another one (qemu.go).
//
// The exit status is 1 when a test failed, a guest did not come to its end, or there
// was no guest at all.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// options are what the command line asks for.
type options struct {
	Kernel  string
	Arch    string
	Systemd bool
	SELinux bool // in the place of AppArmor
	Pkgs    []string
	Run     string
	Quick   bool   // without the packages that take long
	Results string // file that gets the result of each test
	Suite   string // a checkout of runc or crun
	Cases   []string
	Filter  string   // of the suite's cases
	User    string   // who is no root, and runs the suite: what he has
	Runtime string   // that the suite tries, when it is not ours
	Script  string   // that runs in place of our tests
	Boot    string   // more words for the kernel
	Memory  int      // of a guest, in MB
	Without []string // modules
	CPUs    int
	Accel   string
	Mirror  string
	Cache   string
	Update  bool
	Power   string        // "no", "only", or after the tests
	Seed    uint64        // of the cuts
	Limit   time.Duration // of one guest, from its first instruction to its end
}

// What -power may be.
const (
	only  = "only"
	never = "no"
)

func main() {
	os.Exit(run())
}

func run() int {
	var err error
	switch {
	case os.Getpid() == 1:
		err = guestInit()
	case filepath.Base(os.Args[0]) == guestName && len(os.Args) == 2 && os.Args[1] == "registry":
		err = serveRegistry()
	case filepath.Base(os.Args[0]) == guestName:
		err = guestJobs()
	default:
		err = host()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		return 1
	}
	return 0
}

func flags() (options, error) {
	var o options
	var pkgs, cases, without string
	flag.StringVar(&o.Kernel, "kernel", "", "6.1, 6.12 or new; all three when empty")
	flag.StringVar(&o.Arch, "arch", runtime.GOARCH, "amd64 or arm64")
	flag.BoolVar(&o.Systemd, "systemd", false, "have systemd as the first process, and the tests in a unit")
	flag.BoolVar(&o.SELinux, "selinux", false, "have SELinux in the place of AppArmor, and of the tests run those of -pkgs alone")
	flag.StringVar(&pkgs, "pkgs", "", "packages, such as './launch ./oci'; those of jobs.go when empty")
	flag.StringVar(&o.Run, "run", "", "tests to run, as go test -run takes them")
	flag.BoolVar(&o.Quick, "quick", false, "leave out the packages that take most of the time, such as cli, and of engine all but a few tests")
	flag.StringVar(&o.Results, "results", "", "`FILE` to which the result of each test is added, as go test -v prints it")
	flag.StringVar(&o.Suite, "suite", "", "`CHECKOUT` of runc or crun, whose tests run in place of ours")
	flag.StringVar(&cases, "cases", "", "of the suite: names of files, such as 'cgroups update'; all when empty")
	flag.StringVar(&o.Filter, "filter", "", "of the suite: cases whose names match, as bats --filter takes them")
	flag.StringVar(&o.User, "rootless", "", "`FEATURES`, none or idmap: with -systemd, runc's cases are run by an ordinary user, in a unit of his own systemd")
	flag.StringVar(&o.Runtime, "runtime", "", "`FILE` of another runtime, which the suite tries in place of ours")
	flag.StringVar(&o.Script, "script", "", "`FILE` of bash that runs in place of our tests, with the commands first in PATH; what it prints is shown")
	flag.StringVar(&o.Boot, "boot", "", "more `WORDS` for the kernel's command line, such as cgroup_disable=memory")
	flag.StringVar(&without, "without", "", "`MODULES` that a guest is not given, such as 'overlay erofs', but for those that others need")
	flag.IntVar(&o.Memory, "memory", 2048, "`MB` of a guest's memory")
	flag.IntVar(&o.CPUs, "cpus", 2, "processors of a guest")
	flag.StringVar(&o.Accel, "accel", "", "kvm or tcg; kvm when empty and it is there")
	flag.StringVar(&o.Mirror, "mirror", "", "`URL` of Debian's archive; that of the machine's apt when empty")
	flag.StringVar(&o.Cache, "cache", "", "directory for kernels and images (default kakuri-vm in the user's cache directory)")
	flag.BoolVar(&o.Update, "update", false, "ask the archive again for what is in the cache")
	flag.StringVar(&o.Power, "power", "", "power loss while the engine works: no, only (no other test), or after the tests (when empty, where all of them are run)")
	flag.Uint64Var(&o.Seed, "seed", 0, "of the moments of power loss, as printed; another each time when 0")
	flag.DurationVar(&o.Limit, "limit", 0, "of one guest's time (default 30m; 6h without KVM)")
	flag.Parse()
	o.Pkgs, o.Cases, o.Without = strings.Fields(pkgs), strings.Fields(cases), strings.Fields(without)
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if err := o.together(); err != nil {
		return o, err
	}
	if o.Power == "" && (o.Quick || o.Suite != "" || o.Script != "" || o.Run != "" || o.SELinux || len(o.Pkgs) > 0) {
		o.Power = never
	}
	if o.Power != "" && o.Power != never && o.Power != only {
		return o, fmt.Errorf("-power %s: it is %s or %s", o.Power, never, only)
	}
	if o.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("cache directory: %w: name one with -cache", err)
		}
		o.Cache = filepath.Join(dir, "kakuri-vm")
	}
	// The tools of system administration are not in every user's path.
	return o, os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
}

// together reports what would do nothing beside other flags, or without them.
func (o options) together() error {
	switch {
	case o.User != "" && o.User != "none" && o.User != "idmap":
		return fmt.Errorf("-rootless %s: it is none or idmap", o.User)
	case o.User != "" && (!o.Systemd || o.Suite == ""):
		return fmt.Errorf("-rootless %s: it goes with -systemd and -suite", o.User)
	case o.Script != "" && o.Suite != "":
		return errors.New("-script and -suite: a guest runs one of them")
	}
	return nil
}

// host is the program's part outside of guests.
func host() error {
	o, err := flags()
	if err != nil {
		return err
	}
	m, err := machineFor(o.Arch)
	if err != nil {
		return err
	}
	o.Limit = m.limit(o)
	releases, err := choose(o.Kernel)
	if err != nil {
		return err
	}
	if err := need(m); err != nil {
		return err
	}
	root, kernels, err := fetch(o, releases)
	if err != nil {
		return err
	}
	w, err := makeWork(o)
	if err != nil {
		return fmt.Errorf("image of the tests: %w", err)
	}
	defer w.remove()
	var lines []string
	var failed bool
	for _, k := range kernels {
		fmt.Printf("\n== %s, %s\n", k.version, m.how(o))
		for _, part := range []struct {
			name string
			do   func(options, machine, *kernel, string, *work) (verdict, error)
			not  string
		}{{"", boot, only}, {", power loss", powerLoss, never}} {
			if o.Power == part.not {
				continue
			}
			v, err := part.do(o, m, k, root, w)
			if err != nil {
				v.faults = append(v.faults, err.Error())
			}
			lines = append(lines, v.text(k.version+part.name))
			failed = failed || len(v.faults) > 0
		}
	}
	fmt.Printf("\n%s", strings.Join(lines, ""))
	if failed {
		return errors.New("not all is well")
	}
	return nil
}

// fetch fills the cache where it lacks something. Other runs of this program wait.
func fetch(o options, releases []release) (root string, kernels []*kernel, err error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(o.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if root, err = rootImage(o); err != nil {
		return "", nil, fmt.Errorf("root image: %w", err)
	}
	for _, r := range releases {
		k, err := getKernel(o, r)
		if err != nil {
			return "", nil, fmt.Errorf("kernel %s: %w", r.name, err)
		}
		kernels = append(kernels, k)
	}
	return root, kernels, nil
}

// need looks for the programs that are started.
func need(m machine) error {
	var packages []string
	for _, p := range []struct{ program, pkg string }{
		{m.qemu, m.pkg}, {"mkfs.ext4", "e2fsprogs"}, {"xz", "xz-utils"}, {"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"tar", "tar"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			packages = append(packages, p.pkg)
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("install these first: apt-get install --no-install-recommends %s", strings.Join(packages, " "))
	}
	return nil
}

// output runs a command and gives its standard output; what it says otherwise
// becomes the error.
func output(name string, args ...string) ([]byte, error) {
	var errs strings.Builder
	c := exec.Command(name, args...)
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(errs.String()))
	}
	return out, nil
}

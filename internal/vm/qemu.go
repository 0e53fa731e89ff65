package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine is what qemu emulates for an architecture.
type machine struct {
	arch, qemu, pkg string
	args            []string
	console         string
}

func machineFor(arch string) (machine, error) {
	switch arch {
	case "amd64":
		return machine{arch, "qemu-system-x86_64", "qemu-system-x86", []string{"-machine", "q35"}, "ttyS0"}, nil
	case "arm64":
		return machine{arch, "qemu-system-aarch64", "qemu-system-arm", []string{"-machine", "virt"}, "ttyAMA0"}, nil
	}
	return machine{}, fmt.Errorf("architecture %q: it is amd64 or arm64", arch)
}

// accel chooses how instructions are executed. A machine may have /dev/kvm and yet
// no processor for it: under paravirtual nesting the device opens, and a guest that starts
// in real mode as qemu's do never runs.
func (m machine) accel(o options) string {
	if o.Accel != "" {
		return o.Accel
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	f.Close()
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || m.arch != runtime.GOARCH {
		return "tcg"
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "flags" {
			if slices.Contains(f, "vmx") || slices.Contains(f, "svm") {
				return "kvm"
			}
			return "tcg"
		}
	}
	return "tcg"
}

// emulatorLimit is of a guest that an emulator runs, which takes hours for all the tests.
const emulatorLimit = 6 * time.Hour

// limit is of one guest's time.
func (m machine) limit(o options) time.Duration {
	switch {
	case o.Limit > 0:
		return o.Limit
	case m.accel(o) == "kvm":
		return 30 * time.Minute
	}
	return emulatorLimit
}

func (m machine) how(o options) string { return m.qemu + " -accel " + m.accel(o) }

// command is the whole line of qemu, for a guest that does the jobs from one on.
func (m machine) command(o options, k *kernel, initrd, root string, w *work, log string, from int) []string {
	accel, cpu := m.accel(o), "max"
	if accel == "tcg" {
		accel += ",thread=multi"
		if m.arch == "arm64" {
			// Signed pointers by the book's own cipher take half of an emulator's time.
			cpu += ",pauth-impdef=on"
		} else {
			// Behind a cmpxchg16b of qemu 7.2 a kernel 6.12 had bits of a pointer for flags, and died of a trap. Without that
			// instruction its allocator takes locks.
			cpu += ",cx16=off"
		}
	}
	mode := "tests"
	if o.Systemd {
		mode = "systemd"
	}
	modules := ""
	if o.SELinux {
		modules = " security=selinux selinux=1"
	}
	args := append([]string{m.qemu, "-accel", accel, "-cpu", cpu}, m.args...)
	args = append(args, "-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", k.image, "-initrd", initrd,
		"-append", "console="+m.console+" panic=-1 loglevel=5 mitigations=off KAKURI_VM="+mode+" systemd.unit="+unitName+" systemd.show_status=0 "+fromArg+strconv.Itoa(from)+modules+" "+o.Boot,
		"-serial", "file:"+log,
		"-chardev", "file,id=events,path=/dev/stdout", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=events,name="+portName)
	for _, d := range []struct{ name, file string }{{"root", root}, {"work", w.image}, {"spare", w.spare}} {
		args = append(args, "-drive", "file="+d.file+",format=raw,if=none,cache=unsafe,snapshot=on,id="+d.name,
			"-device", "virtio-blk-pci,drive="+d.name+",serial="+d.name)
	}
	return args
}

// An event is what a guest tells: a line that a job printed, the end of a job, or that all
// jobs are done.
type event struct {
	Job  string `json:",omitempty"`
	Line string `json:",omitempty"`
	Exit *int   `json:",omitempty"`
	// Again is how tests that failed ended by themselves, three times: 0 is that they passed each time.
	Again *int  `json:",omitempty"`
	Ms    int64 `json:",omitempty"`
	Done  bool  `json:",omitempty"`
	// Beat says nothing but that the guest is alive.
	Beat bool `json:",omitempty"`
	// Fault says why a guest could not do what it was there for.
	Fault string `json:",omitempty"`
}

// How long a guest may be silent: it beats once in beatEvery whatever its jobs do, unless its processors stand still.
const (
	beatEvery  = 5 * time.Second
	beatWithin = 2 * time.Minute
	bootTries  = 3
)

// boot has a guest do the jobs, and gives what became of them. An emulator may come to stand still with all its
// processors, in any test: then another guest does what is left. A job that two guests do not survive is at fault itself.
func boot(o options, m machine, k *kernel, root string, w *work) (verdict, error) {
	modules, err := loadList(k, without(mustLoad, o.Without), without(mayLoad, o.Without))
	if err != nil {
		return verdict{}, err
	}
	initrd := filepath.Join(w.dir, "initrd")
	if err := os.WriteFile(initrd, initramfs(w.guest, modules), 0o644); err != nil {
		return verdict{}, err
	}
	logs := filepath.Join(o.Cache, "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return verdict{}, err
	}
	base := filepath.Join(logs, k.version)
	if o.Systemd {
		base += "-systemd"
	}
	if o.SELinux {
		base += "-selinux"
	}
	text, err := os.Create(base + ".log")
	if err != nil {
		return verdict{}, err
	}
	defer text.Close()
	ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
	defer cancel()

	start := time.Now()
	v, err := guests(ctx, w.jobs, beatWithin, func(from int) []string {
		return m.command(o, k, initrd, root, w, base+".console", from)
	}, text, os.Stdout)
	v.took = time.Since(start)
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %v: a test or the kernel hangs", o.Limit)
	}
	if rerr := v.record(o.Results, k.version); rerr != nil {
		v.faults = append(v.faults, rerr.Error())
	}
	if len(v.faults) > 0 || err != nil {
		fmt.Printf("\nthe console ends so (%s.console):\n%s\n", base, tail(base+".console", 40))
	}
	return v, err
}

// without leaves names out of a list.
func without(names, out []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(out, n) })
}

// guests has the jobs done by one guest, or by more when one stands still. The line starts a guest that does
// the jobs from a number on.
func guests(ctx context.Context, jobs []job, within time.Duration, line func(from int) []string, log, out io.Writer) (verdict, error) {
	var all verdict
	for try := 1; ; try++ {
		left := jobs[all.ended:]
		v, stood, err := guest(ctx, line(all.ended), left, within, log, out)
		stood = stood && ctx.Err() == nil
		again := stood && try < bootTries && v.ended < len(left) && (v.ended > 0 || try == 1)
		all.add(v, again)
		switch {
		case again:
			fmt.Fprintf(out, "stood still in %s, with all its processors: another guest does what is left\n", left[v.ended].Name)
		case stood:
			return all, fmt.Errorf("stood still for %v", within)
		default:
			return all, err
		}
	}
}

// guest runs one guest to its end, or until it has been silent for too long.
func guest(ctx context.Context, line []string, jobs []job, within time.Duration, log, out io.Writer) (_ verdict, stood bool, _ error) {
	// The guest is to end with this process, and the kernel means the thread by that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Stderr = os.Stderr
	events, err := c.StdoutPipe()
	if err != nil {
		return verdict{}, false, err
	}
	if err := c.Start(); err != nil {
		return verdict{}, false, err
	}
	quiet := time.AfterFunc(within, cancel)
	v := judge(io.TeeReader(&watched{events, quiet, within}, log), jobs, out)
	stood = !quiet.Stop()
	return v, stood, c.Wait()
}

// A watched reader puts its timer back with each read.
type watched struct {
	io.Reader
	quiet  *time.Timer
	within time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 && w.quiet.Stop() {
		w.quiet.Reset(w.within)
	}
	return n, err
}

// initramfs holds the guest's first process and the modules, named in the order of loading.
func initramfs(guest []byte, modules []module) []byte {
	var c cpioArchive
	for _, d := range []string{"dev", "proc", "sys", "root", "modules"} {
		c.add(d, cpioDir, nil)
	}
	c.node("dev/console", 5, 1) // what the kernel opens for the first process
	c.add("init", cpioFile, guest)
	for i, m := range modules {
		c.add(fmt.Sprintf("modules/%03d-%s", i, m.name), cpioFile, m.data)
	}
	c.close()
	return c.Bytes()
}

// A verdict is how a guest's jobs went.
type verdict struct {
	passed, failed, skipped int
	ended                   int // jobs
	faults                  []string
	failures                int // of the faults, those of jobs that ended
	took                    time.Duration
	results                 []string // "--- PASS: ./launch/TestX (0.01s)"
	cut                     *verdict // of the jobs that did not end, what they did before
	once                    []string // what failed and passed by itself: no fault
}

// record adds each test's result to a file, if one is named.
func (v verdict) record(name, version string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, r := range v.results {
		result, test, _ := strings.Cut(r, ": ")
		fmt.Fprintf(f, "%s: %s %s\n", result, version, test)
	}
	return f.Close()
}

// add adds what a further guest did. Of one that stood still, only what it ended counts: another guest does the rest from its beginning.
func (v *verdict) add(w verdict, stood bool) {
	if w.cut != nil && !stood {
		cut := *w.cut
		w.cut = nil
		v.add(cut, false)
	}
	v.passed, v.failed, v.skipped, v.ended = v.passed+w.passed, v.failed+w.failed, v.skipped+w.skipped, v.ended+w.ended
	v.results = append(v.results, w.results...)
	if stood {
		w.faults = w.faults[:w.failures]
	}
	v.faults, v.once = append(v.faults, w.faults...), append(v.once, w.once...)
}

// judge reads a guest's events, prints a line for each job that went well, and all that
// another printed.
func judge(events io.Reader, jobs []job, out io.Writer) verdict {
	var v verdict
	ended, kinds := map[string]bool{}, map[string]job{}
	for _, j := range jobs {
		kinds[j.Name] = j
	}
	printed := map[string][]string{}
	done := false
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			v.faults = append(v.faults, fmt.Sprintf("the guest says %q: %v", line, err))
			continue
		}
		switch {
		case e.Fault != "":
			v.faults = append(v.faults, "guest: "+e.Fault)
		case e.Beat:
		case e.Done:
			done = true
		case e.Exit != nil:
			ended[e.Job] = true
			v.ended++
			switch j := kinds[e.Job]; {
			case j.Suite:
				v.endSuite(e, printed[e.Job], out)
			case j.Shown:
				v.endShown(e, printed[e.Job], out)
			default:
				v.end(e, printed[e.Job], out)
			}
			delete(printed, e.Job)
		default:
			printed[e.Job] = append(printed[e.Job], e.Line)
		}
	}
	v.failures = len(v.faults)
	for _, j := range jobs {
		if ended[j.Name] {
			continue
		}
		fault := j.Name + " did not end"
		if v.cut == nil {
			v.cut = new(verdict)
		}
		if at := v.cut.count(j.Name, printed[j.Name]).at; at != "" {
			fault += ", and was in " + at
		}
		v.faults = append(v.faults, fault)
		show(out, printed[j.Name])
	}
	if !done {
		v.faults = append(v.faults, "the guest did not come to its end")
	}
	return v
}

// end counts a job that has ended. A guest has all that tests need, so that a skip
// is a fault.
func (v *verdict) end(e event, lines []string, out io.Writer) {
	c := v.count(e.Job, lines)
	took := time.Duration(e.Ms) * time.Millisecond
	if len(c.skipped) > 0 {
		v.faults = append(v.faults, e.Job+": skipped "+strings.Join(c.skipped, " "))
	}
	switch {
	case e.Again != nil && *e.Again == 0 && len(c.failed) > 0:
		v.once = append(v.once, e.Job+" "+strings.Join(c.failed, " "))
	case *e.Exit != 0 || len(c.failed) > 0:
		v.faults = append(v.faults, strings.TrimSpace(fmt.Sprintf("%s: exit status %d %s", e.Job, *e.Exit, strings.Join(c.failed, " "))))
	}
	if *e.Exit == 0 && len(c.failed)+len(c.skipped) == 0 {
		fmt.Fprintf(out, "ok    %-28s %8v  %d passed\n", e.Job, took, c.passed)
		return
	}
	show(out, lines)
	fmt.Fprintf(out, "FAIL  %-28s %8v  %d passed, %d skipped, %d failed, exit status %d\n", e.Job, took, c.passed, len(c.skipped), len(c.failed), *e.Exit)
}

// counted is what a job's lines say.
type counted struct {
	passed          int
	failed, skipped []string
	at              string // the test that began last, as long as it has not ended
}

// count counts the tests that a job's lines tell of.
func (v *verdict) count(job string, lines []string) counted {
	var c counted
	for _, l := range lines {
		result, rest, _ := strings.Cut(strings.TrimSpace(l), ": ")
		name, _, _ := strings.Cut(rest, " ")
		if began, is := strings.CutPrefix(result, "=== RUN"); is {
			c.at = strings.TrimSpace(began)
		}
		if !strings.HasPrefix(result, "--- ") {
			continue
		}
		v.results = append(v.results, result+": "+job+"/"+rest)
		if c.at == name {
			c.at = ""
		}
		switch result {
		case "--- PASS":
			c.passed++
		case "--- SKIP":
			c.skipped = append(c.skipped, name)
		case "--- FAIL":
			c.failed = append(c.failed, name)
		}
	}
	v.passed, v.skipped, v.failed = v.passed+c.passed, v.skipped+len(c.skipped), v.failed+len(c.failed)
	return c
}

// endSuite counts the cases of another's suite, and prints them all. It knows itself what it can try where.
func (v *verdict) endSuite(e event, lines []string, out io.Writer) {
	failed := 0
	for _, l := range lines {
		fmt.Fprintln(out, l)
		f := strings.Split(l, "\t")
		switch {
		case len(f) < 2:
		case f[1] == "ok":
			v.passed++
		case f[1] == "skip":
			v.skipped++
		case f[1] == "FAIL":
			failed++
		}
	}
	v.failed += failed
	if failed > 0 || *e.Exit != 0 {
		v.faults = append(v.faults, fmt.Sprintf("%s: exit status %d, %d cases failed", e.Job, *e.Exit, failed))
	}
}

// endShown prints all lines of a job whose exit status alone counts.
func (v *verdict) endShown(e event, lines []string, out io.Writer) {
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	if *e.Exit != 0 {
		v.faults = append(v.faults, fmt.Sprintf("%s: exit status %d", e.Job, *e.Exit))
	}
}

// show prints what is of use in a failed job's lines: not those of tests that went well.
func show(out io.Writer, lines []string) {
	var kept []struct{ test, text string }
	passed := map[string]bool{}
	test := ""
	for _, l := range lines {
		t := strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(t, "=== "):
			if f := strings.Fields(t); len(f) == 3 {
				test = f[2]
			}
		case strings.HasPrefix(t, "--- PASS: "):
			name, _, _ := strings.Cut(strings.TrimPrefix(t, "--- PASS: "), " ")
			passed[name] = true
		case strings.HasPrefix(t, "--- "), l == "PASS", l == "FAIL":
			kept = append(kept, struct{ test, text string }{"", l})
			test = ""
		default:
			kept = append(kept, struct{ test, text string }{test, l})
		}
	}
	for _, l := range kept {
		if !passed[l.test] {
			fmt.Fprintln(out, l.text)
		}
	}
}

func (v verdict) text(version string) string {
	s := fmt.Sprintf("%s: %d passed, %d failed, %d skipped, %v\n", version, v.passed, v.failed, v.skipped, v.took.Round(time.Second))
	for _, f := range v.faults {
		s += "\t" + f + "\n"
	}
	for _, o := range v.once {
		s += "\tfailed once, and passed alone three times: " + o + "\n"
	}
	return s
}

// tail gives the last lines of a file.
func tail(name string, n int) string {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

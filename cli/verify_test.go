package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/ui"
	"github.com/kakuri/kakuri/verify"
)

// scopeEnv holds, in a test that was executed again in a mount namespace of its own, the
// program to run containers with.
const scopeEnv = "KAKURI_MICROSCOPE_TEST"

// A scope is where live tests of the microscope run: in a mount namespace of their own,
// with records of containers that are nobody else's.
type scope struct {
	program string
	uid     uint32 // an ordinary user's, or 0
}

// microscope executes the test again in a scope, and returns that; nil outside, where the
// test is over then.
func microscope(t *testing.T) *scope {
	t.Helper()
	if program := os.Getenv(scopeEnv); program != "" {
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
			os.Mkdir("/run/ordinary", 0o700), os.Chown("/run/ordinary", ordinary, ordinary),
		); err != nil {
			t.Fatal(err)
		}
		return &scope{program: program}
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: it runs containers, as root and as another user")
	}
	dir, err := os.MkdirTemp("", "kakuri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for the ordinary user
		t.Fatal(err)
	}
	program := filepath.Join(os.Getenv("KAKURI_TEST_BIN"), "kakuri")
	if program == "kakuri" {
		program = filepath.Join(dir, "kakuri")
		build := exec.Command("go", "build", "-o", program, "github.com/kakuri/kakuri/cmd/kakuri")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), scopeEnv+"="+program, "LANG=C.UTF-8", "LC_ALL=", "LC_MESSAGES=")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return nil
}

// ordinary is the uid and gid of a user without privileges, and without ranges of ids.
const ordinary = 1234

// asOrdinary returns the scope of that user.
func (s *scope) asOrdinary(t *testing.T) *scope {
	t.Helper()
	for file, off := range map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"} {
		if data, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(data)) == off {
			t.Skipf("needs user namespaces for ordinary users: %s is %s", file, off)
		}
	}
	return &scope{program: s.program, uid: ordinary}
}

func (s *scope) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, args...)
	cmd.Dir = "/"
	if s.uid != 0 {
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR=/run/ordinary", "XDG_DATA_HOME=/run/ordinary/data")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.uid}}
	}
	return cmd
}

// kakuri runs one command line to its end.
func (s *scope) kakuri(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	code = cmd.ProcessState.ExitCode()
	if code != 0 && errs.Len() > 0 {
		out.WriteString(errs.String())
	}
	return out.String(), code
}

// start runs a container of sleep until the test's end, and returns its pid once its plan
// is recorded.
func (s *scope) start(t *testing.T, name string, args ...string) int {
	t.Helper()
	args = append(append([]string{"run", "--rm", "--name", name}, args...), "host", "sleep", "1000")
	var out bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	pid := 0
	t.Cleanup(sync.OnceFunc(func() {
		if pid != 0 {
			unix.Kill(pid, unix.SIGKILL) // kakuri run waits for it, and ends
		} else {
			cmd.Process.Kill()
		}
		<-ended
	}))
	for { // verify says itself whether the plan is there
		text, code := s.kakuri(t, "verify", "--format", "json", name)
		var v verification
		if code < 2 && json.Unmarshal([]byte(text), &v) == nil {
			pid = v.PID
			// An init starts the command a moment later, and that is the process that an ordinary
			// user may look into: from its execve(2) on, not before.
			if !slices.Contains(args, "--init") || childProgram(pid) == "sleep\n" {
				return pid
			}
		}
		select {
		case <-ended:
			t.Fatalf("%q ended:\n%s", args, out.String())
		default:
		}
	}
}

// childProgram returns the name of the program that a process's first child runs, as
// /proc/PID/comm has it, or "" as long as there is none.
func childProgram(pid int) string {
	kids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	first, _, _ := strings.Cut(string(kids), " ")
	comm, _ := os.ReadFile("/proc/" + first + "/comm")
	return string(comm)
}

// A propertyJSON is a property as verify writes it.
type propertyJSON struct {
	N                                           int
	Property, Verdict, Asked, Measured, Unknown string
	Because, Field, Reason, Kind                string
}

func properties(t *testing.T, text string) (list []propertyJSON, ok, differs, unknown int) {
	t.Helper()
	var v struct {
		OK, Differs, Unknown int
		Properties           []propertyJSON
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return v.Properties, v.OK, v.Differs, v.Unknown
}

func TestVerifyLive(t *testing.T) {
	s := microscope(t)
	if s == nil {
		return
	}
	pid := s.start(t, "web", "-h", "box", "--read-only")
	text, code := s.kakuri(t, "verify", "web")
	for _, want := range []string{"ok  host name ", "  box\n", "\nok  / ", " paths ", " mounts ", " properties are as asked; --all shows each of them\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if code != 0 || strings.Contains(text, "DIFFERS") || strings.Contains(text, "/proc/keys") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if n := strings.Count(text, "\n"); n > 45 || strings.Count(text, "not the host's") != 1 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if text, code := s.kakuri(t, "verify", "-a", "web"); code != 0 || !strings.Contains(text, "/proc/keys") || !strings.Contains(text, "  --hostname\n") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	text, code = s.kakuri(t, "verify", "--format", "json", "web")
	if list, ok, differs, unknown := properties(t, text); code != 0 || ok != len(list) || ok < 30 || differs+unknown > 0 {
		t.Errorf("exit code %d: %d, %d, %d of %d", code, ok, differs, unknown, len(list))
	}

	if out, err := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-u", "hostname", "other").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, code = s.kakuri(t, "verify", "web")
	for _, want := range []string{
		"DIFFERS  host name ", "           measured ", "  other\n", "           asked by ", "  --hostname\n", "1 differs: host name\n",
	} {
		if code != 1 || !strings.Contains(text, want) {
			t.Errorf("exit code %d, %q in:\n%s", code, want, text)
		}
	}
	text, code = s.kakuri(t, "verify", "--format", "json", "web")
	list, _, differs, _ := properties(t, text)
	i := slices.IndexFunc(list, func(p propertyJSON) bool { return p.Verdict == "differs" })
	if code != 1 || differs != 1 || i < 0 || list[i].Property != "host name" || list[i].Asked != "box" || list[i].Measured != "other" {
		t.Errorf("exit code %d:\n%s", code, text)
	}

	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"verify nobody", 1, "kakuri: No such container: nobody"},
		{"verify", 125, "kakuri: kakuri verify needs a container\n"},
		{"verify web web", 125, "kakuri: kakuri verify needs a container\n"},
		{"verify --format xml web", 125, "kakuri: --format xml: there are text and json\n"},
	} {
		if text, code := s.kakuri(t, strings.Fields(c.args)...); code != c.code || !strings.HasPrefix(text, c.want) {
			t.Errorf("%s: exit code %d: %s", c.args, code, text)
		}
	}
	t.Run("ordinary user", func(t *testing.T) { testVerifyOrdinary(t, s.asOrdinary(t)) })
}

// testVerifyOrdinary checks what a user without privileges can read of their container:
// all but what shows to those inside alone.
func testVerifyOrdinary(t *testing.T, s *scope) {
	for name, args := range map[string][]string{"plain": nil, "init": {"--init", "--read-only", "--sysctl", "kernel.msgmax=9000"}} {
		s.start(t, name, args...)
		text, code := s.kakuri(t, "verify", "--format", "json", name)
		list, ok, differs, unknown := properties(t, text)
		hidden := 0
		for _, p := range list {
			inside := p.Kind == "sysctl" || p.Kind == "hostname"
			if inside {
				hidden++
			}
			if (p.Verdict == "unknown") != inside || inside && !strings.Contains(p.Unknown, "enters as root only") {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if code != 0 || differs != 0 || unknown != hidden || hidden < 3 || ok < 30 {
			t.Errorf("%s: exit code %d: %d ok, %d differ, %d of %d unknown", name, code, ok, differs, unknown, hidden)
		}
	}
	if text, code := s.kakuri(t, "verify", "web"); code != 1 || !strings.Contains(text, "No such container: web") {
		t.Errorf("root's container: exit code %d: %s", code, text)
	}
}

// verified has one property of each verdict, and masks.
func verified() []verify.Result {
	because := plan.Cause{Reason: "default: reasons"}
	return []verify.Result{
		{N: 1, Cause: because, Kind: "id map", Property: "uid_map", Asked: "0 1879048192 65536", Measured: "0 1879048192 65536", OK: true},
		{N: 2, Cause: because, Kind: "mask", Property: "/proc/keys", Asked: "masked", Measured: "missing", OK: true},
		{N: 3, Cause: because, Kind: "mask", Property: "/proc/kcore", Asked: "masked", Measured: "a file on proc"},
		{N: 4, Cause: because, Kind: "mask", Property: "/proc/acpi", Asked: "masked", Measured: "an empty directory", OK: true},
		{N: 5, Cause: because, Kind: "hostname", Property: "host name", Asked: "box", Measured: "x\x1b[31m\n"},
		{N: 6, Cause: because, Kind: "sysctl", Property: "net.ipv4.ip_forward", Asked: "1", Unknown: "it shows only inside"},
		{N: 7, Cause: because, Kind: "capabilities", Property: "capabilities", Asked: "at most chown,dac_override,fowner,fsetid,kill", Measured: "effective chown", OK: true},
	}
}

// alike has mounts by default, one that a flag asked for, one that differs, and one of a kind.
func alike() (list []verify.Result) {
	for _, at := range []string{"/tmp", "/dev", "/v", "/proc", "/sys"} {
		r := verify.Result{Cause: plan.Cause{Reason: "default: reasons"}, Kind: "mount", Property: "mount " + at, Asked: "a", Measured: "a", OK: true}
		switch at {
		case "/dev":
			r.Measured, r.OK = "b", false
		case "/v":
			r.Cause.Reason = "-v"
		}
		list = append(list, r)
	}
	return append(list, verify.Result{Cause: plan.Cause{Reason: "default: reasons"}, Kind: "link", Property: "/dev/fd", Asked: "link to x", OK: true})
}

func TestVerifyText(t *testing.T) {
	unread := plan.Plan{Steps: []plan.Step{{Op: &plan.Chdir{}}, {Op: &plan.Hostname{}, Check: &plan.HostnameCheck{}}, {Op: &plan.DieWithParent{}}, {Op: &plan.Chroot{}}}}
	for _, c := range []struct {
		name string
		s    ui.Screen
		all  bool
		list []verify.Result
		plan plan.Plan
		want string
	}{
		{"wide", ui.Screen{}, false, verified(), plan.Plan{}, `
         PROPERTY             ASKED
ok       uid_map              0 1879048192 65536
ok       2 paths              masked
DIFFERS  /proc/kcore          masked
           measured           a file on proc
           asked by           default: reasons
DIFFERS  host name            box
           measured           x\x1b[31m\n
           asked by           default: reasons
unknown  net.ipv4.ip_forward  1
           because            it shows only inside
ok       capabilities         at most chown,dac_override,fowner,fsetid,kill
4 of 7 properties are as asked; --all shows each of them
2 differ: /proc/kcore, host name
1 could not be read: net.ipv4.ip_forward
`},
		{"narrow", ui.Screen{Columns: 60}, false, verified()[6:], plan.Plan{}, `
    PROPERTY      ASKED
ok  capabilities  at most chown, dac_override, fowner,
                  fsetid, kill
1 of 1 properties are as asked
`},
		{"narrow, a list with blanks", ui.Screen{Columns: 60}, false, []verify.Result{{N: 1, Cause: verified()[0].Cause, Kind: "devices", Property: "device rules", Asked: "deny all but c *:* m, c 1:3 rwm, c 1:5 rwm", OK: true}}, plan.Plan{}, `
    PROPERTY      ASKED
ok  device rules  deny all but c *:* m, c 1:3 rwm, c
                  1:5 rwm
1 of 1 properties are as asked
`},
		{"many alike", ui.Screen{Columns: 40}, false, alike(), plan.Plan{}, `
         PROPERTY    ASKED
ok       3 mounts    /tmp, /proc, /sys
DIFFERS  mount /dev  a
           measured  b
           asked by  default: reasons
ok       mount /v    a
ok       /dev/fd     link to x
5 of 6 properties are as asked; --all
shows each of them
1 differs: mount /dev
`},
		{"all", ui.Screen{}, true, verified()[2:4], unread, `
         PROPERTY     ASKED   MEASURED            BECAUSE
DIFFERS  /proc/kcore  masked  a file on proc      default: reasons
ok       /proc/acpi   masked  an empty directory  default: reasons
1 of 2 properties are as asked
1 differs: /proc/kcore
3 steps of the plan leave nothing of their own to read:
  the program may go elsewhere, and change directories: 1 chdir, 4 chroot
  prctl(2) tells only the process itself: 3 die with parent
`},
		{"Japanese", ui.Screen{Lang: ui.JA}, false, verified()[1:6], unread, `
      項目                 要求
一致  2 個のパス           masked
相違  /proc/kcore          masked
        実測               a file on proc
        要求元             既定: reasons
相違  host name            box
        実測               x\x1b[31m\n
        要求元             既定: reasons
不明  net.ipv4.ip_forward  1
        理由               it shows only inside
5 項目のうち 2 項目が要求どおりです (--all で一つずつ表示)
2 項目が相違しています: /proc/kcore, host name
1 項目は読み取れませんでした: net.ipv4.ip_forward
計画のうち 3 手順には、それ自体を読み取れるものが残りません
`},
		{"nothing asked", ui.Screen{}, false, nil, plan.Plan{}, `
  PROPERTY  ASKED
0 of 0 properties are as asked
`},
	} {
		if got := "\n" + verifyText(c.s, c.plan, c.list, c.all); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
	colour := verifyText(ui.Screen{Color: true}, plan.Plan{}, verified(), false)
	for _, want := range []string{"\x1b[32mok\x1b[0m", "\x1b[31mDIFFERS\x1b[0m", "\x1b[33munknown\x1b[0m"} {
		if !strings.Contains(colour, want) {
			t.Errorf("no %q in:\n%q", want, colour)
		}
	}
	for _, width := range []int{60, 80, 120} {
		for line := range strings.Lines(verifyText(ui.Screen{Columns: width}, unread, verified(), width == 120)) {
			if ui.Width(strings.TrimSuffix(line, "\n")) > width {
				t.Errorf("wider than %d: %s", width, line)
			}
		}
	}
	if faults := ui.Untranslated(verifySay); len(faults) > 0 {
		t.Error(faults)
	}
}

// mainLine runs a command line in this process.
func mainLine(args ...string) (string, int) {
	var out bytes.Buffer
	code := Main(context.Background(), args, IO{Out: &out, Err: &out})
	return out.String(), code
}

//go:build linux

package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/abi"
)

// childEnv tells a copy of the test binary which of the children it is.
const childEnv = "KAKURI_SECCOMP_CHILD"

// child runs this test binary again as the named child, a process that can be
// spoiled, and reads what it prints into result.
func child(t *testing.T, name string, result any) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if js, ok := strings.CutPrefix(line, "RESULT "); ok {
			if err := json.Unmarshal([]byte(js), result); err != nil {
				t.Fatal(err)
			}
			return
		}
		if why, ok := strings.CutPrefix(line, "SKIP "); ok {
			t.Skip(why)
		}
	}
	t.Fatalf("no result\n%s", out)
}

func TestChild(t *testing.T) {
	var result any
	switch os.Getenv(childEnv) {
	case "":
		return // It is the other half of the tests that start it.
	case "default":
		result = childDefault(t)
	case "every":
		result = childEvery(t)
	case "notify":
		result = childNotify(t)
	}
	js, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nRESULT %s\n", js)
}

// install loads a program for the calling thread, which must be locked, and
// returns what seccomp(2) does: 0 or the listener.
func install(t *testing.T, p *Program) int {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	code := p.Bytes()
	prog := unix.SockFprog{Len: uint16(len(p.Instructions)), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno == unix.ENOSYS || errno == unix.EBUSY {
		fmt.Printf("\nSKIP this kernel or what runs it forbids filters: %v\n", errno)
		runtime.Goexit()
	}
	if errno != 0 {
		t.Fatalf("seccomp: %v\n%s", errno, p)
	}
	return int(fd)
}

func native() abi.Arch { return abi.Native(runtime.GOARCH) }

// call makes a system call by number and returns its errno.
func call(nr uint32, args [6]uint64) uint32 {
	_, _, errno := unix.RawSyscall6(uintptr(nr), uintptr(args[0]), uintptr(args[1]), uintptr(args[2]), uintptr(args[3]), uintptr(args[4]), uintptr(args[5]))
	return uint32(errno)
}

func callByName(name string, args ...uint64) string {
	nr, ok := native().Syscall(name)
	if !ok {
		return "no such call"
	}
	var six [6]uint64
	copy(six[:], args)
	if errno := call(nr, six); errno != 0 {
		return abi.Errno(errno).Name()
	}
	return "ok"
}

// childDefault tries some calls under Docker's default profile.
func childDefault(t *testing.T) map[string]string {
	p, err := Compile(mobyProfile(native()), native())
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // and never unlock it
	install(t, p)
	got := map[string]string{
		"getpid":               callByName("getpid"),
		"new user namespace":   callByName("unshare", abi.CloneNewUser),
		"keyctl":               callByName("keyctl", 0, ^uint64(0), 0),
		"clone3":               callByName("clone3", 0, 0),
		"open_tree":            callByName("open_tree"),
		"socket of AF_VSOCK":   callByName("socket", 40, 1, 0),
		"socket of AF_ALG":     callByName("socket", 38, 5, 0),
		"socket of AF_UNIX":    callByName("socket", 1, 1, 0),
		"personality question": callByName("personality", 0xffffffff),
		"personality change":   callByName("personality", 0x0040000),
		"clone of a namespace": callByName("clone", abi.CloneNewUser),
		"file_getattr":         callByName("file_getattr"),
	}
	if errno := call(1000, [6]uint64{}); errno != 0 {
		got["number 1000"] = abi.Errno(errno).Name()
	}
	return got
}

func TestKernelTakesDefaultProfile(t *testing.T) {
	if !native().Valid() {
		t.Skip("no system call table for this architecture")
	}
	var got map[string]string
	child(t, "default", &got)
	for what, want := range map[string]string{
		"getpid":               "ok",
		"new user namespace":   "EPERM",
		"keyctl":               "EPERM",
		"clone3":               "ENOSYS",
		"open_tree":            "EPERM",
		"socket of AF_VSOCK":   "EPERM",
		"socket of AF_ALG":     "EPERM",
		"socket of AF_UNIX":    "ok",
		"personality question": "ok",
		"personality change":   "EPERM",
		"clone of a namespace": "EPERM",
		"file_getattr":         "ENOSYS",
		"number 1000":          "ENOSYS",
	} {
		if what == "clone of a namespace" && native() == abi.ArchS390X {
			continue // flags are the second argument there
		}
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
}

// needed are the calls that the Go runtime makes on its own and dies without.
var needed = [...]string{
	"futex", "rt_sigreturn", "rt_sigprocmask", "sigaltstack", "madvise", "mmap", "munmap", "exit",
	"exit_group", "sched_yield", "nanosleep", "clock_nanosleep", "tgkill", "gettid", "getpid", "clone", "write", "epoll_pwait",
}

// childEvery loads a program whose every answer is an errno of its own, so that no call
// gets through and the kernel's verdict on it can be read, and asks about every number.
func childEvery(t *testing.T) []string {
	profile := mobyProfile(native())
	p, err := Compile(profile, native())
	if err != nil {
		t.Fatal(err)
	}
	p.Instructions = tellTale(p.Instructions)
	calls := everyCall(t)
	answers := make([]uint32, len(calls))
	debug.SetGCPercent(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		install(t, p)
		for i, d := range calls {
			answers[i] = call(d.NR, d.Args)
		}
	}()
	<-done
	var wrong []string
	for i, d := range calls {
		want, _, err := Simulate(p.Instructions, d)
		if err != nil || want&abi.SeccompRetData != answers[i] || want>>16 != abi.SeccompRetErrno>>16 {
			wrong = append(wrong, fmt.Sprintf("call %d %#x: kernel %d, simulator %#x, %v", d.NR, d.Args, answers[i], want, err))
		}
	}
	if len(calls) < 800 {
		wrong = append(wrong, fmt.Sprintf("only %d calls made", len(calls)))
	}
	return wrong[:min(len(wrong), 10)]
}

// tellTale replaces each answer by an errno that only it has, and lets needed pass.
func tellTale(prog []Instruction) []Instruction {
	out := []Instruction{{Code: opLoad, K: offNR}}
	for _, name := range needed {
		if nr, ok := native().Syscall(name); ok {
			out = append(out, Instruction{Code: opEqual, JF: 1, K: nr}, Instruction{Code: opRet, K: abi.SeccompRetAllow})
		}
	}
	var answers []uint32
	for _, in := range prog {
		if in.Code == opRet {
			i := slices.Index(answers, in.K)
			if i < 0 {
				i = len(answers)
				answers = append(answers, in.K)
			}
			in.K = abi.SeccompRetErrno | uint32(1000+i)
		}
		out = append(out, in)
	}
	return out
}

// everyCall lists calls of all numbers but those of needed, with many arguments
// where a profile looks at them.
func everyCall(t *testing.T) []Data {
	t.Helper()
	profile := mobyProfile(native())
	rng := rand.New(rand.NewPCG(8, 9))
	var calls []Data
	for _, nr := range numbers(native()) {
		name, _ := native().SyscallName(nr)
		if slices.Contains(needed[:], name) || name == "uretprobe" || name == "uprobe" {
			continue // those two seccomp lets pass unseen, since Linux 6.14
		}
		d := Data{NR: nr, Arch: native().AuditArch()}
		calls = append(calls, d)
		if !conditional(profile, name) {
			continue
		}
		for _, v := range values(profile, name, rng) {
			d.Args = [6]uint64{v, ^v, 1, 2, 3, 4}
			calls = append(calls, d)
		}
	}
	return calls
}

func TestKernelAgreesWithSimulator(t *testing.T) {
	if native() != abi.ArchX86_64 && native() != abi.ArchAARCH64 {
		t.Skip("the calls that the Go runtime needs are known for amd64 and arm64 only")
	}
	var wrong []string
	child(t, "every", &wrong)
	for _, w := range wrong {
		t.Error(w)
	}
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Data  struct {
		NR   int32
		Arch uint32
		IP   uint64
		Args [6]uint64
	}
}

type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// childNotify answers a call of one thread from another, through the listener.
func childNotify(t *testing.T) map[string]string {
	p, err := Compile(parse(t, `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent","syscalls":[
		{"names":["mkdirat"],"action":"SCMP_ACT_NOTIFY","args":[{"index":2,"value":457,"op":"SCMP_CMP_EQ"}]}]}`), native())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"flags": abi.SeccompFlagWords(uint64(p.Flags))}
	listener, done := make(chan int), make(chan string)
	go func() {
		runtime.LockOSThread()
		fd := install(t, p)
		listener <- fd
		// The runtime is told of a call that waits: it would keep its processor from the thread that answers.
		_, _, errno := unix.Syscall(unix.SYS_MKDIRAT, 1<<32-100, 0, 0o711)
		done <- abi.Errno(errno).Name()
	}()
	fd := <-listener
	// A signal of the Go runtime takes a call back, which is then made, and asked about, anew.
	for answered := false; !answered; {
		var n notification
		switch _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno {
		case 0:
		case unix.EINTR, unix.ENOENT:
			continue
		default:
			t.Fatalf("receive: %v", errno)
		}
		got["asked"], _ = native().SyscallName(uint32(n.Data.NR))
		r := response{ID: n.ID, Error: -int32(unix.EXDEV)}
		switch _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r))); errno {
		case 0:
			answered = true
		case unix.ENOENT:
		default:
			t.Fatalf("send: %v", errno)
		}
	}
	got["answer"] = <-done
	return got
}

func TestKernelNotifiesListener(t *testing.T) {
	if !native().Valid() {
		t.Skip("no system call table for this architecture")
	}
	var got map[string]string
	child(t, "notify", &got)
	for what, want := range map[string]string{"flags": "spec_allow,new_listener", "asked": "mkdirat", "answer": "EXDEV"} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
}

package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// filterOf compiles the filter of a run.
func filterOf(t testing.TB, r Config) *seccomp.Program {
	t.Helper()
	p, err := seccomp.Compile(spec(t, r).Linux.Seccomp, abi.ArchX86_64)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	return p
}

// allowed lists the system calls of amd64 that a filter lets through for some arguments.
func allowed(p []seccomp.Instruction) (names []string, all int) {
	for i := range abi.SyscallCount {
		nr, ok := abi.ArchX86_64.SyscallAt(i)
		if !ok {
			continue
		}
		all++
		if slices.Contains(seccomp.Reach(p, abi.ArchX86_64, nr), abi.SeccompRetAllow) {
			names = append(names, abi.SyscallNameAt(i))
		}
	}
	return names, all
}

// How many calls each profile lets through. Docker 20.10 has 292 of 381, Podman 4.3 has 312.
func TestAllowedCalls(t *testing.T) {
	count := func(opts ...string) int {
		names, all := allowed(filterOf(t, Config{SecurityOpt: opts}).Instructions)
		t.Logf("%v: %d of %d", opts, len(names), all)
		return len(names)
	}
	builtin, strict, debug, i386, docker := count(), count("level=strict"), count("seccomp=debug"), count("seccomp=i386"), count("seccomp=docker")
	if builtin > 280 {
		t.Errorf("the default lets %d calls through, want at most 280", builtin)
	}
	if strict >= builtin-20 || debug <= builtin || debug > builtin+10 || i386 < builtin || docker <= debug {
		t.Errorf("strict %d, builtin %d, debug %d, i386 %d, docker %d", strict, builtin, debug, i386, docker)
	}
	if level := count("level=docker"); level < docker {
		t.Errorf("level=docker %d, seccomp=docker %d", level, docker)
	}
}

// What each profile says of calls that it is about.
func TestProfiles(t *testing.T) {
	const (
		allow   = abi.SeccompRetAllow
		eperm   = abi.SeccompRetErrno | uint32(abi.EPERM)
		enosys  = abi.SeccompRetErrno | uint32(abi.ENOSYS)
		einval  = abi.SeccompRetErrno | uint32(abi.EINVAL)
		eio     = abi.SeccompRetErrno | uint32(abi.EIO)
		noproto = abi.SeccompRetErrno | uint32(abi.EPROTONOSUPPORT)
		nofam   = abi.SeccompRetErrno | uint32(abi.EAFNOSUPPORT)
		nopair  = abi.SeccompRetErrno | uint32(abi.EOPNOTSUPP)
	)
	high := uint64(1) << 32 // a bit that the kernel does not read
	for _, c := range []struct {
		call                         string
		args                         []uint64
		builtin, debug, i386, strict uint32
	}{
		{"clone3", nil, enosys, enosys, enosys, enosys},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow, allow, allow, allow},
		{"clone", []uint64{unix.CLONE_NEWUSER}, eperm, eperm, eperm, eperm},
		{"unshare", []uint64{unix.CLONE_NEWUSER}, eperm, eperm, eperm, eperm},
		{"socket", []uint64{unix.AF_INET}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 256}, noproto, noproto, noproto, noproto}, // IPPROTO_SMC
		{"socket", []uint64{unix.AF_INET6 | high, unix.SOCK_STREAM, 256 | high}, noproto, noproto, noproto, noproto},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_L2TP}, noproto, noproto, noproto, noproto},
		{"socket", []uint64{unix.AF_INET, 6, unix.IPPROTO_DCCP}, noproto, noproto, noproto, noproto},
		{"socket", []uint64{unix.AF_INET, 6, 0}, noproto, noproto, noproto, noproto}, // SOCK_DCCP, whose module has an alias for its type
		{"socket", []uint64{unix.AF_INET6 | high, 6 | unix.SOCK_CLOEXEC | high, 0}, noproto, noproto, noproto, noproto},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, 0}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0}, allow, allow, allow, allow},
		{"socketpair", []uint64{unix.AF_UNIX | high, unix.SOCK_SEQPACKET, 0}, allow, allow, allow, allow},
		{"socketpair", []uint64{unix.AF_INET, 6, 0}, nopair, nopair, nopair, nopair}, // two sockets are made, and code is loaded for them, before there is found to be no pair
		{"socketpair", []uint64{unix.AF_INET6 | high, unix.SOCK_DGRAM, unix.IPPROTO_L2TP}, nopair, nopair, nopair, nopair},
		{"socketpair", []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, eperm, eperm, eperm, eperm},
		{"socket", []uint64{unix.AF_VSOCK}, nofam, nofam, nofam, nofam},
		{"socket", []uint64{unix.AF_ALG}, nofam, nofam, nofam, nofam},
		{"socket", []uint64{unix.AF_ALG | high}, nofam, nofam, nofam, nofam},
		{"socket", []uint64{unix.AF_BLUETOOTH, unix.SOCK_RAW, 1}, nofam, nofam, nofam, nofam}, // asked for by libpcap, which ends at EPERM, for a list of devices
		{"socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}, eperm, eperm, eperm, eperm},
		{"socket", []uint64{unix.AF_NETLINK, 3, unix.NETLINK_GENERIC}, eperm, eperm, eperm, eperm},
		{"socket", []uint64{unix.AF_NETLINK, 3, unix.NETLINK_ROUTE}, allow, allow, allow, allow},
		{"socket", []uint64{unix.AF_NETLINK, 3, unix.NETLINK_AUDIT}, einval, einval, einval, einval},
		{"socket", []uint64{unix.AF_NETLINK | high, 3, unix.NETLINK_AUDIT | high}, einval, einval, einval, einval},
		{"socket", []uint64{unix.AF_NETLINK, 3, unix.NETLINK_NETFILTER}, eperm, eperm, eperm, eperm},
		{"ioctl", []uint64{0, unix.TIOCSTI}, eio, eio, eio, eio},
		{"ioctl", []uint64{0, unix.TCGETS}, allow, allow, allow, allow},
		{"ioctl", []uint64{0, unix.TIOCLINUX}, eio, eio, eio, eio},
		{"ioctl", []uint64{0, unix.TIOCSETD}, einval, einval, einval, einval},
		{"ioctl", []uint64{0, unix.TIOCSETD | high}, einval, einval, einval, einval},
		{"ioctl", []uint64{0, unix.TIOCGETD}, allow, allow, allow, allow},
		{"ptrace", []uint64{unix.PTRACE_TRACEME}, allow, allow, allow, enosys},
		{"ptrace", []uint64{unix.PTRACE_GETREGS}, allow, allow, allow, enosys},
		{"ptrace", []uint64{unix.PTRACE_ATTACH}, allow, allow, allow, enosys},
		{"ptrace", []uint64{unix.PTRACE_SEIZE | high}, allow, allow, allow, enosys},
		{"process_vm_readv", nil, eperm, allow, eperm, eperm},
		{"personality", []uint64{0x40000}, eperm, allow, eperm, enosys}, // ADDR_NO_RANDOMIZE, by gdb and setarch -R
		{"personality", []uint64{0x400000}, eperm, eperm, eperm, enosys},
		{"keyctl", nil, eperm, eperm, eperm, eperm},
		{"io_uring_setup", nil, eperm, eperm, eperm, eperm},
		{"bpf", nil, eperm, eperm, eperm, eperm},
		{"perf_event_open", nil, eperm, eperm, eperm, eperm},
		{"userfaultfd", nil, eperm, eperm, eperm, eperm},
		{"modify_ldt", nil, enosys, enosys, allow, enosys},
		{"io_setup", nil, allow, allow, allow, enosys},
		{"splice", nil, allow, allow, allow, einval},            // grep copies after EINVAL, and gives up after ENOSYS
		{"sched_setscheduler", nil, allow, allow, allow, allow}, // by threads of rsyslog's, for what they have anyway
		{"execve", nil, allow, allow, allow, allow},
		{"mbind", nil, eperm, eperm, eperm, eperm},
	} {
		nr, ok := abi.ArchX86_64.Syscall(c.call)
		if !ok {
			t.Fatal(c.call)
		}
		for name, want := range map[string]uint32{"builtin": c.builtin, "debug": c.debug, "i386": c.i386, "strict": c.strict} {
			opt := "seccomp=" + name
			if name == "strict" {
				opt = "level=strict"
			}
			if got := filterOf(t, Config{SecurityOpt: []string{opt}}).Decide(abi.ArchX86_64, nr, c.args...); got != want {
				t.Errorf("%s: %s %x gives %#x, want %#x", name, c.call, c.args, got, want)
			}
		}
	}
	// A call of 32 bits.
	nr, _ := abi.ArchX86.Syscall("getpid")
	for opt, want := range map[string]uint32{"seccomp=builtin": abi.SeccompRetKillThread, "level=strict": abi.SeccompRetKillThread, "seccomp=i386": allow, "seccomp=docker": allow} {
		if got := filterOf(t, Config{SecurityOpt: []string{opt}}).Decide(abi.ArchX86, nr); got != want {
			t.Errorf("%s: getpid of 32 bits gives %#x, want %#x", opt, got, want)
		}
	}
	// WireGuard is set up by netlink's generic protocol, and is what CAP_NET_ADMIN is given for; IPsec, which attacks on the page cache came by, has another.
	for _, c := range []struct {
		cap            string
		protocol, want uint32
	}{
		{"NET_ADMIN", unix.NETLINK_GENERIC, allow}, {"NET_RAW", unix.NETLINK_GENERIC, eperm}, {"NET_ADMIN", unix.NETLINK_XFRM, eperm}, {"NET_ADMIN", unix.NETLINK_NETFILTER, allow},
	} {
		nr, _ := abi.ArchX86_64.Syscall("socket")
		if got := filterOf(t, Config{CapAdd: []string{c.cap}}).Decide(abi.ArchX86_64, nr, unix.AF_NETLINK, unix.SOCK_RAW, uint64(c.protocol)); got != c.want {
			t.Errorf("with CAP_%s protocol %d of netlink gives %#x, want %#x", c.cap, c.protocol, got, c.want)
		}
	}
	// Of every number that the kernel has a family for, those alone may be opened, and of what it has not it says so.
	for family := range uint64(64) {
		want := uint32(nofam)
		switch family {
		case unix.AF_UNIX, unix.AF_INET, unix.AF_INET6:
			want = allow
		case unix.AF_NETLINK, unix.AF_PACKET:
			want = eperm
		}
		nr, _ := abi.ArchX86_64.Syscall("socket")
		if got := filterOf(t, Config{}).Decide(abi.ArchX86_64, nr, family, unix.SOCK_RAW, unix.NETLINK_USERSOCK); got != want {
			t.Errorf("family %d gives %#x, want %#x", family, got, want)
		}
	}
	// Who has the capability that a call is for may make it.
	trace := filterOf(t, Config{CapAdd: []string{"SYS_PTRACE"}})
	for _, call := range []string{"process_vm_readv", "kcmp", "ptrace"} {
		nr, _ := abi.ArchX86_64.Syscall(call)
		if got := trace.Decide(abi.ArchX86_64, nr, unix.PTRACE_ATTACH); got != allow {
			t.Errorf("with CAP_SYS_PTRACE %s gives %#x", call, got)
		}
	}
}

// A level is a set of things; what is asked for by itself has the last word, in any order.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		opts         []string
		caps         int
		nnp          bool
		core, hidden bool
	}{
		{nil, 11, false, true, true},
		{[]string{"level=default"}, 11, false, true, true},
		{[]string{"level=docker"}, 14, false, false, false},
		{[]string{"level=strict"}, 8, true, true, true},
		{[]string{"level=strict", "no-new-privileges=false"}, 8, false, true, true},
		{[]string{"no-new-privileges=false", "level=strict"}, 8, false, true, true},
		{[]string{"systempaths=unconfined"}, 11, false, true, false},
	} {
		s := spec(t, Config{SecurityOpt: c.opts})
		core := slices.ContainsFunc(s.Process.Rlimits, func(l specs.POSIXRlimit) bool { return l.Type == "RLIMIT_CORE" && l.Hard == 0 })
		hidden := false
		for _, m := range s.Mounts {
			hidden = hidden || m.Type == "proc" && slices.Contains(m.Options, "hidepid=invisible")
		}
		if n := len(s.Process.Capabilities.Bounding); n != c.caps || s.Process.NoNewPrivileges != c.nnp || core != c.core || hidden != c.hidden {
			t.Errorf("%v: %d capabilities, no_new_privs %v, no core dumps %v, hidepid %v", c.opts, n, s.Process.NoNewPrivileges, core, hidden)
		}
	}
	if s := spec(t, Config{Privileged: true}); slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return slices.Contains(m.Options, "hidepid=invisible") }) {
		t.Error("--privileged: processes are hidden")
	}
	noSpec(t, Config{SecurityOpt: []string{"level=best"}}, "there are the levels default, docker and strict")
}

// The name of a profile is not that of a file; a path is.
func TestProfileNames(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("docker", []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	byName := spec(t, Config{SecurityOpt: []string{"seccomp=docker"}}).Linux.Seccomp
	if byName == nil || len(byName.Syscalls) == 0 {
		t.Errorf("seccomp=docker: %+v", byName)
	}
	for _, file := range []string{"./docker", filepath.Join(mustWd(t), "docker")} {
		if s := spec(t, Config{SecurityOpt: []string{"seccomp=" + file}}).Linux.Seccomp; s == nil || len(s.Syscalls) != 0 {
			t.Errorf("%s: %+v", file, s)
		}
	}
	text := `{"defaultAction":"SCMP_ACT_LOG","syscalls":[]}`
	if s := spec(t, Config{SecurityOpt: []string{"seccomp=" + text}}).Linux.Seccomp; s == nil || len(s.Syscalls) != 0 {
		t.Errorf("a text: %+v", s)
	}
	noSpec(t, Config{SecurityOpt: []string{"seccomp=nosuch"}}, "it is no name of a profile either: builtin, docker, debug, i386")
}

func mustWd(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// thirtyTwo is a program of i386 that ends at once.
func thirtyTwo(t *testing.T) []byte {
	t.Helper()
	const base, start = 0x8048000, 52 + 32
	code := []byte{0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80} // xor ebx,ebx; mov eax,1; int 0x80: exit(0)
	h := elf.Header32{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_386), Version: 1, Entry: base + start, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1}
	copy(h.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), 1})
	size := uint32(start + len(code))
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog32{Type: uint32(elf.PT_LOAD), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Flags: uint32(elf.PF_R | elf.PF_X), Align: 0x1000}, code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Who the filter kills, and who has a shell tell of one, is told what it was most probably for.
func TestKilledByFilter(t *testing.T) {
	nstest.Root(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64: the program is one of i386")
	}
	e, root := open(t), nstest.RootFS(t)
	if err := os.WriteFile(root+"/bin/p32", thirtyTwo(t), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(opt string, command ...string) (int, []string) {
		t.Helper()
		res, err := e.Run(t.Context(), Config{Rootfs: root, AutoRemove: true, Command: command, SecurityOpt: []string{opt}}, Streams{}, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return res.Code, res.Warnings
	}
	shell := []string{"sh", "-c", "p32; exit $?"}
	if code, w := run("seccomp=i386", shell...); code == 126 {
		t.Skip("needs a kernel that runs programs of i386")
	} else if code != 0 || len(w) > 0 {
		t.Fatalf("with the filter for it: code %d, %q", code, w)
	}
	told := func(w []string) bool { return len(w) == 1 && strings.Contains(w[0], "seccomp=i386") }
	for _, command := range [][]string{{"p32"}, shell} {
		for _, opt := range []string{"seccomp=builtin", "level=strict"} {
			if code, w := run(opt, command...); code != 159 || !told(w) {
				t.Errorf("%s, %q: code %d, %q", opt, command, code, w)
			}
		}
	}
	if code, w := run("seccomp=unconfined", "sh", "-c", "exit 159"); code != 159 || len(w) > 0 {
		t.Errorf("without a filter: code %d, %q", code, w)
	}
	stop, c := running(t, e, sh(root, "echo up; exec sleep 1000"))
	defer stop()
	if res, err := e.Exec(t.Context(), c.ID, ExecConfig{Command: []string{"p32"}}, Streams{}); err != nil || res.Code != 159 || !told(res.Warnings) {
		t.Errorf("by exec: %v, code %d, %q", err, res.Code, res.Warnings)
	}
}

package abi

import (
	"slices"
	"strings"
	"testing"
)

func TestNamespaceNames(t *testing.T) {
	tests := []struct {
		ns         Namespace
		spec, proc string
		flag       uint64
	}{
		{NSPID, "pid", "pid", CloneNewPID},
		{NSUser, "user", "user", CloneNewUser},
		{NSMount, "mount", "mnt", CloneNewNS},
		{NSNetwork, "network", "net", CloneNewNet},
		{NSUTS, "uts", "uts", CloneNewUTS},
		{NSIPC, "ipc", "ipc", CloneNewIPC},
		{NSCgroup, "cgroup", "cgroup", CloneNewCgroup},
		{NSTime, "time", "time", CloneNewTime},
	}
	if kinds := Namespaces(); len(tests) != len(kinds[:]) {
		t.Fatalf("table has %d kinds, Namespaces %d", len(tests), len(kinds[:]))
	}
	var all uint64
	for i, tt := range tests {
		if Namespaces()[i] != tt.ns || tt.ns.String() != tt.spec || tt.ns.ProcName() != tt.proc || tt.ns.CloneFlag() != tt.flag {
			t.Errorf("row %d: %v %q %#x", i, tt.ns, tt.ns.ProcName(), tt.ns.CloneFlag())
		}
		for _, name := range []string{tt.spec, tt.proc} {
			if got, ok := ParseNamespace(name); !ok || got != tt.ns {
				t.Errorf("ParseNamespace(%q) = %v, %v", name, got, ok)
			}
		}
		if got, ok := NamespaceOfFlag(tt.flag); !ok || got != tt.ns {
			t.Errorf("NamespaceOfFlag(%#x) = %v, %v", tt.flag, got, ok)
		}
		all |= tt.flag
	}
	if all != CloneNamespaces {
		t.Errorf("CloneNamespaces = %#x, want %#x", uint64(CloneNamespaces), all)
	}
	for _, name := range []string{"", "PID", "filesystem"} {
		if got, ok := ParseNamespace(name); ok {
			t.Errorf("ParseNamespace(%q) = %v", name, got)
		}
	}
	bad := Namespace(8)
	if bad.String() != "namespace 8" || bad.ProcName() != "" || bad.CloneFlag() != 0 {
		t.Errorf("kind 8: %v %q %#x", bad, bad.ProcName(), bad.CloneFlag())
	}
}

func TestCapability(t *testing.T) {
	if LastCap != 40 || CapSysAdmin != 21 || CapNetRaw != 13 || CapSetfcap != 31 {
		t.Errorf("numbers moved: last %d, sys_admin %d, net_raw %d, setfcap %d", LastCap, CapSysAdmin, CapNetRaw, CapSetfcap)
	}
	for c := CapChown; c <= LastCap; c++ {
		for _, name := range []string{c.String(), strings.ToLower(c.String()), c.String()[4:], "cAp_" + c.String()[4:]} {
			if got, ok := ParseCapability(name); !ok || got != c {
				t.Errorf("ParseCapability(%q) = %v, %v", name, got, ok)
			}
		}
	}
	for _, name := range []string{"", "CAP_", "CAP_ALL", "ALL", "CAP_CAP_KILL", "CAP_41"} {
		if got, ok := ParseCapability(name); ok {
			t.Errorf("ParseCapability(%q) = %v", name, got)
		}
	}
	if got := Capability(41).String(); got != "CAP_41" {
		t.Errorf("capability 41 is %q", got)
	}
}

func TestCapSet(t *testing.T) {
	s := Caps(CapSysAdmin, CapChown, CapChown)
	if uint64(s) != 1<<21|1 || s.Len() != 2 || !s.Has(CapChown) || s.Has(CapKill) {
		t.Errorf("set %#x", uint64(s))
	}
	if got := s.String(); got != "CAP_CHOWN,CAP_SYS_ADMIN" {
		t.Errorf("String %q", got)
	}
	if got := s.Without(CapChown).Without(CapKill); got != Caps(CapSysAdmin) {
		t.Errorf("Without %v", got)
	}
	if got := s.List(); !slices.Equal(got, []Capability{CapChown, CapSysAdmin}) {
		t.Errorf("List %v", got)
	}
	if CapSet(0).String() != "none" || AllCaps.String() != "all" || AllCaps != 1<<41-1 {
		t.Errorf("ends: %v %v %#x", CapSet(0), AllCaps, uint64(AllCaps))
	}
	if got := CapSet(1 << 63).String(); got != "CAP_63" || CapSet(1<<63).Has(64) {
		t.Errorf("bit 63 is %q", got)
	}
}

func TestSignal(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Signal
	}{
		{"TERM", 15}, {"SIGTERM", 15}, {"sigterm", 15}, {"15", 15}, {"1", 1}, {"64", 64}, {"32", 32},
		{"RTMIN", 34}, {"RTMIN+3", 37}, {"SIGRTMIN+3", 37}, {"RTMAX", 64}, {"SIGRTMAX-1", 63},
		{"RTMIN+30", 64}, {"RTMAX-30", 34}, {"IOT", 6}, {"CLD", 17}, {"POLL", 29}, {"SIGSYS", 31},
	} {
		if got, ok := ParseSignal(tt.text); !ok || got != tt.want {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", tt.text, int(got), ok, int(tt.want))
		}
	}
	for _, text := range []string{"", "0", "-1", "+9", "65", "SIG", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN+-1", "RTMIN++1", "RTMIN3", "SIGSIGTERM", "TERM "} {
		if got, ok := ParseSignal(text); ok {
			t.Errorf("ParseSignal(%q) = %d", text, int(got))
		}
	}
	for s := Signal(1); s <= SIGRTMAX; s++ {
		if s == 32 || s == 33 {
			continue
		}
		if got, ok := ParseSignal(s.String()); !ok || got != s {
			t.Errorf("%d is %q, which reads back as %d, %v", int(s), s, int(got), ok)
		}
	}
	if Signal(32).String() != "signal 32" || Signal(-1).String() != "signal -1" || Signal(0).String() != "signal 0" {
		t.Errorf("%v %v %v", Signal(32), Signal(-1), Signal(0))
	}
	if SIGTERM != 15 || SIGSYS != 31 || SIGCHLD != 17 {
		t.Errorf("numbers moved")
	}
}

func TestErrno(t *testing.T) {
	if EPERM.Name() != "EPERM" || EPERM.Error() != "operation not permitted" || ENOSYS != 38 || EHWPOISON != 133 {
		t.Errorf("%v %v %d %d", EPERM.Name(), EPERM, ENOSYS, EHWPOISON)
	}
	seen := map[string]Errno{}
	for e := EPERM; e <= EHWPOISON; e++ {
		if e == 41 || e == 58 {
			continue
		}
		name, text := e.Name(), e.Error()
		if got, ok := ParseErrno(name); !ok || got != e {
			t.Errorf("%d is %q, which reads back as %d, %v", e, name, got, ok)
		}
		if other, dup := seen[text]; dup {
			t.Errorf("%v and %v have the same sentence", other.Name(), name)
		}
		seen[text] = e
		if text == "" || strings.HasSuffix(text, ".") || strings.Contains(text, "errno") {
			t.Errorf("%s says %q", name, text)
		}
	}
	for _, e := range []Errno{0, 41, 58, 134, 65535} {
		if want := "errno " + decimal(int(e)); e.Name() != want || e.Error() != want {
			t.Errorf("%d is %q, %q", e, e.Name(), e.Error())
		}
	}
	if e, ok := ParseErrno("EWOULDBLOCK"); !ok || e != EAGAIN {
		t.Errorf("EWOULDBLOCK is %v", e)
	}
	if e, ok := ParseErrno(""); ok {
		t.Errorf("empty name is %v", e)
	}
}

func TestWords(t *testing.T) {
	x := ArchX86_64
	for _, tt := range []struct{ got, want string }{
		{MountAttrWords(MountAttrRdonly | MountAttrNosuid | MountAttrNodev | MountAttrNoexec), "rdonly,nosuid,nodev,noexec"},
		{MountAttrWords(MountAttrAtime), "atime"},
		{MountAttrWords(MountAttrNoatime | MountAttrNosymfollow), "noatime,nosymfollow"},
		{MountAttrWords(0), ""},
		{MountAttrWords(1<<40 | MountAttrRdonly), "rdonly,0x10000000000"},
		{ResolveWords(ResolveInRoot | ResolveNoMagiclinks), "no_magiclinks,in_root"},
		{CloneWords(CloneNewNS | CloneNewPID | CloneVfork), "pid,mount,vfork"},
		{CloneWords(CloneNamespaces), "pid,user,mount,network,uts,ipc,cgroup,time"},
		{OpenTreeWords(OpenTreeClone | OpenTreeCloexec | AtRecursive), "clone,cloexec,recursive"},
		{MoveMountWords(MoveMountFEmptyPath | MoveMountTEmptyPath), "f_empty_path,t_empty_path"},
		{MountWords(MSBind | MSRec), "bind,rec"},
		{MountWords(MSPrivate | MSRec), "rec,private"},
		{UmountWords(MNTDetach | UmountNofollow), "detach,nofollow"},
		{FsconfigWord(FsconfigSetString), "set_string"},
		{FsconfigWord(FsconfigCmdCreate), "create"},
		{FsconfigWord(77), "77"},
		{SeccompFlagWords(SeccompFlagLog | SeccompFlagNewListener), "log,new_listener"},
		{x.OpenWords(0), "rdonly"},
		{x.OpenWords(ORdwr | OCloexec), "rdwr,cloexec"},
		{x.OpenWords(OPath | OCloexec), "cloexec,path"},
		{x.OpenWords(0o200000 | OCloexec), "rdonly,directory,cloexec"},
		{ArchAARCH64.OpenWords(0o40000 | OCloexec), "rdonly,directory,cloexec"},
		{ArchAARCH64.OpenWords(0o200000), "rdonly,direct"},
		{x.OpenWords(OWronly | OSync | 0o20200000), "wronly,sync,tmpfile"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestRlimit(t *testing.T) {
	for i, r := range Rlimits() {
		if int(r) != i {
			t.Errorf("limit %d is %d", i, r)
		}
		for _, name := range []string{r.String(), strings.ToLower(r.String()[7:])} {
			if got, ok := ParseRlimit(name); !ok || got != r {
				t.Errorf("ParseRlimit(%q) = %v, %v", name, got, ok)
			}
		}
	}
	for _, name := range []string{"", "NOFILE", "RLIMIT_", "rlimit_nofile"} {
		if got, ok := ParseRlimit(name); ok {
			t.Errorf("ParseRlimit(%q) = %v", name, got)
		}
	}
	if Rlimit(16).String() != "rlimit 16" || RlimitNofile != 7 {
		t.Errorf("%v %d", Rlimit(16), RlimitNofile)
	}
}

func TestArch(t *testing.T) {
	for _, a := range Archs() {
		for _, name := range []string{a.String(), a.Name(), strings.ToLower(a.String()), strings.ToUpper(a.Name())} {
			if got, ok := ParseArch(name); !ok || got != a {
				t.Errorf("ParseArch(%q) = %v, %v", name, got, ok)
			}
		}
		if g := a.GOARCH(); g != "" && Native(g) != a {
			t.Errorf("Native(%q) = %v, want %v", g, Native(g), a)
		}
	}
	for _, tt := range []struct {
		a     Arch
		name  string
		audit uint32
		le, w bool
	}{
		{ArchX86_64, "SCMP_ARCH_X86_64", 0xc000003e, true, true},
		{ArchX32, "SCMP_ARCH_X32", 0xc000003e, true, false},
		{ArchX86, "SCMP_ARCH_X86", 0x40000003, true, false},
		{ArchARM, "SCMP_ARCH_ARM", 0x40000028, true, false},
		{ArchAARCH64, "SCMP_ARCH_AARCH64", 0xc00000b7, true, true},
		{ArchMIPS, "SCMP_ARCH_MIPS", 0x8, false, false},
		{ArchMIPS64N32, "SCMP_ARCH_MIPS64N32", 0xa0000008, false, false},
		{ArchMIPSEL64N32, "SCMP_ARCH_MIPSEL64N32", 0xe0000008, true, false},
		{ArchMIPSEL64, "SCMP_ARCH_MIPSEL64", 0xc0000008, true, true},
		{ArchPPC64LE, "SCMP_ARCH_PPC64LE", 0xc0000015, true, true},
		{ArchS390X, "SCMP_ARCH_S390X", 0x80000016, false, true},
		{ArchS390, "SCMP_ARCH_S390", 0x16, false, false},
		{ArchRISCV64, "SCMP_ARCH_RISCV64", 0xc00000f3, true, true},
		{ArchLOONGARCH64, "SCMP_ARCH_LOONGARCH64", 0xc0000102, true, true},
	} {
		if tt.a.String() != tt.name || tt.a.AuditArch() != tt.audit || tt.a.LittleEndian() != tt.le || tt.a.Is64() != tt.w {
			t.Errorf("%v: audit %#x, little endian %v, 64 bits %v", tt.a, tt.a.AuditArch(), tt.a.LittleEndian(), tt.a.Is64())
		}
	}
	if Native("amd64") != ArchX86_64 || Native("arm64") != ArchAARCH64 || Native("wasm").Valid() || Native("").Valid() {
		t.Error("Native")
	}
	for _, name := range []string{"", "SCMP_ARCH_", "amd64", "SCMP_ARCH_NATIVE"} {
		if got, ok := ParseArch(name); ok {
			t.Errorf("ParseArch(%q) = %v", name, got)
		}
	}
	if ArchMIPS.ENOSYS() != 89 || ArchX86_64.ENOSYS() != 38 || ArchPARISC.ENOSYS() != 251 {
		t.Error("ENOSYS")
	}
	if ArchNone.Valid() || archEnd.Valid() || archEnd.AuditArch() != 0 || archEnd.Name() != "arch 24" || ArchNone.String() != "arch 0" {
		t.Errorf("%v %v %v", ArchNone, archEnd, archEnd.Name())
	}
}

func TestSyscallNumbers(t *testing.T) {
	for _, tt := range []struct {
		a    Arch
		name string
		nr   uint32
	}{
		{ArchX86_64, "read", 0}, {ArchX86_64, "execve", 59}, {ArchX86_64, "clone3", 435},
		{ArchX86_64, "file_getattr", 468}, {ArchX86_64, "open_tree_attr", 467}, {ArchX86_64, "mseal", 462},
		{ArchX86_64, "map_shadow_stack", 453}, {ArchX86_64, "listmount", 458}, {ArchX86_64, "uretprobe", 335},
		{ArchX32, "read", X32SyscallBit}, {ArchX32, "execve", X32SyscallBit + 520},
		{ArchX86, "socket", 359}, {ArchX86, "socketcall", 102}, {ArchAARCH64, "openat2", 437},
		{ArchARM, "set_tls", 0x0f0005}, {ArchARM, "execve", 11}, {ArchMIPS, "write", 4004},
		{ArchMIPSEL64, "write", 5001}, {ArchMIPS64N32, "write", 6001}, {ArchPPC64LE, "socket", 326},
		{ArchS390X, "clone", 120}, {ArchRISCV64, "riscv_flush_icache", 259}, {ArchLOONGARCH64, "memfd_secret", 447},
		{ArchAARCH64, "lsm_list_modules", 461}, {ArchS390X, "futex_requeue", 456}, {ArchARM, "cachestat", 451},
	} {
		if got, ok := tt.a.Syscall(tt.name); !ok || got != tt.nr {
			t.Errorf("Syscall(%v, %q) = %d, %v, want %d", tt.a, tt.name, got, ok, tt.nr)
		}
		if got, ok := tt.a.SyscallName(tt.nr); !ok || got != tt.name {
			t.Errorf("SyscallName(%v, %d) = %q, %v, want %q", tt.a, tt.nr, got, ok, tt.name)
		}
	}
	for _, tt := range []struct {
		a    Arch
		name string
	}{{ArchAARCH64, "open"}, {ArchX86_64, "socketcall"}, {ArchX86_64, "no_such_call"}, {ArchX86_64, ""}, {ArchNone, "read"}, {200, "read"}} {
		if got, ok := tt.a.Syscall(tt.name); ok {
			t.Errorf("%v has %q as %d", tt.a, tt.name, got)
		}
	}
	if name, ok := ArchX86_64.SyscallName(100000); ok {
		t.Errorf("100000 is %q", name)
	}
	if SyscallNameAt(-1) != "" || SyscallNameAt(SyscallCount) != "" {
		t.Error("a name outside the list")
	}
}

// Each name is found by its hash, the list is sorted, and no number of an
// architecture stands for two names.
func TestSyscallTablesAreSound(t *testing.T) {
	last := ""
	for i := range SyscallCount {
		name := SyscallNameAt(i)
		if name <= last {
			t.Errorf("%q follows %q", name, last)
		}
		if SyscallIndex(name) != i {
			t.Errorf("SyscallIndex(%q) = %d, want %d", name, SyscallIndex(name), i)
		}
		last = name
	}
	for _, a := range Archs() {
		seen := map[uint32]string{}
		for i := range SyscallCount {
			nr, ok := a.SyscallAt(i)
			if !ok {
				continue
			}
			if other, dup := seen[nr]; dup {
				t.Errorf("%v: %d is %s and %s", a, nr, other, SyscallNameAt(i))
			}
			seen[nr] = SyscallNameAt(i)
		}
		if len(seen) < 300 {
			t.Errorf("%v has only %d calls", a, len(seen))
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		if nr, ok := ArchX86_64.Syscall("pivot_root"); !ok || nr != 155 {
			t.Fatal(nr, ok)
		}
		if name, ok := ArchX86_64.SyscallName(155); !ok || name != "pivot_root" {
			t.Fatal(name, ok)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSyscall(b *testing.B) {
	for b.Loop() {
		ArchX86_64.Syscall("pivot_root")
	}
}

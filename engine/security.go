package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	mobyseccomp "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCaps are the capabilities that images people use need, valid in the
// container's own user namespace only.
func defaultCaps() abi.CapSet {
	return abi.Caps(abi.CapChown, abi.CapDACOverride, abi.CapFsetid, abi.CapFowner, abi.CapSetgid, abi.CapSetuid,
		abi.CapSetpcap, abi.CapNetBindService, abi.CapSysChroot, abi.CapKill, abi.CapSetfcap)
}

// maskedPaths are the files of the kernel that tell of the host, or lead to it.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/cmdline", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms",
		"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags",
		"/proc/latency_stats", "/proc/pagetypeinfo", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo",
		"/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
		"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// mask hides a path of the kernel's file systems.
func (b *builder) mask(p, why string) {
	b.because(fmt.Sprintf("linux.maskedPaths[%d]", len(b.spec.Linux.MaskedPaths)), "%s", why)
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, p)
}

// ownedByRoot lists what is in a procfs beside processes, masks and readonlyPaths. There is one
// of each for all mounts of procfs: who is root of the machine may change mode and owner of
// the machine's own /proc/meminfo by the container's.
func ownedByRoot(procfs string) ([]string, error) {
	f, err := os.Open(procfs)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	covered := append(readonlyPaths(), maskedPaths()...)
	var list []string
	for _, e := range entries {
		p := "/proc/" + e.Name()
		if _, err := strconv.Atoi(e.Name()); err != nil && e.Type()&os.ModeSymlink == 0 && !slices.Contains(covered, p) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list, nil
}

// security sets capabilities, no_new_privs, the seccomp filter, masks.
func (b *builder) security() error {
	caps, err := b.caps()
	if err != nil {
		return err
	}
	names := capNames(caps)
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: names, Permitted: names, Effective: names}
	if b.spec.Process.User.UID != 0 {
		// Another user than root holds none, unless a file grants them.
		b.spec.Process.Capabilities.Permitted, b.spec.Process.Capabilities.Effective = nil, nil
	}
	o, err := parseSecurityOpt(b.run.SecurityOpt)
	if err != nil {
		return err
	}
	b.spec.Process.NoNewPrivileges = o.noNewPrivs
	b.because("process.noNewPrivileges", "--security-opt no-new-privileges")
	if !b.run.Privileged && !o.unmasked {
		for _, p := range maskedPaths() {
			b.mask(p, "default: tells of the host")
		}
		b.spec.Linux.ReadonlyPaths = readonlyPaths()
		b.because("linux.readonlyPaths", "default: kernel settings are read-only")
		if b.hostRoot() {
			more, err := ownedByRoot("/proc")
			if err != nil {
				return err
			}
			b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, more...)
		}
	}
	return b.seccomp(o)
}

func capNames(set abi.CapSet) []string {
	names := []string{}
	for _, c := range set.List() {
		names = append(names, c.String())
	}
	return names
}

// caps applies --cap-add and --cap-drop to the default set, as Docker does.
func (b *builder) caps() (abi.CapSet, error) {
	all := abi.CapSet(1)<<(b.host.LastCap+1) - 1
	if b.run.Privileged {
		b.because("process.capabilities", "--privileged")
		return all, nil
	}
	set := defaultCaps()
	b.because("process.capabilities", "default: %d capabilities", set.Len())
	if len(b.run.CapAdd)+len(b.run.CapDrop) > 0 {
		b.because("process.capabilities", "%s", strings.TrimSpace(flagList("--cap-drop", b.run.CapDrop)+flagList(" --cap-add", b.run.CapAdd)))
	}
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, "all") })
	}
	if has(b.run.CapDrop) {
		set = 0
	}
	if has(b.run.CapAdd) {
		set = all
	}
	for _, l := range []struct {
		flag  string
		names []string
		do    func(abi.Capability)
	}{
		{"--cap-drop", b.run.CapDrop, func(c abi.Capability) { set = set.Without(c) }},
		{"--cap-add", b.run.CapAdd, func(c abi.Capability) { set = set.With(c) }},
	} {
		for _, name := range l.names {
			if strings.EqualFold(name, "all") {
				continue
			}
			c, ok := abi.ParseCapability(name)
			if !ok {
				return 0, fmt.Errorf("%s %s: there is no such capability (man 7 capabilities lists them)", l.flag, name)
			}
			l.do(c)
		}
	}
	return set, nil
}

func flagList(flag string, values []string) string {
	s := ""
	for _, v := range values {
		s += flag + " " + v
	}
	return s
}

// securityOpts are the values of --security-opt.
type securityOpts struct {
	noNewPrivs bool
	unmasked   bool
	seccomp    string // unconfined, builtin, or the text of a profile
	file       string
}

func parseSecurityOpt(list []string) (securityOpts, error) {
	o := securityOpts{seccomp: "builtin"}
	for _, s := range list {
		key, value, has := strings.Cut(s, "=")
		if !has {
			key, value, has = strings.Cut(s, ":") // Docker's older form
		}
		switch {
		case key == "no-new-privileges" && (!has || value == "true"):
			o.noNewPrivs = true
		case key == "no-new-privileges" && value == "false":
			o.noNewPrivs = false
		case key == "systempaths" && value == "unconfined":
			o.unmasked = true
		case key == "seccomp" && (value == "unconfined" || value == "builtin"):
			o.seccomp = value
		case key == "seccomp" && value != "":
			data, err := os.ReadFile(value)
			if err != nil {
				return o, fmt.Errorf("--security-opt %s: %w", s, err)
			}
			o.seccomp, o.file = string(data), value
		case (key == "apparmor" && value == "unconfined") || (key == "label" && value == "disable"):
		case key == "apparmor" || key == "label":
			return o, fmt.Errorf("--security-opt %s: this version confines by namespaces, capabilities and seccomp only", s)
		default:
			return o, fmt.Errorf("--security-opt %s: unknown; there are no-new-privileges, seccomp=FILE|builtin|unconfined, systempaths=unconfined", s)
		}
	}
	return o, nil
}

func (b *builder) seccomp(o securityOpts) error {
	why := "default: seccomp profile"
	switch {
	case o.seccomp == "unconfined":
		return nil
	case b.run.Privileged && o.file == "":
		return nil
	case o.seccomp == "builtin":
		profile, err := mobyseccomp.GetDefaultProfile(&b.spec)
		if err != nil {
			return fmt.Errorf("seccomp profile: %w", err)
		}
		b.spec.Linux.Seccomp = narrow(profile, b.capSet())
	default:
		why = "--security-opt seccomp=" + o.file
		var plain specs.LinuxSeccomp
		profile, err := mobyseccomp.LoadProfile(o.seccomp, &b.spec)
		if err != nil {
			// A runtime-spec profile has no conditions; Docker's form is a superset of it.
			if json.Unmarshal([]byte(o.seccomp), &plain) != nil {
				return fmt.Errorf("--security-opt seccomp=%s: %w", o.file, err)
			}
			profile = &plain
		}
		b.spec.Linux.Seccomp = profile
	}
	b.because("linux.seccomp", "%s", why)
	return nil
}

func (b *builder) capSet() abi.CapSet {
	var set abi.CapSet
	for _, name := range b.spec.Process.Capabilities.Bounding {
		if c, ok := abi.ParseCapability(name); ok {
			set = set.With(c)
		}
	}
	return set
}

// narrow takes from Docker's profile what kakuri's default leaves out: other
// architectures than the machine's, socket families beside unix, IPv4, IPv6 and
// netlink's routing, and calls that only attacks on the kernel were seen to need.
func narrow(p *specs.LinuxSeccomp, caps abi.CapSet) *specs.LinuxSeccomp {
	out := *p
	if len(p.Architectures) > 1 {
		out.Architectures = p.Architectures[:1]
	}
	out.Syscalls = nil
	for _, s := range p.Syscalls {
		if s.Action == specs.ActAllow {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(name string) bool { return withheld(name, caps) })
		}
		if len(s.Names) > 0 {
			out.Syscalls = append(out.Syscalls, s)
		}
	}
	if names := absent(caps); len(names) > 0 {
		enosys := uint(abi.ENOSYS)
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &enosys})
	}
	allow := func(family uint64, extra ...specs.LinuxSeccompArg) {
		// The kernel reads 32 bits of the family: so does the filter.
		args := []specs.LinuxSeccompArg{{Index: 0, Value: 0xffffffff, ValueTwo: family, Op: specs.OpMaskedEqual}}
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow, Args: append(args, extra...)})
	}
	allow(1)                                                                                            // AF_UNIX
	allow(2)                                                                                            // AF_INET
	allow(10)                                                                                           // AF_INET6
	allow(16, specs.LinuxSeccompArg{Index: 2, Value: 0xffffffff, ValueTwo: 0, Op: specs.OpMaskedEqual}) // AF_NETLINK, NETLINK_ROUTE
	// TIOCSTI and TIOCLINUX push characters into a terminal, as if a person had typed
	// them. The answer is that of a kernel with dev.tty.legacy_tiocsti off; it has to be
	// another than the profile's own, whose rules would be left out. The kernel reads 32 bits.
	eio := uint(abi.EIO)
	for _, request := range []uint64{tiocsti, tioclinux} {
		args := []specs.LinuxSeccompArg{{Index: 1, Value: 0xffffffff, ValueTwo: request, Op: specs.OpMaskedEqual}}
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &eio, Args: args})
	}
	others := []specs.LinuxSeccompArg{{Index: 1, Value: tiocsti, Op: specs.OpNotEqual}}
	out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: others})
	if caps.Has(abi.CapNetAdmin) || caps.Has(abi.CapNetRaw) {
		allow(17)                                                                                            // AF_PACKET
		allow(16, specs.LinuxSeccompArg{Index: 2, Value: 0xffffffff, ValueTwo: 12, Op: specs.OpMaskedEqual}) // NETLINK_NETFILTER
	}
	return &out
}

// Requests of ioctl(2), equal on all architectures that kakuri runs on: ioctl_tty(2), ioctl_console(2).
const (
	tiocsti   = 0x5412
	tioclinux = 0x541c
)

// withheld names the calls of Docker's allow list that kakuri's default lacks.
func withheld(name string, caps abi.CapSet) bool {
	switch name {
	case "socket", "socketcall", "ioctl":
		return true // allowed by family and by request above
	case "io_uring_setup", "io_uring_enter", "io_uring_register",
		"process_vm_readv", "process_vm_writev", "kcmp", "userfaultfd",
		"keyctl", "add_key", "request_key", "vmsplice":
		return !caps.Has(abi.CapSysPtrace) && !caps.Has(abi.CapSysAdmin)
	}
	return slices.Contains(absent(caps), name)
}

// absent names calls that are answered as by a kernel without them: hardly a
// program needs them, and those that try have a way without.
func absent(caps abi.CapSet) []string {
	if caps.Has(abi.CapSysAdmin) {
		return nil
	}
	list := []string{
		// of other times and machines
		"epoll_ctl_old", "epoll_wait_old", "get_thread_area", "modify_ldt", "remap_file_pages", "set_thread_area",
		// new, and used by libraries where they are there only
		"cachestat", "futex_requeue", "futex_wait", "futex_wake", "getxattrat", "listmount", "listxattrat", "memfd_secret",
		"mseal", "process_mrelease", "removexattrat", "setxattrat", "statmount", "uretprobe",
		// seen in attacks on the kernel more often than in programs
		"fanotify_mark", "get_robust_list", "readahead", "tee",
	}
	if !caps.Has(abi.CapDACReadSearch) {
		list = append(list, "name_to_handle_at")
	}
	if !caps.Has(abi.CapSysTime) {
		list = append(list, "adjtimex", "clock_adjtime")
	}
	return list
}

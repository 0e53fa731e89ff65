package profile

import (
	"slices"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// narrow takes from Docker's profile what kakuri's own leave out: other
// architectures than the machine's, socket families beside unix, IPv4, IPv6 and
// netlink's routing, and calls that only attacks on the kernel were seen to need.
func narrow(p *specs.LinuxSeccomp, caps abi.CapSet, name string) *specs.LinuxSeccomp {
	out := *p
	if len(p.Architectures) > 1 && NativeOnly(name) {
		out.Architectures = p.Architectures[:1]
	}
	n := narrowed{caps: caps, name: name}
	absent := n.absent()
	withheld := func(call string) bool { return n.withheld(call) || slices.Contains(absent, call) }
	out.Syscalls = nil
	for _, s := range p.Syscalls {
		if s.Action == specs.ActAllow {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), withheld)
		}
		if len(s.Names) > 0 {
			out.Syscalls = append(out.Syscalls, s)
		}
	}
	if len(absent) > 0 {
		enosys := uint(abi.ENOSYS)
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: absent, Action: specs.ActErrno, ErrnoRet: &enosys})
	}
	out.Syscalls = append(out.Syscalls, n.sockets()...)
	out.Syscalls = append(out.Syscalls, pairs()...)
	out.Syscalls = append(out.Syscalls, n.disciplines()...)
	// TIOCSTI and TIOCLINUX push characters into a terminal, as if a person had typed
	// them. The answer is that of a kernel with dev.tty.legacy_tiocsti off.
	out.Syscalls = append(out.Syscalls, allBut("ioctl", 1, abi.EIO, unix.TIOCSTI, unix.TIOCLINUX)...)
	out.Syscalls = append(out.Syscalls, n.senders()...)
	if n.pipes() {
		einval := uint(abi.EINVAL)
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"splice"}, Action: specs.ActErrno, ErrnoRet: &einval})
	}
	if n.debugs() {
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: debugging(), Action: specs.ActAllow})
		if name != strict {
			// A debugger starts a program so that its addresses are the same each time.
			out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{masked(0, abi.PerAddrNoRandomize)}})
		}
	}
	return &out
}

// narrowed says what a profile of kakuri's leaves of Docker's.
type narrowed struct {
	caps abi.CapSet
	name string // any but docker
}

// masked compares the 32 bits of an argument that the kernel reads, where it is an int.
func masked(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: 0xffffffff, ValueTwo: value, Op: specs.OpMaskedEqual}
}

// allBut allows a call but for some values of one of its arguments. Those are answered with an error that
// has to be another than the profile's own, EPERM, whose rules would be left out.
func allBut(call string, index uint, answer abi.Errno, values ...uint64) []specs.LinuxSyscall {
	errno := uint(answer)
	var rules []specs.LinuxSyscall
	for _, v := range values {
		rules = append(rules, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{masked(index, v)}})
	}
	others := specs.LinuxSeccompArg{Index: index, Value: values[0], Op: specs.OpNotEqual}
	return append(rules, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{others}})
}

// sockets are the families, and netlink's protocols, that a container may open. The kernel reads
// 32 bits of the family: so does the filter.
func (n narrowed) sockets() []specs.LinuxSyscall {
	var rules []specs.LinuxSyscall
	allow := func(args ...specs.LinuxSeccompArg) {
		rules = append(rules, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow, Args: args})
	}
	rules = append(rules, n.protocols()...)
	allow(masked(0, unix.AF_UNIX))
	allow(masked(0, unix.AF_INET))
	allow(masked(0, unix.AF_INET6))
	allow(masked(0, unix.AF_NETLINK), masked(2, unix.NETLINK_ROUTE))
	// To add a user, and to log in, ends where the kernel's audit is there and may not be spoken to; where it is not, they go on.
	einval := uint(abi.EINVAL)
	rules = append(rules, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: &einval, Args: []specs.LinuxSeccompArg{masked(0, unix.AF_NETLINK), masked(2, unix.NETLINK_AUDIT)}})
	if n.caps.Has(abi.CapNetAdmin) || n.caps.Has(abi.CapNetRaw) {
		allow(masked(0, unix.AF_PACKET))
		allow(masked(0, unix.AF_NETLINK), masked(2, unix.NETLINK_NETFILTER))
	}
	if n.caps.Has(abi.CapNetAdmin) {
		// WireGuard, OpenVPN's own device and ethtool are set up by it. IPsec has a protocol of its own.
		allow(masked(0, unix.AF_NETLINK), masked(2, unix.NETLINK_GENERIC))
	}
	// What looks for all sorts of devices, as libpcap does, goes on where a kernel lacks a family, and gives up where it may not have it. Of packet sockets EPERM is the kernel's own word.
	absent := uint(abi.EAFNOSUPPORT)
	for _, families := range beside(0, familyBits, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET) {
		rules = append(rules, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: &absent, Args: []specs.LinuxSeccompArg{families}})
	}
	return rules
}

// familyBits are those that a family's number has: the kernel has 46.
const familyBits = 6

// beside covers the numbers from first on that the low bits may be, but for some, by as few comparisons of the first argument as masks can do it with.
func beside(first uint64, bits int, but ...uint64) []specs.LinuxSeccompArg {
	size := uint64(1) << bits
	if !slices.ContainsFunc(but, func(v uint64) bool { return v-first < size }) {
		return []specs.LinuxSeccompArg{{Index: 0, Value: 0xffffffff &^ (size - 1), ValueTwo: first, Op: specs.OpMaskedEqual}}
	}
	if bits == 0 {
		return nil
	}
	return append(beside(first, bits-1, but...), beside(first+size/2, bits-1, but...)...)
}

// pairs allows the one family that has pairs of sockets and may be opened. The kernel makes two sockets first, and loads what those need, before it finds that others have no
// pairs: of IPv4 and IPv6 it is answered at once as it would be in the end.
func pairs() []specs.LinuxSyscall {
	errno := uint(abi.EOPNOTSUPP)
	rules := []specs.LinuxSyscall{{Names: []string{"socketpair"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{masked(0, unix.AF_UNIX)}}}
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		rules = append(rules, specs.LinuxSyscall{Names: []string{"socketpair"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{masked(0, family)}})
	}
	return rules
}

// ipprotoSMC is IPPROTO_SMC of linux/socket.h, since Linux 6.11: a socket of the family SMC by one of IPv4.
const ipprotoSMC = 256

// DCCP is asked for by its type as well, with the protocol 0.
const (
	sockTypeMask = 0xf // SOCK_TYPE_MASK of linux/net.h: the bits above are flags, as SOCK_CLOEXEC
	sockDCCP     = 6   // SOCK_DCCP
)

// protocols refuses those of IPv4 and IPv6 whose code the kernel loads for whoever asks for a socket, without a capability, and which attacks were seen to need more often than
// programs (CVE-2017-6074, 2022-4129). The answer is that of kernels without them. A raw socket may have any number: with the capability for those they are there.
func (n narrowed) protocols() []specs.LinuxSyscall {
	if n.caps.Has(abi.CapNetAdmin) || n.caps.Has(abi.CapNetRaw) {
		return nil
	}
	errno := uint(abi.EPROTONOSUPPORT)
	var rules []specs.LinuxSyscall
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, what := range []specs.LinuxSeccompArg{
			masked(2, unix.IPPROTO_DCCP), masked(2, unix.IPPROTO_L2TP), masked(2, ipprotoSMC),
			{Index: 1, Value: sockTypeMask, ValueTwo: sockDCCP, Op: specs.OpMaskedEqual},
		} {
			rules = append(rules, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{masked(0, family), what}})
		}
	}
	return rules
}

// disciplines refuses to have a terminal spoken to by another line discipline, whose code the kernel loads for whoever has a pseudoterminal, and which is for modems, radios and buses
// (CVE-2017-2636, 2023-6546, 2024-36016). The answer is that of kernels without. Who is given a network to make devices in, as for PPP, may do so.
func (n narrowed) disciplines() []specs.LinuxSyscall {
	if n.caps.Has(abi.CapNetAdmin) || n.caps.Has(abi.CapSysAdmin) {
		return nil
	}
	errno := uint(abi.EINVAL)
	return []specs.LinuxSyscall{{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{masked(1, unix.TIOCSETD)}}}
}

// senders allows options of sockets but for those that load code into the kernel, and for one that makes a sender of somebody else: with IPV6_FREEBIND a socket is bound to any address, and what it sends
// over IPv6 has that. It takes no capability. Kernels answer the same of options that they do not have.
func (n narrowed) senders() []specs.LinuxSyscall {
	rule := func(action specs.LinuxSeccompAction, errno *uint, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"setsockopt"}, Action: action, ErrnoRet: errno, Args: args}
	}
	other := func(index uint, than uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: than, Op: specs.OpNotEqual}
	}
	errno := uint(abi.ENOPROTOOPT)
	// What takes a connection's bytes over in the kernel: TLS and IPsec in TCP, whose code who may ask for nothing else has loaded by it, and which attacks on the page cache
	// came by (CVE-2026-46300). Programs have TLS of their own for kernels without.
	ulp := rule(specs.ActErrno, &errno, masked(1, unix.IPPROTO_TCP), masked(2, unix.TCP_ULP))
	if n.caps.Has(abi.CapNetAdmin) || n.caps.Has(abi.CapNetRaw) {
		// It may send what it likes.
		return []specs.LinuxSyscall{ulp, rule(specs.ActAllow, nil, other(1, unix.IPPROTO_TCP)), rule(specs.ActAllow, nil, other(2, unix.TCP_ULP))}
	}
	return []specs.LinuxSyscall{
		ulp,
		rule(specs.ActErrno, &errno, masked(1, unix.IPPROTO_IPV6), masked(2, unix.IPV6_FREEBIND)),
		rule(specs.ActErrno, &errno, masked(1, unix.IPPROTO_IP), masked(2, unix.IP_FREEBIND)), // of a socket of IPv6 as well
		rule(specs.ActAllow, nil, other(1, unix.IPPROTO_IPV6)),
		rule(specs.ActAllow, nil, other(2, unix.IPV6_FREEBIND)),
	}
}

// debugs reports whether the profile is for looking into other processes: by its name, or because
// the container has a capability that is for nothing else, or for all.
func (n narrowed) debugs() bool {
	return n.name == debug || n.caps.Has(abi.CapSysPtrace) || n.caps.Has(abi.CapSysAdmin)
}

// debugging are the calls that debuggers and tracers make, and hardly another program.
func debugging() []string {
	return []string{"get_robust_list", "kcmp", "pidfd_getfd", "process_madvise", "process_mrelease", "process_vm_readv", "process_vm_writev"}
}

// withheld reports whether the profile takes a call from Docker's allow list that is not absent.
func (n narrowed) withheld(call string) bool {
	switch call {
	case "socket", "socketpair", "socketcall", "ioctl", "setsockopt":
		return true // allowed by family, request and option above
	case "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "keyctl", "add_key", "request_key", "vmsplice":
		return !n.caps.Has(abi.CapSysPtrace) && !n.caps.Has(abi.CapSysAdmin)
	}
	return call == "splice" && n.pipes() || slices.Contains(debugging(), call)
}

// pipes reports whether pages of files stay out of pipes. It is answered as for files that the kernel does not do that with, of which programs know that they have to copy themselves:
// after ENOSYS grep, whose output is the null device, ends with an error.
func (n narrowed) pipes() bool { return n.name == strict && !n.caps.Has(abi.CapSysAdmin) }

// absent names calls that are answered as by a kernel without them: hardly a
// program needs them, and those that try have a way without.
func (n narrowed) absent() []string {
	if n.caps.Has(abi.CapSysAdmin) {
		return nil
	}
	list := []string{
		// of other times and machines
		"epoll_ctl_old", "epoll_wait_old", "remap_file_pages",
		// new, and used by libraries where they are there only
		"cachestat", "futex_requeue", "futex_wait", "futex_wake", "getxattrat", "listmount", "listxattrat", "memfd_secret",
		"mseal", "removexattrat", "setxattrat", "statmount", "uretprobe",
		// seen in attacks on the kernel more often than in programs
		"fanotify_mark", "readahead", "tee",
	}
	if n.name != i386 {
		list = append(list, "get_thread_area", "modify_ldt", "set_thread_area") // a 32-bit program's threads need them
	}
	if !n.debugs() {
		list = append(list, "get_robust_list", "process_mrelease")
	}
	if !n.caps.Has(abi.CapDACReadSearch) {
		list = append(list, "name_to_handle_at")
	}
	if !n.caps.Has(abi.CapSysTime) {
		list = append(list, "adjtimex", "clock_adjtime")
	}
	if n.name == strict {
		list = append(list, unneeded()...)
	}
	return list
}

// unneeded are calls that servers do without, or fall back from: what is left of the kernel's seldom used doors.
func unneeded() []string {
	return []string{
		"io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
		"mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
		"ioprio_get", "ioprio_set", "personality", "pkey_alloc", "pkey_free", "pkey_mprotect", "ptrace",
		"sched_setattr", "sched_setparam", "set_mempolicy_home_node", "sysfs", "ustat",
	}
}
